"""Records to rows: the effect key and the columns of a sink, evaluated over one record.

Promises
- The same record and the same declaration give the same row, byte for byte. The fingerprint covers the values with the
  names and types of their columns and the table they are for, so a changed declaration gives another one.
- A record that makes no row raises `Refused` with the reason, which names the column and holds no value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from grafctl.expression.failing import EvaluationError, kind_of
from grafctl.expression.language import compile_expression
from grafctl.expression.scope import fields_of, is_about, whole_scope
from grafctl.names import shown
from grafctl.pipeline.message import Message, Refused
from grafctl.pipeline.model import COLUMN_TYPES, JSONL, RESOURCE, DeclaredSink
from grafctl.pipeline.sinks.columns import json_text, take_for
from grafctl.pipeline.sinks.row import Row
from grafctl.store.records import encode_json

EFFECT_BYTES_MAX = 1024
_new = tuple.__new__


def types_of(sink: DeclaredSink) -> list[tuple[str, str]]:
    """Returns the columns of a sink with their types, in their order."""
    return [(column, sink.types.get(column, COLUMN_TYPES[0])) for column in sink.columns]


class RowMaker:
    """The expressions of one sink, ready to be evaluated."""

    def __init__(self, sink: DeclaredSink) -> None:
        self._is_whole = sink.kind == RESOURCE  # whose row is the record
        as_they_are = sink.kind in (JSONL, RESOURCE)
        columns = [] if self._is_whole else types_of(sink)
        key = compile_expression(sink.key)
        expressions = [compile_expression(sink.columns[column]) for column, _ in columns]
        self._is_about = any(is_about(expression.names) for expression in (key, *expressions))
        self._key = key.evaluate
        self._columns: list[tuple[Callable[[Mapping[str, Any]], Any], Callable[[Any], Any]]] = [
            (expression.evaluate, _as_it_is if as_they_are else take_for(type_name, sink.kind))
            for expression, (_, type_name) in zip(expressions, columns, strict=True)
        ]
        self._names = [column for column, _ in columns]
        shape = [sink.kind, sink.table, sink.resource, self._names if as_they_are else [*map(list, columns)]]
        self._shape = sha256(encode_json(shape)).digest()
        self._plain = {column for column, _ in columns if column not in sink.types}

    def __call__(self, message: Message) -> Row:
        """Returns the row of a record; raises `Refused`."""
        scope = whole_scope(*message) if self._is_about else fields_of(message.value)
        effect = self._effect(scope)
        values: list[Any] = []
        try:
            for evaluate, take in self._columns:
                values.append(take(evaluate(scope)))
        except EvaluationError as error:
            raise Refused(f"Column {shown(self._names[len(values)])} cannot be had: {error}") from None
        except ValueError as error:
            raise Refused(self._refusal(self._names[len(values)], str(error))) from None
        if self._is_whole:
            values.append(message.value)
        return _new(Row, (effect, self.fingerprint(values), tuple(values)))

    def fingerprint(self, values: list[Any]) -> bytes:
        """Returns the digest of a row of this shape; raises `Refused` where a value has no JSON."""
        try:
            return sha256(self._shape + encode_json(values)).digest()
        except (TypeError, ValueError, RecursionError):  # a time among them, or what is refused
            pass
        try:
            return sha256(self._shape + json_text([*map(_written, values)]).encode()).digest()
        except ValueError:
            raise Refused("The row holds what JSON cannot.") from None

    def _effect(self, scope: Mapping[str, Any]) -> str:
        try:
            effect = self._key(scope)
        except EvaluationError as error:
            raise Refused(f"The effect key cannot be had: {error}") from None
        if type(effect) is not str:
            if type(effect) is not int:
                raise Refused(f"The effect key is {kind_of(effect)}; it has to be text or an integer.")
            effect = str(effect)
        if not effect.isprintable() or not 0 < len(effect) <= EFFECT_BYTES_MAX // 4:
            _check_effect(effect)
        return effect

    def _refusal(self, column: str, why: str) -> str:
        hint = f' Declare its type, such as types.{column} = "integer".' if column in self._plain else ""
        return f"Column {shown(column)} does not take the value: {why}.{hint if 'not text' in why else ''}"


def _check_effect(effect: str) -> None:
    if not effect:
        raise Refused("The effect key is empty.")
    try:
        size = len(effect.encode())
    except UnicodeEncodeError:
        raise Refused("The effect key holds half a surrogate pair, which no UTF-8 text can.") from None
    if size > EFFECT_BYTES_MAX:
        raise Refused(f"The effect key has {size:,} bytes; at most {EFFECT_BYTES_MAX:,} are allowed.")
    if "\0" in effect:
        raise Refused("The effect key holds the character NUL.")


def _as_it_is(value: Any) -> Any:
    return value


def _written(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
