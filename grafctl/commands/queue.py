"""`queue`: resources that hold records in order."""

from grafctl import names
from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Option
from grafctl.typed import Any

QueueName = Annotated[
    str,
    Argument(
        metavar="NAME",
        help="Name of the queue",
        parser=options.name_of("queue"),
        autocompletion=options.names_in_store("resource"),
    ),
]
Schema = Annotated[
    str, Option("--schema", metavar="ID", help="Schema of its records", parser=options.name_of("schema"))
]
Replicas = Annotated[
    list[str] | None,
    Option(
        "--replica", metavar="ID=DOMAIN[:role]", help="Copy in a domain: voter, witness or learner; repeatable",
        parser=options.text_of("replica"),
    ),
]  # fmt: skip
LogName = Annotated[
    str | None,
    Option(
        "--log", metavar="NAME", help="Log to share with other resources; its first one brings the replicas",
        parser=options.name_of("log"),
    ),
]  # fmt: skip
RetainAge = Annotated[
    int | None,
    Option(
        "--retain-age", metavar="TIME", help="Keep finished records so long, such as 7d", parser=options.duration_ms
    ),
]
RetainBytes = Annotated[
    int | None,
    Option("--retain-bytes", metavar="SIZE", help="Keep so many bytes of finished records", parser=options.size_bytes),
]
RetainCount = Annotated[
    int | None,
    Option("--retain-count", metavar="N", help="Keep so many finished records at least", parser=options.whole()),
]
Compression = Annotated[
    str,
    Option(
        "--compression", metavar="NAME", help="How its records rest on disk: none or zstd",
        parser=names.check_compression,
    ),
]  # fmt: skip


def create(
    name: QueueName,
    schema: Schema,
    store: options.StorePath,
    replica: Replicas = None,
    log: LogName = None,
    ack: options.AckRule = "majority",
    min_payload: options.MinPayload = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
    retain_age: RetainAge = None,
    retain_bytes: RetainBytes = None,
    retain_count: RetainCount = None,
    compression: Compression = "none",
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Create a queue with its replicas and placement

    Makes the queue at generation 1. Its records go to every replica; --allow and --deny say which domains may publish.

    Example: grafctl queue create migration-orders --schema migration-work.v1 \
      --replica orders-aws-a=aws/us-east-1/us-east-1a --replica orders-gcp-central=gcp/us-central1 \
      --allow aws --allow gcp
    """
    from grafctl import client, interruption, render

    retention: dict[str, Any] = {"retain_age_ms": retain_age, "retain_bytes": retain_bytes}
    retention |= {"retain_count": retain_count}
    placement: dict[str, Any] = {"allow": allow or [], "deny": deny or []}
    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.queues.create(
            name,
            schema=schema,
            replicas=replica or [],
            log=log,
            ack=ack,
            min_payload=min_payload,
            **placement,
            **retention,
            compression=compression,
            dry_run=dry_run,
        )
        render.show(change, output, json)


def list_(store: options.StorePath, json: options.Json = False, output: options.Output = "table") -> None:
    """List the queues

    Changes nothing.

    Example: grafctl queue list
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.queues.list()

    render.show(listed, output, json)


def show(
    name: QueueName, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show what defines a queue

    Changes nothing.

    Example: grafctl queue show migration-orders
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.queues.show(name)

    render.show(shown, output, json)


def trim(
    name: QueueName,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Let go of what retention allows

    Publishing does that too where a limit is passed; this is for a queue that nobody publishes to. Nothing goes that a
    group has not finished.

    Example: grafctl queue trim migration-orders
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.queues.trim(name, dry_run=dry_run)
        render.show(change, output, json)
