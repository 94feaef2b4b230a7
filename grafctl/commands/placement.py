"""`placement`: which domains may use a resource or a group."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option
from grafctl.typed import Any

Expect = Annotated[
    str | None,
    Option(
        "--expect", metavar="DIGEST", help="Refuse unless this is the placement now", parser=options.text_of("digest")
    ),
]


def show(
    resource: options.Resource,
    store: options.StorePath,
    group: options.OptionalGroup = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show the placement of a resource or a group

    Changes nothing. The digest is what `placement set --expect` compares.

    Example: grafctl placement show migration-orders --group active-workers
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.placement.show(resource, group)

    render.show(shown, output, json)


def set_(
    resource: options.Resource,
    store: options.StorePath,
    group: options.OptionalGroup = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
    expect: Expect = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Replace the placement of a resource or a group

    Nothing else ever changes a placement. The new one is complete: what is not named is not allowed.

    Example: grafctl placement set migration-orders --allow aws --allow gcp --allow azure/eastus
    """
    options.require_one(
        bool(allow or deny), "No placement is given.", "Name the domains: --allow PATTERN, --deny PATTERN."
    )

    from grafctl import client, interruption, render

    placement: dict[str, Any] = {"allow": allow or [], "deny": deny or []}
    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.placement.set(resource, group=group, **placement, expect=expect, dry_run=dry_run)
        render.show(change, output, json)
