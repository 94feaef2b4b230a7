"""The rules of a wave: in which order consumers are switched, and which of them may begin now.

The order, and each place in it has its reason in words:

1. By risk: low, then medium, then high. Those of high value are the last of all, by risk among themselves.
2. Among those of one risk, shapes that nobody has represented yet come first, each by its least valuable consumer.
3. Then the others by value, the least first; among equals those of different shapes take turns; then by name.

So what a shape does to the new engine is seen early, on a consumer that costs little, and before a second one of any
shape of that risk is begun.

Promises
- The order is a function of what was declared, and of nothing else: neither of the order in the file nor of the store.
- What may begin is a function of the order, the states in the store and the rules, so whoever goes on with a wave comes
  to the same, whatever became of the one before.
- A wave that is halted begins nobody; those in flight go on to their end.

When it fails: nothing here can; there is no I/O, no clock and no randomness.
"""

from __future__ import annotations

from grafctl.typed import Iterable, Iterator, Mapping, NamedTuple, Sequence

LOW, MEDIUM, HIGH = "low", "medium", "high"
RISKS = (LOW, MEDIUM, HIGH)

# Where a consumer stands, as a wave sees it.
WAITING = "waiting"
IN_FLIGHT = "in_flight"
SOAKED = "soaked"  # its window is over, and a person is to lock it; it keeps its place among those in flight
STUCK = "stuck"  # it is on its way, and what does not pass is in its way; it keeps its place too
LOCKED = "locked"
WENT_BACK = "went_back"
BLOCKED = "blocked"  # the comparison found what keeps it from being begun
STANDINGS = (WAITING, IN_FLIGHT, SOAKED, STUCK, LOCKED, WENT_BACK, BLOCKED)


class Member(NamedTuple):
    """A consumer as far as the order asks; a `value` of None is a high one, above every number."""

    name: str
    shape: str
    risk: str
    value: float | None


class Place(NamedTuple):
    """A consumer's place in the order, and why it is there."""

    member: Member
    reason: str


class Stops(NamedTuple):
    """What halts a wave, or keeps a consumer from being begun; None is no rule."""

    after_rollbacks: int | None = None
    after_blocked: int | None = None
    same_shape: bool = True


class Next(NamedTuple):
    """What a wave does now: whom it begins, whom it does not begin any more and why, and whether it is halted."""

    begin: tuple[str, ...]
    held: Mapping[str, str]
    halted: str | None
    is_over: bool  # nobody is on the way, and nobody is to be begun


# --- the order


def ordered(members: Iterable[Member], high_value: float | None = None) -> list[Place]:
    """Returns the consumers in the order in which a wave begins them; from `high_value` on a value is high."""
    everyone = sorted(members)
    valued = [member for member in everyone if is_high(member, high_value)]
    tiers = [[member for member in everyone if member.risk == risk and member not in valued] for risk in RISKS]
    tiers += [[member for member in valued if member.risk == risk] for risk in RISKS]
    represented: dict[str, str] = {}  # shape -> who went first
    return [place for tier in tiers for place in _tier(tier, represented, high_value)]


def is_high(member: Member, high_value: float | None) -> bool:
    """Returns whether a consumer is one of those that come last."""
    return member.value is None or (high_value is not None and member.value >= high_value)


def _tier(tier: Sequence[Member], represented: dict[str, str], high_value: float | None) -> Iterator[Place]:
    by_shape: dict[str, list[Member]] = {}
    for member in sorted(tier, key=_by_value):
        by_shape.setdefault(member.shape, []).append(member)
    firsts = sorted((own.pop(0) for shape, own in by_shape.items() if shape not in represented), key=_by_value)
    for member in firsts:
        represented[member.shape] = member.name
        yield Place(member, f"{_why(member, high_value)}; the first of shape {member.shape}")
    turns = [(member, turn) for own in by_shape.values() for turn, member in enumerate(own)]
    for member, _ in sorted(turns, key=lambda pair: (_by_value(pair[0])[0], pair[1], pair[0].name)):
        yield Place(member, f"{_why(member, high_value)}; {represented[member.shape]} went first for {member.shape}")


def _by_value(member: Member) -> tuple[float, str]:
    return (float("inf") if member.value is None else member.value, member.name)


def _why(member: Member, high_value: float | None) -> str:
    if is_high(member, high_value):
        return f"last, because its value is {value_text(member)}; {member.risk} risk"
    return f"{member.risk} risk, value {value_text(member)}"


def value_text(member: Member) -> str:
    """Returns the value of a consumer as it was declared."""
    return HIGH if member.value is None else f"{member.value:.15g}"


# --- who may begin


def next_of(order: Sequence[Member], standings: Mapping[str, str], at_once: int, stops: Stops) -> Next:
    """Returns what a wave does now, from where each consumer stands."""
    halted = _halted(order, standings, stops)
    flawed: dict[str, str] = {}  # shape -> who of it went back
    for member in order:
        if standings[member.name] == WENT_BACK:
            flawed.setdefault(member.shape, member.name)
    left = [member.name for member in order if standings[member.name] in (SOAKED, STUCK)]  # to a person
    in_flight = sum(standings[member.name] == IN_FLIGHT for member in order)
    begin, held = list[str](), dict[str, str]()
    for member in order:
        if standings[member.name] != WAITING:
            continue
        if stops.same_shape and member.shape in flawed:
            held[member.name] = f"{flawed[member.shape]} of the same shape went back"
        elif halted is not None:
            held[member.name] = f"the wave is halted: {halted}"
        elif in_flight + len(left) + len(begin) < at_once:
            begin.append(member.name)
        elif not in_flight and not begin:
            held[member.name] = f"there is no place before somebody locks or brings back {', '.join(left)}"
    return Next(tuple(begin), held, halted, not in_flight and not begin)


def _halted(order: Sequence[Member], standings: Mapping[str, str], stops: Stops) -> str | None:
    for most, standing, what in (
        (stops.after_rollbacks, WENT_BACK, "went back"),
        (stops.after_blocked, BLOCKED, "did not pass the comparison"),
    ):
        names = [member.name for member in order if standings[member.name] == standing]
        if most is not None and len(names) >= most:
            return f"{', '.join(names)} {what}, and {most} {'is' if most == 1 else 'are'} enough"
    return None
