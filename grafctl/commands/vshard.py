"""`vshard`: the parts in which a table can be moved to other domains while it is written."""

from grafctl.commands import options
from grafctl.commands import vshard_options as own
from grafctl.commands.vshard_move import cutover as cutover
from grafctl.commands.vshard_move import migrate as migrate
from grafctl.commands.vshard_move import plan as plan
from grafctl.commands.vshard_move import resume as resume
from grafctl.commands.vshard_move import reverse as reverse


def list_(
    table: own.Table,
    store: options.StorePath,
    vshards: own.OptionalVshards = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """List the vshards of a table

    Owner, generation, records, bytes and writes a second of each; for people, those that hold nothing and never moved
    are one line. Changes nothing.

    Example: grafctl vshard list accounts 0-3
    """
    from grafctl import client, render_moving

    with client.open(store) as opened:
        listed = opened.vshards.list(table, None if vshards is None else own.numbers_of(vshards))

    render_moving.listed(listed, output, json, is_chosen=vshards is not None)


def show(
    table: own.Table,
    vshard: own.Vshard,
    store: options.StorePath,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show one vshard and how far its migration is

    Changes nothing.

    Example: grafctl vshard show accounts 0
    """
    from grafctl import client, render_moving

    with client.open(store) as opened:
        shown = opened.vshards.show(table, vshard)

    render_moving.shown(shown, output, json)


def status(
    table: own.Table,
    store: options.StorePath,
    vshards: own.OptionalVshards = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show the vshards that are on their way

    Those that are being moved and those that have a way back, or those that are named. Changes nothing.

    Example: grafctl vshard status accounts
    """
    from grafctl import client, render_moving

    with client.open(store) as opened:
        listed = opened.vshards.status(table, None if vshards is None else own.numbers_of(vshards))

    render_moving.standing(listed, table, output, json)


def throttle(
    table: own.Table,
    vshard: own.Vshard,
    domain: options.Domain,
    store: options.StorePath,
    rate: own.NewRate = None,
    writes: own.Writes = None,
    epoch: options.Epoch = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Slow down a migration or the writers of its vshard

    Whoever moves it keeps to it within a second. The limit of the writers ends with the migration.

    Example: grafctl vshard throttle accounts 4 --rate 20MB/s -d gcp/us-central1
    """
    options.require_one(
        rate is not None or writes is not None, "Nothing to limit.", "Give --rate SIZE/s or --writes N; 0 ends a limit."
    )

    from grafctl import client, interruption, render

    limits = {"rate": rate, "writes": writes, "epoch": epoch}
    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.vshards.throttle(table, vshard, domain=domain, **limits, dry_run=dry_run)
        render.show(change, output, json)


def cancel(
    table: own.Table,
    vshards: own.Vshards,
    domain: options.Domain,
    store: options.StorePath,
    epoch: options.Epoch = None,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Undo migrations that were not flipped yet

    The vshard stays where it is, its writers go on, and the copy is removed. After the flip it is refused (13):
    `vshard reverse` brings it back.

    Example: grafctl vshard cancel accounts 5 -d gcp/us-central1
    """
    from grafctl import client, interruption
    from grafctl.render_moving import Moving

    numbers = own.numbers_of(vshards)
    with client.open(store) as opened:
        told = interruption.migrating(lambda: opened.vshards.left(table, numbers), table, domain, dry_run=dry_run)
        with told, Moving("cancel", table, len(numbers) != 1, output, json, quiet=quiet) as moving:
            opened.vshards.cancel(table, numbers, domain=domain, epoch=epoch, watch=moving, dry_run=dry_run)


def retire(
    table: own.Table,
    vshards: own.Vshards,
    domain: options.Domain,
    store: options.StorePath,
    epoch: options.Epoch = None,
    yes: options.Yes = False,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Delete the old copies of vshards that were moved

    From then on there is no way back (13), and the vshard may be moved on. What it holds where it is now stays.

    Example: grafctl vshard retire accounts 0 --yes -d gcp/us-central1
    """
    from grafctl import client, interruption, render
    from grafctl.render_moving import Moving

    numbers = own.numbers_of(vshards)
    render.confirm(
        f"Delete the old copies that {table} has of its vshards {vshards}, and with them the way back?", yes or dry_run
    )
    with client.open(store) as opened, interruption.resumable(dry_run):
        with Moving("retire", table, len(numbers) != 1, output, json, quiet=quiet) as moving:
            opened.vshards.retire(table, numbers, domain=domain, epoch=epoch, watch=moving, dry_run=dry_run)
