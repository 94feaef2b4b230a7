"""`dead`: records that failed too often."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option

All = Annotated[bool, Option("--all", help="Every dead letter of the group")]


def list_(
    resource: options.Resource,
    group: options.Group,
    store: options.StorePath,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """List the dead letters of a group

    Changes nothing.

    Example: grafctl dead list migration-orders active-workers
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.dead.list(resource, group)

    render.show(listed, output, json)


def redrive(
    resource: options.Resource,
    group: options.Group,
    store: options.StorePath,
    offset: options.OptionalOffsets = None,
    all: All = False,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Deliver dead letters once more

    Puts the named offsets, or with --all every dead letter, back to be polled, with their delivery counts at zero.

    Example: grafctl dead redrive migration-orders active-workers --all --dry-run
    """
    offsets = options.offsets_of(offset or [])
    options.require_one(
        bool(offsets) != all, "Name offsets or --all, one of them.", "See them with: grafctl dead list RESOURCE GROUP"
    )

    from grafctl import client, interruption, render

    render.confirm(f"Deliver every dead letter of {resource}/{group} again?", yes or dry_run or not all)

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.dead.redrive(resource, group, None if all else offsets, dry_run=dry_run)
        render.show(change, output, json)
