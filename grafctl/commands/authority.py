"""`authority`: who may say that a domain is healthy."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option

PublicKey = Annotated[
    Path,
    Option("--public-key", metavar="FILE", help="File that keygen wrote as NAME.pub", parser=options.existing_file),
]
KeyDirectory = Annotated[
    Path, Option("--directory", metavar="DIR", help="Where the two files go", parser=options.path_of)
]


def keygen(
    name: options.AuthorityName,
    directory: KeyDirectory = Path("."),
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Make a signing key for a health authority

    Writes NAME.key, which only you can read, and NAME.pub. Files that are there are never overwritten. No store is
    needed.

    Example: grafctl authority keygen scheduler-a
    """
    from grafctl import client, interruption, render

    with interruption.change(several=True):
        shown = client.keygen(name, directory)
        render.show(shown, output, json)


def add(
    name: options.AuthorityName,
    public_key: PublicKey,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Trust a health authority by its public key

    Observations that the authority signs are believed from now on.

    Example: grafctl authority add scheduler-a --public-key scheduler-a.pub
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.authorities.add(name, public_key, dry_run=dry_run)
        render.show(change, output, json)


def list_(store: options.StorePath, json: options.Json = False, output: options.Output = "table") -> None:
    """List the health authorities

    Changes nothing.

    Example: grafctl authority list
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.authorities.list()

    render.show(listed, output, json)


def revoke(
    name: options.AuthorityName,
    store: options.StorePath,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Stop trusting a health authority

    Its observations are refused from now on, and its name cannot be used again.

    Example: grafctl authority revoke scheduler-a --dry-run
    """
    from grafctl import client, interruption, render

    render.confirm(f"Revoke the authority {name} for good?", yes or dry_run)

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.authorities.revoke(name, dry_run=dry_run)
        render.show(change, output, json)
