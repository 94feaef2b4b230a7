"""A journal of which bytes were changed, or are gone: what is damage, and what is the end of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.contract import get, put
from drivers.journals import anew, file, flip, forget_boot
from grafctl.errors import Damaged
from grafctl.store.driver.journal import DIRECT_BYTES
from grafctl.store.driver.journal_bytes import (
    SECTOR,
    beginnings,
    encode_record,
)
from grafctl.store.driver.lmdb import LmdbEnvironment


@pytest.mark.parametrize("boot", ["same", "other"])
@pytest.mark.parametrize("place", [0, 9, 16, 24, 40, 49, 57])
def test_a_changed_record_is_damage_and_not_the_end(env: LmdbEnvironment, path: Path, boot: str, place: int) -> None:
    for number in range(6):
        put(env, b"row", b"%d" % number)
    env.close()
    flip(path, 2 * SECTOR + place)
    if boot == "other":
        forget_boot(path)
    env = anew(path)
    for use in (lambda: get(env, b"row"), lambda: put(env, b"row", b"7")):
        with pytest.raises(Damaged):
            use()
    env.close()


@pytest.mark.parametrize("between", [0, 1, 6])
def test_a_later_record_is_found_however_far_away(env: LmdbEnvironment, path: Path, between: int) -> None:
    """The one that was changed is large, or others are between that say nothing of it."""
    put(env, b"first", b"1")
    for number in range(between + 1):
        put(env, b"row %d" % number, bytes(DIRECT_BYTES - 512))
    put(env, b"last", b"1")
    env.close()
    flip(path, SECTOR + 57)
    _, changed, *others, _ = beginnings(file(path).read_bytes())
    assert changed == SECTOR and len(others) == between
    with file(path).open("r+b") as raw:
        for at in others:  # nothing is left of where they begin
            raw.seek(at)
            raw.write(bytes(SECTOR))
    forget_boot(path)
    env = anew(path)
    with pytest.raises(Damaged, match="the journal is broken at"):
        put(env, b"a", b"1")
    env.close()


@pytest.mark.parametrize("shift", [0, 1, SECTOR - 2, SECTOR - 1])
def test_a_record_begins_at_a_sector_and_nowhere_else(shift: int) -> None:
    record = encode_record(3, 7, {b"a": b"1"})
    raw = bytes(2 * SECTOR) + bytes(shift) + record + bytes(SECTOR - shift) + record
    found = [at for at in range(0, len(raw), SECTOR) if raw[at : at + 4] == record[:4]]
    assert list(beginnings(raw)) == found and len(found) == (2 if shift == 0 else 1)
    assert list(beginnings(b"")) == list(beginnings(record[:3])) == []


def test_a_missing_journal_is_damage(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    env.close()
    file(path).unlink()
    with pytest.raises(Damaged, match="journal is missing"):
        get(anew(path), b"a")


def test_a_payload_does_not_pass_for_a_record(env: LmdbEnvironment, path: Path) -> None:
    """A value that is a record of the right number, on the boundary of a sector, after a torn write before it."""
    put(env, b"a", b"1")
    overlay = env.handle().journal.overlay
    assert overlay is not None
    fake = encode_record(overlay.generation ^ 1, overlay.number + 2, {b"a": b"fake"})
    put(env, b"b", bytes(SECTOR - 48 - 6 - 1) + fake)  # after the header, the change and its key
    env.close()
    assert file(path).read_bytes().find(fake) == 2 * SECTOR
    flip(path, SECTOR)
    forget_boot(path)
    env = anew(path)
    assert (get(env, b"a"), get(env, b"b")) == (b"1", None)
    put(env, b"c", b"1")
    env.close()
    env = anew(path)
    assert (get(env, b"a"), get(env, b"b"), get(env, b"c")) == (b"1", None, b"1")
    env.close()
