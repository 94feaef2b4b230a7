"""`status`, `verify` and `doctor`: look after a store."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option

Watch = Annotated[bool, Option("--watch", "-w", help="Look again every two seconds until Ctrl-C")]


def status(
    store: options.StorePath, watch: Watch = False, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show domains, resources, replicas, lag and groups

    Changes nothing.

    Example: grafctl status
    """
    from grafctl import client, render

    with client.open(store) as opened:
        look = render.watch if watch else render.once
        look(opened.status, output, json)


def verify(
    store: options.StorePath,
    exit_code: options.ExitCode = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Check every copy of everything

    Reads all of the store, prints each inconsistency with its remedy, and repairs nothing.

    Example: grafctl verify --exit-code
    """
    from grafctl import client, render

    with client.open(store) as opened:
        count = render.findings(opened.verify(), output, json)

    options.require_none(count, exit_code)


def doctor(
    store: options.StorePath,
    exit_code: options.ExitCode = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Look for what will cause trouble

    Checks disks, limits, clocks, health, placements and versions without reading every record, and repairs nothing.

    Example: grafctl doctor
    """
    from grafctl import client, render

    with client.open(store) as opened:
        count = render.findings(opened.doctor(), output, json)

    options.require_none(count, exit_code)
