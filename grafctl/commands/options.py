"""What arguments and options look like, once: their names, their variables, their help and how their text is read.

Promises
- Text becomes a value here or the command ends with `Usage` (2); nothing below has to check a number or a unit again.
- `GRAFCTL_STORE` and `GRAFCTL_DOMAIN` stand in where this file says so, and nowhere else.
"""

# NB the commands have no such line, since what reads a command line needs the objects.
from __future__ import annotations

from grafctl import names, units
from grafctl.commands.declared import Annotated, Argument, BadValue, Literal, Option
from grafctl.errors import Usage
from grafctl.typed import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from pathlib import Path

# --- how text is read


def name_of(noun: str) -> Callable[[str], str]:
    """Returns the reader of names of resources, groups and the like."""
    return lambda text: names.check_name(noun, text)


def text_of(noun: str) -> Callable[[str], str]:
    """Returns the reader of free text that must be there and be UTF-8."""

    def read(text: str) -> str:
        if not text:
            raise BadValue(f"the {noun} is empty.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise BadValue(f"the {noun} is not UTF-8.")
        return text

    return read


def filled(noun: str) -> Callable[[str], str]:
    """Returns the reader of bytes that a shell gives as a word, which must be there and may be anything."""

    def read(text: str) -> str:
        if not text:
            raise BadValue(f"the {noun} is empty.")
        bytes_of(text)
        return text

    return read


def bytes_of(text: str) -> bytes:
    """Returns the bytes that a shell gave as a word."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadValue("half a character (a lone surrogate) is no text.") from None


def key_of(text: str, is_base64: bool) -> bytes:
    """Returns the key of a table that a word names."""
    if not is_base64:
        return bytes_of(text)
    import base64

    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BadValue(f"the key {names.shown(text)} is not base64.") from None


def path_of(text: str | Path) -> Path:
    """Reads a path; a default is one already."""
    from pathlib import Path

    return Path(path_text(text)) if isinstance(text, str) else text


def path_text(text: str) -> str:
    """Reads a path as text."""
    if not text or "\0" in text:
        raise BadValue("the path is empty." if not text else "a path cannot hold a NUL.")
    return text


def existing_file(text: str) -> Path:
    """Reads the path of a file that is there."""
    path = path_of(text)
    try:
        if path.is_file():
            return path
    except OSError as error:  # a name that no file can have, for one
        raise BadValue(f"the file {names.shown(text)} cannot be looked at: {error.strerror}.") from None
    raise BadValue(f"there is no file {names.shown(text)}.")


def whole(least: int = 0) -> Callable[[str | int], int]:
    """Returns the reader of whole numbers from `least` to what 63 bits hold."""

    def read(text: str | int) -> int:
        digits = str(text)
        if (
            not (digits.isascii() and digits.isdigit())
            or len(digits) > 19
            or not least <= int(digits) <= units.INTEGER_MAX
        ):
            most = f"to {units.INTEGER_MAX}" if digits.isdigit() and len(digits) > 18 else "on"
            raise BadValue(f"{names.shown(digits)} is no whole number from {least} {most}.")
        return int(digits)

    return read


def duration_ms(text: str | int) -> int:
    """Reads a time with its unit, such as 500ms, 5s, 2m, 1h or 7d; a default is in milliseconds already."""
    return text if isinstance(text, int) else _quantity(units.duration_ms, text)


def duration_us(text: str | int) -> int:
    """Reads a short time with its unit, such as 500us, 50ms or 2s; a default is in microseconds already."""
    return text if isinstance(text, int) else _quantity(units.duration_us, text)


def size_bytes(text: str) -> int:
    """Reads a size, such as 64MiB, 10GB or plain bytes."""
    return _quantity(units.size_bytes, text)


def _quantity(read: Callable[[str], int], text: str) -> int:
    try:
        return read(text)
    except Usage as error:
        raise BadValue(error.message) from None


def share_of(text: str | None) -> float | None:
    """Reads a share from 0 to 1, such as 0.01."""
    if text is None:
        return None
    whole_part, _, fraction = text.partition(".")
    digits = whole_part + fraction
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18 and whole_part) or not 0 <= float(text) <= 1:
        raise Usage(f"{names.shown(text)} is no share.", hint="Write a number from 0 to 1, such as 0.01.")
    return float(text)


def offsets_of(texts: list[str]) -> list[int]:
    """Returns offsets from `7` and `10-20` (both ends count), at most 100,000 of them."""
    found: list[int] = []
    for text in texts:
        first, dash, last = text.partition("-")
        start = whole()(first)
        stop = whole(start)(last) if dash else start
        if len(found) + stop - start >= 100_000:
            raise Usage("More than 100,000 offsets are named.", hint="Finish them in several commands.")
        found.extend(range(start, stop + 1))
    return found


def pairs_of(texts: list[str] | None, what: str) -> dict[str, str]:
    """Returns `name=value` texts as a mapping; a name that comes twice is refused."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Usage(f"{names.shown(text)} is no {what}.", hint=f"Write --{what} NAME=VALUE.")
        if name in found:
            raise Usage(f"The {what} {names.shown(name)} is named twice.", hint=f"Name each {what} once.")
        found[name] = value
    return found


def domains_of(texts: list[str]) -> dict[str, Path | None]:
    """Returns `D` and `D=PATH` texts as a mapping from domain to its place, None where the store decides."""
    found: dict[str, Path | None] = {}
    for text in texts:
        name, equals, place = text.partition("=")
        if names.check_domain(name) in found:
            raise Usage(f"The domain {name} is named twice.", hint="Name each domain once.")
        found[name] = path_of(place) if equals else None
    return found


def content_of(text: str) -> bytes:
    """Returns the bytes that `TEXT`, `@FILE` or `-` names, up to what one record may hold."""
    from grafctl import streams
    from grafctl.store.blocks import PAYLOAD_BYTES_MAX

    return streams.whole_of(text, PAYLOAD_BYTES_MAX)


def require_one(given: bool, sentence: str, hint: str) -> None:
    """Raises `Usage` where options that need each other, or exclude each other, do not go together."""
    if not given:
        raise Usage(sentence, hint=hint)


def require_record(edge: str, *, empty: bool, fail_empty: bool) -> None:
    """Raises `Empty` where an edge had no record and the caller asked to be told."""
    if empty and fail_empty:
        from grafctl.errors import Empty

        raise Empty(f"The edge {edge} is empty.", hint="Try again when its producer has pushed.", edge=edge)


def require_room(edge: str, *, full: bool, fail_full: bool) -> None:
    """Raises `Busy` where an edge had no room and the caller asked to be told."""
    if full and fail_full:
        from grafctl.errors import Busy

        raise Busy(f"The edge {edge} is full.", hint=f"Try again after `grafctl edge pop {edge}`.", edge=edge)


# --- what a shell completes


def names_in_store(kind: str) -> Callable[[Any], list[str]]:
    """Returns the completion of names that the store knows."""

    def complete(ctx: Any) -> list[str]:
        import contextlib

        # Because a completion that fails must be silent: the person is in the middle of typing.
        with contextlib.suppress(Exception):
            from grafctl import client

            # NB while an option waits for its value, the words before it are not given to the arguments yet.
            resource = ctx.params.get("resource") or ctx.params.get("table") or next(iter(ctx.args), None)
            with client.open(ctx.params["store"]) as store:
                return store.names(kind, resource)
        return []

    return complete


def _argument(metavar: str, help: str, parser: Callable[[Any], Any], complete: Callable[..., Any] | None = None) -> Any:
    return Argument(metavar=metavar, help=help, parser=parser, autocompletion=complete, show_default=False)


def _option(*flags: str, metavar: str, help: str, parser: Callable[[Any], Any], **more: Any) -> Any:
    return Option(*flags, metavar=metavar, help=help, parser=parser, **more)


_resources = names_in_store("resource")
_groups = names_in_store("group")
_domains = names_in_store("domain")

# --- where and who

StorePath = Annotated[
    str,
    _option("--store", "-s", metavar="DIR", help="Directory of the store", parser=path_text, envvar="GRAFCTL_STORE"),
]
Domain = Annotated[
    str,
    _option(
        "--domain", "-d", metavar="DOMAIN", help="Domain that acts", parser=names.check_domain, envvar="GRAFCTL_DOMAIN",
        autocompletion=_domains,
    ),
]  # fmt: skip
TypedDomain = Annotated[
    str,
    _option(
        "--domain", "-d", metavar="DOMAIN", help="Domain that acts; must be typed, GRAFCTL_DOMAIN does not count",
        parser=names.check_domain, autocompletion=_domains,
    ),
]  # fmt: skip
Epoch = Annotated[int | None, _option("--epoch", metavar="N", help="Fence epoch of the caller", parser=whole())]

# --- nouns

Resource = Annotated[str, _argument("RESOURCE", "Queue or topic", name_of("resource"), _resources)]
Group = Annotated[str, _argument("GROUP", "Consumer group", name_of("group"), _groups)]
GroupOption = Annotated[
    str,
    _option("--group", "-g", metavar="GROUP", help="Consumer group", parser=name_of("group"), autocompletion=_groups),
]
OptionalGroup = Annotated[
    str | None,
    _option("--group", "-g", metavar="GROUP", help="Consumer group", parser=name_of("group"), autocompletion=_groups),
]
DomainName = Annotated[
    str, _argument("DOMAIN", "Failure domain: provider[/region[/zone]]", names.check_domain, _domains)
]
AuthorityName = Annotated[str, _argument("NAME", "Health authority", name_of("authority"))]
Offsets = Annotated[list[str], _argument("OFFSET...", "Offsets: 7, or 10-20 with both ends", text_of("offset"))]
OptionalOffsets = Annotated[
    list[str] | None, _argument("[OFFSET]...", "Offsets: 7, or 10-20 with both ends", text_of("offset"))
]

# --- policies

_PATTERN = "Domains that may use it: aws covers all of aws; repeatable"
Allow = Annotated[list[str] | None, _option("--allow", metavar="PATTERN", help=_PATTERN, parser=names.check_pattern)]
Deny = Annotated[
    list[str] | None,
    _option("--deny", metavar="PATTERN", help="Domains that may not; wins over --allow", parser=names.check_pattern),
]
AckRule = Annotated[
    str,
    _option(
        "--ack", metavar="RULE", help="Voters that must be durable: majority, all or a number", parser=text_of("rule")
    ),
]
MinPayload = Annotated[
    int | None,
    _option(
        "--min-payload",
        metavar="N",
        help="Copies of the payload that an answer needs beside a witness",
        parser=whole(1),
    ),
]
Start = Annotated[
    str,
    _option(
        "--start", metavar="WHERE", help="Where to begin: earliest, latest, an offset, a time, or how long back (2h)",
        parser=text_of("start"),
    ),
]  # fmt: skip

# --- how it goes and how it is shown

DryRun = Annotated[bool, Option("--dry-run", help="Show what would be done and write nothing")]
Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Tell no progress")]
ExitCode = Annotated[bool, Option("--exit-code", help="Exit with 3 when anything is found")]
Json = Annotated[bool, Option("--json", help="Print one JSON document; the same as -o json")]
Output = Annotated[
    Literal["json", "jsonl", "table"], Option("--output", "-o", metavar="FORMAT", help="table, json or jsonl")
]


def require_none(count: int, exit_code: bool) -> None:
    """Raises `Changes` (3) where something was found and the caller wants to see that as an exit code."""
    if count and exit_code:
        from grafctl.errors import Changes

        noun = "inconsistency was" if count == 1 else "inconsistencies were"
        raise Changes(f"{count} {noun} found.", hint="Each line above names its remedy.", code="mismatch", count=count)


def require_passed(failed: int, count: int) -> None:
    """Raises `Changes` (3) where a test case failed."""
    if failed:
        from grafctl.errors import Changes

        raise Changes(
            f"{failed} of {count} test case{'s' if count != 1 else ''} failed.",
            hint="Each case above shows what was expected and what was found.",
            code="mismatch",
            count=failed,
        )
