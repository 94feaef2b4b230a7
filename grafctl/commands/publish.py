"""`publish`: records in, durable before the command returns."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Literal, Option
from grafctl.typed import Any

Payload = Annotated[
    str,
    Argument(
        metavar="PAYLOAD|@FILE|-",
        help="The record, a file that holds it, or - for records on stdin",
        show_default=False,
    ),
]
RecordId = Annotated[
    str | None, Option("--id", metavar="KEY", help="Publish this id once only", parser=options.text_of("id"))
]
Key = Annotated[
    str | None,
    Option("--key", metavar="KEY", help="Key that goes with the record", parser=options.text_of("key")),
]
Headers = Annotated[
    list[str] | None,
    Option("--header", metavar="NAME=VALUE", help="Header; repeatable", parser=options.text_of("header")),
]
Schema = Annotated[
    str | None,
    Option("--schema", metavar="ID", help="Schema the caller expects", parser=options.name_of("schema")),
]
Operation = Annotated[
    str | None,
    Option(
        "--operation",
        metavar="KEY",
        help="Operation key of an attempt to repeat",
        parser=options.text_of("operation key"),
    ),
]
Input = Annotated[
    Literal["lines", "jsonl"],
    Option("--input", metavar="FORMAT", help="With -: lines are payloads, jsonl objects are records"),
]
Atomic = Annotated[bool, Option("--atomic", help="With -: publish all or nothing")]
TimeoutMs = Annotated[
    int,
    Option("--timeout", metavar="TIME", help="Give up after", parser=options.duration_ms, show_default="10s"),
]


def publish(
    resource: options.Resource,
    payload: Payload,
    domain: options.Domain,
    store: options.StorePath,
    id: RecordId = None,
    key: Key = None,
    header: Headers = None,
    input: Input = "lines",
    atomic: Atomic = False,
    schema: Schema = None,
    operation: Operation = None,
    epoch: options.Epoch = None,
    timeout: TimeoutMs = 10_000,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Publish one record, or a stream of them from stdin

    Returns when a quorum of domains has the record on disk, and prints its offset. An --id that was used before with
    the same payload gives the old offset; with another payload it is refused (16). With - each line is a record,
    without its newline; a payload that begins with @ or is - itself comes in this way.

    Example: grafctl publish migration-orders created --id order-1 -d aws/us-east-1/us-east-1a
    """
    one = payload != "-"
    options.require_one(one or not (id or key or header or operation), *_ONE_RECORD)
    options.require_one(not one or (input == "lines" and not atomic), *_STREAM)
    record: dict[str, Any] = {
        "id": id,
        "key": key,
        "headers": options.pairs_of(header, "header") or None,
        "operation": operation,
    }

    from grafctl import client, interruption, render, stream_ends, streams

    source = streams.payload_of(payload) if one else streams.batches(input)
    caller: dict[str, Any] = {"domain": domain, "epoch": epoch, "schema": schema, "timeout_s": timeout / 1000}
    with client.open(store) as opened:
        if isinstance(source, bytes):
            with interruption.Undecided():
                render.show(opened.publish(resource, source, **record, **caller, dry_run=dry_run), output, json)
            return
        acks = streams.published(opened, resource, source, atomic=atomic, dry_run=dry_run, **caller)
        conflicts = render.acks(acks, output, json, quiet)

    stream_ends.require_no_conflicts(conflicts)


_ONE_RECORD = (
    "--id, --key, --header and --operation belong to one record, and - is a stream of them.",
    "Give them in the stream: grafctl publish RESOURCE - --input jsonl",
)
_STREAM = (
    "--input and --atomic belong to a stream of records.",
    "Read one from stdin: grafctl publish RESOURCE - --input jsonl",
)
