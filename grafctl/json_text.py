"""JSON without importing `json`, whose regular expressions take longer to import than a durable publish takes.

The C functions below are those that `json` itself calls; where there are none, `json` does it all.

Promises
- `encoder` and `decode` give what `json` gives for the same value or text, and raise `ValueError` or `TypeError` where
  it does (`tests/unit/test_json_text.py` compares them).
"""

from __future__ import annotations

from grafctl.typed import Any, Callable

fast: Any = None
try:
    import _json

    fast = _json
except ImportError:
    pass


def encoder(*, sort_keys: bool, allow_nan: bool) -> Callable[[Any], str]:
    """Returns the function that writes a value as JSON without white space, in the letters that it has."""
    try:
        # NB without the table by which `json` finds a circle: a value that holds itself is a `RecursionError` here.
        as_text: Any = fast.encode_basestring
        write: Any = fast.make_encoder(None, _unknown, as_text, None, ":", ",", sort_keys, False, allow_nan)
        if "".join(write({"b": [1, "é"], "a": None}, 0)) in _SAMPLES:
            return lambda value: "".join(write(value, 0))
    except (AttributeError, TypeError):  # another Python has them otherwise
        pass
    from json import JSONEncoder

    shape: Any = {"sort_keys": sort_keys, "allow_nan": allow_nan, "ensure_ascii": False}
    return JSONEncoder(separators=(",", ":"), **shape).encode


_SAMPLES = ('{"b":[1,"é"],"a":null}', '{"a":null,"b":[1,"é"]}')


def _unknown(value: Any) -> Any:
    raise TypeError(f"A {type(value).__name__} is no JSON")


class _Shape:
    """What the scanner wants to know: everything as `json.loads` has it."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float, parse_int = float, int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    try:
        scan: Callable[[str, int], tuple[Any, int]] = fast.make_scanner(_Shape)
        if scan('{"a":[1,NaN]}', 0)[1] == 13:
            return scan
    except (AttributeError, TypeError):
        pass
    from json import JSONDecoder

    return JSONDecoder().raw_decode


_scan = _scanner()


def decode(text: str) -> Any:
    """Returns the value of JSON that has no space around it; quicker than `json.loads`, which skips that."""
    try:
        value, end = _scan(text, 0)
    except StopIteration as error:
        raise ValueError(f"no JSON value begins at {error.value}") from None
    if end != len(text):
        raise ValueError(f"JSON ends at {end} of {len(text)} characters")
    return value
