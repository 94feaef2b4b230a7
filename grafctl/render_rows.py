"""The rows of tables as people and scripts see them; a room of `render.py`.

Promises
- Rows are written as they come, in pieces of many lines; only one JSON document holds all of them in memory.
- A key or a value that is not UTF-8 is base64 in JSON, and escaped for people; `--raw` alone prints bytes as they are.
"""

from __future__ import annotations

from itertools import islice

from grafctl import render, render_output
from grafctl.errors import NotFound, Usage
from grafctl.names import shown
from grafctl.results import text_fields
from grafctl.typed import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Sequence

if TYPE_CHECKING:
    from grafctl.render import Form
    from grafctl.table_input import Source
    from grafctl.table_results import Loaded, Row

MISSING_SHOWN = PROBLEMS_SHOWN = 100


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


def got(
    table: str,
    keys: Sequence[bytes],
    found: Sequence[Row | None],
    output: Form,
    json: bool,
    raw: bool,
    group: str | None = None,
) -> None:
    """Prints what is there under some keys; raises `NotFound` for the others, which a group may have looked for."""
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
    where, flag = (table, "") if group is None else (f"What group {group} reads of {table}", f" --group {group}")
    raise NotFound(
        f"{where} has no key {name}{more}.",
        hint=f"Run `grafctl table scan {table}{flag}` to see its keys.",
        resource=table,
        missing=[text_fields("key", key) for key in missing[:MISSING_SHOWN]],
    )


def json_lines(found: Sequence[Row]) -> bytes:
    """Returns a line of JSON for each row: the bytes of `document`, put together without one for plain text."""
    whole = b"".join([part for row in found for part in (row.key, row.value)])  # mostly one look at all of them tells
    if whole.translate(None, render.PLAIN) or found[0].resource is not None:
        return b"".join([render.document(row.fields()) for row in found])
    quoted = render.quoted if b'"' in whole or b"\\" in whole else bytes
    return b"".join(
        [
            b'{"key":"%b","value":"%b","version":%d,"vshard":%d}\n' % (quoted(key), quoted(value), version, vshard)
            for key, value, version, vshard, _ in found
        ]
    )


def _text_lines(found: Sequence[Row]) -> bytes:
    return "".join(f"{_clean(row.key)}\t{row.version}\t{_clean(row.value)}\n" for row in found).encode()


def _clean(value: bytes) -> str:
    return render.clean(value.decode(errors="backslashreplace"))


# --- whole tables


def loads(
    load: Callable[[Iterable[Any]], Iterable[Loaded]], source: Source, output: Form, json: bool, quiet: bool
) -> None:
    """Prints what a file's rows became; raises `Usage` at the end where some of its lines were no rows.

    `jsonl` prints each batch as it is done. The other forms print their sum at the end, also when it ends in an error
    or a signal: what was acknowledged is durable, whatever happened then.
    """
    from grafctl.render_progress import Progress

    as_text = output == "table" and not json
    bad = Problems(source.name, as_text)
    total: Loaded | None = None
    try:
        with Progress("load", quiet=quiet) as progress:
            for done in load(source.batches(bad)):
                if output == "jsonl" and not json:
                    render_output.write(render.document(done.as_json()))
                total = done if total is None else _sum(total, done)
                progress("rows", total.rows, 0)
    except BaseException:
        if total is not None:
            _print_total(total, bad, output, json)
        raise
    _print_total(total, bad, output, json)
    bad.raise_any()


def _sum(one: Loaded, other: Loaded) -> Loaded:
    sums = (one.rows + other.rows, one.written + other.written, one.already + other.already)
    return type(one)(one.table, *sums, one.dry_run)


def _print_total(total: Loaded | None, bad: Problems, output: Form, json: bool) -> None:
    body = {"v": 1, "ok": True, "rows": 0, "written": 0, "already": 0} if total is None else total.as_json()
    if json or output == "json":
        render_output.write(render.document(body | {"refused": bad.count}))
    elif output == "table":
        would = "would be " if body.get("dry_run") else ""
        refused = f", {bad.count} lines refused" if bad.count else ""
        text = f"{body['rows']} rows: {body['written']} {would}written, {body['already']} there already{refused}\n"
        render_output.write(text.encode())


class Problems:
    """The lines of a file that were no rows: told for people as they come, kept for machines, 100 of them."""

    def __init__(self, file: str, as_text: bool) -> None:
        self.count = 0
        self._file, self._as_text = file, as_text
        self._kept: list[dict[str, Any]] = []

    def __call__(self, line: int, message: str) -> None:
        self.count += 1
        if self._as_text:
            render_output.note(f"{render.clean(self._file)}:{line}: {render.clean(message)}\n")
        elif len(self._kept) < PROBLEMS_SHOWN:
            self._kept.append({"file": self._file, "line": line, "message": message})

    def raise_any(self) -> None:
        """Raises `Usage` where there were any."""
        if self.count:
            what = "line was no row" if self.count == 1 else "lines were no rows"
            raise Usage(
                f"{self.count} {what} of a table; the others are loaded.",
                hint="Mend them and run the same command again: it writes what is not there yet.",
                problems=self._kept or None,
                refused=self.count,
            )


def exports(found: Iterable[Row], table: str, file: str | None, form: str, json: bool, quiet: bool) -> None:
    """Writes a table to a file, and says how many rows it has; without one to standard output."""
    from grafctl import table_output
    from grafctl.render_progress import Progress

    with Progress("export", quiet=quiet) as progress:
        if file is None:
            table_output.export(found, form, render_output.write)
            return
        with table_output.new_file(file) as write:
            read = set[str]()  # the one table that a switch led to
            count = table_output.export(_told(found, progress, read), form, write)
    if json:
        body: dict[str, Any] = {"v": 1, "ok": True, "table": table, "file": file, "rows": count}
        render_output.write(render.document(body | ({"resource": read.pop()} if read else {})))
    else:
        of = render.clean(read.pop() if read else table)
        render_output.write(f"{count} rows of {of} in {render.clean(file)}\n".encode())


def _told(found: Iterable[Row], progress: Callable[[str, int, int], None], read: set[str]) -> Iterator[Row]:
    for count, row in enumerate(found, 1):
        read.update({row.resource} if row.resource else ())
        yield row
        if not count % 1000:
            progress("rows", count, 0)
