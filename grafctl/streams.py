r"""Standard input as records, and the order in which deliveries are written and acknowledged.

Promises
- `deliveries` acknowledges a chunk only when it is asked for the next one, and whoever asks has written the one before.
- A batch is what standard input holds at the moment, at most 1 MiB or 10,000 records: a slow producer is never
  delayed, and a fast one shares its commits.
- Only the `\n` at the end of a line is taken off; a `\r` before it belongs to the payload. A last line without `\n`
  counts.

When it fails: records of batches already given away may be published; `render.acks` says which. A delivery that was not
written stays leased, and is delivered again when its lease runs out.
"""

from __future__ import annotations

import sys

from grafctl.errors import Fenced, GrafctlError, SchemaMismatch, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

    from grafctl.client import Store
    from grafctl.results import Ack, Delivery
    from grafctl.store.blocks import Outgoing

    Batches = Iterator[list[bytes]] | Iterator[list[Outgoing]]

READ_BYTES = 1 << 20
BATCH_RECORDS_MAX = 10_000
POLL_RECORDS = 1_000  # of the first poll; the next ones take what comes to POLL_BYTES_AIM
POLL_BYTES_AIM = 4 << 20
LINE_BYTES_MAX = 64 << 20
FOLLOW_WAIT_S = 1.0
IN_FLIGHT = 3  # batches: one at the backups, one at the primary, one being packed


# --- in


def payload_of(text: str) -> bytes:
    """Returns the payload that an argument names: the bytes of `@FILE`, else the argument's own; raises `Usage`."""
    if text.startswith("@"):
        return read_file(text[1:])
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Usage("Half a character (a lone surrogate) is no text.") from None


def whole_of(text: str, most: int) -> bytes:
    """Returns what `payload_of` does, and for `-` all of standard input; raises `Usage` for more than so many bytes."""
    if text != "-":
        return payload_of(text)
    if sys.stdin is None:
        raise Usage("Standard input is closed.", hint="Give it a file or a pipe.")
    pieces: list[bytes] = []
    size = 0
    while piece := read_some(sys.stdin.buffer):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise Usage(f"Standard input holds more than {most:,} bytes.")
    return b"".join(pieces)


def read_file(name: str) -> bytes:
    """Returns a file's bytes; raises `Usage` where it cannot be read or holds more than a record may."""
    try:
        with open(name, "rb") as file:
            data = file.read(LINE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Usage(f"The file {name!r} cannot be read: {why}.") from None
    if len(data) > LINE_BYTES_MAX:
        raise Usage(f"The file {name!r} holds more than {LINE_BYTES_MAX >> 20} MiB.")
    return data


def batches(form: str) -> Batches:
    """Yields the records on standard input in batches, and an empty one before it waits for more.

    `form` is `lines` or `jsonl`. Raises `Usage` naming the line.
    """
    if sys.stdin is None:
        raise Usage(
            "Standard input is closed.", hint="Give it a file or a pipe, or name the payload: grafctl publish Q PAYLOAD"
        )
    if form == "jsonl":
        return _parsed(_lines(sys.stdin.buffer, LINE_BYTES_MAX))
    from grafctl.store.blocks import PAYLOAD_BYTES_MAX

    return _lines(sys.stdin.buffer, PAYLOAD_BYTES_MAX)


def _lines(stream: BinaryIO, bytes_max: int) -> Iterator[list[bytes]]:
    """Yields the lines of a stream as they come; raises `Usage` for one that is too long."""
    _widen(stream)
    held: list[bytes] = []  # the pieces of a line that has not ended yet
    held_bytes, line = 0, 1
    while True:
        if not is_ready(stream):
            yield []
        chunk = read_some(stream)
        if not chunk:
            break
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            batch = (b"".join(held) + head if held else head).split(b"\n")
            if held and len(batch[0]) > bytes_max:
                raise Usage(_too_long(line, bytes_max), hint="Split the record.", line=line)
            held, held_bytes = [], 0
            for at in range(0, len(batch), BATCH_RECORDS_MAX):
                yield batch[at : at + BATCH_RECORDS_MAX]
            line += len(batch)
        if tail:
            held.append(tail)
            held_bytes += len(tail)
            if held_bytes > bytes_max:
                raise Usage(_too_long(line, bytes_max), hint="Split the record.", line=line)
    if held:
        yield [b"".join(held)]


def read_some(stream: BinaryIO) -> bytes:
    """Returns what there is now, at most READ_BYTES of it, waiting only where there is nothing."""
    try:
        return getattr(stream, "read1", stream.read)(READ_BYTES)
    except OSError as error:
        raise Usage(f"Standard input cannot be read: {error.strerror}.", hint="Give it a file or a pipe.") from None


def is_ready(stream: BinaryIO) -> bool:
    """Returns whether a read would return at once."""
    import select

    try:
        return bool(select.select([stream], [], [], 0)[0])
    except (OSError, ValueError):  # nothing that a process could wait for
        return True


def _too_long(line: int, bytes_max: int) -> str:
    return f"Line {line} of standard input is longer than {bytes_max >> 20} MiB."


def _widen(stream: BinaryIO) -> None:
    """Lets a pipe hold as much as one batch, because what is read at once is committed at once."""
    try:
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, READ_BYTES)
    except (ImportError, AttributeError, OSError, ValueError):
        pass


def _parsed(batches: Iterator[list[bytes]]) -> Iterator[list[Outgoing]]:
    import json

    from grafctl.store.blocks import Outgoing

    decode = json.loads
    line = 0
    for lines in batches:
        records: list[Outgoing] = []
        for text in lines:
            line += 1
            if not text.strip():
                continue
            try:
                records.append(Outgoing(*_fields(decode(text)), line))
            except (ValueError, RecursionError) as error:
                if records:
                    yield records
                why = (
                    "it is no JSON object" if isinstance(error, (json.JSONDecodeError, RecursionError)) else str(error)
                )
                raise Usage(
                    f"Line {line} of standard input is no record: {why}.",
                    hint='Write {"payload":"…"} a line, with id, key, headers or payload_base64 where wanted.',
                    line=line,
                ) from None
        if records or not lines:
            yield records


def _fields(body: Any) -> tuple[bytes, str | None, str | None, dict[str, str] | None]:
    """Returns payload, id, key and headers of a decoded line; raises ValueError saying what is wrong with it.

    Other fields are passed over, because `poll -o jsonl` prints some (`offset`, `delivery`) and may come to print more.
    """
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")
    payload, coded = body.get("payload"), body.get("payload_base64")
    if (payload is None) == (coded is None):
        raise ValueError("it needs exactly one of payload and payload_base64")
    for name in ("payload", "payload_base64", "id", "key"):
        if not isinstance(body.get(name, ""), (str, type(None))):
            raise ValueError(f"{name} is not a string")
    for name in ("id", "key"):
        if body.get(name) == "":
            raise ValueError(f"{name} is empty")
    headers = body.get("headers")
    if headers is not None and not (
        isinstance(headers, dict) and all(isinstance(value, str) for value in headers.values())
    ):
        raise ValueError("headers is not an object of strings")
    try:
        "".join((body.get("id") or "", body.get("key") or "", *(headers or {}), *(headers or {}).values())).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a character (a lone surrogate)") from None
    return _bytes_of(payload, coded), body.get("id"), body.get("key"), headers


def _bytes_of(payload: str | None, coded: str | None) -> bytes:
    if payload is not None:
        try:
            return payload.encode()
        except UnicodeEncodeError:
            raise ValueError("payload holds half a character (a lone surrogate)") from None
    import base64

    try:
        return base64.b64decode(coded or "", validate=True)
    except ValueError:
        raise ValueError("payload_base64 is not base64") from None


# --- between the library and the terminal


def published(
    store: Store, resource: str, batches: Batches, *, atomic: bool, dry_run: bool, **caller: Any
) -> Iterator[Ack]:
    """Yields what becomes of each batch, or with `dry_run` what would; raises what `publish_stream` raises.

    A dry run takes everything as one batch, since nothing that it says is there for the next one to go on from.
    """
    if dry_run:
        every: Any = [record for batch in batches for record in batch]
        once = [every] if every else []
        lines = _Lines(once, atomic)
        acks = (store.publish_batch(resource, one, atomic=atomic, dry_run=True, **caller) for one in lines.counted())
        return lines.named(acks)
    lines = _Lines(batches, atomic)
    return lines.named(store.publish_stream(resource, lines.counted(), atomic=atomic, in_flight=IN_FLIGHT, **caller))


class _Lines:
    """Says of records that did not conform on which lines they stood; a plain line does not know its own."""

    def __init__(self, batches: Any, atomic: bool) -> None:
        self._batches, self._atomic = batches, atomic
        self._firsts: list[int] = []  # of batches on their way

    def counted(self) -> Iterator[Any]:
        """Yields the batches."""
        line = 1
        for batch in self._batches:
            if batch:
                self._firsts.append(line)
                line += len(batch)
            yield batch

    def named(self, acks: Iterator[Ack]) -> Iterator[Ack]:
        """Yields the acknowledgements, of which each belongs to the next batch."""
        try:
            for ack in acks:
                self._name(ack.mismatches or (), self._firsts.pop(0))
                yield ack
        except SchemaMismatch as error:
            self._name(error.fields.get("mismatches", ()), 1)
            raise

    def _name(self, mismatches: Any, first: int) -> None:
        for item in mismatches:
            item.setdefault("line", first + item["place"])


def deliveries(
    store: Store,
    resource: str,
    group: str,
    *,
    max_records: int | None,
    wait_s: float,
    follow: bool,
    acknowledge: bool,
    whole: bool,
    **options: Any,
) -> Iterator[Delivery]:
    """Yields what a group is given, in chunks or as one `whole`; acknowledges what the caller has written.

    `max_records` None means without end. Raises what `poll` and `ack` raise.
    """
    caller = {name: options[name] for name in ("domain", "epoch")}
    written: Delivery | None = None  # and not acknowledged yet

    def finish(chunk: Delivery) -> None:
        if acknowledge and chunk.lease is not None:  # without one they are final already
            offsets = [record.offset for record in chunk.records]
            store.ack(chunk.resource, chunk.group, offsets, lease=chunk.lease, **caller)

    def poll(**asked: Any) -> Delivery:
        """Finishes what was written, in the same commit as the next lease where that can be given."""
        nonlocal written
        if written is None or not acknowledge or written.lease is None:
            return store.poll(resource, group, **asked, **options)
        offsets = [record.offset for record in written.records]
        try:
            asked |= {"finish": offsets, "lease": written.lease}
            # By the name that it was delivered by: a switch may hand out the records of another output.
            chunk = store.poll(written.resource, written.group, **asked, **options)
        except GrafctlError as error:
            if not isinstance(error, Fenced):
                finish(written)  # who may not poll may still finish; twice changes nothing
            raise
        written = None
        return chunk

    chunks = _chunks(poll, max_records, wait_s, follow)
    if whole:
        every: list[Delivery] = []
        for chunk in chunks:
            if every and chunk.resource != every[0].resource:  # switched meanwhile: one document is of one output
                offsets = [record.offset for record in chunk.records]
                store.nack(chunk.resource, chunk.group, offsets, lease=chunk.lease, counted=False, **caller)
                break
            every.append(chunk)
        yield _merged(every)
        for chunk in every:
            finish(chunk)
        return
    for chunk in chunks:
        written = None
        yield chunk
        written = chunk
    if written is not None:
        finish(written)


def _chunks(poll: Callable[..., Delivery], max_records: int | None, wait_s: float, follow: bool) -> Iterator[Delivery]:
    """Yields deliveries until one is empty (only the first may be) or `max_records` are there; follows for ever."""
    pause_s = wait_s or (FOLLOW_WAIT_S if follow else 0.0)
    left, most = max_records, POLL_RECORDS
    first = True
    while left is None or left > 0:
        asked = most if left is None else min(left, most)
        chunk = poll(max=asked, wait_s=pause_s)
        if first or chunk.records:
            yield chunk
        if not follow and (not chunk.records or left == asked):
            return
        first = False
        pause_s = pause_s if follow else 0.0
        left = None if left is None else left - len(chunk.records)
        most = _fitting(chunk, most)


def _fitting(chunk: Delivery, asked: int) -> int:
    """Returns how many records like these come to about as much as should be in memory at once."""
    count = len(chunk.records)
    size = sum(len(record.payload) for record in chunk.records)
    return max(1, min(2 * asked, BATCH_RECORDS_MAX, POLL_BYTES_AIM * count // size)) if size else asked


def _merged(chunks: list[Delivery]) -> Delivery:
    """Returns several deliveries as one; it names a lease only where that is the lease of all its records."""
    if len(chunks) == 1:
        return chunks[0]
    from grafctl.results import Delivery

    records = [record for chunk in chunks for record in chunk.records]
    first, last = chunks[0], chunks[-1]
    return Delivery(first.resource, first.group, records, last.ack_floor, lost=last.lost, switch=first.switch)
