"""`policy`: how many copies an answer needs."""

from grafctl.commands import options


def show(
    resource: options.Resource, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show how many copies an answer needs

    Changes nothing.

    Example: grafctl policy show migration-orders
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.policy.show(resource)

    render.show(shown, output, json)


def set_(
    resource: options.Resource,
    ack: options.AckRule,
    store: options.StorePath,
    min_payload: options.MinPayload = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Set how many copies an answer needs

    Applies to every publish from now on. It never says which domains; the locator does.

    Example: grafctl policy set migration-orders --ack all
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.policy.set(resource, ack=ack, min_payload=min_payload, dry_run=dry_run)
        render.show(change, output, json)
