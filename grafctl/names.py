"""Names, checked once at the edge: what a domain, a resource, a group or a pattern may look like.

Promises
- A name that passed holds no byte that could reach into another key, a path, a shell or a terminal.
- A pattern covers by path component: `aws` covers `aws/us-east-1/a`, and `aws/us-east-1` does not cover
  `aws/us-east-10`.
"""

from __future__ import annotations

from grafctl.errors import Usage
from grafctl.typed import Iterable

NAME_CHARACTERS_MAX = 128
COMPRESSIONS = ("none", "zstd")

# Sets of letters and not regular expressions, which take longer to import than a publish takes.
_SMALL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_FIRST = _SMALL | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MARKS = frozenset("._-")
_COMPONENT_CHARACTERS_MAX = 63
_SHOWN = 40


def shown(text: str) -> str:
    """Returns the text as a message may show it: quoted, control characters escaped, not longer than a line allows."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def with_article(noun: str) -> str:
    """Returns `a queue`, `an idempotency store` and so on."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def noun_of(kind: str) -> str:
    """Returns what a kind of resource is called in a sentence."""
    return "idempotency store" if kind == "idem" else kind


def check_name(noun: str, text: str) -> str:
    """Returns the name of a resource, group, replica, authority or schema; raises `Usage` when it cannot be one."""
    a_noun = with_article(noun)
    if not text:
        raise Usage(f"The name of {a_noun} is empty.")
    if len(text) > NAME_CHARACTERS_MAX:
        raise Usage(f"The name of {a_noun} has {len(text)} characters; at most {NAME_CHARACTERS_MAX} are allowed.")
    if text[0] not in _FIRST or not set(text) <= _FIRST | _MARKS:
        raise Usage(
            f"{shown(text)} is no name for {a_noun}.",
            hint="Use letters, digits, '.', '_' and '-', and begin with a letter or digit.",
        )
    return text


def check_domain(text: str) -> str:
    """Returns a failure domain `provider[/region[/zone]]`; raises `Usage` when it cannot be one."""
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(map(_is_component, parts)):
        raise Usage(
            f"{shown(text)} is no failure domain.",
            hint="Write provider[/region[/zone]], such as aws/us-east-1/us-east-1a.",
        )
    return text


def _is_component(text: str) -> bool:
    return (
        0 < len(text) <= _COMPONENT_CHARACTERS_MAX
        and text[0] in _SMALL
        and text[-1] in _SMALL
        and set(text) <= _SMALL | _MARKS
    )


def check_compression(text: str) -> str:
    """Returns the name of a compression; raises `Usage` for one that there is not."""
    if text not in COMPRESSIONS:
        raise Usage(f"{shown(text)} is no compression.", hint=f"Take {' or '.join(COMPRESSIONS)}.")
    return text


def check_pattern(text: str) -> str:
    """Returns a placement pattern: a domain or the beginning of one, also with `/**` or `/*`; raises `Usage`."""
    bare = text.removesuffix("/**").removesuffix("/*")
    if bare in ("*", "**"):
        return text
    try:
        check_domain(bare)
    except Usage:
        raise Usage(
            f"{shown(text)} is no placement pattern.",
            hint="Write a domain or the beginning of one, such as aws or aws/us-east-1.",
        ) from None
    return text


def covers(pattern: str, domain: str) -> bool:
    """Returns whether a pattern covers a domain, comparing path components.

    `aws` and `aws/**` cover everything of aws; `aws/*` covers what has exactly one component more; `**` covers all.
    """
    if pattern == "**":
        return True
    parts, own = pattern.split("/"), domain.split("/")
    if parts[-1] == "**":
        parts = parts[:-1]
        return own[: len(parts)] == parts
    if parts[-1] == "*":
        return len(own) == len(parts) and own[: len(parts) - 1] == parts[:-1]
    return own[: len(parts)] == parts


def first_cover(patterns: Iterable[str], domain: str) -> str | None:
    """Returns the first pattern that covers the domain, or None."""
    return next((pattern for pattern in patterns if covers(pattern, domain)), None)
