"""`fence`: shut out callers of an older epoch."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option

NewEpoch = Annotated[int, Option("--epoch", metavar="N", help="Epoch in force from now on", parser=options.whole())]


def fence(
    resource: options.Resource,
    epoch: NewEpoch,
    store: options.StorePath,
    group: options.OptionalGroup = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Shut out callers of an older epoch

    Raises the epoch of a resource or a group. Callers that name a lower one are refused (14); it never goes down.

    Example: grafctl fence migration-orders --epoch 2
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.fence(resource, epoch=epoch, group=group, dry_run=dry_run)
        render.show(change, output, json)
