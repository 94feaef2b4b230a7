"""A quick yes to values that conform to a schema, for the plain part of JSON Schema that most schemas keep to.

Promises
- `quick_test` returns a function that is true only of values against which the full check has nothing, or None for a
  schema with anything in it that is not plain. False means no more than that the full check has to look.
- The code that it makes holds names and operators that stand here. What the schema says (names, bounds, patterns) is
  handed to it as values and never becomes code.
- A function for each object and each list, so code is never nested deeper than one of them; at most `FUNCTIONS_MAX`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from grafctl.json_pattern import Pattern
from grafctl.json_schema_rules import NOTES

FUNCTIONS_MAX = 100
NAMES_MAX = 1000  # of one object

Test = Callable[[Any], bool]

_BOUNDS = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
_SIZES = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
_KNOWN = {
    "string": {"minLength", "maxLength", "pattern"},
    "integer": {*_BOUNDS},
    "number": {*_BOUNDS},
    "boolean": set[str](),
    "null": set[str](),
    "array": {"minItems", "maxItems", "items"},
    "object": {"required", "properties", "additionalProperties"},
}
_IS = {
    "string": "type({0}) is str",
    "integer": "type({0}) is int",  # 1.0 is one too, and left to the full check
    "number": "(type({0}) is int or type({0}) is float)",
    "boolean": "({0} is True or {0} is False)",
    "null": "{0} is None",
    "array": "type({0}) is list",
    "object": "type({0}) is dict",
}


class _NotPlain(Exception):
    """A schema that is left to the full check."""


def quick_test(document: Mapping[str, Any]) -> Test | None:
    """Returns the quick test of a document that is known to be a schema."""
    try:
        return _Maker().function(document)
    except _NotPlain:
        return None


class _Maker:
    """Makes the functions of one document."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = {
            "__builtins__": {},
            **{kind.__name__: kind for kind in (type, str, int, float, list, dict, len, all, map)},
        }
        self._functions = 0

    def function(self, schema: Any) -> Test:
        """Returns the test of one schema."""
        self._functions += 1
        if self._functions > FUNCTIONS_MAX:
            raise _NotPlain
        lines = [f"    if not ({test}): return False\n" for test in self._tests(schema, "value")]
        made = dict[str, Any]()
        exec("def test(value):\n" + "".join(lines) + "    return True\n", self._given, made)
        test: Test = made["test"]
        return test

    def _value(self, value: Any) -> str:
        """Returns the name by which the code finds a value."""
        name = f"given_{len(self._given)}"
        self._given[name] = value
        return name

    def _tests(self, schema: Any, name: str) -> list[str]:
        """Returns expressions of which all are true where what a name stands for conforms."""
        if schema is True:
            return []
        if type(schema) is not dict:
            raise _NotPlain
        said = {keyword for keyword in schema if keyword not in NOTES and not keyword.startswith("x-")}
        if not said:
            return []
        if said == {"enum"} and set(map(type, schema["enum"])) == {str}:
            return [f"type({name}) is str", f"{name} in {self._value(frozenset(schema['enum']))}"]
        kind = schema.get("type")
        if type(kind) is not str or not said <= _KNOWN[kind] | {"type"}:
            raise _NotPlain
        return [_IS[kind].format(name), *self._sizes(schema, kind, name), *self._rules(schema, kind, name)]

    def _sizes(self, schema: Mapping[str, Any], kind: str, name: str) -> list[str]:
        signs = zip(_SIZES.get(kind, ()), (">=", "<="), strict=False)
        sizes = [f"len({name}) {sign} {self._value(schema[word])}" for word, sign in signs if word in schema]
        bounds = [f"{name} {sign} {self._value(schema[word])}" for word, sign in _BOUNDS.items() if word in schema]
        return sizes + bounds

    def _rules(self, schema: Mapping[str, Any], kind: str, name: str) -> list[str]:
        if kind == "string" and "pattern" in schema:
            pattern = Pattern(schema["pattern"])
            most, try_on = self._value(pattern.characters_max), self._value(pattern.try_on)
            return [f"len({name}) <= {most}", f"{try_on}({name}) is not None"]
        if kind == "array" and schema.get("items", True) is not True:
            return [f"all(map({self._value(self.function(schema['items']))}, {name}))"]
        return self._object(schema, name) if kind == "object" else []

    def _object(self, schema: Mapping[str, Any], name: str) -> list[str]:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if len(properties) + len(required) > NAMES_MAX:
            raise _NotPlain
        rules = [f"{self._value(field)} in {name}" for field in required]
        if "additionalProperties" in schema and schema["additionalProperties"] is not True:
            if schema["additionalProperties"] is not False:
                raise _NotPlain
            rules.append(f"{name}.keys() <= {self._value(frozenset(properties))}")
        for field, inner in properties.items():
            is_nested = type(inner) is dict and inner.get("type") in ("object", "array")
            own = [f"{self._value(self.function(inner))}(item)"] if is_nested else self._tests(inner, "item")
            if own:
                key = self._value(field)
                test = " and ".join((f"(item := {name}[{key}]) is item", *own))
                rules.append(test if field in required else f"{key} not in {name} or ({test})")
        return rules
