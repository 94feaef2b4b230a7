"""`consumer attach`, `switch`, `rollback`, `lock` and what is around them: a consumer between two engines' outputs."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, BadValue, Literal, Option
from grafctl.names import shown
from grafctl.typed import Any


def _where(text: str) -> str:
    if text not in ("now", "start"):
        raise BadValue(f"{shown(text)} is neither now nor start.")
    return text


Switch = Annotated[
    str, Argument(metavar="NAME", help="Name of the switch", parser=options.name_of("switch"), show_default=False)
]
OptionalSwitch = Annotated[
    str | None,
    Argument(metavar="[NAME]", help="Name of the switch", parser=options.name_of("switch"), show_default=False),
]
Source = Annotated[
    str,
    Option("--source", metavar="RESOURCE", help="Output of the old engine", parser=options.name_of("resource")),
]
Target = Annotated[
    str,
    Option("--target", metavar="RESOURCE", help="Output of the new engine", parser=options.name_of("resource")),
]
TargetGroup = Annotated[
    str | None,
    Option(
        "--target-group", metavar="GROUP", help="Its group there, where it has another name",
        parser=options.name_of("group"),
    ),
]  # fmt: skip
Match = Annotated[
    str,
    Option(
        "--match", metavar="RULE", help="What makes two records counterparts: id, key or json:PATH",
        parser=options.text_of("rule"),
    ),
]  # fmt: skip
Fields = Annotated[
    list[str] | None,
    Option(
        "--field", metavar="PATH[~N]", help="Compare this field alone, numbers within N; repeatable",
        parser=options.text_of("field"),
    ),
]  # fmt: skip
Window = Annotated[
    int,
    Option("--window", metavar="TIME", help="How long it soaks", parser=options.duration_ms, show_default="10m"),
]
MaxLag = Annotated[int | None, Option("--max-lag", metavar="N", help="Records behind", parser=options.whole())]
MaxRedeliveries = Annotated[
    int | None, Option("--max-redeliveries", metavar="N", help="Records given out again", parser=options.whole())
]
MaxDead = Annotated[
    int | None, Option("--max-dead-letters", metavar="N", help="New dead letters", parser=options.whole())
]
MaxMismatches = Annotated[
    int | None, Option("--max-mismatches", metavar="N", help="Records that differ", parser=options.whole())
]
MaxErrorRate = Annotated[
    str | None,
    Option("--max-error-rate", metavar="X", help="Share that fails, such as 0.01", parser=options.text_of("share")),
]
MaxIdle = Annotated[
    int | None, Option("--max-idle", metavar="TIME", help="Time since the last ack", parser=options.duration_ms)
]
HealthCommand = Annotated[
    str | None,
    Option("--health-command", metavar="CMD", help="Ends with 0 while all is well", parser=options.text_of("command")),
]
Risk = Annotated[
    Literal["low", "medium", "high"], Option("--risk", metavar="WORD", help="low, medium or high, for waves")
]
Shape = Annotated[
    str | None,
    Option("--shape", metavar="TEXT", help="Kind of records it reads, for waves", parser=options.text_of("shape")),
]

To = Annotated[Literal["target", "source"], Option("--to", metavar="SIDE", help="target or source")]
Drain = Annotated[
    int,
    Option(
        "--drain",
        metavar="TIME",
        help="How long leases may end by themselves",
        parser=options.duration_ms,
        show_default="30s",
    ),
]
Grace = Annotated[
    int | None,
    Option(
        "--grace", metavar="TIME", help="Age from which a record without a counterpart is missing",
        parser=options.duration_ms, show_default="1m, or as before",
    ),
]  # fmt: skip
CompareFrom = Annotated[
    str | None,
    Option("--compare-from", metavar="WHERE", help="now: forgive what was found; start: all again", parser=_where),
]


def attach(
    name: Switch,
    source: Source,
    target: Target,
    group: options.GroupOption,
    store: options.StorePath,
    target_group: TargetGroup = None,
    match: Match = "id",
    field: Fields = None,
    window: Window = 600_000,
    max_lag: MaxLag = None,
    max_redeliveries: MaxRedeliveries = None,
    max_dead_letters: MaxDead = None,
    max_error_rate: MaxErrorRate = None,
    max_idle: MaxIdle = None,
    max_mismatches: MaxMismatches = None,
    health_command: HealthCommand = None,
    risk: Risk = "low",
    shape: Shape = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Tie a consumer's groups of two outputs to a switch

    Two engines write --source and --target side by side, and both groups are there. The consumer goes on polling the
    source by its name; from `consumer switch` on it is given the records of the target, and sees no difference. The
    target's own group is closed until then. Of two tables GROUP is who reads: `table get` and `scan` with --group.
    Whether a stage of a pipeline follows too is said by `grafctl pipeline validate FILE --live`.

    Example: grafctl consumer attach billing --source migration-orders --target new-orders \
      --group billing --max-lag 1000
    """
    from grafctl import client, interruption, render

    rules: dict[str, Any] = {"max_lag": max_lag, "max_redeliveries": max_redeliveries, "max_idle_ms": max_idle}
    rules |= {"max_dead_letters": max_dead_letters, "max_mismatches": max_mismatches}
    rules |= {"max_error_rate": options.share_of(max_error_rate), "health_command": health_command}
    what: dict[str, Any] = {"match": match, "fields": field or [], "window_ms": window, "risk": risk, "shape": shape}
    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.switches.attach(
            name, source=source, target=target, group=group, target_group=target_group, rules=rules, **what,
            dry_run=dry_run,
        )  # fmt: skip
        render.show(change, output, json)


def detach(
    name: Switch,
    store: options.StorePath,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Free a consumer's groups from a switch

    The group of the open side is read as any other from then on. That of the closed side is paused, because it would
    deliver what was finished at the other; nothing is carried between them any more.

    Example: grafctl consumer detach billing --dry-run
    """
    from grafctl import client, interruption, render

    render.confirm(f"Detach {name}? Nothing is carried between its groups any more.", yes or dry_run)

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.switches.detach(name, dry_run=dry_run)
        render.show(change, output, json)


def switch(
    name: Switch,
    to: To,
    domain: options.Domain,
    store: options.StorePath,
    drain: Drain = 30_000,
    compare_from: CompareFrom = None,
    grace: Grace = None,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Bring a consumer to the other output

    For a consumer between the outputs of two engines; for a group of one resource that is to be read in another place
    use `consumer shift`.

    Compares both outputs, and stays where they differ (19). Then closes the one group, carries what it has finished,
    flips in one commit and opens the other group: nothing is skipped, and nothing is finished twice. One consumer at a
    time (22). The same command goes on after a kill.

    Example: grafctl consumer switch billing --to target -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render
    from grafctl.render_progress import Progress

    how: dict[str, Any] = {"drain_ms": drain, "compare_from": compare_from, "grace_ms": grace}
    told = interruption.resumable(dry_run)
    with told, client.open(store) as opened, Progress("switch", quiet=quiet) as progress:
        change = opened.switches.switch(name, to, domain=domain, **how, progress=progress, dry_run=dry_run)
    render.show(change, output, json)


def rollback(
    name: Switch,
    domain: options.Domain,
    store: options.StorePath,
    drain: Drain = 30_000,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Bring a consumer back to the output of the old engine

    What was finished at the target is finished at the source too, so the way back skips nothing and repeats nothing.
    Refused once the switch is locked (13). The same command goes on after a kill.

    Example: grafctl consumer rollback billing -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render
    from grafctl.render_progress import Progress

    told = interruption.resumable(dry_run)
    with told, client.open(store) as opened, Progress("rollback", quiet=quiet) as progress:
        change = opened.switches.rollback(name, domain=domain, drain_ms=drain, progress=progress, dry_run=dry_run)
    render.show(change, output, json)


def lock(
    name: Switch,
    domain: options.Domain,
    store: options.StorePath,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Keep a consumer at the target for good

    Refused before the window is over (22). There is no way back after it, and what was kept for that is let go of.

    Example: grafctl consumer lock billing --dry-run -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render

    render.confirm(f"Lock {name} at its target? There is no way back after it.", yes or dry_run)

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.switches.lock(name, domain=domain, dry_run=dry_run)
        render.show(change, output, json)


def status(
    store: options.StorePath,
    name: OptionalSwitch = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show which side a consumer is at, and how it goes

    Without a name, one line for each switch. Changes nothing.

    Example: grafctl consumer status billing
    """
    from grafctl import client, render_switches

    with client.open(store) as opened:
        shown = opened.switches.status(name)

    render_switches.standing(shown, output, json)
