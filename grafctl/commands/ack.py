"""`ack` and `nack`: finish work, or give it back."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option
from grafctl.typed import Any

Lease = Annotated[
    int | None,
    Option("--lease", metavar="N", help="Lease under which the records were taken", parser=options.whole()),
]
Delay = Annotated[
    int,
    Option("--delay", metavar="TIME", help="Deliver again not before", parser=options.duration_ms, show_default="0"),
]


def ack(
    resource: options.Resource,
    offset: options.Offsets,
    group: options.GroupOption,
    domain: options.Domain,
    store: options.StorePath,
    lease: Lease = None,
    epoch: options.Epoch = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Finish records, once for the whole lineage

    Records the offsets as finalised; no group of the lineage gets them again. Finishing them twice changes nothing.

    Example: grafctl ack migration-orders 0 1 --group active-workers -d gcp/us-central1
    """
    offsets = options.offsets_of(offset)

    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        finished = opened.ack(resource, group, offsets, domain=domain, lease=lease, epoch=epoch, dry_run=dry_run)
        render.show(finished, output, json)


def nack(
    resource: options.Resource,
    offset: options.Offsets,
    group: options.GroupOption,
    domain: options.Domain,
    store: options.StorePath,
    delay: Delay = 0,
    lease: Lease = None,
    epoch: options.Epoch = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Give records back to be delivered again

    Ends their lease. A record that was given back as often as the group allows goes to its dead letters.

    Example: grafctl nack migration-orders 1 --group active-workers -d gcp/us-central1 --delay 5s
    """
    offsets = options.offsets_of(offset)

    from grafctl import client, interruption, render

    caller: dict[str, Any] = {"domain": domain, "lease": lease, "epoch": epoch}
    with interruption.change(dry_run), client.open(store) as opened:
        finished = opened.nack(resource, group, offsets, delay_ms=delay, dry_run=dry_run, **caller)
        render.show(finished, output, json)
