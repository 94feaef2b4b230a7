"""The base copy: the rows of a vshard, by key, from the source's newest state to the target's log.

Rows that were written since the migration began are left out: they come with the source's log. So what is copied never
passes what was there, and no snapshot is held open however long it takes.

When it fails: the cursor is in the same entry as the rows, so the next operator goes on behind the last row.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from grafctl import clock
from grafctl.store import vshard_keys
from grafctl.store.ahead import Ahead
from grafctl.store.checked import checked, served
from grafctl.store.driver.kill import point
from grafctl.store.keys import U64
from grafctl.store.moving_rules import BASE_COPY, progress
from grafctl.store.operations.moving.work import Work
from grafctl.store.replica.state import State
from grafctl.store.resources.receiving import Copy
from grafctl.store.table_block import WRITE_BYTES, Write

CHUNK_BYTES = 8 << 20
CHUNK_BYTES_MIN = 64 << 10
CHUNK_ROWS = 20_000


class Chunk(NamedTuple):
    """Rows on their way, and the key behind which the next ones are."""

    writes: list[Write]
    following: str
    done: bool


def copy_base(work: Work, moving: dict[str, Any]) -> None:
    """Copies what is not copied yet."""
    cursor, copied = moving["cursor"], moving["bytes"]
    total = int(work.record["bytes"])
    with Ahead(_packed(work, cursor)) as requests:
        for request, size, done in requests:
            began_s = clock.monotonic_s()
            work.at_target(request)
            copied += size
            point("moving.copied")
            work.tell("progress", state=BASE_COPY, bytes=progress(copied, total, what=work.what).copied, total=total)
            work.beat_at_times()
            work.check_stop()
            _keep_to_rate(work, size, began_s)
            if done:
                return


def _packed(work: Work, cursor: str) -> Generator[tuple[Copy, int, bool], None, None]:
    """Makes the requests for one chunk after another."""
    done = False
    while not done:
        chunk = _read(work, cursor)
        size = sum(len(write.key) + len(write.value or b"") for write in chunk.writes)
        done = chunk.done
        yield Copy.of(work.place, cursor, chunk.writes, chunk.following, done), size, done
        cursor = chunk.following


def _read(work: Work, cursor: str) -> Chunk:
    number, newest = work.place.vshard, int(work.record["seq"])
    rate = work.record.get("rate")  # of a slow copy somebody wants to see more than a step a minute
    most = CHUNK_BYTES if rate is None else min(CHUNK_BYTES, max(CHUNK_BYTES_MIN, rate // 2))

    def find(state: State) -> Chunk:
        first, last = vshard_keys.table_rows(number)
        if cursor:
            first = vshard_keys.table_row(number, bytes.fromhex(cursor) + b"\0")
        writes: list[Write] = []
        size = 0
        for row, body in state.scan((first, last)):
            (version,) = U64.unpack_from(body)
            if version > newest:
                continue
            key = vshard_keys.key_of(row)
            writes.append(Write(number, key, body[8:], version))
            size += WRITE_BYTES + len(key) + len(body)
            if size >= most or len(writes) >= CHUNK_ROWS:
                return Chunk(writes, key.hex(), False)
        return Chunk(writes, cursor, True)

    return served(lambda: checked(work.source, find, newest=True))


def _keep_to_rate(work: Work, size: int, began_s: float) -> None:
    """Waits where the operator limited how many bytes a second may be copied; what is said meanwhile counts at once."""
    while rate := work.record.get("rate"):
        due_s = size / rate - (clock.monotonic_s() - began_s)
        if due_s <= 0:
            return
        clock.sleep(min(due_s, 0.5))
        work.beat_at_times()
        work.check_stop()
