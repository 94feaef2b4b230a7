"""`consumer compare`, `soak` and `report`: what is found out about a consumer before and after it is switched."""

from grafctl.commands import options
from grafctl.commands.consumer_switch import CompareFrom, Drain, Grace, Switch
from grafctl.commands.declared import Annotated, Option
from grafctl.typed import Any

Follow = Annotated[bool, Option("--follow", "-f", help="Go on until the window is over")]
MismatchExitCode = Annotated[bool, Option("--exit-code", help="Exit with 3 when there is any mismatch")]


def compare(
    name: Switch,
    domain: options.Domain,
    store: options.StorePath,
    compare_from: CompareFrom = None,
    grace: Grace = None,
    exit_code: MismatchExitCode = False,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Compare the two outputs of a switch

    Goes on where the last comparison stopped, up to the ends of both, and prints the report. It switches nobody;
    `consumer switch` compares too, and a mismatch blocks it. After Ctrl-C the same command goes on.

    Example: grafctl consumer compare billing -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render_switches
    from grafctl.render_progress import Progress

    told = interruption.resumable(dry_run)
    with told, client.open(store) as opened, Progress("compare", quiet=quiet) as progress:
        shown = opened.switches.compare(
            name, domain=domain, compare_from=compare_from, grace_ms=grace, progress=progress, dry_run=dry_run
        )

    render_switches.report(shown, output, json)
    _require_equal(name, shown.body["compared"]["mismatches"], exit_code)


def _require_equal(name: str, mismatches: int | None, exit_code: bool) -> None:
    """Raises `Changes` (3) where the outputs differ, or may, and the caller wants to see that as an exit code."""
    if mismatches != 0 and exit_code:
        from grafctl.errors import Changes

        what = (
            "may differ, and are not proved equal yet" if mismatches is None else f"differ: {mismatches:,} mismatches"
        )
        hint = f"Run `grafctl consumer report {name}` to see them."
        raise Changes(f"The outputs of switch {name} {what}.", hint=hint, code="mismatch", count=mismatches)


def soak(
    name: Switch,
    domain: options.Domain,
    store: options.StorePath,
    follow: Follow = False,
    drain: Drain = 30_000,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Judge a consumer that was switched

    By its rules, and by what differs in the outputs since. Where one is broken it flips the consumer back, says which
    rule and which numbers, and ends with 19; 0 means that all is well. With --follow it goes on until the window is
    over, with -o jsonl a line for each judgement. --dry-run judges once and takes nobody back.

    Example: grafctl consumer soak billing -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render_switches

    how: dict[str, Any] = {"follow": follow, "drain_ms": drain, "dry_run": dry_run}
    watch = render_switches.judgement if follow and output == "jsonl" and not json else None
    with interruption.resumable(dry_run), client.open(store) as opened:
        shown = opened.switches.soak(name, domain=domain, watch=watch, **how)

    if watch is None:
        render_switches.report(shown, output, json)


def report(
    name: Switch,
    store: options.StorePath,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show what was found out about a switch

    How many records match or differ, which ones by match key, offset and field, each flip with its reason, and the
    numbers of the soak; all as they were found last. Changes nothing.

    Example: grafctl consumer report billing
    """
    from grafctl import client, render_switches

    with client.open(store) as opened:
        shown = opened.switches.report(name)

    render_switches.report(shown, output, json)
