"""What an expression sees of a record: its fields by name, and `_id`, `_key`, `_headers`, `_offset` and `_value`.

Promises
- One of the five names means what it says here, also where the record has a field of that name; the field is
  `_value["_id"]` then. `_headers` is an object, empty where there are none; the others are null where there is none.
- A record that is no object has no fields, and all of it is `_value`.
"""

from __future__ import annotations

from grafctl.typed import Any, Collection, Mapping

ABOUT = frozenset(("_id", "_key", "_headers", "_offset", "_value"))


def is_about(names: Collection[str]) -> bool:
    """Says whether an expression that reads these names needs more than the record's fields."""
    return not ABOUT.isdisjoint(names)


def fields_of(value: Any) -> Mapping[str, Any]:
    """Returns what an expression sees that reads none of the five names."""
    return value if type(value) is dict else {}


def whole_scope(
    value: Any, id: str | None, key: str | None, headers: Mapping[str, str] | None, offset: int | None
) -> Mapping[str, Any]:
    """Returns all that an expression may see of a record."""
    about = {"_id": id, "_key": key, "_headers": dict(headers or {}), "_offset": offset, "_value": value}
    return {**fields_of(value), **about}
