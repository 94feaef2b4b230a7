"""`apply`: make a store what a file declares."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument

File = Annotated[
    Path,
    Argument(metavar="FILE", help="TOML file that declares a store", parser=options.existing_file, show_default=False),
]


def apply(
    file: File,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Make the store what a file declares

    Creates the store where there is none, and the domains, authorities, queues and groups that the file names and the
    store lacks. A wrong file is refused with all its problems at once (78), and applying it twice changes nothing.

    Example: grafctl apply examples/provider-migration.toml --dry-run
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run, several=True):
        change = client.apply(store, file, dry_run=dry_run)
        render.show(change, output, json)
