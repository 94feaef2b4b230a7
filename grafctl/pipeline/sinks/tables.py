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
from grafctl.pipeline.declaring_names import names_problem
from grafctl.pipeline.model import DeclaredSink
from grafctl.pipeline.sinks.rows import types_of


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


def check_names(sink: DeclaredSink, file: Path) -> None:
    """Raises `InvalidConfig` for names that a warehouse would cut, refuse or take for one another."""
    problem = names_problem(sink)
    if problem is not None:
        raise refusal(sink, file, problem)


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


def missing_extra(sink: DeclaredSink, file: Path, extra: str) -> InvalidConfig:
    """Returns the error for a sink whose library is not installed."""
    return refusal(sink, file, f"it needs a library that is not installed; run: pip install 'grafctl[{extra}]'")
