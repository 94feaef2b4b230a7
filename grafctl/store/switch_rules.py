"""The rules of a switch: which state may follow which, who is in flight, what an operator may ask for.

A switch ties a consumer's group of one output, the *source*, to its group of another, the *target*. Its row in the
control log says which *side* is the open one; the *generation* of that row goes up by one with each flip.

| state         | means                                                  | open side | in flight |
|---------------|--------------------------------------------------------|-----------|-----------|
| `source`      | attached; the outputs were not compared yet            | source    | no |
| `shadow`      | the outputs are being compared                         | source    | while it is closing |
| `switched`    | flipped; the target opens with the next poll           | target    | yes |
| `soaking`     | the target is open, its window runs                    | target    | yes |
| `locked`      | the window is over and there is no way back            | target    | no |
| `rolled_back` | it is back at the source, and may be tried again       | source    | no |

Promises
- A state changes as `NEXT` says or not at all.
- One switch is in flight at a time, or so many as their common wave says.

When it fails: nothing here can; there is no I/O, no clock and no randomness.
"""

from __future__ import annotations

from grafctl.errors import Busy, GenerationConflict, Usage
from grafctl.names import shown
from grafctl.typed import Any, Mapping

SOURCE, SHADOW, SWITCHED, SOAKING = "source", "shadow", "switched", "soaking"
LOCKED, ROLLED_BACK = "locked", "rolled_back"
STATES = (SOURCE, SHADOW, SWITCHED, SOAKING, LOCKED, ROLLED_BACK)
TARGET = "target"
SIDES = (SOURCE, TARGET)
TABLE = "table"  # what the row of a switch has as its `kind` where its outputs are tables

NEXT: Mapping[str, frozenset[str]] = {
    SOURCE: frozenset({SHADOW, ROLLED_BACK}),
    SHADOW: frozenset({SWITCHED, ROLLED_BACK}),
    SWITCHED: frozenset({SOAKING, ROLLED_BACK}),
    SOAKING: frozenset({LOCKED, ROLLED_BACK}),
    ROLLED_BACK: frozenset({SHADOW}),
    LOCKED: frozenset(),
}

# What a row's `phase` is while something is under way; it is None otherwise.
ATTACHING, CLOSING, DETACHING = "attaching", "closing", "detaching"

RISKS = ("low", "medium", "high")
DRAIN_MS_MAX = 3_600_000
WINDOW_MS_MAX = 366 * 86_400_000
OWED_MAX = 10_000
FLIPS_MAX = 8
TEXT_CHARACTERS_MAX = 1024
COUNTS = ("max_lag", "max_redeliveries", "max_dead_letters", "max_mismatches")
OF_TABLES = ("max_mismatches", "health_command")  # of a table nothing is delivered, so nothing else is counted
RULES = (*COUNTS, "max_error_rate", "max_idle_ms", "health_command")


def is_of_tables(row: Mapping[str, Any]) -> bool:
    """Returns whether the two outputs of a switch are tables."""
    return row.get("kind") == TABLE


def check_move(name: str, before: str, after: str) -> None:
    """Raises `GenerationConflict` (13) for a change of state that the table does not have."""
    if after in NEXT.get(before, frozenset()):
        return
    if before == LOCKED:
        what, hint = "is locked, and there is no way back", f"Run `grafctl consumer status {name}`."
    elif after == SWITCHED:
        what, hint = f"is {before}", f"Run `grafctl consumer switch {name} --to target`, which compares first."
    else:
        what, hint = f"is {before}, and {after} does not follow that", f"Run `grafctl consumer status {name}`."
    raise GenerationConflict(f"Switch {name} {what}.", hint=hint, switch=name, state=before, asked=after)


def phase_of(row: Mapping[str, Any]) -> str | None:
    """Returns what is under way at a switch."""
    phase = row["phase"]
    return None if phase is None else str(phase["what"])


def is_closing(row: Mapping[str, Any], to: str | None = None) -> bool:
    """Returns whether the open side is being closed, for the benefit of `to` where that is named."""
    return phase_of(row) == CLOSING and to in (None, row["phase"]["to"])


def is_over(row: Mapping[str, Any], now_ms: int) -> bool:
    """Returns whether a closing has taken so long that anybody may give it up."""
    return is_closing(row) and now_ms > int(row["phase"]["until_ms"])


def in_flight(row: Mapping[str, Any]) -> bool:
    """Returns whether a switch is between its two sides, or not locked in yet."""
    return is_closing(row) or row["state"] in (SWITCHED, SOAKING)


def pass_flight(name: str, rows: Mapping[str, Mapping[str, Any]], wave: Mapping[str, Any] | None) -> None:
    """Raises `Busy` (22) where another switch is in flight, unless both are of one wave that has room."""
    others = [other for other, row in sorted(rows.items()) if other != name and in_flight(row)]
    strangers = [other for other in others if wave is None or (rows[other]["wave"] or {}).get("name") != wave["name"]]
    if strangers or (wave is not None and len(others) >= int(wave["at_once"])):
        other = (strangers or others)[0]
        room = "" if strangers or wave is None else f" of wave {wave['name']}, which has room for {wave['at_once']}"
        raise Busy(
            f"Switch {other}{room} is in flight ({rows[other]['state']}), so {name} has to wait.",
            hint=f"Run `grafctl consumer lock {other}`, or `grafctl consumer rollback {other}`.",
            switch=name,
            in_flight=others,
        )


def left_ms(row: Mapping[str, Any], now_ms: int) -> int | None:
    """Returns how much is left of the window of a switch that is soaking, or None where none runs."""
    if row["soak_since_ms"] is None:
        return None
    return max(0, int(row["soak_since_ms"]) + int(row["window_ms"]) - now_ms)


def moved_on(name: str, row: Mapping[str, Any], generation: int) -> GenerationConflict:
    """Returns the refusal of whoever acts on an older row than the one in force."""
    return GenerationConflict(
        f"Switch {name} is at generation {row['generation']} ({row['state']}) now, not at {generation}: "
        "another operator or a poll was quicker.",
        hint=f"Run `grafctl consumer status {name}`, and the same command again where that is still wanted.",
        switch=name,
        generation=row["generation"],
        asked=generation,
    )


# --- what an operator may ask for


def check_side(side: str) -> str:
    """Returns a side; raises `Usage`."""
    if side not in SIDES:
        raise Usage(f"{shown(side)} is no side of a switch.", hint="Take --to target or --to source.")
    return side


def check_window(window_ms: int) -> int:
    """Returns how long a switch soaks; raises `Usage`."""
    if type(window_ms) is not int or not 0 <= window_ms <= WINDOW_MS_MAX:
        raise Usage(f"A window is 0 to 366d, not {window_ms:,} ms.")
    return window_ms


def check_drain(drain_ms: int) -> int:
    """Returns how long leases may end by themselves before a side is closed; raises `Usage`."""
    if type(drain_ms) is not int or not 0 <= drain_ms <= DRAIN_MS_MAX:
        raise Usage(f"--drain is 0 to 1h, not {drain_ms:,} ms.")
    return drain_ms


def check_risk(risk: str) -> str:
    """Returns a consumer's risk; raises `Usage`."""
    if risk not in RISKS:
        raise Usage(f"{shown(risk)} is no risk.", hint=f"Take {', '.join(RISKS)}.")
    return risk


def check_text(noun: str, text: str) -> str:
    """Returns a text that is kept with a switch; raises `Usage`."""
    if not 0 < len(text) <= TEXT_CHARACTERS_MAX or not text.isprintable():
        raise Usage(f"The {noun} has 1 to {TEXT_CHARACTERS_MAX} characters that can be printed.")
    return text


def check_command(command: str) -> str:
    """Returns a health command whose words can be told apart; raises `Usage`. What it names may be elsewhere."""
    import shlex

    try:
        words = shlex.split(check_text("health command", command))
    except ValueError as error:
        raise Usage(
            f"The health command {shown(command)} cannot be read: {error}.",
            hint="It is run by its words, without a shell; quote it twice where it has quotes.",
        ) from None
    if not words:
        raise Usage(f"The health command {shown(command)} has no word.")
    return command


def check_rules(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the health rules that were named, without those that were not; raises `Usage`."""
    found = {name: value for name, value in rules.items() if value is not None}
    for name, value in found.items():
        flag = name.removesuffix("_ms").replace("_", "-")
        if name not in RULES:
            raise Usage(f"There is no rule {shown(name)} for a switch.", hint=f"Take some of {', '.join(RULES)}.")
        if name == "health_command":
            check_command(value)
        elif name == "max_error_rate":
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise Usage(f"--{flag} is a share from 0 to 1, such as 0.01.")
        elif type(value) is not int or not 0 <= value < 1 << 63:
            raise Usage(f"--{flag} is 0 or more.")
    return found
