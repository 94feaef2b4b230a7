"""`domain`: the failure domains of a store."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option

DomainPath = Annotated[
    Path | None, Option("--path", metavar="DIR", help="Place on another disk", parser=options.path_of)
]


def add(
    name: options.DomainName,
    store: options.StorePath,
    path: DomainPath = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Add a failure domain to the store

    Makes an empty environment. No resource uses the domain before `locator set` names it.

    Example: grafctl domain add azure/eastus
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.domains.add(name, path=path, dry_run=dry_run)
        render.show(change, output, json)


def list_(store: options.StorePath, json: options.Json = False, output: options.Output = "table") -> None:
    """List the failure domains and their state

    Changes nothing.

    Example: grafctl domain list
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.domains.list()

    render.show(listed, output, json)


def show(
    name: options.DomainName, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show one failure domain

    Changes nothing.

    Example: grafctl domain show gcp/us-central1
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.domains.show(name)

    render.show(shown, output, json)


def fail(
    name: options.DomainName,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Take a failure domain out, for a drill

    Every process sees the domain as unreachable from now on, until `domain restore`. Its data stays where it is.

    Example: grafctl domain fail gcp/us-central1
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.domains.fail(name, dry_run=dry_run)
        render.show(change, output, json)


def restore(
    name: options.DomainName,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Bring a failed domain back

    Ends `domain fail`. A domain in which damage was found comes back only if a check of all of it finds nothing wrong
    now. What the domain missed meanwhile is copied to it by the next operations.

    Example: grafctl domain restore gcp/us-central1
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.domains.restore(name, dry_run=dry_run)
        render.show(change, output, json)


def remove(
    name: options.DomainName,
    store: options.StorePath,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Remove a domain that no resource uses

    Deletes the domain's environment. It is refused while a locator names the domain.

    Example: grafctl domain remove azure/eastus --dry-run
    """
    from grafctl import client, interruption, render

    render.confirm(f"Remove the domain {name} and everything in it?", yes or dry_run)

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.domains.remove(name, dry_run=dry_run)
        render.show(change, output, json)
