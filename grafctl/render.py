"""What people and scripts see: results, refusals and questions, as one JSON document, JSON Lines or text.

This file and its two rooms, `render_text.py` (sentences and tables) and `render_progress.py` (long work), are the
only ones that know JSON, the terminal and rich. Nothing here decides anything.

Promises
- Data goes to standard output, everything else to standard error. A JSON document is one line of UTF-8.
- No control character of a name or a payload reaches a terminal raw: text shows it escaped, JSON carries it as
  `\\uXXXX`.
- rich is imported only to draw on a terminal; into a pipe the same table is aligned text.

When it fails: `render_output.OutputLost`, and whatever was not written is not acknowledged.
"""

from __future__ import annotations

import sys
from functools import partial

from grafctl import render_output
from grafctl.errors import ConfirmationRequired
from grafctl.json_text import encoder
from grafctl.typed import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Sequence

if TYPE_CHECKING:
    from typing import Literal

    from grafctl.results import Ack, Delivery, Finding, Record, Result, Shown

    Form = Literal["json", "jsonl", "table"]

WATCH_S = 2.0
PIECE_LINES = 256
PLAIN = bytes(range(0x20, 0x7F))  # what JSON and a terminal take as it is, but for two that JSON quotes

_encode = encoder(sort_keys=False, allow_nan=True)


def show(answer: Result, output: Form, json: bool = False) -> None:
    """Prints one result: a document, or text."""
    if json or output != "table":
        render_output.write(document(answer.as_json()))
    else:
        from grafctl import render_text

        render_text.draw(render_text.blocks_of(answer))


def records(shown: Shown, output: Form, json: bool = False) -> None:
    """Prints the records that `peek` found, like `deliveries` does."""
    found: list[Record] = shown.body["records"]
    if json or output == "json":
        render_output.write(document(shown.as_json()))
    else:
        _write_lines(found, output)


def deliveries(chunks: Iterable[Delivery], output: Form, json: bool = False) -> int:
    """Prints each delivery before it asks for the next one, and returns how many records there were.

    What retention took from the group is told on standard error, where no field says so.
    """
    count, told = 0, None
    for chunk in chunks:
        if json or output == "json":
            render_output.write(document(chunk.as_json()))
        else:
            if chunk.switch is not None and output == "jsonl":  # several outputs may come in one stream
                _write_lines(chunk.records, output, {"resource": chunk.resource, "group": chunk.group})
            else:
                _write_lines(chunk.records, output)
            if chunk.lost != told:
                told = chunk.lost
                render_output.note(_loss_line(chunk))
        count += len(chunk.records)
    return count


def _loss_line(chunk: Delivery) -> str:
    lost = chunk.lost or {}
    return (
        (
            f"warning: retention let go of {lost['records']} records, between the offsets {lost['first']} and "
            f"{lost['last']}, before {clean(chunk.group)} had finished them.\n"
        )
        if lost
        else ""
    )


def _write_lines(found: list[Record], output: Form, place: dict[str, str] | None = None) -> None:
    """Writes in pieces of many lines, because one piece of all would be a second copy of all in memory."""
    lines_of: Callable[[list[Record]], bytes] = json_lines if output == "jsonl" else _text_lines
    if place is not None:
        lines_of = partial(_placed_lines, place)
    for at in range(0, len(found), PIECE_LINES):
        render_output.write(lines_of(found[at : at + PIECE_LINES]))


def _placed_lines(place: dict[str, str], found: list[Record]) -> bytes:
    """Returns a line of JSON for each record, which says what it is of."""
    return b"".join([document(place | record.fields()) for record in found])


def _text_lines(found: list[Record]) -> bytes:
    lines = (
        f"{item.offset}\t{clean(item.id or '-')}\t{clean(item.payload.decode(errors='backslashreplace'))}\n"
        for item in found
    )
    return "".join(lines).encode()


def json_lines(found: Sequence[Record]) -> bytes:
    """Returns a line of JSON for each record: the bytes of `document`, put together without one for plain text."""
    whole = b"".join([record.payload for record in found])  # mostly one look at all of them tells
    are_plain = not whole.translate(None, PLAIN)
    as_text = quoted if b'"' in whole or b"\\" in whole else bytes
    lines = []
    for record in found:
        offset, payload, id, key, headers, delivery = record
        is_plain = are_plain or not payload.translate(None, PLAIN)
        if headers or not (is_plain and _is_plain(id) and _is_plain(key)):
            lines.append(document(record.fields()))
            continue
        name = b"" if id is None else b',"id":"%b"' % quoted(id.encode())
        name += b"" if key is None else b',"key":"%b"' % quoted(key.encode())
        end = b"" if delivery is None else b',"delivery":%d' % delivery
        lines.append(b'{"offset":%d%b,"payload":"%b"%b}\n' % (offset, name, as_text(payload), end))
    return b"".join(lines)


def _is_plain(text: str | None) -> bool:
    return text is None or (text.isascii() and text.isprintable())


def quoted(plain: bytes) -> bytes:
    """Returns plain bytes as they stand in a JSON string."""
    return plain.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def acks(answers: Iterable[Ack], output: Form, json: bool = False, quiet: bool = False) -> list[dict[str, Any]]:
    """Prints what a stream of records became, and returns those that were refused: for their id, or by their schema.

    `jsonl` prints each acknowledgement as it comes. The other forms print their sum at the end, also when the stream
    ends in an error or a signal: what was acknowledged is durable, whatever happened then.
    """
    from grafctl.render_progress import Progress

    total = _Total()
    try:
        with Progress("publish", quiet=quiet) as progress:
            for ack in answers:
                _take(ack, total, output, json)
                progress("records", total.count, 0)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)) and hasattr(answers, "throw"):
            for ack in _rest(answers, error):
                _take(ack, total, output, json)
        if total.batches:
            total.print(output, json)
        raise
    total.print(output, json)
    return total.conflicts + total.mismatches


def _take(ack: Ack, total: _Total, output: Form, json: bool) -> None:
    total.add(ack)
    if output == "jsonl" and not json:
        render_output.write(document(ack.as_json()))
    if json or output == "json":
        return  # the error object names them all
    for conflict in ack.conflicts or ():
        render_output.note(_conflict_line(conflict))
    for mismatch in ack.mismatches or ():
        render_output.note(_mismatch_line(mismatch))


def _rest(answers: Any, error: BaseException) -> Iterator[Ack]:
    """Yields what a stream gives that is interrupted here: the acknowledgements of what is on its way."""
    try:
        yield answers.throw(error)
        yield from answers
    except BaseException:  # it ends with what was thrown, or with another Ctrl-C
        pass


def _conflict_line(conflict: dict[str, Any]) -> str:
    where, hashes = conflict.get("line"), f"stored {conflict.get('stored')}, offered {conflict.get('offered')}"
    return f"stdin:{where}: id {clean(str(conflict.get('id')))} was used before with another payload ({hashes}).\n"


def _mismatch_line(mismatch: dict[str, Any]) -> str:
    where = f" at {clean(mismatch['path'])}" if mismatch["path"] else ""
    return (
        f"stdin:{mismatch.get('line')}: the record does not conform to its schema{where}: {clean(mismatch['rule'])}.\n"
    )


class _Total:
    """The sum of many acknowledgements; a single one is its own sum."""

    def __init__(self) -> None:
        self.batches = 0
        self.count = 0
        self.conflicts: list[dict[str, Any]] = []
        self.mismatches: list[dict[str, Any]] = []
        self.first: Ack | None = None
        self.last: Ack | None = None
        self.replayed = True

    def add(self, ack: Ack) -> None:
        self.batches += 1
        self.count += ack.count
        self.conflicts.extend(ack.conflicts or ())
        self.mismatches.extend(ack.mismatches or ())
        if ack.count or self.last is None or not self.last.count:  # one of which all was refused has no place
            self.first = self.first if self.first and self.first.count else ack
            self.last = ack
        self.replayed = self.replayed and ack.replayed

    def body(self) -> dict[str, Any]:
        if self.first is None or self.last is None:
            return {"v": 1, "ok": True, "count": 0, "batches": 0}
        if self.batches == 1:
            return self.first.as_json()
        body = self.last.as_json() | {"offset": self.first.offset, "count": self.count, "replayed": self.replayed}
        body.pop("offsets", None)
        body.pop("conflicts", None)
        body.pop("mismatches", None)
        body |= {"last": _last_offset(self.last), "batches": self.batches}
        body |= {"conflicts": self.conflicts} if self.conflicts else {}
        return body | ({"mismatches": self.mismatches} if self.mismatches else {})

    def print(self, output: Form, json: bool) -> None:
        if json or output == "json":
            render_output.write(document(self.body()))
        elif output == "table":
            render_output.write((self.sentence() + "\n").encode())

    def sentence(self) -> str:
        if self.first is None or self.last is None:
            return "0 records"
        from grafctl.render_text import ack_sentence

        count = len(self.conflicts) + len(self.mismatches)
        refused = f", {count} refused" if count else ""
        if not self.count and self.mismatches:
            return f"0 records{refused}"
        if self.batches == 1:
            return ack_sentence(self.first) + refused
        span = f"offsets {self.first.offset} to {_last_offset(self.last)}"
        return f"{self.count} records, {span} (durable in {', '.join(self.last.acked_by)}){refused}"


def _last_offset(ack: Ack) -> int:
    return ack.offsets[-1] if ack.offsets else ack.offset + ack.count - 1


def findings(found: Iterator[Finding], output: Form, json: bool = False) -> int:
    """Prints inconsistencies as they are found (a document at the end) and returns how many there are."""
    from grafctl import render_text

    every = []
    for finding in found:
        every.append(finding.fields())
        if output == "jsonl" and not json:
            render_output.write(document(finding.fields()))
        elif output == "table" and not json:
            render_output.write(render_text.finding_lines(finding).encode())
    if json or output == "json":
        render_output.write(document({"v": 1, "ok": True, "findings": every, "count": len(every)}))
    elif output == "table" and not every:
        render_output.write(b"No problems found.\n")
    return len(every)


def once(look: Callable[[], Result], output: Form, json: bool = False) -> None:
    """Shows what there is to see now."""
    show(look(), output, json)


def watch(look: Callable[[], Result], output: Form, json: bool = False) -> None:
    """Shows the same thing every two seconds until it is interrupted; on a terminal each time over the last one."""
    from grafctl import clock

    while True:
        if not json and output == "table" and draws():
            render_output.write(b"\x1b[H\x1b[2J")
        once(look, output, json)
        clock.sleep(WATCH_S)


def confirm(question: str, yes: bool) -> None:
    """Asks on standard error before a destructive act; raises `ConfirmationRequired` when the answer is not yes."""
    if yes:
        return
    hint = "Add --yes when you are sure; --dry-run shows what would happen."
    if sys.stdin is None or not sys.stdin.isatty() or sys.stderr is None or not sys.stderr.isatty():
        raise ConfirmationRequired(f"This needs --yes: {question}", hint=hint)
    render_output.note(f"{clean(question)} [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfirmationRequired(f"It was not confirmed: {question}", hint=hint)


def failure(body: dict[str, Any], *, as_json: bool, notes: Iterable[str] = ()) -> None:
    """Prints a refusal on standard error: one object, or one sentence and one hint that names a command."""
    if as_json:
        render_output.note(document(body).decode())
        return
    lines = [f"{problem['file']}:{problem['line']}: {problem['message']}" for problem in body.get("problems", ())]
    lines.append(f"error: {body['message']}")
    lines.extend(notes)
    if "hint" in body:
        lines.append(f"hint: {body['hint']}")
    render_output.note("".join(f"{clean(line)}\n" for line in lines))


def document(body: dict[str, Any]) -> bytes:
    """Returns one line of JSON in UTF-8, in which everything that a terminal would act on is escaped."""
    text = _encode(body)
    if not text.isprintable():
        text = text.translate({ord(letter): _escaped(letter) for letter in set(text) if not letter.isprintable()})
    return text.encode() + b"\n"


def _escaped(letter: str) -> str:
    """Returns a character as JSON escapes it: as one or two UTF-16 code units."""
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def clean(text: str) -> str:
    """Returns text that a terminal shows and does not act on: control characters are written as escapes."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def draws() -> bool:
    """Returns whether standard output is a terminal that can draw."""
    return _is_terminal(sys.stdout)


def draws_progress() -> bool:
    """Returns whether standard error is a terminal that can draw."""
    return _is_terminal(sys.stderr)


def _is_terminal(stream: Any) -> bool:
    import os

    return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")
