"""What is flushed before and after each rename, and before each answer: the order that a power loss cannot break.

The calls of the operating system are noted as they happen; which file each is about is asked of the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.store import files

Note = tuple[str, str]  # what was done, to what


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[Note]:
    """The flushes and renames of this process, in their order."""
    made: list[Note] = []

    def noting(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(what: Any, *rest: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(rest[0])
            result = real(what, *rest)
            made.append((name, os.fsdecode(path)))
            return result

        return call

    for name in ("fsync", "fdatasync", "rename"):
        monkeypatch.setattr(os, name, noting(name))
    return made


def place_of(notes: list[Note], what: str, path: Path, after: int = -1) -> int:
    """Returns where in the notes something was done to a path, after another place."""
    found = [place for place, note in enumerate(notes) if note == (what, str(path)) and place > after]
    assert found, f"no {what} of {path} after {notes[after] if after >= 0 else 'the beginning'}: {notes}"
    return found[0]


def test_the_file_of_the_store_is_flushed_before_its_rename_and_the_rename_after_it(
    tmp_path: Path, notes: list[Note]
) -> None:
    client.create(tmp_path / "store", {"aws": None})
    file = tmp_path / "store" / "store.toml"
    flushed = place_of(notes, "fsync", file.with_name("store.toml.new"))
    renamed = place_of(notes, "rename", file, flushed)
    named = place_of(notes, "fsync", file.parent, renamed)
    domain = tmp_path / "store" / "domains" / "aws"
    assert place_of(notes, "rename", domain) > named, "an environment was made that the store may not know"


def test_a_small_file_is_flushed_and_its_name_too_when_replacing_it_returns(tmp_path: Path, notes: list[Note]) -> None:
    files.replace(tmp_path / "file", b"content")
    assert notes == [
        ("fsync", str(tmp_path / "file.new")),
        ("rename", str(tmp_path / "file")),
        ("fsync", str(tmp_path)),
    ]


def test_a_new_domain_is_flushed_before_its_rename_and_the_rename_after_it(tmp_path: Path, notes: list[Note]) -> None:
    client.create(tmp_path / "store", {"aws": None})
    domain = tmp_path / "store" / "domains" / "aws"
    renamed = place_of(notes, "rename", domain)
    before = {Path(path).name for what, path in notes[:renamed] if what == "fsync"}
    assert {"data.mdb", "journal", "lock.mdb", "writer.lock", "env"} <= before
    place_of(notes, "fsync", domain.parent, renamed)


def test_every_copy_that_is_counted_was_flushed_before_the_answer(tmp_path: Path, notes: list[Note]) -> None:
    domains = ("aws", "gcp")
    client.create(tmp_path / "store", dict.fromkeys(domains))
    with client.open(tmp_path / "store") as store:
        store.queues.create("q", replicas=["r-aws=aws", "r-gcp=gcp"], allow=["**"])
        notes.clear()
        assert set(store.publish("q", "x", domain="aws").acked_by) == set(domains)
        for domain in domains:
            place_of(notes, "fdatasync", tmp_path / "store" / "domains" / domain / "env" / "journal")
