"""Dotted paths into a JSON value: `customer.address.city`, `items.0.price`.

Promises
- A path is at most `STEPS_MAX` keys; a key that holds a dot or a backslash is written with a backslash before each.
- A step into a list is the number of an item, from 0, without a sign; a step into anything else but an object finds
  nothing.
"""

from __future__ import annotations

from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.typed import Any, Sequence

STEPS_MAX = 32
PATH_CHARACTERS_MAX = 1024

MISSING: Any = type(
    "Missing", (), {"__slots__": (), "__repr__": lambda self: "missing"}
)()  # where a path finds nothing


def parse_path(text: str) -> tuple[str, ...]:
    """Returns the keys of a path; raises `Usage` for a text that is none."""
    if len(text) > PATH_CHARACTERS_MAX:
        raise Usage(f"A path has {len(text)} characters; at most {PATH_CHARACTERS_MAX} are allowed.")
    keys, key, escaped = list[str](), "", False
    for letter in text:
        if escaped and letter not in ".\\":
            raise Usage(f"{shown(text)} is no path: a backslash stands only before a dot or a backslash.")
        if escaped or letter not in ".\\":
            key, escaped = key + letter, False
        elif letter == "\\":
            escaped = True
        else:
            keys.append(key)
            key = ""
    keys.append(key)
    if escaped or not all(keys):
        raise Usage(f"{shown(text)} is no path.", hint="Write names with a dot between them, such as customer.city.")
    if len(keys) > STEPS_MAX:
        raise Usage(f"A path has {len(keys)} names; at most {STEPS_MAX} are allowed.")
    return tuple(keys)


def find(value: Any, path: Sequence[str]) -> Any:
    """Returns what is at a path, or `MISSING`."""
    for key in path:
        if type(value) is dict:
            value = value.get(key, MISSING)
        elif type(value) is list:
            place = item_number(key)
            value = value[place] if place is not None and place < len(value) else MISSING
        else:
            return MISSING
    return value


def item_number(key: str) -> int | None:
    """Returns the place in a list that a key of a path names, or None where it names none."""
    if key.isascii() and key.isdigit() and len(key) < 10 and (key == "0" or key[0] != "0"):
        return int(key)
    return None
