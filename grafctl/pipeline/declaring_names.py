"""Names of a warehouse's table and columns: what it would cut, refuse or take for one another.

Promises
- Pure. A name that passes here is one that every warehouse of its kind keeps as it is.
"""

from __future__ import annotations

from grafctl.names import shown
from grafctl.pipeline.model import JSONL, POSTGRES, DeclaredSink

EFFECTS_TABLE = "grafctl_effects"
COLUMNS_MAX = 500
NAME_BYTES_MAX = 255
POSTGRES_BYTES_MAX = 63  # it cuts a longer name, and two that were cut may be one
EFFECT_FIELD = "_effect"  # of a line of JSON Lines


def names_problem(sink: DeclaredSink) -> str | None:
    """Returns what is wrong with the names of a table and its columns, or None."""
    most = POSTGRES_BYTES_MAX if sink.kind == POSTGRES else NAME_BYTES_MAX
    parts = [] if sink.table is None else sink.table.split(".")
    for what, name in (*(("table", part) for part in parts), *(("column", column) for column in sink.columns)):
        if not name:
            return f"the name of a {what} is empty."
        if "\0" in name or not _is_text(name):
            return f"{shown(name)} is no name for a {what}."
        if len(name.encode()) > most:
            return f"the name {shown(name)} of a {what} has more than {most} bytes."
    if parts and parts[-1].lower() == EFFECTS_TABLE:
        return f"the table {EFFECTS_TABLE} holds the effect keys; name another one."
    if sink.kind == JSONL and EFFECT_FIELD in sink.columns:
        return f"the column {EFFECT_FIELD} holds the effect key; name another one."
    if not 0 < len(sink.columns) <= COLUMNS_MAX:
        return f"it has {len(sink.columns)} columns, and from 1 to {COLUMNS_MAX} are allowed."
    seen: dict[str, str] = {}
    for column in sink.columns:
        if (other := seen.setdefault(column.lower(), column)) != column:
            return f"the columns {shown(other)} and {shown(column)} are one to a warehouse."
    return None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
