"""Keys and signatures: what `generate` leaves behind, what is refused, and what a signature covers."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import GenerationConflict, GrafctlError, HealthRejected, NotFound, Usage
from grafctl.store import signing

FIELDS = ("st_1", "azure/eastus", "scheduler-a", "healthy", 1000)


def pair(directory: Path, name: str = "scheduler-a") -> tuple[Path, Path]:
    signing.generate(name, directory)
    return directory / f"{name}.key", directory / f"{name}.pub"


def test_generate_writes_two_files_and_says_where(tmp_path: Path) -> None:
    shown = signing.generate("scheduler-a", tmp_path).as_json()
    key, pub = tmp_path / "scheduler-a.key", tmp_path / "scheduler-a.pub"
    assert shown["name"] == "scheduler-a"
    assert (shown["private_key"], shown["public_key"]) == (str(key), str(pub))
    assert shown["fingerprint"] == signing.fingerprint(signing.load_public(pub))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [len(path.read_text().splitlines()) for path in (key, pub)] == [2, 2]


def test_the_private_key_is_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key, _ = pair(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("suffix", ["key", "pub"])
def test_generate_overwrites_nothing_and_writes_nothing(tmp_path: Path, suffix: str) -> None:
    there = tmp_path / f"scheduler-a.{suffix}"
    there.write_text("mine")
    with pytest.raises(GenerationConflict) as caught:
        signing.generate("scheduler-a", tmp_path)
    assert str(there) in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == [there.name]
    assert there.read_text() == "mine"


def test_a_dangling_link_counts_as_there(tmp_path: Path) -> None:
    (tmp_path / "scheduler-a.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GenerationConflict):
        signing.generate("scheduler-a", tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_race_for_the_private_key_leaves_only_the_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.lexists", lambda path: False)
    (tmp_path / "scheduler-a.key").write_text("mine")
    with pytest.raises(GenerationConflict):
        signing.generate("scheduler-a", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["scheduler-a.key"]


def test_generate_where_there_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="cannot be written"):
        signing.generate("scheduler-a", tmp_path / "nowhere")


def test_signatures_of_a_pair_agree(tmp_path: Path) -> None:
    key, pub = pair(tmp_path)
    message = signing.observation_message(*FIELDS)
    signature = signing.sign(signing.load_private(key), message)
    assert signing.verify(signing.load_public(pub), signature, message)


def test_the_message_is_canonical_json() -> None:
    assert signing.observation_message(*FIELDS) == (
        b'{"authority":"scheduler-a","domain":"azure/eastus","observed_ms":1000,"status":"healthy","store":"st_1"}'
    )


@pytest.mark.parametrize("place", range(5))
def test_every_field_is_signed(tmp_path: Path, place: int) -> None:
    key, pub = pair(tmp_path)
    signature = signing.sign(signing.load_private(key), signing.observation_message(*FIELDS))
    other = list(FIELDS)
    other[place] = 1001 if place == 4 else "other"
    message = signing.observation_message(*other)  # type: ignore[arg-type]
    assert not signing.verify(signing.load_public(pub), signature, message)


def test_the_signature_of_another_key_is_refused(tmp_path: Path) -> None:
    key, _ = pair(tmp_path, "a")
    _, pub = pair(tmp_path, "b")
    message = signing.observation_message(*FIELDS)
    assert not signing.verify(signing.load_public(pub), signing.sign(signing.load_private(key), message), message)


@given(public_key=st.text(max_size=60), signature=st.text(max_size=100), message=st.binary(max_size=40))
def test_verify_of_anything_is_false(public_key: str, signature: str, message: bytes) -> None:
    assert not signing.verify(public_key, signature, message)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_private_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    key, _ = pair(tmp_path)
    key.chmod(mode)
    with pytest.raises(HealthRejected) as caught:
        signing.load_private(key)
    assert f"{mode:o}" in caught.value.message
    assert "chmod 600" in (caught.value.hint or "")


def test_a_private_key_that_its_owner_cannot_write_is_fine(tmp_path: Path) -> None:
    key, _ = pair(tmp_path)
    key.chmod(0o400)
    assert len(signing.load_private(key)) == 32


@pytest.mark.parametrize("load", [signing.load_private, signing.load_public])
def test_a_missing_file_is_not_found(tmp_path: Path, load: object) -> None:
    assert callable(load)
    with pytest.raises(NotFound):
        load(tmp_path / "none.key")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFound):
        load(tmp_path / "file" / "none.key")


def test_the_halves_are_not_taken_for_each_other(tmp_path: Path) -> None:
    key, pub = pair(tmp_path)
    secret = key.read_text().splitlines()[1]
    with pytest.raises(Usage, match="other half") as caught:
        signing.load_public(key)
    assert secret not in str(caught.value.as_json())
    pub.chmod(0o600)
    with pytest.raises(Usage, match="other half"):
        signing.load_private(pub)


BODY = "A" * 43 + "="
GARBAGE = [
    b"",
    b"\n",
    b"\xff\xfe\x00",
    b"-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n",
    f"{signing.PRIVATE_HEADER}\n".encode(),
    f"{signing.PRIVATE_HEADER}\nAAAA\n".encode(),
    f"{signing.PRIVATE_HEADER}\n{BODY}\nmore\n".encode(),
    f"{signing.PRIVATE_HEADER}\n{BODY[:20]}!{BODY[21:]}\n".encode(),
    f"{signing.PRIVATE_HEADER} \n{BODY}\n".encode(),
    b"x" * 100_000,
]


@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(content)
    path.chmod(0o600)
    for load in (signing.load_private, signing.load_public):
        with pytest.raises(Usage):
            load(path)


@given(content=st.binary(max_size=200))
def test_a_key_file_of_any_bytes_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(GrafctlError):
        signing.load_private(path)


def test_a_directory_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(Usage, match="is not a file"):
            signing.load_public(path)


def test_a_path_that_no_system_takes_is_refused() -> None:
    with pytest.raises(Usage):
        signing.load_public(Path("a\0b"))


def test_reading_a_public_key_does_not_import_cryptography(tmp_path: Path) -> None:
    _, pub = pair(tmp_path)
    code = (
        "import sys, pathlib\nfrom grafctl.store import signing\n"
        f"signing.load_public(pathlib.Path({str(pub)!r}))\nassert 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
