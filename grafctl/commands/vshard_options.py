"""What the arguments and options of `vshard` look like, once for all its verbs."""

from grafctl import names, units
from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, BadValue, Option
from grafctl.errors import Usage
from grafctl.store.vshards import parse_vshards
from grafctl.typed import Any

AT_ONCE_MAX = 64
POLICIES = ("give-up", "throttle")


def _vshards_text(text: str) -> str:
    numbers_of(text)
    return text


def numbers_of(text: str) -> list[int]:
    """Reads vshards: `5`, or `3,5-9` with both ends."""
    try:
        return parse_vshards(text)
    except Usage as error:
        raise BadValue(f"{error.message} {error.hint or ''}".strip()) from None


def domains_of(texts: list[str]) -> list[str]:
    """Returns the domains of `--to`, which may be given several times, each with commas, and none of them twice."""
    found = [names.check_domain(part) for text in texts for part in text.split(",")]
    if twice := next((name for name in found if found.count(name) > 1), None):
        raise Usage(f"The domain {twice} is named twice.", hint="Name each domain of --to once.")
    return found


def _rate(least: int) -> Any:
    def read(text: str) -> int:
        try:
            rate = units.size_bytes(text.removesuffix("/s"))
        except Usage:
            raise BadValue(f"{names.shown(text)} is no rate; write 20MB/s, 64MiB or bytes a second.") from None
        if rate < least:
            raise BadValue("a rate is at least one byte a second.")
        return rate

    return read


def _at_once(text: str | int) -> int:
    count = options.whole(1)(text)
    if count > AT_ONCE_MAX:
        raise BadValue(f"at most {AT_ONCE_MAX} vshards are moved at once, not {count}.")
    return count


def _policy(text: str) -> str:
    if text not in POLICIES:
        raise BadValue(f"{names.shown(text)} is no policy; take {' or '.join(POLICIES)}.")
    return text


_VSHARDS = "Vshards: 5, or 3,5-9 with both ends"

Table = Annotated[
    str,
    Argument(
        metavar="TABLE", help="Name of the table", parser=options.name_of("table"), show_default=False,
        autocompletion=options.names_in_store("table"),
    ),
]  # fmt: skip
Vshards = Annotated[
    str,
    Argument(
        metavar="VSHARDS", help=_VSHARDS, parser=_vshards_text, show_default=False,
        autocompletion=options.names_in_store("vshard"),
    ),
]  # fmt: skip
OptionalVshards = Annotated[
    str | None,
    Argument(
        metavar="[VSHARDS]", help=_VSHARDS, parser=_vshards_text, show_default=False,
        autocompletion=options.names_in_store("vshard"),
    ),
]  # fmt: skip
Vshard = Annotated[
    int,
    Argument(
        metavar="VSHARD", help="Number of the vshard", parser=options.whole(), show_default=False,
        autocompletion=options.names_in_store("vshard"),
    ),
]  # fmt: skip
To = Annotated[
    list[str],
    Option(
        "--to", metavar="DOMAIN,DOMAIN", help="Domains that keep it from then on; repeatable",
        parser=options.text_of("domain"), autocompletion=options.names_in_store("domain"),
    ),
]  # fmt: skip

# --- limits: where a migration is there already, what is not given stays as it was


def _limit(flag: str, metavar: str, help: str, parser: Any, default: str) -> Any:
    return Option(flag, metavar=metavar, help=f"{help} [{default}]", parser=parser)


Budget = Annotated[
    int | None,
    _limit("--write-pause-budget", "TIME", "How long its writers may wait", options.duration_us, "50ms"),
]
LockWait = Annotated[
    int | None,
    _limit("--lock-wait", "TIME", "How long to wait for the log's lock before that", options.duration_us, "50ms"),
]
MaxLag = Annotated[int | None, _limit("--max-lag", "N", "Records left for the pause", options.whole(), "10")]
Rate = Annotated[int | None, _limit("--rate", "SIZE/s", "Copy no faster, such as 20MB/s", _rate(1), "no limit")]
Policy = Annotated[
    str | None,
    Option(
        "--policy", metavar="POLICY", help="If writers outrun it for too long: give-up or throttle [give-up]",
        parser=_policy, autocompletion=lambda ctx: [*POLICIES],
    ),
]  # fmt: skip
Patience = Annotated[int | None, _limit("--patience", "TIME", "What is too long", options.duration_ms, "30s")]
HoldCutover = Annotated[bool, Option("--hold-cutover", help="Stop before the cut-over; `vshard cutover` goes on")]
AtOnce = Annotated[int, Option("--at-once", metavar="N", help="Move so many at a time", parser=_at_once)]

NewRate = Annotated[
    int | None, Option("--rate", metavar="SIZE/s", help="Copy no faster, such as 20MB/s; 0: no limit", parser=_rate(0))
]
Writes = Annotated[
    int | None,
    Option("--writes", metavar="N", help="Let so many writes a second through; 0: no limit", parser=options.whole()),
]


def limits_of(
    budget: int | None,
    lock_wait: int | None,
    max_lag: int | None,
    rate: int | None = None,
    policy: str | None = None,
    patience: int | None = None,
) -> dict[str, Any]:
    """Returns the limits that were given, under the names that the library has for them."""
    limits: dict[str, Any] = {"budget_us": budget, "lock_wait_us": lock_wait, "max_lag": max_lag}
    limits |= {"rate": rate, "policy": policy, "patience_ms": patience}
    return {name: value for name, value in limits.items() if value is not None}
