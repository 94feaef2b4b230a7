"""Match keys: what makes a record of one output the counterpart of a record of another one.

A match key is the record's id (`id`), its key (`key`), or a text, number or boolean in its payload (`json:PATH`).

Promises
- It is a function of the record alone; two records are counterparts when their match keys are equal. A number is what
  it says however it is written (1, 1.0, 1e0), and never equal to a text.
- A record that has none says why in a sentence, and never counts as the counterpart of another.
- A match key is kept as a hash of `HASH_BYTES` and as a text of at most `TEXT_CHARACTERS_MAX` characters to be shown.

When it fails: nothing here can; there is no I/O, no clock and no randomness.
"""

from __future__ import annotations

from functools import lru_cache

from grafctl import json_text
from grafctl.errors import Usage
from grafctl.expression.paths import MISSING, find, parse_path
from grafctl.expression.values import decode_exact
from grafctl.names import shown
from grafctl.store.records import digest
from grafctl.typed import Any, Callable, NamedTuple

ID, KEY, JSON = "id", "key", "json:"
FORMS = "Write id, key or json:PATH, such as json:order.number."
MATCH_CHARACTERS_MAX = 1100
HASH_BYTES = 16
TEXT_CHARACTERS_MAX = 120


class MatchKey(NamedTuple):
    """The match key of a record; without one, `hash` is empty and `text` says why."""

    hash: bytes
    text: str


def check_match(text: str) -> str:
    """Returns what says where match keys are; raises `Usage`."""
    if text not in (ID, KEY):
        if not text.startswith(JSON) or len(text) > MATCH_CHARACTERS_MAX:
            raise Usage(f"{shown(text)} says not where match keys are.", hint=FORMS)
        parse_path(text.removeprefix(JSON))
    return text


def match_key(match: str, payload: bytes, id: str | None, key: str | None, value: Any = MISSING) -> MatchKey:
    """Returns the match key of a record; `value` is its payload as `decode_exact` gives it, where it is at hand."""
    if match in (ID, KEY):
        text = id if match == ID else key
        return _of(text, text) if text is not None else MatchKey(b"", f"It has no {match}.")
    return _reader(match)(payload, value)


@lru_cache(maxsize=64)
def _reader(match: str) -> Callable[[bytes, Any], MatchKey]:
    path = parse_path(match.removeprefix(JSON))
    where = match.removeprefix(JSON)

    def read(payload: bytes, value: Any) -> MatchKey:
        if value is MISSING:
            try:
                value = decode_exact(payload)
            except ValueError as error:
                return MatchKey(b"", str(error))
        found = find(value, path)
        if found is MISSING or found is None or type(found) in (dict, list):
            what = "nothing" if found is MISSING else "null" if found is None else "no single value"
            return MatchKey(b"", f"There is {what} at {cut(where)}.")
        return _of(exact_text(found), found if type(found) is str else exact_text(found))

    return read


def _of(text: str, to_show: str) -> MatchKey:
    return MatchKey(digest(text.encode())[:HASH_BYTES], cut(to_show))


def cut(text: str, most: int = TEXT_CHARACTERS_MAX) -> str:
    """Returns a text that is not longer than it may be, with a mark where something is left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


_write = json_text.encoder(sort_keys=True, allow_nan=False)


def exact_text(value: Any) -> str:
    """Returns the same JSON for the same value: keys sorted, each number in one form."""
    if value is None or type(value) in (str, bool):
        return _write(value)
    if type(value) is dict:
        return "{" + ",".join(f"{_write(key)}:{exact_text(value[key])}" for key in sorted(value)) + "}"
    if type(value) is list:
        return "[" + ",".join(map(exact_text, value)) + "]"
    sign, figures, exponent = value.as_tuple()
    digits = "".join(map(str, figures)).rstrip("0").lstrip("0")
    if not digits:
        return "0"
    exponent += len(figures) - len("".join(map(str, figures)).rstrip("0"))
    if 0 <= exponent <= 20:
        digits, exponent = digits + "0" * exponent, 0
    elif -40 <= exponent < 0:
        digits = digits.rjust(1 - exponent, "0")
        digits, exponent = f"{digits[:exponent]}.{digits[exponent:]}", 0
    return ("-" if sign else "") + digits + (f"e{exponent}" if exponent else "")
