"""`topic`: records in order, for subscriptions that each read all of them or a part."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Literal, Option
from grafctl.commands.queue import Compression, LogName, Replicas, RetainAge, RetainBytes, RetainCount, Schema
from grafctl.typed import Any

TopicName = Annotated[
    str,
    Argument(
        metavar="NAME",
        help="Name of the topic",
        parser=options.name_of("topic"),
        autocompletion=options.names_in_store("resource"),
    ),
]
Discard = Annotated[
    Literal["finished", "oldest"],
    Option(
        "--discard", metavar="POLICY", help="finished: retention lets go of what all finished; oldest: of the oldest"
    ),
]


def create(
    name: TopicName,
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
    discard: Discard = "finished",
    compression: Compression = "none",
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Create a topic with its replicas and placement

    Makes the topic at generation 1. `consumer create` adds durable subscriptions; each reads it at its own pace. With
    --discard oldest the limits go first, and `topic show` says what each subscription lost.

    Example: grafctl topic create order-events --schema order-event.v1 \
      --replica events-aws=aws/us-east-1/us-east-1a --replica events-gcp=gcp/us-central1 --allow aws --allow gcp
    """
    from grafctl import client, interruption, render

    retention: dict[str, Any] = {"retain_age_ms": retain_age, "retain_bytes": retain_bytes}
    retention |= {"retain_count": retain_count, "discard": discard}
    placement: dict[str, Any] = {"allow": allow or [], "deny": deny or []}
    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.topics.create(
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
    """List the topics

    Changes nothing.

    Example: grafctl topic list
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.topics.list()

    render.show(listed, output, json)


def show(
    name: TopicName, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show what defines a topic, and how far its subscriptions are

    Changes nothing. The lag of a subscription counts offsets; its filter may leave some of them out.

    Example: grafctl topic show order-events
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.topics.show(name)

    render.show(shown, output, json)


def trim(
    name: TopicName,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Let go of what retention allows

    Publishing does that too where a limit is passed; this is for a topic that nobody publishes to.

    Example: grafctl topic trim order-events --dry-run
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.topics.trim(name, dry_run=dry_run)
        render.show(change, output, json)
