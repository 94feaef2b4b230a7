"""The keywords of JSON Schema that speak of what lists and objects hold."""

from __future__ import annotations

from typing import Any, Protocol

from grafctl.errors import Usage
from grafctl.json_schema import Check, Mismatch, as_count, as_object, as_pattern, as_texts, fail, frozen
from grafctl.names import shown


class Reader(Protocol):
    """What reads the schemas inside a schema."""

    def inner(self, schema: Any, where: str, depth: int) -> Check: ...
    def inners(self, schemas: Any, where: str, depth: int) -> list[Check]: ...
    def named(self, schemas: Any, where: str, depth: int) -> dict[str, Check]: ...


# --- lists


def items_rule(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    inner = reader.inner(said, where, depth)
    begin = len(schema["prefixItems"]) if isinstance(schema.get("prefixItems"), list) else 0

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is list:
            for place in range(begin, len(value)):
                if (found := inner(value[place], steps)) is not None:
                    return found.below(str(place))
        return None

    return check


def prefix_items(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    checks = reader.inners(said, where, depth)

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is list:
            for place, (one, item) in enumerate(zip(checks, value, strict=False)):
                if (found := one(item, steps)) is not None:
                    return found.below(str(place))
        return None

    return check


def contains_rule(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    inner = reader.inner(said, where, depth)
    least = as_count(schema.get("minContains", 1), f"{where}/minContains")
    most = as_count(schema["maxContains"], f"{where}/maxContains") if "maxContains" in schema else None
    text = f"it must contain {least} or more items that conform to contains" + (f", and {most} or less" if most else "")

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is not list:
            return None
        count = sum(inner(item, steps) is None for item in value)
        return None if count >= least and (most is None or count <= most) else fail(text)

    return check


def unique_rule(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    if type(said) is not bool:
        raise Usage(f"{where} of the schema is neither true nor false.")

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if not said or type(value) is not list or len(set(map(frozen, value))) == len(value):
            return None
        return fail("its items must differ")

    return check


# --- objects


def required_rule(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    names = as_texts(said, where)

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is dict:
            for name in names:
                if name not in value:
                    return fail(f"it must have {shown(name)}")
        return None

    return check


def properties_rule(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    checks = list(reader.named(said, where, depth).items())

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is dict:
            for name, one in checks:
                if name in value and (found := one(value[name], steps)) is not None:
                    return found.below(name)
        return None

    return check


def pattern_properties(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    checks = [(as_pattern(name, where), one) for name, one in reader.named(said, where, depth).items()]

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is dict:
            for name, item in value.items():
                for pattern, one in checks:
                    if len(name) > pattern.characters_max:
                        return Mismatch(("*",), "its name is too long for a pattern of patternProperties")
                    if pattern.matches(name) and (found := one(item, steps)) is not None:
                        return found.below("*")
        return None

    return check


def additional_rule(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    inner = reader.inner(said, where, depth)
    known = frozenset(as_object(schema.get("properties", {}), where))
    patterns = [as_pattern(name, where) for name in as_object(schema.get("patternProperties", {}), where)]

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is not dict or value.keys() <= known:
            return None
        for name, item in value.items():
            if name in known or any(pattern.matches(name) for pattern in patterns):
                continue
            if said is False:
                return fail("it has a name that is not in properties")
            if (found := inner(item, steps)) is not None:
                return found.below("*")
        return None

    return check


def property_names(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    inner = reader.inner(said, where, depth)

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is dict and any(inner(name, steps) is not None for name in value):
            return fail("one of its names does not conform to propertyNames")
        return None

    return check


def dependent_required(reader: Reader, said: Any, schema: Any, where: str, depth: int) -> Check:
    needs = {name: as_texts(names, where) for name, names in as_object(said, where).items()}

    def check(value: Any, steps: list[int]) -> Mismatch | None:
        if type(value) is dict:
            for name, names in needs.items():
                if name in value and not value.keys() >= set(names):
                    return fail(f"with {shown(name)} it must have {', '.join(map(shown, names))}")
        return None

    return check
