"""`audit`: the chained record of changes and refusals."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Option

Count = Annotated[
    int, Option("--count", "-n", metavar="N", help="How many of the latest records", parser=options.whole(1))
]
Sequence = Annotated[
    int, Argument(metavar="SEQ", help="Number of the record", parser=options.whole(), show_default=False)
]


def tail(
    store: options.StorePath, count: Count = 20, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show the latest changes and refusals

    Changes nothing.

    Example: grafctl audit tail --count 5
    """
    from grafctl import client, render

    with client.open(store) as opened:
        answer = opened.audit.tail(count)

    render.show(answer, output, json)


def verify(
    store: options.StorePath,
    exit_code: options.ExitCode = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Check that the audit chain is unbroken

    Changes nothing. Names the domains in which a record was altered or left out.

    Example: grafctl audit verify
    """
    from grafctl import client, render

    with client.open(store) as opened:
        answer = opened.audit.verify()

    render.show(answer, output, json)
    options.require_none(len(answer.body["broken"]), exit_code)


def explain(
    seq: Sequence, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Explain one change or refusal

    Changes nothing. SEQ is the number that a refusal prints as `audit`.

    Example: grafctl audit explain 0
    """
    from grafctl import client, render

    with client.open(store) as opened:
        answer = opened.audit.explain(seq)

    render.show(answer, output, json)
