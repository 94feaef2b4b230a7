"""`can`: ask the gate without going through."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Exit, Option

Operation = Annotated[
    str,
    Argument(
        metavar="OP",
        help="publish, poll, ack, catch-up and so on",
        parser=options.text_of("operation"),
        show_default=False,
    ),
]
VerdictCode = Annotated[bool, Option("--exit-code", help="Exit like the operation would: 11, 12 or 14")]


def can(
    op: Operation,
    resource: options.Resource,
    domain: options.Domain,
    store: options.StorePath,
    group: options.OptionalGroup = None,
    exit_code: VerdictCode = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Ask whether an operation would be allowed

    Changes nothing, and says by which line of which policy. The answer comes from the code that the operation itself
    runs.

    Example: grafctl can poll migration-orders --group active-workers -d gcp/us-central1
    """
    from grafctl import client, render

    with client.open(store) as opened:
        verdict = opened.can(op, resource, domain=domain, group=group)

    render.show(verdict, output, json)
    raise Exit(verdict.exit or 0 if exit_code else 0)
