"""`lease`: who may use which local segment until when."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Literal, Option
from grafctl.typed import Any

LeaseName = Annotated[
    str, Argument(metavar="NAME", help="Name of the lease", parser=options.name_of("lease"), show_default=False)
]
Bytes = Annotated[int, Option("--bytes", metavar="SIZE", help="Size of the segment", parser=options.size_bytes)]
Owner = Annotated[str, Option("--owner", metavar="TEXT", help="Who holds it", parser=options.text_of("owner"))]
Kind = Annotated[
    Literal["memory", "block"],
    Option("--kind", metavar="KIND", help="memory: not flushed, lost with the power; block: flushed"),
]
Term = Annotated[
    int,
    Option("--term", metavar="TIME", help="How long it is held", parser=options.duration_ms, show_default="30s"),
]
Token = Annotated[int, Option("--token", metavar="N", help="Token that acquire gave", parser=options.whole())]
Replace = Annotated[
    int | None,
    Option("--replace", metavar="N", help="Token of your own lease, whose segment is lost", parser=options.whole()),
]
IfDue = Annotated[bool, Option("--if-due", help="Only after three quarters of the term")]
Grace = Annotated[
    int,
    Option(
        "--grace",
        metavar="TIME",
        help="How long its holder may still use it",
        parser=options.duration_ms,
        show_default="30s",
    ),
]


def acquire(
    name: LeaseName,
    bytes: Bytes,
    owner: Owner,
    domain: options.Domain,
    store: options.StorePath,
    kind: Kind = "memory",
    term: Term = 30_000,
    replace: Replace = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Take a lease on a segment of a domain

    Makes a file of that size in the domain and prints the token that says whose it is. The segment is local: what is
    in it has no copy in another domain. The same again by the same owner changes nothing; somebody else is refused
    (22) until it is released or has expired.

    Example: grafctl lease acquire parsed --bytes 1MiB --owner parser@host-1 \
      -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render

    what: dict[str, Any] = {"bytes": bytes, "owner": owner, "kind": kind, "term_ms": term}
    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.leases.acquire(name, domain=domain, **what, replace=replace, dry_run=dry_run)
        render.show(change, output, json)


def renew(
    name: LeaseName,
    token: Token,
    domain: options.Domain,
    store: options.StorePath,
    if_due: IfDue = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Renew a lease for another term

    A lease that has expired is not renewed (13), but can be taken anew. One that was revoked, or that somebody else
    took over, cannot (14).

    Example: grafctl lease renew parsed --token 1 --if-due -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.leases.renew(name, token=token, domain=domain, if_due=if_due, dry_run=dry_run)
        render.show(change, output, json)


def release(
    name: LeaseName,
    token: Token,
    domain: options.Domain,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Give a lease back and remove its segment

    What is still in the segment is gone. Anybody may take the lease from then on.

    Example: grafctl lease release parsed --token 1 -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.leases.release(name, token=token, domain=domain, dry_run=dry_run)
        render.show(change, output, json)


def revoke(
    name: LeaseName,
    store: options.StorePath,
    grace: Grace = 30_000,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Take a lease away from its holder for good

    After the grace nobody renews or uses it, and its name is not leased again before lease forget. The first change of
    a lease in its domain after that removes the segment.

    Example: grafctl lease revoke parsed --grace 1m --dry-run
    """
    from grafctl import client, interruption, render

    render.confirm(f"Revoke the lease {name} for good?", yes or dry_run)

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.leases.revoke(name, grace_ms=grace, dry_run=dry_run)
        render.show(change, output, json)


def forget(
    name: LeaseName,
    store: options.StorePath,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Forget a lease that has ended

    Its name may be leased again after that, also where it was revoked. An edge of that name is removed first.

    Example: grafctl lease forget parsed --yes
    """
    from grafctl import client, interruption, render

    render.confirm(f"Forget the lease {name}, so that its name may be leased again?", yes or dry_run)

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.leases.forget(name, dry_run=dry_run)
        render.show(change, output, json)


def list_(store: options.StorePath, json: options.Json = False, output: options.Output = "table") -> None:
    """List the leases and their states

    Changes nothing. A lease that is held and whose segment cannot be found is disconnected.

    Example: grafctl lease list
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.leases.list()

    render.show(listed, output, json)
