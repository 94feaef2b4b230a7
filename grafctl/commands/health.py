"""`health`: signed statements about domains."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Literal, Option

Status = Annotated[
    Literal["healthy", "unhealthy"],
    Argument(metavar="STATUS", help="healthy or unhealthy", show_default=False),
]
Authority = Annotated[
    str,
    Option("--authority", metavar="NAME", help="Authority that signs", parser=options.name_of("authority")),
]
KeyFile = Annotated[
    Path,
    Option(
        "--key-file",
        metavar="FILE",
        help="Its signing key, NAME.key",
        parser=options.existing_file,
        envvar="GRAFCTL_KEY_FILE",
    ),
]


def observe(
    domain: options.DomainName,
    status: Status,
    authority: Authority,
    key_file: KeyFile,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """State whether a domain is healthy, signed

    Stores the statement with its time in every domain. An unhealthy domain serves no polls until it is seen healthy
    again.

    Example: grafctl health observe azure/eastus healthy --authority scheduler-a --key-file scheduler-a.key
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.health.observe(domain, status, authority=authority, key_file=key_file, dry_run=dry_run)
        render.show(change, output, json)


def list_(store: options.StorePath, json: options.Json = False, output: options.Output = "table") -> None:
    """List the latest observation of each domain

    Changes nothing.

    Example: grafctl health list
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.health.list()

    render.show(listed, output, json)
