"""The journal in front of LMDB: what counts as a commit after a torn write, a death, a power loss or a bad disk."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from drivers.contract import IDENTITY, get, in_thread, put
from drivers.journals import EVERYTHING, anew, file, forget_boot
from grafctl.errors import OutcomeUnknown, Unreachable
from grafctl.store.driver.contract import View
from grafctl.store.driver.journal import DIRECT_BYTES
from grafctl.store.driver.journal_bytes import (
    SECTOR,
    decode_record,
    encode_record,
    read_mark,
    record_size,
)
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment
from grafctl.store.driver.overlay import BENEATH, Overlay, overlaid


def transactions(env: LmdbEnvironment) -> int:
    """Returns how many transactions LMDB has committed."""
    return int(env.handle().env.info()["last_txnid"])


def test_a_small_commit_is_one_write_and_one_flush_and_no_transaction_of_lmdb(
    env: LmdbEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(env, b"a", b"0")
    before = transactions(env)
    steps: list[tuple[int, int | str]] = []
    pwrite, fdatasync = os.pwrite, os.fdatasync

    def counting(fd: int, data: bytes, offset: int) -> int:
        steps.append((fd, len(data)))
        return pwrite(fd, data, offset)

    def flushing(fd: int) -> None:
        steps.append((fd, "flush"))
        fdatasync(fd)

    monkeypatch.setattr(os, "pwrite", counting)
    monkeypatch.setattr(os, "fdatasync", flushing)
    handle = env.handle()
    for number in range(10):
        put(env, b"a", b"%d" % number)
        assert steps == [(handle.journal_fd, SECTOR), (handle.journal_fd, "flush"), (handle.fd, 20)]  # and the mark
        steps.clear()
        assert get(env, b"a") == b"%d" % number and not steps
    assert transactions(env) == before


def test_a_large_commit_is_one_transaction_of_lmdb_and_takes_the_journal_in(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    before = transactions(env)
    put(env, b"b", b"x" * DIRECT_BYTES)
    assert transactions(env) == before + 1
    put(env, b"c", b"3")
    assert transactions(env) == before + 1
    assert file(path).read_bytes().count(struct.pack("<I", 0x4A47524C)) >= 1
    assert [get(env, key) for key in (b"a", b"c")] == [b"1", b"3"]


def test_a_record_counts_whole_or_not_at_all() -> None:
    changes = {b"a": b"1", b"b": None, b"": b"", b"c": b"x" * 700}
    raw = encode_record(7, 3, changes)
    assert len(raw) % SECTOR == 0
    assert record_size(raw, 7, 3) == len(raw) and decode_record(raw) == changes
    assert not record_size(raw, 8, 3) and not record_size(raw, 7, 4) and not record_size(b"", 7, 3)
    length = len(raw.rstrip(b"\0"))
    for cut in range(0, length, 7):
        torn = raw[:cut].ljust(len(raw), b"\xaa")
        assert not record_size(torn, 7, 3) or decode_record(torn) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_torn_write_harms_no_older_record_and_the_next_one_goes_over_it(path: Path, seed: int) -> None:
    """Every subset of the sectors of the last write may be what a power loss leaves of it."""
    chance = random.Random(seed)
    LmdbDriver().create(path, IDENTITY)
    env = anew(path)
    for number in range(5):
        put(env, b"row %d" % number, b"x" * chance.randrange(2000))
    before, start = file(path).read_bytes(), env.handle().journal.overlay
    assert start is not None
    first = start.position
    put(env, b"last", b"y" * 3000)
    after = bytearray(file(path).read_bytes())
    stop = start.position
    env.close()
    sectors = [at for at in range(first, stop, SECTOR) if chance.random() < 0.7]
    image = bytearray(before)
    for at in sectors:
        image[at : at + SECTOR] = after[at : at + SECTOR]
    file(path).write_bytes(image)
    forget_boot(path)
    whole = len(sectors) == len(range(first, stop, SECTOR))
    env = anew(path)
    assert all(get(env, b"row %d" % number) is not None for number in range(5))
    assert get(env, b"last") == (b"y" * 3000 if whole else None)
    put(env, b"next", b"1")
    env.close()
    env = anew(path)
    assert get(env, b"next") == b"1" and get(env, b"last") == (b"y" * 3000 if whole else None)
    env.close()


def fail_to_flush(patch: pytest.MonkeyPatch) -> None:
    def fdatasync(fd: int) -> None:
        raise OSError(5, "Input/output error")

    patch.setattr(os, "fdatasync", fdatasync)


@pytest.mark.parametrize("first", [b"1", b"1" * DIRECT_BYTES])
def test_what_was_written_and_not_flushed_is_believed_by_nobody_before_it_is_durable(
    env: LmdbEnvironment, path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    put(env, b"a", first)
    with monkeypatch.context() as patch:
        fail_to_flush(patch)
        with pytest.raises(OutcomeUnknown):
            put(env, b"a", b"2")
        with pytest.raises(Unreachable):
            get(env, b"a")
        with pytest.raises(OutcomeUnknown), env.write(wait_s=1) as batch:
            assert batch.get(b"a") == b"2"  # a writer goes on from it, and learns at its end
    steps: list[object] = []
    pwrite, fdatasync = os.pwrite, os.fdatasync

    def writing(fd: int, raw: bytes, at: int) -> int:
        steps.append(decode_record(raw) if len(raw) >= SECTOR else "mark")
        return pwrite(fd, raw, at)

    def flushing(fd: int) -> None:
        steps.append("flush")
        fdatasync(fd)

    monkeypatch.setattr(os, "pwrite", writing)
    monkeypatch.setattr(os, "fdatasync", flushing)
    assert get(env, b"a") == b"2" and steps == ["flush"]
    with env.write(wait_s=1):
        pass
    assert steps[1:] == [{b"a": b"2"}, "flush", "mark"]  # written again: the error was reported to the other handle
    put(env, b"b", b"3")
    assert steps[4:] == [{b"b": b"3"}, "flush", "mark"]


def test_one_flush_covers_what_others_wrote_before_it(env: LmdbEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks that both have written: who flushes first leaves nothing to do for who wrote earlier."""
    put(env, b"a", b"0")
    flushes: list[int] = []
    fdatasync = os.fdatasync

    def flushing(fd: int) -> None:
        flushes.append(fd)
        if len(flushes) == 1:  # the first writer has given the lock back and waits for the disk
            in_thread(lambda: put(env, b"b", b"1"))
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", flushing)
    put(env, b"a", b"1")
    assert len(flushes) == 2
    with env.write(wait_s=1):
        pass
    assert len(flushes) == 2 and (get(env, b"a"), get(env, b"b")) == (b"1", b"1")


def test_a_view_does_not_see_what_another_thread_writes_while_it_flushes(
    env: LmdbEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(env, b"a", b"0")
    journal = env.handle().journal
    overlay, fdatasync = journal.overlay, os.fdatasync
    assert overlay is not None
    journal.append(overlay, {b"a": b"1"})  # by a writer that has not flushed it yet

    def flushing(fd: int) -> None:
        fdatasync(fd)
        journal.append(overlay, {b"a": b"2"})

    monkeypatch.setattr(os, "fdatasync", flushing)
    with env.read() as view:
        assert view.get(b"a") == b"1" and list(view.scan(*EVERYTHING)) == [(b"a", b"1")]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_power_loss_may_keep_a_later_record_of_several_that_were_not_flushed(
    env: LmdbEnvironment, path: Path, lost: int
) -> None:
    """It is no damage, and it does not come back when another record takes the place of the one that was lost."""
    put(env, b"kept", b"1")
    handle = env.handle()
    with env.write(wait_s=1) as batch:
        batch.put(b"n", b"0")
    overlay = handle.journal.overlay
    assert overlay is not None
    for number in (1, 2, 3):  # written one after the other, none of them flushed
        handle.journal.append(overlay, {b"n": b"%d" % number})
    image = bytearray(file(path).read_bytes())
    env.close()
    image[(1 + lost) * SECTOR : (2 + lost) * SECTOR] = bytes(SECTOR)
    file(path).write_bytes(image)
    forget_boot(path)
    env = anew(path)
    assert get(env, b"n") == b"%d" % (lost - 1)
    put(env, b"m", b"1")
    assert get(env, b"n") == b"%d" % (lost - 1)
    env.close()
    for _ in range(2):
        other = anew(path)
        assert (get(other, b"n"), get(other, b"m"), get(other, b"kept")) == (b"%d" % (lost - 1), b"1", b"1")
        other.close()
        forget_boot(path)


def test_after_a_power_loss_every_whole_record_counts(env: LmdbEnvironment, path: Path) -> None:
    for number in range(50):
        put(env, b"row", b"%d" % number)
    env.close()
    forget_boot(path)
    env = anew(path)
    assert get(env, b"row") == b"49"
    put(env, b"row", b"50")
    env.close()
    with (path / "writer.lock").open("rb") as mark:
        assert read_mark(mark.fileno()) == (51, True)
    assert get(anew(path), b"row") == b"50"


def test_records_of_an_earlier_generation_do_not_count(env: LmdbEnvironment, path: Path) -> None:
    for number in range(20):
        put(env, b"row %d" % number, b"1")
    overlay = env.handle().journal.overlay
    assert overlay is not None
    before = overlay.generation
    with env.write(wait_s=1) as batch:
        for number in range(20):
            batch.delete(b"row %d" % number)
        batch.put(b"large", b"x" * DIRECT_BYTES)
    overlay = env.handle().journal.overlay
    assert overlay is not None and overlay.generation != before
    put(env, b"first", b"1")  # over the first of the old ones
    env.close()
    forget_boot(path)
    env = anew(path)
    with env.read() as view:
        assert [key for key, _ in view.scan(*EVERYTHING)] == [b"first", b"large"]
    env.close()


def look(view: View) -> list[tuple[bytes, bytes]]:
    """Returns every row of a view, where a scan and a get of each say the same."""
    rows = dict(view.scan(*EVERYTHING))
    assert all(view.get(key) == rows.get(key) for key in (b"%d" % number for number in range(30)))
    return list(rows.items())


@pytest.mark.parametrize("size", [1024, 4096, 64 << 10])
def test_views_and_batches_agree_with_a_dictionary(path: Path, size: int) -> None:
    """Random commits, small and large; views opened on the way still see what they saw."""
    chance = random.Random(size)
    LmdbDriver(journal_size=size).create(path, IDENTITY)
    env, model = anew(path), dict[bytes, bytes]()
    held: list[
        tuple[AbstractContextManager[View], Callable[[], list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]
    ] = []
    for turn in range(300):
        with env.write(wait_s=1) as batch:
            for _ in range(chance.randrange(4)):
                key = b"%d" % chance.randrange(30)
                if chance.random() < 0.3:
                    assert batch.delete(key) == (model.pop(key, None) is not None)
                else:
                    model[key] = bytes(chance.randrange(400))
                    batch.put(key, model[key])
            assert list(batch.scan(*EVERYTHING)) == sorted(model.items())
        if turn % 15 == 0:
            block = env.read()
            view = block.__enter__()
            held.append((block, lambda view=view: look(view), sorted(model.items())))  # type: ignore[misc]
        with env.read() as now:
            start, stop = sorted((b"%d" % chance.randrange(30), b"%d" % chance.randrange(30)))
            expected = [(key, value) for key, value in sorted(model.items()) if start <= key < stop]
            assert list(now.scan(start, stop)) == expected
            assert list(now.scan(start, stop, reverse=True)) == expected[::-1]
            assert all(now.get(b"%d" % key) == model.get(b"%d" % key) for key in range(30))
        if turn % 50 == 49:
            for open_block, _, _ in held:
                open_block.__exit__(None, None, None)
            held.clear()
            env.close()
            env = anew(path)
        assert all(again() == then for _, again, then in held)
    for open_block, _, _ in held:
        open_block.__exit__(None, None, None)
    env.close()


def test_rows_over_rows() -> None:
    below = [(b"a", b"1"), (b"c", b"3"), (b"e", b"5"), (b"g", b"7")]
    over = {b"a": None, b"b": b"2", b"c": b"33", b"d": None, b"f": b"6", b"h": b"8"}
    expected = [(b"b", b"2"), (b"c", b"33"), (b"e", b"5"), (b"f", b"6"), (b"g", b"7"), (b"h", b"8")]
    assert list(overlaid(below, over, reverse=False)) == expected
    assert list(overlaid(below[::-1], over, reverse=True)) == expected[::-1]


def test_an_overlay_keeps_what_each_commit_left() -> None:
    overlay = Overlay(1, 2, 10)
    raw = encode_record(2, 11, {})
    overlay.add(11, {b"a": b"1", b"b": b"1"}, raw)
    overlay.add(12, {b"a": None}, raw)
    overlay.add(12, {b"a": b"again"}, raw)  # a commit that is there already stays as it is
    assert overlay.span(b"", b"z", 10) == {} and overlay.span(b"aa", b"b", 12) == {}
    assert overlay.span(b"", b"z", 11) == {b"a": b"1", b"b": b"1"}
    assert overlay.span(b"", b"z", 12) == {b"a": None, b"b": b"1"}
    assert [overlay.get(key, 10) for key in (b"a", b"b", b"c")] == [BENEATH, BENEATH, BENEATH]
    assert [overlay.get(key, 11) for key in (b"a", b"b", b"c")] == [b"1", b"1", BENEATH]
    assert [overlay.get(key, 12) for key in (b"a", b"b", b"c")] == [None, b"1", BENEATH]
    assert (overlay.number, overlay.position) == (12, 2 * SECTOR)
    assert list(overlay.newest()) == [(b"a", None), (b"b", b"1")]
