"""Id, key and headers of a record: what the expressions of a source give for it.

Promises
- An id and a key are texts, or integers, which are written out. An id that is null is a problem, because a record
  without one cannot be told from its own redelivery; a key or a header that is null is none.
- A field that stands alone is found in the line itself where that is exact: before anything is nested in the record,
  with a value that has no escapes. `find` gives None where it is not sure, and then `of` decides.
- What cannot be had raises `ValueError` with a sentence that holds no value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from grafctl.errors import Usage
from grafctl.expression.failing import EvaluationError, kind_of
from grafctl.expression.language import compile_expression
from grafctl.expression.scope import fields_of, is_about, whole_scope
from grafctl.names import shown
from grafctl.pipeline.model import DeclaredSource
from grafctl.store.blocks import ID_BYTES_MAX, Outgoing, check_record

_SHORT = 200  # characters, none of which takes more than four bytes
_BYTES_FOUND = ID_BYTES_MAX  # what is longer is looked at by the decoder
_new = tuple.__new__


class Names(NamedTuple):
    """What a record is called."""

    id: str | None = None
    key: str | None = None
    headers: dict[str, str] | None = None


NO_NAMES = Names()


class Naming:
    """The expressions of one source, ready to be asked."""

    def __init__(self, source: DeclaredSource) -> None:
        self._id = _asker("id", source.id)
        self._key = _asker("key", source.key)
        self._headers = {name: _asker(f"header {shown(name)}", text) for name, text in source.headers.items()}
        self.is_needed = bool(self._id or self._key or self._headers)
        self._is_about = any(
            is_about(compile_expression(text).names)
            for text in (source.id, source.key, *source.headers.values())
            if text is not None
        )
        self._find_id = None if source.id is None else _finder(source.id)
        self._find_key = None if source.key is None else _finder(source.key)
        self.can_find = (
            not self._headers
            and (self._id is None) == (self._find_id is None)
            and (self._key is None) == (self._find_key is None)
        )

    def find(self, line: bytes) -> Names | None:
        """Returns id and key from a line that is known to be JSON, or None where that takes a decoder."""
        name = key = None
        if self._find_id is not None:
            found = self._find_id(line)
            if found is None:
                return None
            name = str(found[found.lastindex or 0], "utf-8")
        if self._find_key is not None:
            found = self._find_key(line)
            if found is None:
                return None
            key = str(found[found.lastindex or 0], "utf-8")
        return _new(Names, (name, key, None))

    def of(self, record: Any) -> Names:
        """Returns what a decoded record is called; raises ValueError."""
        scope = whole_scope(record, None, None, None, None) if self._is_about else fields_of(record)
        name = key = headers = None
        if self._id:
            name = self._id(scope)
            if name is None:
                raise ValueError("The id is null.")
        if self._key:
            key = self._key(scope)
        if self._headers:
            asked = {name: ask(scope) for name, ask in self._headers.items() if ask is not None}
            headers = {name: text for name, text in asked.items() if text is not None} or None
        _check(name, key, headers)
        return Names(name, key, headers)


def _check(name: str | None, key: str | None, headers: dict[str, str] | None) -> None:
    """Raises ValueError where a name is empty, passes its limit or is no UTF-8."""
    if headers is None and _is_short(name) and (key is None or _is_short(key)):
        return
    try:
        check_record(Outgoing(b"", name, key, headers))
    except Usage as error:
        raise ValueError(error.message) from None


def _is_short(text: str | None) -> bool:
    return text is not None and 0 < len(text) <= _SHORT and text.isascii()


def _asker(what: str, text: str | None) -> Callable[[Mapping[str, Any]], str | None] | None:
    """Returns what asks for one name of a record: a text, or None where it is null."""
    if text is None:
        return None
    evaluate = compile_expression(text).evaluate

    def ask(scope: Mapping[str, Any]) -> str | None:
        try:
            value = evaluate(scope)
        except EvaluationError as error:
            raise ValueError(f"The {what} cannot be had: {error}") from None
        if value is None or type(value) is str:
            return value
        if type(value) is int:
            return str(value)
        raise ValueError(f"The {what} is {kind_of(value)}; it has to be text or an integer.")

    return ask


def _finder(text: str) -> Callable[[bytes], re.Match[bytes] | None] | None:
    """Returns what finds a field that stands alone at the head of a line, or None for any other expression."""
    if not _FIELD.fullmatch(text) or compile_expression(text).names != {text}:
        return None
    # Nothing nested before it, so it belongs to the record itself; a name with its quotes and a colon cannot be part
    # of a text, where the second quote would have a backslash before it.
    name = text.encode()
    integer, letters = rb"(0|-?[1-9][0-9]{0,17})", rb'"([^"\\]{1,%d})"' % _BYTES_FOUND
    pattern = rb'\{[^{\[]*?"' + name + rb'"[ \t]*:[ \t]*(?:' + integer + rb"|" + letters + rb")[ \t]*[,}]"
    return re.compile(pattern).match


_FIELD = re.compile("[A-Za-z][A-Za-z0-9_]*")
