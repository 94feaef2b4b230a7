"""`poll` and `peek`: records out, with a lease and without."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Literal, Option

Max = Annotated[
    int | None,
    Option("--max", "-n", metavar="N", help="At most so many records", parser=options.whole(1), show_default="100"),
]
Wait = Annotated[
    int,
    Option(
        "--wait", metavar="TIME", help="Wait so long for a first record", parser=options.duration_ms, show_default="0"
    ),
]
Follow = Annotated[bool, Option("--follow", "-f", help="Go on until Ctrl-C; --max then has no default")]
AckMode = Annotated[
    Literal["none", "auto"],
    Option("--ack", metavar="MODE", help="auto: acknowledge what was written to stdout; none: only lease"),
]
Visibility = Annotated[
    int,
    Option("--visibility", metavar="TIME", help="Length of the lease", parser=options.duration_ms, show_default="30s"),
]
FailEmpty = Annotated[bool, Option("--fail-empty", help="Exit with 4 when nothing is delivered")]
Offset = Annotated[int | None, Option("--offset", metavar="N", help="Where to begin", parser=options.whole())]


def poll(
    resource: options.Resource,
    group: options.GroupOption,
    domain: options.Domain,
    store: options.StorePath,
    max: Max = None,
    wait: Wait = 0,
    follow: Follow = False,
    ack: AckMode = "none",
    visibility: Visibility = 30_000,
    fail_empty: FailEmpty = False,
    epoch: options.Epoch = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Take records for a consumer group

    Leases the records: nobody else of the lineage gets them until the lease runs out or they are acknowledged. For
    people a record is one line: offset, id, payload. -o jsonl feeds `publish - --input jsonl`.

    Example: grafctl poll migration-orders --group active-workers -d gcp/us-central1 --max 10
    """
    whole = json or output == "json"
    options.require_one(
        not (follow and whole), "--follow never ends, and --json is one document.", "Take -o jsonl with --follow."
    )

    from grafctl import client, render, stream_ends, streams

    caller = {"domain": domain, "epoch": epoch, "visibility_ms": visibility}
    limit = max if follow else max or 100
    with client.open(store) as opened:
        chunks = streams.deliveries(
            opened,
            resource,
            group,
            max_records=limit,
            wait_s=wait / 1000,
            follow=follow,
            acknowledge=ack == "auto",
            whole=whole,
            **caller,
        )
        count = render.deliveries(chunks, output, json)

    stream_ends.require_records(count, fail_empty=fail_empty)


def peek(
    resource: options.Resource,
    domain: options.Domain,
    store: options.StorePath,
    offset: Offset = None,
    max: Max = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Look at records without taking them

    Reads the copy in the caller's domain. Leases nothing and changes nothing.

    Example: grafctl peek migration-orders --offset 0 --max 1 -d gcp/us-central1
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.peek(resource, domain=domain, offset=offset, max=max or 100)

    render.records(shown, output, json)
