"""`plan`, `apply` and `drift`: a store beside what a file declares."""

from pathlib import Path

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Option

Declared = Annotated[
    Path,
    Argument(metavar="FILE", help="TOML file that declares a store", parser=options.existing_file, show_default=False),
]
DeclaredOrPlan = Annotated[
    Path,
    Argument(
        metavar="FILE", help="TOML file that declares a store, or a plan that `plan --out` saved",
        parser=options.existing_file, show_default=False,
    ),
]  # fmt: skip
Out = Annotated[
    Path | None, Option("--out", metavar="PLAN", help="Save the plan to this file, for apply", parser=options.path_of)
]
PlanExitCode = Annotated[bool, Option("--exit-code", help="Exit with 3 when anything is missing or different")]
DriftExitCode = Annotated[bool, Option("--exit-code", help="Exit with 3 when there is any difference")]


def plan(
    file: Declared,
    store: options.StorePath,
    out: Out = None,
    exit_code: PlanExitCode = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show what apply would make of a declared store

    Changes nothing in the store. Shows what apply would create, what is there and different with the command that leads
    to it, and what nobody declared, which is never deleted. With --out the plan is saved: apply PLAN does it once, and
    is refused (13) where anything that it relies on moved since.

    Example: grafctl plan examples/provider-migration.toml --out store.plan
    """
    from grafctl import client, render

    planned = client.plan(store, file, out=out)
    render.show(planned, output, json)
    if planned.changes and exit_code:
        from grafctl.errors import Changes

        count = len(planned.actions) + len(planned.differences)
        what = "thing is" if count == 1 else "things are"
        creates = f"Run `grafctl apply {file}` to create what is missing."
        hint = creates if planned.actions else "Type the command below each difference, or declare what is there."
        raise Changes(f"{count} {what} missing or different.", hint=hint, count=count)


def apply(
    file: DeclaredOrPlan,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Make the store what a file declares

    Creates the store where there is none, and everything that the file names and the store lacks; what is there and
    different is left as it is. A wrong file is refused with all its problems at once (78), and applying it twice
    changes nothing. A plan that `plan --out` saved is done as it stands and once; it is refused (13) where anything
    that it relies on moved since.

    Example: grafctl apply examples/provider-migration.toml --dry-run
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run, several=True):
        change = client.apply(store, file, dry_run=dry_run)
        render.show(change, output, json)


def drift(
    file: Declared,
    store: options.StorePath,
    exit_code: DriftExitCode = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Find where a store is not as a file declares it

    Changes nothing. Prints one difference a line with the line of the file: what is missing, what is different and the
    command that leads there, and what is there and not declared.

    Example: grafctl drift examples/provider-migration.toml
    """
    from grafctl import client, render

    found = client.drift(store, file)
    render.show(found, output, json)
    if found.count and exit_code:
        from grafctl.errors import Changes

        what = "difference was" if found.count == 1 else "differences were"
        hint = f"Run `grafctl plan {file}` to see what creates or changes it."
        raise Changes(f"{found.count} {what} found.", hint=hint, code="mismatch", count=found.count)
