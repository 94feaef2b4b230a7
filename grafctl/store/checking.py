"""Everything that the rows of one domain say of themselves and of each other, read through; what a probe's child runs.

Promises
- A row that is missing, changed or under another's key is found, in every log that the domain holds: entries follow
  each other from the floor to the head, their blocks have their digests, rows have their checksums, which are over
  their keys too, and the head counts and sums up the rows of its state.
- Nothing is written, and no other domain is needed.
"""

from __future__ import annotations

import json
import os

from grafctl.errors import Corrupt
from grafctl.store import keys
from grafctl.store.driver.contract import Identity, View
from grafctl.store.records import (
    Entry,
    HeadRow,
    check_entry,
    decode_config_row,
    decode_head,
    decode_row,
    decode_seen,
    decode_undo,
    follows,
    row_checksum,
)
from grafctl.typed import Callable, Iterator

ALL = (b"\x10", b"\x31")  # every key that a log has


class _Log:
    """What was read so far of one log."""

    __slots__ = ("at", "chain", "row", "state")

    def __init__(self, row: HeadRow) -> None:
        self.row = row
        self.at = row.head.floor
        self.chain = row.floor_chain
        self.state = [0, 0]  # the sum over its state rows, and their number


def problems(view: View, domain: str) -> Iterator[str]:
    """Yields what is wrong with the rows of a domain."""
    logs: dict[bytes, _Log] = {}
    for key, raw in view.scan(*ALL):
        try:
            yield from _row_problems(logs, key, raw)
        except Corrupt as error:
            yield error.message.rstrip(".")
    for name, log in logs.items():
        head = log.row.head
        if head.learning:
            continue
        if not head.floor <= head.commit <= head.tail:
            yield f"the head of log {name.hex()} is not in order"
        if log.at != head.tail:
            yield f"entries {log.at} to {head.tail - 1} of log {name.hex()} are missing"
        elif log.chain != log.row.chain:
            yield f"the head of log {name.hex()} has another chain than its last entry"
        if (log.state[0] % (1 << 64), log.state[1]) != (log.row.state_sum, log.row.state_rows):
            yield f"log {name.hex()} has {log.state[1]} of {log.row.state_rows} state rows, or others than these"


def _row_problems(logs: dict[bytes, _Log], key: bytes, raw: bytes) -> Iterator[str]:
    what = f"key {key.hex()}"
    log = logs.get(key[1:9])
    if key[0] == 0x10:
        logs[keys.parse_head(key)] = _Log(decode_head(raw, what))
    elif log is None:
        yield f"{what} belongs to a log without a head"
    elif key[0] == 0x20:
        yield from _entry_problems(log, key, raw)
    elif key[0] == 0x30:
        decode_row(raw, what, key)
        log.state[0] += row_checksum(raw)
        log.state[1] += 1
    elif key[0] == 0x21:
        decode_undo(raw, what, key)
    else:
        READ[key[0]](raw, what)


def _entry_problems(log: _Log, key: bytes, raw: bytes) -> Iterator[str]:
    what = f"entry {keys.parse_index(key)} of log {key[1:9].hex()}"
    entry: Entry = check_entry(raw, what)[0]
    if log.row.head.learning:
        return
    if keys.parse_index(key) != log.at:
        yield f"{what} stands where entry {log.at} belongs"
    elif not follows(log.chain, raw):
        yield f"{what} does not follow the one before it"
    log.at += 1
    log.chain = entry.chain


READ: dict[int, Callable[[bytes, str], object]] = {
    0x11: decode_config_row,
    0x12: decode_seen,
    0x22: check_entry,
}


def main(asked: list[str]) -> None:
    """Checks one domain for a parent that reads the answer: how, wait for the lock, directory, the identity's parts."""
    from grafctl.store.driver.lmdb_probe import check

    how, wait_s, path, store, domain, incarnation, form = asked
    identity = Identity(store, domain, incarnation, int(form))
    found = check(path, identity, problems, float(wait_s), always=how == "always")
    os.write(1, json.dumps(found).encode())
