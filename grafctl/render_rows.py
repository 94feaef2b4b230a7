"""The rows of tables as people and scripts see them; a room of `render.py`.

Promises
- Rows are written as they come, in pieces of many lines; only one JSON document holds all of them in memory.
- A key or a value that is not UTF-8 is base64 in JSON, and escaped for people; `--raw` alone prints bytes as they are.
"""

from __future__ import annotations

from itertools import islice

from grafctl import render, render_output
from grafctl.errors import NotFound
from grafctl.names import shown
from grafctl.results import text_fields
from grafctl.typed import TYPE_CHECKING, Iterable, Sequence

if TYPE_CHECKING:
    from grafctl.render import Form
    from grafctl.results import Row

MISSING_SHOWN = 100


def rows(table: str, found: Iterable[Row], output: Form, json: bool, most: int | None = None) -> int:
    """Prints rows, `most` of them, before it asks for the next ones; returns how many there were."""
    source = islice(found, most)
    if json or output == "json":
        every = [row.fields() for row in source]
        render_output.write(render.document({"v": 1, "ok": True, "table": table, "rows": every, "count": len(every)}))
        return len(every)
    lines_of = json_lines if output == "jsonl" else _text_lines
    count = 0
    while piece := list(islice(source, render.PIECE_LINES)):
        render_output.write(lines_of(piece))
        count += len(piece)
    return count


def got(table: str, keys: Sequence[bytes], found: Sequence[Row | None], output: Form, json: bool, raw: bool) -> None:
    """Prints what is there under some keys; raises `NotFound` for the others."""
    there = [row for row in found if row is not None]
    if raw:
        render_output.write(b"".join(row.value for row in there))
    elif len(keys) == 1 and (json or output == "json"):
        render_output.write(b"".join(render.document(row.as_json()) for row in there))
    else:
        rows(table, there, output, json)
    missing = [key for key, row in zip(keys, found, strict=True) if row is None]
    if not missing:
        return
    name = shown(missing[0].decode(errors="backslashreplace"))
    more = f", nor {len(missing) - 1} others of {len(keys)}" if len(missing) > 1 else ""
    raise NotFound(
        f"{table} has no key {name}{more}.",
        hint=f"Run `grafctl table scan {table}` to see its keys.",
        resource=table,
        missing=[text_fields("key", key) for key in missing[:MISSING_SHOWN]],
    )


def json_lines(found: Sequence[Row]) -> bytes:
    """Returns a line of JSON for each row: the bytes of `document`, put together without one for plain text."""
    whole = b"".join([part for row in found for part in (row.key, row.value)])  # mostly one look at all of them tells
    if whole.translate(None, render.PLAIN):
        return b"".join([render.document(row.fields()) for row in found])
    quoted = render.quoted if b'"' in whole or b"\\" in whole else bytes
    return b"".join(
        [
            b'{"key":"%b","value":"%b","version":%d,"vshard":%d}\n' % (quoted(key), quoted(value), version, vshard)
            for key, value, version, vshard in found
        ]
    )


def _text_lines(found: Sequence[Row]) -> bytes:
    return "".join(f"{_clean(row.key)}\t{row.version}\t{_clean(row.value)}\n" for row in found).encode()


def _clean(value: bytes) -> str:
    return render.clean(value.decode(errors="backslashreplace"))
