"""`edge`: local queues between two stages of one domain."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Option

EdgeName = Annotated[
    str,
    Argument(
        metavar="NAME", help="Name of the edge and of its lease", parser=options.name_of("edge"), show_default=False
    ),
]
OptionalEdge = Annotated[
    str | None,
    Argument(metavar="[NAME]", help="One edge only", parser=options.name_of("edge"), show_default=False),
]
Payload = Annotated[
    str,
    Argument(metavar="PAYLOAD|@FILE|-", help="The record, a file that holds it, or - for stdin", show_default=False),
]
Slots = Annotated[
    int, Option("--slots", metavar="N", help="Slots of the ring; one stays free", parser=options.whole(2))
]
Token = Annotated[int, Option("--token", metavar="N", help="Token that acquire gave", parser=options.whole())]
OldToken = Annotated[
    int, Option("--token", metavar="N", help="Token of the lease that it has or had", parser=options.whole())
]
OptionalToken = Annotated[
    int | None, Option("--token", metavar="N", help="Only under the lease with this token", parser=options.whole())
]
Max = Annotated[
    int, Option("--max", "-n", metavar="N", help="At most so many records", parser=options.whole(1), show_default="1")
]
FailEmpty = Annotated[bool, Option("--fail-empty", help="Exit with 4 when nothing is delivered")]
FailFull = Annotated[bool, Option("--fail-full", help="Exit with 22 when there is no room")]
Watch = Annotated[bool, Option("--watch", "-w", help="Look again every two seconds until Ctrl-C")]
Prometheus = Annotated[
    str | None, Option("--prometheus", metavar="FILE", help="Write the counts to FILE as Prometheus text")
]


def create(
    name: EdgeName,
    slots: Slots,
    token: Token,
    domain: options.Domain,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Make a local queue in the segment of a lease

    The lease has the edge's name. The edge is local: when its domain is lost, so is what is in it. Use a queue for
    work that must survive, and an edge between two stages of one machine that can read their input again.

    Example: grafctl edge create parsed --slots 16 --token 1 -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.edges.create(name, token=token, slots=slots, domain=domain, dry_run=dry_run)
        render.show(change, output, json)


def relocate(
    name: EdgeName,
    token: OldToken,
    domain: options.Domain,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Give an edge a new segment after it lost its own

    Helps where a lease has expired or its segment is lost, not where it was revoked or somebody else took over (14).
    The new segment is empty, and the next generation; push again what was in the old one.

    Example: grafctl edge relocate parsed --token 1 -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.edges.relocate(name, token=token, domain=domain, dry_run=dry_run)
        render.show(change, output, json)


def remove(
    name: EdgeName,
    store: options.StorePath,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Remove an edge whose lease is over

    What is on it and what its ends counted is gone. The lease stays until lease forget.

    Example: grafctl edge remove parsed --yes
    """
    from grafctl import client, interruption, render

    render.confirm(f"Remove the edge {name} and what is on it?", yes or dry_run)

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.edges.remove(name, dry_run=dry_run)
        render.show(change, output, json)


def push(
    name: EdgeName,
    payload: Payload,
    domain: options.Domain,
    store: options.StorePath,
    token: OptionalToken = None,
    fail_full: FailFull = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Append a record to an edge

    An edge without room says so and takes nothing. A record has no copy elsewhere and no id: pushed again, it is there
    twice. Use publish where it must be durable in several domains.

    Example: grafctl edge push parsed '{"order":1}' -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render

    body = options.content_of(payload)
    with interruption.change(dry_run), client.open(store) as opened:
        shown = opened.edges.push(name, body, domain=domain, token=token, dry_run=dry_run)
        render.show(shown, output, json)
    options.require_room(name, full=shown.body["full"], fail_full=fail_full)


def pop(
    name: EdgeName,
    domain: options.Domain,
    store: options.StorePath,
    max: Max = 1,
    token: OptionalToken = None,
    fail_empty: FailEmpty = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Take the next records out of an edge

    They are taken out after they were written to stdout, so one that could not be written comes again. --dry-run
    only shows them. For people a record is one line: offset, -, payload.

    Example: grafctl edge pop parsed --max 10 -d aws/us-east-1/us-east-1a
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        taken = opened.edges.take(name, domain=domain, max=max, token=token)
        render.records(taken, output, json)
        if not dry_run:
            opened.edges.finish(name, taken, domain=domain)
    options.require_record(name, empty=taken.body["empty"], fail_empty=fail_empty)


def status(
    store: options.StorePath,
    name: OptionalEdge = None,
    watch: Watch = False,
    prometheus: Prometheus = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show the edges, their leases and what passed

    An edge whose segment is torn or gone is disconnected, and a new lease helps. --prometheus writes the same to FILE,
    at once and whole, for a collector of text files; with --watch again each time.

    Example: grafctl edge status
    """
    from grafctl import client, render, render_metrics

    with client.open(store) as opened:
        look = render_metrics.writing(prometheus, lambda: opened.edges.status(name))
        (render.watch if watch else render.once)(look, output, json)
