"""`consumer plan` and `consumer wave`: the consumers of a declared wave, in their order."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Option

Declared = Annotated[
    Path,
    Argument(metavar="FILE", help="TOML file that declares a wave", parser=options.existing_file, show_default=False),
]
ComparedStore = Annotated[
    Path | None,
    Option("--store", "-s", metavar="DIR", help="Store to look at", parser=options.path_of, envvar="GRAFCTL_STORE"),
]
NoLock = Annotated[bool, Option("--no-lock", help="Leave those whose window is over soaking, for a person to lock")]
Again = Annotated[bool, Option("--again", help="Try those again that this wave brought back")]


def plan(
    file: Declared, store: ComparedStore = None, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show in which order a wave switches its consumers

    Low risk first, a consumer of each shape early, high value last; each place has its reason. With a store it also
    says how far each consumer is, and who would not be begun. A wrong file is refused with all its problems at once
    (78). Changes nothing.

    Example: grafctl consumer plan examples/switchover.toml
    """
    from grafctl import client, render_waves
    from grafctl.nouns import waves

    if store is None:
        planned = waves.plan_file(file)
    else:
        with client.open(store) as opened:
            planned = opened.switches.plan(file)
    render_waves.plan(planned, output, json)


def wave(
    file: Declared,
    domain: options.Domain,
    store: options.StorePath,
    no_lock: NoLock = False,
    again: Again = False,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Switch the consumers of a declared wave

    In the order of `consumer plan`, so many at once as the file says: each is attached, compared, switched, watched
    until its window is over, and locked. What breaks its rules goes back by itself; whose outputs differ is not begun
    (19); a stop rule halts the wave. Asks once before it begins, since who is locked has no way back. The same command
    goes on after a kill. -o jsonl prints each change of state.

    Example: grafctl consumer wave examples/switchover.toml -d aws/us-east-1 --dry-run
    """
    from grafctl import client, interruption, render_waves
    from grafctl.nouns.wave_running import require_all

    with interruption.resumable(dry_run), client.open(store) as opened:
        if dry_run:
            render_waves.plan(opened.switches.plan(file, domain=domain, lock=not no_lock, again=again), output, json)
            return
        if not (yes or no_lock):
            render_waves.confirm(opened.switches.plan(file, again=again))
        told = render_waves.Waving(output, json)
        done = opened.switches.wave(file, domain=domain, lock=not no_lock, again=again, watch=told)
        told.end(done)
    require_all(done)
