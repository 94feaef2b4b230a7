"""A store from a stranger can be looked at: nothing outside it is written, nothing waits, nothing ends as a bug.

The files of a sound store are replaced one by one by what somebody might send: links that lead out of it, pipes,
devices, files that are huge without holding anything, and a store.toml that names any place. And what grafctl makes
itself is for its owner alone.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuzz.running import Sandbox, check, modes_of, run, run_all
from grafctl.store import spool

LOOKING = (
    "status", "verify", "doctor", "peek q -d aws", "domain show aws", "queue show q", "audit tail", "audit verify",
    "locator show q", "consumer show q g", "apply ok.toml --dry-run", "publish q x -d aws --dry-run", "health list",
)  # fmt: skip
DOMAIN_FILES = ("env/data.mdb", "env/lock.mdb", "env/journal", "env/DAMAGED", "writer.lock", "FAILED", "env")
STORE_FILES = ("store.lock", "elect.lock", "audit.spool", "audit.spool.1f", "store.toml.new", "store.toml", "domains")


def to_outside(path: Path, beside: Path) -> None:
    path.symlink_to(beside)


def to_nowhere(path: Path, beside: Path) -> None:
    path.symlink_to(beside.with_name("made by grafctl"))


def to_zeros(path: Path, beside: Path) -> None:
    path.symlink_to("/dev/zero")


def to_pipe(path: Path, beside: Path) -> None:
    os.mkfifo(path)


def to_directory(path: Path, beside: Path) -> None:
    path.mkdir()


def to_sparse(path: Path, beside: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def to_nothing(path: Path, beside: Path) -> None:
    path.touch()


HOSTILE: tuple[Callable[[Path, Path], None], ...] = (
    to_outside, to_nowhere, to_zeros, to_pipe, to_directory, to_sparse, to_nothing,
)  # fmt: skip


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("strangers"))


def look(sandbox: Sandbox, commands: tuple[str, ...]) -> None:
    """Runs commands that only look, and asserts that the file beside the store is what it was."""
    before = sandbox.beside.stat()
    for command in commands:
        said = run([*command.split(), "-s", "store"])
        check(said)
        after = sandbox.beside.stat()
        assert (after.st_size, after.st_mtime_ns, after.st_mode) == (
            before.st_size,
            before.st_mtime_ns,
            before.st_mode,
        ), said


def _some(name: str, how: Callable[[Path, Path], None]) -> tuple[str, ...]:
    """Returns some of the commands, others for each case, so that all cases together have all of them."""
    first = sum(map(ord, name + how.__name__)) % len(LOOKING)
    return tuple(LOOKING[(first + 5 * step) % len(LOOKING)] for step in range(3)) + LOOKING[:2]


@pytest.mark.parametrize("how", HOSTILE, ids=lambda how: how.__name__)
@pytest.mark.parametrize("name", [*(f"domains/aws/{file}" for file in DOMAIN_FILES), *STORE_FILES])
def test_a_store_with_a_hostile_file_can_be_looked_at(
    sandbox: Sandbox, name: str, how: Callable[[Path, Path], None]
) -> None:
    with sandbox.fresh() as place:
        path = place / "store" / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        how(path, sandbox.beside)
        look(sandbox, _some(name, how))


@pytest.mark.parametrize(
    "path",
    [
        "/etc",
        "/dev/zero",
        "/dev/null",
        "/proc/self",
        "../../../beside",
        "../../..",
        "fifo",
        "loop",
        "x" * 300,
        "a/" * 3000,
        "\\u0001",
        ".",
    ],
)
def test_a_store_that_names_any_place_can_be_looked_at(sandbox: Sandbox, path: str) -> None:
    with sandbox.fresh() as place:
        file = place / "store" / "store.toml"
        text = file.read_text(encoding="utf-8")
        assert text.count('"domains/aws"') == 1
        os.mkfifo(place / "store" / "fifo")
        (place / "store" / "loop").symlink_to("loop")
        file.write_text(text.replace('"domains/aws"', f'"{path}"'), encoding="utf-8")
        before = set(os.listdir("/etc"))
        look(sandbox, LOOKING)
        assert set(os.listdir("/etc")) == before


@pytest.mark.parametrize("name", ["store.toml.new", "store.lock", "elect.lock", "audit.spool", "domains/aws/FAILED"])
def test_a_change_follows_no_link_out_of_the_store(sandbox: Sandbox, name: str) -> None:
    with sandbox.fresh() as place:
        path = place / "store" / name
        path.unlink(missing_ok=True)
        path.symlink_to(sandbox.beside)
        for command in ("domain add azure", "domain fail aws", "publish q x -d nowhere", "fence q --epoch 3"):
            said = run([*command.split(), "-s", "store"])
            check(said)
    assert sandbox.beside.read_bytes() == b"mine"


# --- what grafctl makes


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def fill() -> None:
    """Makes a store and does everything that makes a file in it."""
    steps = (
        "init store -d aws -d gcp",
        "queue create q -s store --schema s.v1 --replica r-aws=aws --replica r-gcp=gcp --allow aws",
        "publish q one -s store -d aws",
        "domain add azure -s store",
        "domain fail azure -s store",
        "authority keygen sched --directory store",
        "backup backup.tar -s store",
    )
    run_all(steps)
    spool.add(Path("store"), {"op": "publish"})


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_what_is_made_is_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], int], mask: int
) -> None:
    monkeypatch.chdir(tmp_path)
    umask(mask)
    fill()
    modes = modes_of(tmp_path)
    assert {"store/store.toml", "store/domains/aws/env/data.mdb", "store/domains/azure/FAILED"} <= modes.keys()
    assert any(name.startswith("store/audit.spool") for name in modes)
    public = {name: mode for name, mode in modes.items() if name.endswith(".pub")}
    assert set(public.values()) == {0o644 & ~mask}
    for name, mode in modes.items():
        wanted = 0o700 if (tmp_path / name).is_dir() else 0o600
        assert name in public or mode == wanted, f"{name} has mode {mode:o}"


def test_a_group_that_was_let_in_can_use_what_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], int]
) -> None:
    monkeypatch.chdir(tmp_path)
    umask(0o007)
    assert run(["init", "store", "-d", "aws", "-d", "gcp"]).code == 0
    for path in (Path("store"), *Path("store").rglob("*")):
        path.chmod(path.stat().st_mode | (0o070 if path.is_dir() else 0o060))
    assert run(["domain", "add", "azure", "-s", "store"]).code == 0
    assert run(["domain", "fail", "azure", "-s", "store"]).code == 0
    modes = modes_of(tmp_path / "store")
    for name, mode in modes.items():
        wanted = 0o770 if stat.S_ISDIR((tmp_path / "store" / name).stat().st_mode) else 0o660
        assert mode == wanted, f"{name} has mode {mode:o}"
