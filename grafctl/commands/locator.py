"""`locator`: which domains hold a resource."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Option
from grafctl.typed import Any

Generation = Annotated[
    int,
    Option("--generation", metavar="N", help="The new generation: exactly one more than now", parser=options.whole()),
]
Add = Annotated[
    list[str] | None,
    Option("--add", metavar="ID=DOMAIN[:role]", help="Replica to add; repeatable", parser=options.text_of("replica")),
]
Remove = Annotated[
    list[str] | None,
    Option("--remove", metavar="ID", help="Replica to remove; repeatable", parser=options.name_of("replica")),
]
FromFile = Annotated[
    Path | None, Option("--from", metavar="FILE", help="Replicas as a TOML file", parser=options.existing_file)
]
MaxAge = Annotated[
    int | None,
    Option("--max-age", metavar="TIME", help="Oldest health observation that counts", parser=options.duration_ms),
]


def show(
    resource: options.Resource, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show the replicas of a resource

    Changes nothing.

    Example: grafctl locator show migration-orders
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.locator.show(resource)

    render.show(shown, output, json)


def history(
    resource: options.Resource, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show every generation of the locator

    Changes nothing.

    Example: grafctl locator history migration-orders
    """
    from grafctl import client, render

    with client.open(store) as opened:
        answer = opened.locator.history(resource)

    render.show(answer, output, json)


def set_(
    resource: options.Resource,
    generation: Generation,
    store: options.StorePath,
    add: Add = None,
    remove: Remove = None,
    from_file: FromFile = None,
    max_age: MaxAge = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Add replicas to a resource, or remove them

    Makes the next generation. A replica that is added copies first and counts once `catch-up` has verified it.
    Removing is refused where it would break the quorum or strand a group.

    Example: grafctl locator set migration-orders --generation 2 --add orders-azure-eastus=azure/eastus
    """
    hint = "Name replicas: --add ID=DOMAIN, --remove ID or --from FILE."
    options.require_one(bool(add or remove or from_file), "No change of the locator is given.", hint)

    from grafctl import client, interruption, render

    render.confirm(f"Remove {', '.join(remove or ())} from {resource}?", yes or dry_run or not remove)

    change_of: dict[str, Any] = {
        "add": add or [],
        "remove": remove or [],
        "from_file": from_file,
        "max_age_ms": max_age,
    }
    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.locator.set(resource, generation=generation, **change_of, dry_run=dry_run)
        render.show(change, output, json)
