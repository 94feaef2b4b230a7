"""The keywords of JSON Schema: for each a function that makes a check of what it says.

A check returns a `Mismatch` or None. Checks of one schema are tried in the order of `KEYWORDS`, so the first thing that
is said of a value is what its type is.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import isfinite
from typing import Any

from grafctl import json_schema_parts as parts
from grafctl.errors import Usage
from grafctl.json_schema import (
    DEPTH_MAX,
    Check,
    Mismatch,
    as_count,
    as_number,
    as_object,
    as_pattern,
    as_schema,
    as_texts,
    fail,
    frozen,
    is_multiple,
    is_number,
    unknown,
)
from grafctl.names import shown

TYPES: dict[str, Any] = {
    "null": lambda value: value is None,
    "boolean": lambda value: value is True or value is False,
    "string": lambda value: type(value) is str,
    "number": is_number,
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "array": lambda value: type(value) is list,
    "object": lambda value: type(value) is dict,
}
NOTES = {
    *("$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly"),
    *("writeOnly", "format", "contentMediaType", "contentEncoding", "$defs", "definitions"),
}
BESIDE = {"then", "else", "minContains", "maxContains"}  # read with another keyword
INSIDE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")  # schemas of the same value
WIDTH_MAX = 10_000  # schemas that one value may come under, references followed
ROOT = "#"


class Reader:
    """Reads one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._checks: dict[int, Check] = {}  # of what references name, by identity
        self._targets: list[Any] = []
        self._widths: dict[int, int] = {}

    def read(self) -> Check:
        """Returns the check of the document; raises `Usage` where it is no schema that can be used."""
        check = self._schema(self._document, ROOT, 0)
        self._width(self._document, ())
        for target in self._targets:
            self._width(target, ())
        return check

    # --- schemas in schemas

    def _schema(self, schema: Any, where: str, depth: int) -> Check:
        """Returns the check of one schema."""
        if depth > DEPTH_MAX:
            raise Usage(f"The schema is nested deeper than {DEPTH_MAX} schemas.")
        if schema is True:
            return lambda value, steps: None
        if schema is False:
            return lambda value, steps: fail("nothing is allowed here")
        for keyword in schema:
            if keyword not in KEYWORDS and keyword not in NOTES | BESIDE and not keyword.startswith("x-"):
                raise unknown(keyword, where)
        for names in ("$defs", "definitions"):
            for name, inner in as_object(schema.get(names, {}), f"{where}/{names}").items():
                self._schema(as_schema(inner, f"{where}/{names}/{name}"), f"{where}/{names}/{name}", depth + 1)
        checks = [
            make(self, schema[keyword], schema, f"{where}/{keyword}", depth + 1)
            for keyword, make in KEYWORDS.items()
            if keyword in schema
        ]
        return checks[0] if len(checks) == 1 else _all(checks)

    def inner(self, schema: Any, where: str, depth: int) -> Check:
        return self._schema(as_schema(schema, where), where, depth)

    def inners(self, schemas: Any, where: str, depth: int) -> list[Check]:
        if not isinstance(schemas, list) or not schemas:
            raise Usage(f"{where} of the schema is no list of schemas.")
        return [self.inner(schema, f"{where}/{place}", depth) for place, schema in enumerate(schemas)]

    def named(self, schemas: Any, where: str, depth: int) -> dict[str, Check]:
        return {
            name: self.inner(schema, f"{where}/{name}", depth) for name, schema in as_object(schemas, where).items()
        }

    # --- references

    def reference(self, target: Any, where: str) -> Check:
        """Returns a check that follows a reference inside the document when it is asked."""
        if not isinstance(target, str) or not target.startswith("#"):
            raise Usage(
                f"{where} of the schema names {shown(str(target))}, which is not in the document.",
                hint="Write all that it needs under $defs: a schema is never fetched.",
            )
        schema = self._target(target)
        own = id(schema)
        if own not in self._checks:
            self._targets.append(schema)
            self._checks[own] = lambda value, steps: None  # while it is read, for what refers to itself
            self._checks[own] = self._schema(schema, target, 1)

        def check(value: Any, steps: list[int]) -> Mismatch | None:
            steps[0] -= 1
            if steps[0] < 0:
                return fail("checking it takes too many steps")
            return self._checks[own](value, steps)

        return check

    def _target(self, reference: str) -> Any:
        value: Any = self._document
        for part in reference[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list):
                value = value[int(name)] if name.isdecimal() and len(name) < 6 and int(name) < len(value) else None
            else:
                value = value.get(name) if isinstance(value, dict) else None
        if reference[1:2] not in ("", "/") or not isinstance(value, (dict, bool)):
            raise Usage(f"The reference {shown(reference)} names no schema in the document.")
        return value

    def _width(self, schema: Any, path: tuple[int, ...]) -> int:
        """Returns how many schemas a value comes under; raises `Usage` for one that comes under itself, or too many."""
        if not isinstance(schema, dict):
            return 1
        if id(schema) in path:
            raise Usage("A reference of the schema comes back to itself without going into the value.")
        if id(schema) not in self._widths:
            below = [schema[name] for name in ("not", "if", "then", "else") if name in schema]
            below += [inner for name in ("allOf", "anyOf", "oneOf") for inner in schema.get(name, [])]
            below += [self._target(schema["$ref"])] if "$ref" in schema else []
            self._widths[id(schema)] = 1 + sum(self._width(inner, (*path, id(schema))) for inner in below)
        if self._widths[id(schema)] > WIDTH_MAX or len(path) > DEPTH_MAX:
            raise Usage(f"One value comes under more than {WIDTH_MAX:,} schemas of the document, or too deeply.")
        return self._widths[id(schema)]


def _all(checks: list[Check]) -> Check:
    def check(value: Any, steps: list[int]) -> Mismatch | None:
        for one in checks:
            if (found := one(value, steps)) is not None:
                return found
        return None

    return check


# --- keywords of any value


def _type(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    names = [said] if isinstance(said, str) else as_texts(said, where)
    if not names or set(names) - TYPES.keys():
        raise Usage(f"{where} of the schema is none of {', '.join(TYPES)}.")
    tests = [TYPES[name] for name in names]
    rule = f"it must be of type {' or '.join(names)}"
    test = tests[0]
    if len(tests) == 1:
        return lambda value, steps: None if test(value) else fail(rule)
    return lambda value, steps: None if any(test(value) for test in tests) else fail(rule)


def _enum(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    if not isinstance(said, list) or not said:
        raise Usage(f"{where} of the schema is no list of values.")
    allowed = set(map(frozen, said))
    return lambda value, steps: None if frozen(value) in allowed else fail("it must be one of those listed in enum")


def _const(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    wanted = frozen(said)
    return lambda value, steps: None if frozen(value) == wanted else fail("it must be the value of const")


def _reference(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    return reader.reference(said, where)


def _all_of(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    return _all(reader.inners(said, where, depth))


def _any_of(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    checks = reader.inners(said, where, depth)

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        return None if any(one(value, steps) is None for one in checks) else fail("it conforms to none of anyOf")

    return check


def _one_of(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    checks = reader.inners(said, where, depth)

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        count = sum(one(value, steps) is None for one in checks)
        return None if count == 1 else fail(f"it conforms to {count} of oneOf and must to exactly one")

    return check


def _not(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    inner = reader.inner(said, where, depth)

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        found = inner(value, steps)
        if steps[0] < 0:
            return found or fail("checking it takes too many steps")
        return None if found is not None else fail("it must not conform to not")

    return check


def _if(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    condition = reader.inner(said, where, depth)
    then, other = (reader.inner(schema.get(name, True), f"{where}/{name}", depth) for name in ("then", "else"))

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        return (then if condition(value, steps) is None else other)(value, steps)

    return check


# --- numbers and texts


def _number(rule: str, holds: Any) -> Any:
    def make(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
        bound = as_number(said, where)
        text = rule.format(bound)
        return lambda value, steps: fail(text) if is_number(value) and not holds(value, bound) else None

    return make


def _multiple(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    number = as_number(said, where)
    if not isfinite(number) or number <= 0:
        raise Usage(f"{where} of the schema is not above 0.")
    of, text = Fraction(repr(number)), f"it must be a multiple of {number}"
    return lambda value, steps: fail(text) if is_number(value) and not is_multiple(value, of) else None


def _size(kind: type, rule: str, holds: Any) -> Any:
    def make(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
        bound = as_count(said, where)
        text = rule.format(bound)
        return lambda value, steps: fail(text) if type(value) is kind and not holds(len(value), bound) else None  # type: ignore[arg-type]

    return make


def _pattern(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    pattern = as_pattern(said, where)
    text = f"it must match the pattern {shown(pattern.text)}"
    long = f"it is longer than the {pattern.characters_max:,} characters on which its pattern is tried"

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is not str or pattern.matches(value):
            return None
        return fail(long if len(value) > pattern.characters_max else text)

    return check


KEYWORDS: dict[str, Any] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "minimum": _number("it must be {} or more", lambda value, bound: value >= bound),
    "maximum": _number("it must be {} or less", lambda value, bound: value <= bound),
    "exclusiveMinimum": _number("it must be above {}", lambda value, bound: value > bound),
    "exclusiveMaximum": _number("it must be below {}", lambda value, bound: value < bound),
    "multipleOf": _multiple,
    "minLength": _size(str, "it must have {} characters or more", lambda size, bound: size >= bound),
    "maxLength": _size(str, "it must have {} characters or less", lambda size, bound: size <= bound),
    "pattern": _pattern,
    "minItems": _size(list, "it must have {} items or more", lambda size, bound: size >= bound),
    "maxItems": _size(list, "it must have {} items or less", lambda size, bound: size <= bound),
    "uniqueItems": parts.unique_rule,
    "prefixItems": parts.prefix_items,
    "items": parts.items_rule,
    "contains": parts.contains_rule,
    "minProperties": _size(dict, "it must have {} names or more", lambda size, bound: size >= bound),
    "maxProperties": _size(dict, "it must have {} names or less", lambda size, bound: size <= bound),
    "required": parts.required_rule,
    "dependentRequired": parts.dependent_required,
    "propertyNames": parts.property_names,
    "properties": parts.properties_rule,
    "patternProperties": parts.pattern_properties,
    "additionalProperties": parts.additional_rule,
    "$ref": _reference,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
}
