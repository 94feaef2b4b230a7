"""`consumer`: groups that read a resource."""

from grafctl.commands import options
from grafctl.commands.consumer_soak import compare as compare
from grafctl.commands.consumer_soak import report as report
from grafctl.commands.consumer_soak import soak as soak
from grafctl.commands.consumer_switch import attach as attach
from grafctl.commands.consumer_switch import detach as detach
from grafctl.commands.consumer_switch import lock as lock
from grafctl.commands.consumer_switch import rollback as rollback
from grafctl.commands.consumer_switch import status as status
from grafctl.commands.consumer_switch import switch as switch
from grafctl.commands.consumer_wave import plan as plan
from grafctl.commands.consumer_wave import wave as wave
from grafctl.commands.declared import Annotated, Literal, Option
from grafctl.typed import Any

Semantics = Annotated[
    Literal["at-most-once", "at-least-once", "effectively-once"],
    Option("--semantics", metavar="RULE", help="at-most-once, at-least-once or effectively-once"),
]
MaxDeliveries = Annotated[
    int | None,
    Option("--max-deliveries", metavar="N", help="Deliveries before a record is dead", parser=options.whole(1)),
]
Filter = Annotated[
    str | None,
    Option(
        "--filter", metavar="FILTER", help="What a topic gives it: all, key:PREFIX, type:PREFIX or expr:EXPRESSION",
        parser=options.text_of("filter"),
    ),
]  # fmt: skip
Position = Annotated[
    str,
    Option("--to", metavar="WHERE", help="As --start of `consumer create`", parser=options.text_of("position")),
]
NewGroup = Annotated[str, Option("--as", metavar="NEW", help="Name of the new group", parser=options.name_of("group"))]
ProofId = Annotated[
    str,
    Option(
        "--proof", metavar="ID|@FILE", help="Proof of a catch-up: its id or its JSON", parser=options.text_of("proof")
    ),
]
ShiftStart = Annotated[
    str | None,
    Option(
        "--start",
        metavar="WHERE",
        help="earliest replays; default: what the lineage has not finished",
        parser=options.text_of("start"),
    ),
]


def create(
    resource: options.Resource,
    group: options.Group,
    store: options.StorePath,
    allow: options.Allow = None,
    deny: options.Deny = None,
    semantics: Semantics = "at-least-once",
    start: options.Start = "earliest",
    max_deliveries: MaxDeliveries = None,
    filter: Filter = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Create a consumer group with its placement

    The group may poll, ack and nack from the domains that --allow covers and --deny does not. A group of a topic is a
    durable subscription; with --filter it is given what the filter does not leave out.

    Example: grafctl consumer create migration-orders active-workers \
      --allow aws --allow gcp --semantics effectively-once
    """
    from grafctl import client, interruption, render

    placement: dict[str, Any] = {"allow": allow or [], "deny": deny or []}
    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.consumers.create(
            resource,
            group,
            **placement,
            semantics=semantics,
            start=start,
            max_deliveries=max_deliveries,
            filter=filter,
            dry_run=dry_run,
        )
        render.show(change, output, json)


def list_(
    resource: options.Resource, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """List the consumer groups of a resource

    Changes nothing.

    Example: grafctl consumer list migration-orders
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.consumers.list(resource)

    render.show(listed, output, json)


def show(
    resource: options.Resource,
    group: options.Group,
    store: options.StorePath,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show what defines a group: placement, cursor, lineage

    Changes nothing. What moves by itself, such as the lag, is in `status`.

    Example: grafctl consumer show migration-orders active-workers --json
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.consumers.show(resource, group)

    render.show(shown, output, json)


def pause(
    resource: options.Resource,
    group: options.Group,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Stop deliveries to a group

    Polls of the group deliver nothing until `consumer resume`. Leases that are out stay as they are.

    Example: grafctl consumer pause migration-orders active-workers
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.consumers.pause(resource, group, dry_run=dry_run)
        render.show(change, output, json)


def resume(
    resource: options.Resource,
    group: options.Group,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Start deliveries to a paused group again

    The group goes on where it stopped.

    Example: grafctl consumer resume migration-orders active-workers
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.consumers.resume(resource, group, dry_run=dry_run)
        render.show(change, output, json)


def seek(
    resource: options.Resource,
    group: options.Group,
    to: Position,
    store: options.StorePath,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Move the cursor of a group

    Forward skips records for this group; backward delivers again what the lineage has not finished.

    Example: grafctl consumer seek migration-orders active-workers --to earliest --dry-run
    """
    from grafctl import client, interruption, render

    render.confirm(f"Move the cursor of {resource}/{group} to {to}?", yes or dry_run)

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.consumers.seek(resource, group, to, dry_run=dry_run)
        render.show(change, output, json)


def shift(
    resource: options.Resource,
    group: options.Group,
    new: NewGroup,
    proof: ProofId,
    store: options.StorePath,
    allow: options.Allow = None,
    deny: options.Deny = None,
    start: ShiftStart = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Make a new group of the same lineage elsewhere

    For one resource that is read in another place; for a consumer that goes to the output of another engine use
    `consumer switch`.

    Needs the proof of a catch-up that covers the new placement. The original group stays exactly as it is, and a record
    that one of the two has finished is not delivered by the other.

    Example: grafctl consumer shift migration-orders active-workers \
      --as azure-workers --allow azure/eastus --proof @proof.json
    """
    from grafctl import client, interruption, render

    placement: dict[str, Any] = {"allow": allow or [], "deny": deny or []}

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        shift = opened.consumers.shift(resource, group, as_=new, **placement, proof=proof, start=start, dry_run=dry_run)
        render.show(shift, output, json)
