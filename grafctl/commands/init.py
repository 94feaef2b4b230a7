"""`init`: a new store."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Option

Directory = Annotated[Path | None, Argument(metavar="[DIR]", help="Directory of the new store", parser=options.path_of)]
StoreOfInit = Annotated[
    Path | None,
    Option("--store", "-s", metavar="DIR", envvar="GRAFCTL_STORE", help="The same as DIR", parser=options.path_of),
]
Domains = Annotated[
    list[str],
    Option(
        "--domain",
        "-d",
        metavar="D[=PATH]",
        help="Failure domain, on another disk with =PATH; repeatable",
        parser=options.text_of("domain"),
    ),
]


def init(
    domain: Domains,
    directory: Directory = None,
    store: StoreOfInit = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Create a store with its failure domains

    Makes the directory, store.toml and one environment for each domain. A store that is already there with exactly
    these domains is left as it is.

    Example: grafctl init --domain aws/us-east-1/us-east-1a --domain gcp/us-central1
    """
    domains = options.domains_of(domain)
    place = directory or store
    options.require_one(
        place is not None,
        "It is not said where the store goes.",
        "Name a directory, or --store DIR, or set GRAFCTL_STORE.",
    )
    assert place is not None

    from grafctl import client, interruption, render

    with interruption.change(dry_run, several=True):
        change = client.create(place, domains, dry_run=dry_run)
        render.show(change, output, json)
