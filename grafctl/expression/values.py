"""The JSON values that records are made of: read exactly or refused, and written back.

Promises
- `decode` gives objects, lists, texts, booleans, null, integers of up to 4,300 digits, exactly, and fractions, which
  are doubles. It refuses what would be read in two ways: an object with a key twice, NaN and Infinity, a fraction too
  large for a double, half a surrogate pair, more than `DEPTH_MAX` levels; what it gives can always be written again.
- `decode_exact` reads what `decode` reads, and each number as a decimal with all the digits that it has.
- `encode` writes what `decode` reads as the same value, without white space, keys in their order, in the letters that
  it has; `canonical` sorts keys.
- All raise `ValueError` with a sentence that holds no value, and nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from json import JSONDecoder

from grafctl import json_text
from grafctl.names import shown
from grafctl.typed import Any, Callable

NUMBER_CHARACTERS_MAX = 4300
DEPTH_MAX = 100  # levels of lists and objects; Python gives up at a depth that differs from version to version
_SPACE = " \t\n\r"


def decode(payload: bytes) -> Any:
    """Returns the value of a payload; raises `ValueError` with a sentence."""
    value = _decoded(payload, _read)
    if b"\\" in payload and b"\\u" in payload:  # one letter is found much sooner than two
        encode(value)
    return value


def decode_exact(payload: bytes) -> Any:
    """Returns the value of a payload with a `Decimal` for each number; raises `ValueError` with a sentence."""
    value = _decoded(payload, _exact_reader())
    if b"\\" in payload and b"\\u" in payload:
        decode(payload)  # which knows what text cannot be written
    return value


def _decoded(payload: bytes, read: Callable[[str, int], tuple[Any, int]]) -> Any:
    try:
        value, end = read(text := payload.decode().strip(_SPACE), 0)
    except UnicodeDecodeError:
        raise ValueError("It is not UTF-8.") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except _NotExact as error:
        raise ValueError(str(error)) from None
    except StopIteration as error:
        raise ValueError(f"It is not JSON: it goes wrong at character {error.value + 1}.") from None
    except ValueError as error:
        place = getattr(error, "pos", None)
        where = "an integer has too many digits" if place is None else f"it goes wrong at character {place + 1}"
        raise ValueError(f"It is not JSON: {where}.") from None
    if end != len(text):
        raise ValueError(f"It is not JSON: there is more after character {end}.")
    _check_depth(payload, value)
    return value


def encode(value: Any) -> bytes:
    """Returns the payload that says a value; raises `ValueError` with a sentence where JSON has no such value."""
    return _written(_AS_GIVEN, value)


def canonical(value: Any) -> bytes:
    """Returns the same bytes for the same value, whatever the order of its keys."""
    return _written(_SORTED, value)


def _check_depth(payload: bytes, value: Any) -> None:
    # Two counts are quicker than a walk through the value, and settle nearly all records.
    if payload.count(b"{") + payload.count(b"[") > DEPTH_MAX and _is_deep(value):
        raise ValueError(_TOO_DEEP)


def _written(write: Callable[[Any], str], value: Any) -> bytes:
    try:
        payload = write(value).encode()
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except UnicodeEncodeError:
        raise ValueError("It holds half a surrogate pair, which no UTF-8 text can.") from None
    except (TypeError, ValueError):
        raise ValueError("It holds what JSON cannot: NaN, Infinity, a key that is no text, or another kind.") from None
    _check_depth(payload, value)
    return payload


_AS_GIVEN = json_text.encoder(sort_keys=False, allow_nan=False)
_SORTED = json_text.encoder(sort_keys=True, allow_nan=False)
_TOO_DEEP = f"It is nested more than {DEPTH_MAX} levels deep."


class _NotExact(Exception):
    """JSON that more than one reading would do for."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _NotExact(f"An object in it has the key {shown(twice)} twice.")
    return made


def _fraction(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise _NotExact("A number in it is too large for a fraction.")
    return value


def _constant(text: str) -> Any:
    raise _NotExact("It holds NaN or Infinity, which are no JSON.")


@lru_cache(maxsize=1)
def _exact_reader() -> Callable[[str, int], tuple[Any, int]]:
    from decimal import Decimal, InvalidOperation  # here, because few commands compare numbers

    def number(text: str) -> Any:
        if len(text) > NUMBER_CHARACTERS_MAX:
            raise _NotExact("A number in it has too many digits.")
        try:
            return Decimal(text)
        except InvalidOperation:
            raise _NotExact("A number in it is too large.") from None

    numbers: Any = {"parse_float": number, "parse_int": number, "parse_constant": _constant}
    reader: Any = JSONDecoder(object_pairs_hook=_object, **numbers)
    read: Callable[[str, int], tuple[Any, int]] = reader.scan_once
    return read


_reader: Any = JSONDecoder(object_pairs_hook=_object, parse_float=_fraction, parse_constant=_constant)
_read = _reader.scan_once  # what `raw_decode` calls; where no value begins it raises `StopIteration` with the place


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            below
            for above in level
            for below in (above.values() if type(above) is dict else above if type(above) is list else ())
            if type(below) is dict or type(below) is list
        ]
        if not level:
            return False
    return True
