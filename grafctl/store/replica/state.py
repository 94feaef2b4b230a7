"""The state tables of one log as `decide` and `apply` see them: rows at one index, checked when read.

Promises
- `StateView` never shows a row whose checksum fails: it raises `Corrupt` with domain and key.
- `state_at` shows the tables as they were after the first `count` entries, though the environment holds them at the
  tail: the pre-images of later entries lie over them. What is not yet committed can so be left out of an answer.
"""

from __future__ import annotations

from grafctl.errors import Corrupt
from grafctl.store import keys
from grafctl.store.driver.contract import View
from grafctl.store.records import decode_row, decode_undo, encode_json, parse_json, row_body
from grafctl.typed import Any, Iterator, Protocol

Writes = list[tuple[bytes, bytes | None]]  # (row, new body or None to delete); applied in order


class State(Protocol):
    """Rows of one log at one index."""

    def get(self, row: bytes) -> bytes | None:
        """Returns the body of a row, or None."""
        ...

    def get_json(self, row: bytes) -> Any:
        """Returns the decoded body of a row, or None."""
        ...

    def scan(self, span: tuple[bytes, bytes], *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yields (row, body) of a range of `keys`, in order or backwards."""
        ...


class StateView:
    """The tables of one log as they are in a view of an environment: at the log's tail."""

    __slots__ = ("_domain", "_overlay", "_prefix", "_view")

    def __init__(self, view: View, log: bytes, domain: str, overlay: dict[bytes, bytes | None] | None = None) -> None:
        self._view = view
        self._prefix = keys.state(log, b"")
        self._domain = domain
        self._overlay = overlay or {}

    def get(self, row: bytes) -> bytes | None:
        key = self._prefix + row
        raw = self._overlay[row] if row in self._overlay else self._view.get(key)
        if raw is None:
            return None
        body = row_body(raw, key)
        return self._broken(row, raw, key) if body is None else body

    def _broken(self, row: bytes, raw: bytes, key: bytes) -> bytes:
        """Raises what is wrong with a row."""
        try:
            return decode_row(raw, f"{self._domain}: state row {row.hex()}", key)
        except Corrupt as error:
            error.fields |= {"domain": self._domain, "key": key.hex()}
            raise

    def get_json(self, row: bytes) -> Any:
        body = self.get(row)
        try:
            return None if body is None else parse_json(body)
        except Corrupt as error:
            raise Corrupt(f"{self._domain}: state row {row.hex()} holds no JSON.", key=row.hex()) from error

    def scan(self, span: tuple[bytes, bytes], *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        cut = len(self._prefix)
        rows = self._view.scan(self._prefix + span[0], self._prefix + span[1], reverse=reverse)
        if not self._overlay:
            for key, raw in rows:
                body = row_body(raw, key)
                yield key[cut:], self._broken(key[cut:], raw, key) if body is None else body
            return
        for row, raw in self._overlaid(((key[cut:], raw) for key, raw in rows), span, reverse):
            key = self._prefix + row
            body = row_body(raw, key)
            yield row, self._broken(row, raw, key) if body is None else body

    def _overlaid(
        self, rows: Iterator[tuple[bytes, bytes]], span: tuple[bytes, bytes], reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        ours = {row: raw for row, raw in self._overlay.items() if span[0] <= row < span[1]}
        extra = iter(sorted(ours, reverse=reverse))
        pending = next(extra, None)
        for row, raw in rows:
            while pending is not None and (pending > row if reverse else pending < row):
                if (old := ours[pending]) is not None:
                    yield pending, old
                pending = next(extra, None)
            if row not in ours:
                yield row, raw
        while pending is not None:
            if (old := ours[pending]) is not None:
                yield pending, old
            pending = next(extra, None)


def state_at(view: View, log: bytes, domain: str, tail: int, count: int) -> StateView:
    """Returns the tables after the first `count` entries of a log whose tables stand at `tail`."""
    overlay: dict[bytes, bytes | None] = {}
    if count < tail:
        for key, raw in view.scan(*keys.undos(log, count, tail), reverse=True):
            for row, old in reversed(undo_of(raw, key, domain)):
                overlay[row] = old
    return StateView(view, log, domain, overlay)


def undo_of(raw: bytes, key: bytes, domain: str) -> list[tuple[bytes, bytes | None]]:
    """Returns pre-images as they rest under a key; raises `Corrupt`."""
    try:
        return decode_undo(raw, f"{domain}: undo {key.hex()}", key)
    except Corrupt as error:
        error.fields |= {"domain": domain, "key": key.hex()}
        raise


def json_write(row: bytes, value: Any) -> tuple[bytes, bytes]:
    """Returns the write that sets a row to a JSON value."""
    return row, encode_json(value)
