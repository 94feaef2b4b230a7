"""`backup` and `restore`: save a store to a file, and make a new store of one."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Option

Target = Annotated[
    Path,
    Argument(
        metavar="DIR|FILE",
        help="Directory, in which the backup gets a name of its own, or a new file",
        parser=options.path_of,
        show_default=False,
    ),
]
BackupPath = Annotated[
    Path, Argument(metavar="FILE", help="A backup", parser=options.existing_file, show_default=False)
]
NewStore = Annotated[
    Path | None,
    Option("--store", "-s", metavar="DIR", help="Directory of the new store; must be typed", parser=options.path_of),
]
Places = Annotated[
    list[str] | None,
    Option(
        "--domain",
        "-d",
        metavar="D=PATH",
        help="Put a domain on another disk; repeatable",
        parser=options.text_of("domain"),
    ),
]


def backup(
    target: Target,
    store: options.StorePath,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Save the store to a file

    Saves each log up to one committed entry, checked on the way, while others go on. The file is whole or absent, and
    none is ever written over. What was acknowledged before is in it, or it is refused.

    Example: grafctl backup ./orders.grafctl-backup
    """
    from grafctl import client, render
    from grafctl.render_progress import Progress

    with client.open(store) as opened, Progress("backup", quiet=quiet) as progress:
        saved = opened.backup(target, progress=progress, dry_run=dry_run)

    render.show(saved, output, json)


def restore(
    file: BackupPath,
    store: NewStore = None,
    domain: Places = None,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Make a new store of a backup

    Needs a directory that holds no store. The new store has an identity of its own, the same domains, records, ids,
    groups and leases, and is verified. With --dry-run alone, the file is checked.

    Example: grafctl restore ./orders.grafctl-backup --store ./restored
    """
    places = options.domains_of(domain or [])
    sentence, hint = "It is not said where the store goes.", "Name it with --store DIR; --dry-run alone only checks."
    options.require_one(store is not None or (dry_run and not places), sentence, hint)

    from grafctl import client, interruption, render
    from grafctl.render_progress import Progress

    with interruption.resumable(dry_run), Progress("restore", quiet=quiet) as progress:
        change = client.restore(file, store, places, progress=progress, dry_run=dry_run)

    render.show(change, output, json)
