"""`catch-up`: bring a domain up to date and prove it."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option

AllowEmpty = Annotated[bool, Option("--allow-empty", help="Accept a proof over no records at all")]


def catch_up(
    resource: options.Resource,
    domain: options.TypedDomain,
    store: options.StorePath,
    group: options.OptionalGroup = None,
    allow_empty: AllowEmpty = False,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Copy a resource into a domain and prove it

    Run it from the domain that catches up. It copies what is missing, reads everything back, compares, and prints a
    proof for `consumer shift`. It consumes nothing; running it again proves the same.

    Example: grafctl catch-up migration-orders -d azure/eastus --json
    """
    from grafctl import client, interruption, render
    from grafctl.render_progress import Progress

    events = {"resource": resource, "domain": domain} if output == "jsonl" and not json else None
    told = interruption.resumable(dry_run)
    with told, client.open(store) as opened, Progress("catch-up", quiet=quiet, events=events) as progress:
        proof = opened.catch_up(
            resource, domain=domain, group=group, allow_empty=allow_empty, progress=progress, dry_run=dry_run
        )

    render.show(proof, output, json)
