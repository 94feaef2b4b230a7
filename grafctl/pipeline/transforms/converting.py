"""Steps that give a field another value: `cast`, `lookup`, `hash`.

Promises, of each step
- `cast` makes a field of one kind, exactly, or refuses the record; a field that is not there or null is left alone, and
  `*` is each item of a list.
  - `int`: an integer; a fraction without a part behind the point; a text of digits.
  - `float`: a number that a double is exactly, where it is an integer; a text that is a number as JSON has it.
  - `text`: text; a number as JSON has it; a boolean, `true` or `false`; a list or an object, as JSON.
  - `bool`: a boolean; the texts `true`, `false`, `1` and `0`; the integers 1 and 0.
  - `decimal:N`: the integer that counts 10^-N, N from 0 to 18, of an integer, of a text with a point, or of a fraction
    of at most 15 digits; more than N digits behind the point are refused, unless they are zeros. So 17.50 is 1750 with
    N 2.
- `lookup` puts what a table has for a field into the field, or into another one (`into`). The table is in the step or
  in a JSON file of one object. A text is looked up as it is, an integer by its digits; what the table does not have
  gets the `default`, and is refused where there is none.
- `hash` puts the SHA-256 of a field in its place, 64 hexadecimal digits: of a text in UTF-8, of any other value as
  canonical JSON (sorted keys, no white space). With `salt_file` it is HMAC-SHA256 with what the file holds, without the
  end of its last line. A field that is not there or null is left alone, and `*` is each item of a list.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Any

from grafctl.errors import Usage
from grafctl.expression import values
from grafctl.expression.failing import EvaluationError, kind_of
from grafctl.expression.functions import TABLE
from grafctl.expression.operators import INTEGER_MAX
from grafctl.expression.paths import MISSING, find
from grafctl.names import shown
from grafctl.pipeline.message import Refused
from grafctl.pipeline.transforms.drafts import Draft, Path, Work, change, put
from grafctl.pipeline.transforms.options import Options
from grafctl.pipeline.transforms.plans import Change, Lookup
from grafctl.pipeline.transforms.shaping import named

DECIMALS_MAX = 18
FRACTION_DIGITS = 15  # every decimal of so many digits is told apart by a double
_DIGITS_MAX = 1200
_DECIMAL = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]+))?")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}

Cast = Callable[[Any], Any]


def make_cast(options: Options) -> Work:
    fields = {path: _cast_of(kind) for path, kind in options.table("fields and kinds").items()}
    options.plan = Change(list(fields.items()))
    return _changing([(path, _leaving_null(cast)) for path, cast in fields.items()])


def _changing(fields: list[tuple[Path, Cast]]) -> Work:
    """Returns the step that changes fields in place, and says which one it could not change."""

    def work(draft: Draft) -> None:
        record = draft.own()
        for path, cast in fields:
            first = path[0]
            if first not in record:
                continue
            try:
                record[first] = cast(record[first]) if len(path) == 1 else change(record, path, cast)[first]
            except (EvaluationError, Refused) as error:
                raise Refused(f"{named(path)}: {str(error).rstrip('.')}") from None

    return work


def _leaving_null(cast: Cast) -> Cast:
    return lambda value: None if value is None else cast(value)


def _cast_of(kind: str) -> Cast:
    if kind in ("int", "float", "text"):
        work = TABLE[kind].work
        return lambda value: work("", value)
    if kind == "bool":
        return _to_bool
    name, colon, places = kind.partition(":")
    if name == "decimal" and colon and places.isascii() and places.isdigit() and len(places) < 3:
        if int(places) > DECIMALS_MAX:
            raise Usage(f"decimal:N keeps at most {DECIMALS_MAX} digits.")
        return _decimal_of(int(places))
    raise Usage(f"{shown(kind)} is no kind; take int, float, text, bool or decimal:N.")


def _to_bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is str and value in _BOOLEANS:
        return _BOOLEANS[value]
    if type(value) is int and value in (0, 1):
        return value == 1
    raise Refused(f"{kind_of(value)} that is neither true nor false")


def _decimal_of(places: int) -> Cast:
    factor = 10**places

    def cast(value: Any) -> int:
        kind = type(value)
        if kind is str:
            return _decimal_text(value, places)
        if kind is float:
            # The nearest count is the one that is meant where it gives this very double again, and has so few digits
            # that no other one does.
            count = round(value * factor) if abs(value) < 1e15 else 0
            if abs(count) < 10**FRACTION_DIGITS and count / factor == value:
                return count
            raise Refused(f"a fraction of more than {places} digits behind the point, or more than a double keeps")
        if kind is int:
            return _in_bounds(value * factor)
        raise Refused(f"{kind_of(value)} has no count")

    return cast


def _decimal_text(text: str, places: int) -> int:
    whole, point, behind = text.partition(".")
    # Nearly all amounts are of this form, which takes no pattern.
    is_usual = len(text) < 20 and text.isascii() and whole.isdecimal() and (behind.isdecimal() or not point)
    if is_usual and len(behind) <= places:
        return int(whole + behind.ljust(places, "0"))
    found = _DECIMAL.fullmatch(text) if len(text) <= _DIGITS_MAX else None
    if found is None:
        raise Refused("a text that is no number, or a longer one than is read")
    sign, whole, behind = found[1], found[2], found[3] or ""
    if behind[places:].strip("0"):
        raise Refused(f"a number of more than {places} digits behind the point")
    return _in_bounds(int(sign + whole + behind[:places].ljust(places, "0")))


def _in_bounds(count: int) -> int:
    if not -INTEGER_MAX <= count <= INTEGER_MAX:
        raise Refused("the number is too large")
    return count


def make_lookup(options: Options) -> Work:
    path, into = options.path("field"), options.path("into")
    assert path is not None and into is not None
    if "*" in path or "*" in into:
        raise Usage("lookup takes no *.")
    table = _table(options)
    default = options.take("default", "a value", *_JSON_KINDS, default=MISSING)
    _check_value("default", default)

    def look(value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return table.get(value, default)
        return table.get(str(value), default) if kind is int and abs(value) <= INTEGER_MAX else default

    options.plan = Lookup(path, into, look)

    def lookup(draft: Draft) -> None:
        record = draft.own()
        value = find(record, path)
        found = look(value)
        if found is MISSING:
            raise Refused(_not_found(path, value))
        record[into[0]] = found if len(into) == 1 else put(record, into, found)[into[0]]

    return lookup


def _not_found(path: Path, value: Any) -> str:
    if value is MISSING:
        return f"{named(path)} is not there"
    if type(value) not in (str, int):
        return f"{named(path)} has to be text or an integer, and is {kind_of(value)}"
    return f"the table has nothing for {named(path)}"


_JSON_KINDS = (str, int, float, bool, list, dict)


def _table(options: Options) -> Mapping[str, Any]:
    table = options.take("table", "a table of values", dict, default=None)
    body = options.file("file")
    if (table is None) == (body is None):
        raise Usage("It takes a table or a file, and one of the two.")
    if body is not None:
        try:
            table = values.decode(body)
        except ValueError as error:
            raise Usage(f"Its file holds no table. {error}") from None
        if type(table) is not dict:
            raise Usage("Its file holds no table: it has to be a JSON object.")
    assert table is not None
    for key, value in table.items():
        _check_value(str(key), value)
    return dict(table)


def _check_value(name: str, value: Any) -> None:
    """Refuses what TOML has and JSON has not: a date, NaN, Infinity."""
    if value is MISSING:
        return
    try:
        values.encode(value)
    except ValueError:
        raise Usage(f"{shown(name)} is no JSON value; write a date as a text.") from None


def make_hash(options: Options) -> Work:
    paths = options.paths()
    salt = options.file("salt_file")
    if salt is not None:
        salt = salt.removesuffix(b"\n").removesuffix(b"\r")
        if not salt:
            raise Usage("Its salt_file is empty.")

    def hashed(value: Any) -> str | None:
        if value is None:
            return None
        try:
            body = value.encode() if type(value) is str else values.canonical(value)
        except ValueError:
            raise Refused("it cannot be written as JSON") from None
        return (hashlib.sha256(body) if salt is None else hmac.new(salt, body, "sha256")).hexdigest()

    options.plan = Change([(path, hashed) for path in paths])
    return _changing([(path, hashed) for path in paths])
