"""`pipeline`: pipelines that a TOML file declares."""

from pathlib import Path

from grafctl import names
from grafctl.commands import options
from grafctl.commands.declared import Annotated, Literal, Option
from grafctl.commands.pipeline_run import File
from grafctl.commands.pipeline_run import run as run
from grafctl.commands.pipeline_run import status as status
from grafctl.commands.pipeline_run import tap as tap

Form = Annotated[Literal["text", "mermaid", "dot"], Option("--format", metavar="FORM", help="text, mermaid or dot")]
Case = Annotated[
    str | None, Option("--test", metavar="NAME", help="Try this case alone", parser=options.name_of("test"))
]
OnlyDomain = Annotated[
    str | None, Option("--domain", "-d", metavar="DOMAIN", help="Show this domain alone", parser=names.check_domain)
]
ComparedStore = Annotated[
    Path | None,
    Option(
        "--store", "-s", metavar="DIR", help="Store to compare with", parser=options.path_of, envvar="GRAFCTL_STORE"
    ),
]
Live = Annotated[bool, Option("--live", help="Compare with the store too: resources, groups, placements, health")]


def validate(
    file: File,
    live: Live = False,
    store: ComparedStore = None,
    exit_code: options.ExitCode = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Check a file for every problem at once

    Prints each problem with its file and line, and exits with 78; a file without one is summed up, with notes on what
    is worth knowing. With --live also finds what is not in the store as declared, domains in trouble, and what a stage
    may not do there. Changes nothing.

    Example: grafctl pipeline validate examples/pipeline.toml
    """
    from grafctl import client, render
    from grafctl.pipeline import declaring, planning

    examined = declaring.examine_file(file)
    if not live:
        render.show(planning.told(examined), output, json)
        return
    options.require_one(store is not None, "--live compares with a store.", "Give --store or set GRAFCTL_STORE.")
    from grafctl.pipeline.live import differences

    with client.open(store or "") as opened:
        found = list(differences(opened, examined))
    render.show(planning.told(examined, found), output, json)
    options.require_none(len(found), exit_code)


def test(file: File, test: Case = None, json: options.Json = False, output: options.Output = "table") -> None:
    """Try the test cases of a file

    Puts the records of each [[test]] through the real transform of its stage, and shows what differs from what is
    expected. Exits with 3 when a case fails. Opens no store.

    Example: grafctl pipeline test examples/pipeline.toml
    """
    from grafctl import render
    from grafctl.pipeline import declaring, trying

    tried = trying.try_cases(declaring.read(file), test)
    render.show(tried, output, json)
    options.require_passed(tried.failed, len(tried.cases))


def plan(
    file: File,
    domain: OnlyDomain = None,
    store: ComparedStore = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show where each stage runs, and why not elsewhere

    Names the line of the file that decides. With a store it also lists what apply would create there. Changes nothing.

    Example: grafctl pipeline plan examples/pipeline.toml -d gcp/us-central1
    """
    from grafctl import render
    from grafctl.pipeline import declaring, planning

    render.show(planning.plan(declaring.examine_file(file), domain, store), output, json)


def graph(file: File, format: Form = "text", json: options.Json = False, output: options.Output = "table") -> None:
    """Draw what feeds what

    Prints sources, stages, resources and sinks as text, Mermaid or DOT, with the domains of each. Changes nothing.

    Example: grafctl pipeline graph examples/pipeline.toml --format mermaid
    """
    from grafctl import render
    from grafctl.pipeline import declaring
    from grafctl.pipeline.graph import draw

    render.show(draw(declaring.examine_file(file), format), output, json)
