"""What goes through a stage: a record as it came, what a transform makes of it, and why it refuses one.

Promises
- A value is a JSON value: None, bool, int of any size, float that is a number, str, list, dict with text keys.
- `decode_value` and `encode_value` are the only way from payloads to values and back, and what they cannot read in one
  way they refuse (`grafctl/expression/values.py` says what that is).
- A transform gives the same outputs for the same message, or its fingerprint differs.
- No reason holds a payload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from grafctl.expression import values


class Message(NamedTuple):
    """A record as it came to a stage."""

    value: Any
    id: str | None = None
    key: str | None = None
    headers: Mapping[str, str] | None = None
    offset: int | None = None


class Output(NamedTuple):
    """A record as it goes on; `to` is None where it goes to the stage's first output."""

    value: Any
    to: str | None = None
    key: str | None = None
    id: str | None = None
    headers: Mapping[str, str] | None = None


class Refused(Exception):
    """A record that a transform refuses; str() is the reason, and never holds the payload."""


class Transform(Protocol):
    """What a stage does with each record; `fingerprint` is `sha256:` and a digest of its whole definition."""

    fingerprint: str

    def __call__(self, message: Message) -> Sequence[Output]:
        """Returns what a record becomes, in order; nothing where it is filtered out; raises `Refused`."""
        ...

    def close(self) -> None:
        """Lets go of what the transform holds; a child process is ended."""
        ...


REASON_CHARACTERS_MAX = 500


def reason_of(text: str) -> str:
    """Returns a reason that somebody else gives, not longer than it may be, on one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:REASON_CHARACTERS_MAX])


def decode_value(payload: bytes) -> Any:
    """Returns the value that a payload says; raises `Refused`."""
    try:
        return values.decode(payload)
    except ValueError as error:
        raise Refused(f"The payload cannot be read. {error}") from None


def encode_value(value: Any) -> bytes:
    """Returns the payload that says a value; raises `Refused` where JSON has no such value."""
    try:
        return values.encode(value)
    except ValueError as error:
        raise Refused(f"The result cannot be written. {error}") from None
