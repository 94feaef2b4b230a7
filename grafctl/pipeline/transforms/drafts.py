"""A record between two steps, and how a step changes a part of it without changing what it came from.

Promises
- The value of the message is never changed: a draft copies the outermost object once, and what lies below where it
  writes. Two fields that hold the same list, or a table that many records look into, never change with each other.
- A path is read as in `expression/paths.py`. Below a list, `*` is each of its items for the steps that say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grafctl.expression.failing import kind_of
from grafctl.expression.paths import MISSING, item_number
from grafctl.expression.scope import fields_of, whole_scope
from grafctl.names import shown
from grafctl.pipeline.message import Message, Output, Refused

Path = Sequence[str]


class Draft:
    """One record on its way through the steps."""

    __slots__ = ("_is_own", "headers", "id", "key", "message", "to", "value")

    def __init__(self, message: Message, value: Any) -> None:
        self.message = message
        self.value = value
        self._is_own = False
        self.to: str | None = None
        self.id: str | None = None
        self.key = message.key
        self.headers = message.headers

    def own(self) -> dict[str, Any]:
        """Returns the record's object, which may be written into."""
        if not self._is_own:
            if type(self.value) is not dict:
                raise Refused(f"the record has to be an object, and is {kind_of(self.value)}")
            self.value = dict(self.value)
            self._is_own = True
        return self.value  # type: ignore[no-any-return]

    def replace(self, value: Any, *, is_own: bool = False) -> None:
        """Takes another value; one that nothing else holds `is_own`."""
        self.value = value
        self._is_own = is_own

    def let_go(self) -> None:
        """Says that the record's object is held by something else too."""
        self._is_own = False

    def object(self) -> dict[str, Any]:
        """Returns the record's object, to be read."""
        if type(self.value) is not dict:
            raise Refused(f"the record has to be an object, and is {kind_of(self.value)}")
        return self.value

    def scope(self) -> Mapping[str, Any]:
        """Returns all that an expression may see."""
        message = self.message
        return whole_scope(self.value, message.id, message.key, message.headers, message.offset)

    def fields(self) -> Mapping[str, Any]:
        """Returns the fields alone."""
        return fields_of(self.value)

    def copy(self, value: dict[str, Any]) -> Draft:
        """Returns another draft of the same message, which goes where this one goes."""
        made = Draft(self.message, value)
        made._is_own = True
        made.to, made.id, made.key, made.headers = self.to, self.id, self.key, self.headers
        return made

    def output(self) -> Output:
        return Output(self.value, self.to, self.key, self.id, self.headers)


Work = Callable[[Draft], Any]  # None: go on; DROP: no output; a list of drafts: go on with each; raises `Refused`
DROP = object()


def change(whole: Any, path: Path, work: Callable[[Any], Any], at: int = 0) -> Any:
    """Returns the value with what is at a path changed, copied along the way; what is not there is left alone."""
    key = path[at]

    def changed(below: Any) -> Any:
        return work(below) if at + 1 == len(path) else change(below, path, work, at + 1)

    if type(whole) is dict and key in whole:
        new = changed(whole[key])
        return whole if new is whole[key] else {**whole, key: new}
    if type(whole) is list:
        if key == "*":
            return [changed(item) for item in whole]
        place = item_number(key)
        if place is not None and place < len(whole):
            return [*whole[:place], changed(whole[place]), *whole[place + 1 :]]
    return whole


def put(whole: Any, path: Path, new: Any, at: int = 0) -> Any:
    """Returns the value with something at a path, in objects that are made where there are none."""
    key = path[at]
    is_last = at + 1 == len(path)
    if type(whole) is dict:
        return {**whole, key: new if is_last else put(whole.get(key, MISSING), path, new, at + 1)}
    if whole is MISSING:
        return {key: new if is_last else put(MISSING, path, new, at + 1)}
    place = item_number(key) if type(whole) is list else None
    if place is None or place >= len(whole):
        raise Refused(f"there is no place for {shown('.'.join(path))}: {_above(path, at)} is {kind_of(whole)}")
    item = new if is_last else put(whole[place], path, new, at + 1)
    return [*whole[:place], item, *whole[place + 1 :]]


def remove(whole: Any, path: Path, at: int = 0) -> Any:
    """Returns the value without the field at a path, copied along the way; an item of a list is never removed."""
    key = path[at]
    if type(whole) is dict and key in whole:
        if at + 1 == len(path):
            made = dict(whole)
            del made[key]
            return made
        below = remove(whole[key], path, at + 1)
        return whole if below is whole[key] else {**whole, key: below}
    if type(whole) is list and at + 1 < len(path):
        if key == "*":
            return [remove(item, path, at + 1) for item in whole]
        place = item_number(key)
        if place is not None and place < len(whole):
            return [*whole[:place], remove(whole[place], path, at + 1), *whole[place + 1 :]]
    return whole


def _above(path: Path, at: int) -> str:
    return shown(".".join(path[:at])) if at else "the record"
