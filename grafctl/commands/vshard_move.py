"""`vshard plan`, `migrate`, `resume`, `cutover` and `reverse`: what brings a vshard to other domains, and back."""

from grafctl.commands import options
from grafctl.commands import vshard_options as own
from grafctl.typed import Any


def plan(
    table: own.Table,
    vshards: own.Vshards,
    to: own.To,
    domain: options.Domain,
    store: options.StorePath,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show what a migration would do

    Asks placement and health of every target as `vshard migrate` does (11, 12), says what would be made and copied, and
    whether the way back would be open. Changes nothing.

    Example: grafctl vshard plan accounts 0-3 --to aws/us-east-1/us-east-1a -d gcp/us-central1
    """
    from grafctl import client
    from grafctl.render_moving import Moving

    numbers, targets = own.numbers_of(vshards), own.domains_of(to)
    with client.open(store) as opened, Moving("plan", table, len(numbers) != 1, output, json) as moving:
        opened.vshards.migrate(table, numbers, to=targets, domain=domain, watch=moving, dry_run=True)


def migrate(
    table: own.Table,
    vshards: own.Vshards,
    to: own.To,
    domain: options.Domain,
    store: options.StorePath,
    write_pause_budget: own.Budget = None,
    lock_wait: own.LockWait = None,
    max_lag: own.MaxLag = None,
    rate: own.Rate = None,
    policy: own.Policy = None,
    patience: own.Patience = None,
    hold_cutover: own.HoldCutover = False,
    at_once: own.AtOnce = 1,
    epoch: options.Epoch = None,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Move vshards to other domains while they are written

    Copies, follows the log, proves the copy, and flips it within the budget for the pause of its writers; else they go
    on where they are and the copy is kept (20). The old copy stays for `vshard reverse` until `vshard retire`. The same
    command goes on after a kill. -o jsonl prints each change of state.

    Example: grafctl vshard migrate accounts 0-3 --to aws/us-east-1/us-east-1a \
      --write-pause-budget 2s -d gcp/us-central1
    """
    from grafctl import client, interruption
    from grafctl.render_moving import Moving

    numbers, targets = own.numbers_of(vshards), own.domains_of(to)
    limits = own.limits_of(write_pause_budget, lock_wait, max_lag, rate, policy, patience)
    with client.open(store) as opened:
        told = interruption.migrating(lambda: opened.vshards.left(table, numbers), table, domain, dry_run=dry_run)
        with told, Moving("migrate", table, len(numbers) != 1, output, json, quiet=quiet) as moving:
            how: Any = {"hold_cutover": hold_cutover, "at_once": at_once, "epoch": epoch, "dry_run": dry_run}
            opened.vshards.migrate(table, numbers, to=targets, domain=domain, watch=moving, **how, **limits)


def resume(
    table: own.Table,
    domain: options.Domain,
    store: options.StorePath,
    vshards: own.OptionalVshards = None,
    write_pause_budget: own.Budget = None,
    lock_wait: own.LockWait = None,
    max_lag: own.MaxLag = None,
    rate: own.Rate = None,
    policy: own.Policy = None,
    patience: own.Patience = None,
    hold_cutover: own.HoldCutover = False,
    at_once: own.AtOnce = 1,
    epoch: options.Epoch = None,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Go on with migrations that were stopped

    Of these vshards, or of all of the table. What is not given stays as the migration began with it. A migration that
    failed goes on too, and fails again where its cause is still there.

    Example: grafctl vshard resume accounts -d gcp/us-central1
    """
    from grafctl import client, interruption
    from grafctl.render_moving import Moving

    limits = own.limits_of(write_pause_budget, lock_wait, max_lag, rate, policy, patience)
    with client.open(store) as opened:
        numbers = opened.vshards.under_way(table) if vshards is None else own.numbers_of(vshards)
        told = interruption.migrating(lambda: opened.vshards.left(table, numbers), table, domain, dry_run=dry_run)
        is_many = vshards is None or len(numbers) != 1
        with told, Moving("resume", table, is_many, output, json, quiet=quiet) as moving:
            how: Any = {"hold_cutover": hold_cutover, "at_once": at_once, "epoch": epoch, "dry_run": dry_run}
            opened.vshards.resume(table, numbers, domain=domain, watch=moving, **how, **limits)


def cutover(
    table: own.Table,
    vshards: own.Vshards,
    domain: options.Domain,
    store: options.StorePath,
    write_pause_budget: own.Budget = None,
    lock_wait: own.LockWait = None,
    max_lag: own.MaxLag = None,
    at_once: own.AtOnce = 1,
    epoch: options.Epoch = None,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Cut over what --hold-cutover held back

    Brings the copy up to date first. What is not given stays as the migration began with it.

    Example: grafctl vshard cutover accounts 4 -d gcp/us-central1
    """
    from grafctl import client, interruption
    from grafctl.render_moving import Moving

    numbers, limits = own.numbers_of(vshards), own.limits_of(write_pause_budget, lock_wait, max_lag)
    with client.open(store) as opened:
        told = interruption.migrating(lambda: opened.vshards.left(table, numbers), table, domain, dry_run=dry_run)
        with told, Moving("cutover", table, len(numbers) != 1, output, json, quiet=quiet) as moving:
            how: Any = {"at_once": at_once, "epoch": epoch, "dry_run": dry_run}
            opened.vshards.cutover(table, numbers, domain=domain, watch=moving, **how, **limits)


def reverse(
    table: own.Table,
    vshards: own.Vshards,
    domain: options.Domain,
    store: options.StorePath,
    write_pause_budget: own.Budget = None,
    lock_wait: own.LockWait = None,
    max_lag: own.MaxLag = None,
    policy: own.Policy = None,
    patience: own.Patience = None,
    at_once: own.AtOnce = 1,
    epoch: options.Epoch = None,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Bring vshards back to where they came from

    With all that was written since: the old copy follows the log from the flip on, is proved, and the vshard is flipped
    back within the budget. Refused after `vshard retire` (13).

    Example: grafctl vshard reverse accounts 0 --write-pause-budget 2s -d gcp/us-central1
    """
    from grafctl import client, interruption
    from grafctl.render_moving import Moving

    numbers, limits = (
        own.numbers_of(vshards),
        own.limits_of(write_pause_budget, lock_wait, max_lag, None, policy, patience),
    )
    with client.open(store) as opened:
        told = interruption.migrating(lambda: opened.vshards.left(table, numbers), table, domain, dry_run=dry_run)
        with told, Moving("reverse", table, len(numbers) != 1, output, json, quiet=quiet) as moving:
            how: Any = {"at_once": at_once, "epoch": epoch, "dry_run": dry_run}
            opened.vshards.reverse(table, numbers, domain=domain, watch=moving, **how, **limits)
