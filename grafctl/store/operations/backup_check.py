"""What a backup holds of each log, checked as it goes by: on its way into the file as well as out of it.

Promises
- What `LogCheck` has seen without `Corrupt` are the entries of one log, each following the one before it, and rows of
  its state in their order, each with its checksum.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from grafctl.errors import Corrupt
from grafctl.names import check_domain
from grafctl.store import keys
from grafctl.store.records import START, check_entry, decode_config, decode_row, follows, parse_json
from grafctl.store.rules import Config

ROW_BYTES_MAX = 511 - 9  # of a key, without the tag and the log
PAIR = struct.Struct(">HI")
Row = tuple[bytes, bytes]  # a key of the state without tag and log, and the value in its envelope


class Saved(NamedTuple):
    """What is saved of one log; a line of the manifest."""

    log: str  # 16 hexadecimal digits
    floor: int  # the first entry that is kept
    upto: int  # entries, those before the floor included
    chain: str  # after the last
    rows: int
    bytes: int
    state_digest: str  # SHA-256 over key and body of every row


class Piece(NamedTuple):
    """Checked entries or rows on their way out of a backup."""

    log: LogCheck
    at: int  # index of the first entry
    entries: Sequence[bytes] = ()
    rows: Sequence[Row] = ()


class LogCheck:
    """Reads one log's part in order; what it has seen is right, or it raises `Corrupt`."""

    def __init__(self, log: bytes, floor: int, chain: bytes) -> None:
        self.log, self.floor, self.floor_chain = log, floor, chain
        self.at, self.chain, self.stamped_ms = floor, chain, 0
        self.config: Config | None = None
        self.locator: dict[str, Any] | None = None
        self.resources: dict[str, str] = {}  # of the control log: name -> log
        self._rows = self._bytes = 0
        self._last = b""
        self._state = hashlib.sha256()

    def entries(self, raws: Sequence[bytes]) -> None:
        for raw in raws:
            what = f"entry {self.at} of log {self.log.hex()}"
            entry, _ = check_entry(raw, what)
            if entry.stripped or not follows(self.chain, raw):
                raise Corrupt(f"{what} {'lacks its data' if entry.stripped else 'does not follow the one before it'}.")
            if entry.kind == START:
                self.config = decode_config(entry.request, self.at, entry.term)
            self.at, self.chain, self.stamped_ms = self.at + 1, entry.chain, entry.stamped_ms
            self._bytes += len(raw)

    def rows(self, rows: Sequence[Row]) -> None:
        for row, raw in rows:
            if not self._last < row or len(row) > ROW_BYTES_MAX:
                raise Corrupt(f"Row {row.hex()} of log {self.log.hex()} is out of order.")
            body = decode_row(raw, f"row {row.hex()} of log {self.log.hex()}", keys.state(self.log, row))
            self._state.update(PAIR.pack(len(row), len(body)) + row + body)
            self._last = row
            self._rows += 1
            self._bytes += len(raw)
            self._look_at(row, body)

    def _look_at(self, row: bytes, body: bytes) -> None:
        start, stop = keys.resources()
        if row == keys.locator():
            self.locator = parse_json(body)
        elif self.log == keys.CONTROL_LOG and start <= row < stop:
            self.resources[row[len(start) :].decode()] = parse_json(body)["log"]

    def saved(self) -> Saved:
        """Returns what this log has come to."""
        counts = (self.floor, self.at, self.chain.hex(), self._rows, self._bytes)
        return Saved(self.log.hex(), *counts, self._state.hexdigest())


def check_located(logs: Iterable[LogCheck]) -> None:
    """Raises where a configuration or a locator names what cannot be a domain of a store."""
    for check in logs:
        assert check.config is not None
        voters = {check_domain(voter.domain) for voter in check.config.voters}
        if check.config.primary not in voters:
            raise ValueError(f"log {check.log.hex()} is led by nobody")
        for replica in (check.locator or {"replicas": []})["replicas"]:
            check_domain(replica["domain"])
            if not isinstance(replica["state"], str) or not isinstance(replica["role"], str):
                raise ValueError(f"log {check.log.hex()} has no readable locator")


def state_digest(rows: Iterator[Row]) -> str:
    """Returns the digest of (key, body) pairs that stands in `Saved`."""
    whole = hashlib.sha256()
    for row, body in rows:
        whole.update(PAIR.pack(len(row), len(body)) + row + body)
    return whole.hexdigest()
