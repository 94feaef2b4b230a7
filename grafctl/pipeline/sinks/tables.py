"""Names in SQL, and what a declared sink refuses before it touches a warehouse.

Promises
- A name is quoted wherever it stands, so that no name is read as anything else; `schema.table` are two names.
- What is wrong with a sink is `InvalidConfig` with the line of its table in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from grafctl.errors import InvalidConfig
from grafctl.names import shown
from grafctl.pipeline.model import DeclaredSink
from grafctl.pipeline.sinks.row import EFFECTS_TABLE
from grafctl.pipeline.sinks.rows import types_of

COLUMNS_MAX = 500


def quoted(name: str) -> str:
    """Returns a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def quoted_table(table: str) -> str:
    """Returns `table` or `schema.table` as SQL has it."""
    return ".".join(map(quoted, table.split(".")))


def refusal(sink: DeclaredSink, file: Path, sentence: str) -> InvalidConfig:
    """Returns the error for a sink that cannot be as it is declared."""
    return InvalidConfig(str(file), [(sink.line, f"Sink {shown(sink.name)}: {sentence}")])


def check_folder(path: Path, sink: DeclaredSink, file: Path) -> None:
    """Raises `InvalidConfig` where a file could not be made for want of its folder, or is no file."""
    try:
        if path == Path("-") or "\0" in str(path) or path.is_dir():
            raise refusal(sink, file, f"{shown(str(path))} is no file.")
        if not path.absolute().parent.is_dir():
            raise refusal(sink, file, f"there is no folder {shown(str(path.parent))}.")
    except (OSError, ValueError):
        raise refusal(sink, file, f"{shown(str(path))} is no path.") from None


def check_names(sink: DeclaredSink, file: Path, bytes_max: int) -> None:
    """Raises `InvalidConfig` for names that a warehouse would cut, refuse or take for one another."""
    parts = [] if sink.table is None else sink.table.split(".")
    for what, name in (*(("table", part) for part in parts), *(("column", column) for column in sink.columns)):
        if not name:
            raise refusal(sink, file, f"the name of a {what} is empty.")
        if "\0" in name or not _is_text(name):
            raise refusal(sink, file, f"{shown(name)} is no name for a {what}.")
        if len(name.encode()) > bytes_max:
            raise refusal(sink, file, f"the name {shown(name)} of a {what} has more than {bytes_max} bytes.")
    if parts and parts[-1].lower() == EFFECTS_TABLE:
        raise refusal(sink, file, f"the table {EFFECTS_TABLE} holds the effect keys; name another one.")
    if not 0 < len(sink.columns) <= COLUMNS_MAX:
        raise refusal(sink, file, f"it has {len(sink.columns)} columns, and from 1 to {COLUMNS_MAX} are allowed.")
    seen: dict[str, str] = {}
    for column in sink.columns:
        if (other := seen.setdefault(column.lower(), column)) != column:
            raise refusal(sink, file, f"the columns {shown(other)} and {shown(column)} are one to a warehouse.")


def check_columns(
    sink: DeclaredSink,
    file: Path,
    there: Mapping[str, str],
    fits: Mapping[str, tuple[str, ...]],
    fold: Callable[[str], str] = str.lower,
) -> None:
    """Raises `InvalidConfig` where a table that is there has other columns.

    `fits` says which types do for ours, and `fold` which names are one.
    """
    names = {fold(name): name for name in there}
    wrong = [f"{shown(column)} is missing" for column in sink.columns if fold(column) not in names]
    declared = {fold(column) for column in sink.columns}
    wrong += [f"{shown(name)} is there and not declared" for low, name in names.items() if low not in declared]
    for column, type_name in types_of(sink):
        type_there = there.get(names.get(fold(column), ""))
        if type_there is not None and type_there not in fits[type_name]:
            wrong.append(f"{shown(column)} is {type_there or 'of no type'} and declared as {type_name}")
    if wrong:
        raise refusal(
            sink, file, f"the table {shown(sink.table or '')} is there with other columns: {'; '.join(wrong)}."
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def missing_extra(sink: DeclaredSink, file: Path, extra: str) -> InvalidConfig:
    """Returns the error for a sink whose library is not installed."""
    return refusal(sink, file, f"it needs a library that is not installed; run: pip install 'grafctl[{extra}]'")
