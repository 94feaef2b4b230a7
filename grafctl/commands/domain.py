"""`domain`: the failure domains of a store."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option

DomainPath = Annotated[
    Path | None, Option("--path", metavar="DIR", help="Place on another disk", parser=options.path_of)
]
AcceptLoss = Annotated[
    list[str] | None,
    Option(
        "--accept-loss",
        metavar="NAME",
        help="Go on with this log though something acknowledged may be lost; the refusal says which names",
        parser=options.text_of("name"),
    ),
]
Discard = Annotated[bool, Option("--discard", help="Delete what earlier repairs of it, healthy now, moved aside")]
Lost = Annotated[bool, Option("--lost", help="Say that what cannot be reached there is gone for good")]


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


def repair(
    name: options.DomainName,
    store: options.StorePath,
    accept_loss: AcceptLoss = None,
    lost: Lost = False,
    path: DomainPath = None,
    discard: Discard = False,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Bring a damaged or lost domain back as a new one

    Moves what is left of it aside, makes it anew and copies every log to it from the others, which serve meanwhile.
    The same command goes on where it was cut short. Nothing that was acknowledged is lost, or nothing is done.

    Example: grafctl domain repair gcp/us-central1 --dry-run
    """
    from functools import partial

    from grafctl import client, interruption, render
    from grafctl.render_progress import Progress

    told = interruption.resumable(dry_run)
    with told, client.open(store) as opened, Progress("domain repair", quiet=quiet) as progress:
        give_up = partial(opened.domains.repair, name, accept_loss=accept_loss or (), lost=lost)
        repair = partial(give_up, path=path, discard=discard)
        change = repair(dry_run=True)
        if change.changed and not dry_run:
            steps = "; ".join(change.actions or ())
            render.confirm(f"Repair {name}: {steps}?", yes)
        if not dry_run:
            change = repair(progress=progress)

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
