"""`topic`: records in order, for subscriptions that each read all of them or a part."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument
from grafctl.commands.queue import Compression, LogName, Replicas, RetainAge, RetainBytes, Schema
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
    compression: Compression = "none",
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Create a topic with its replicas and placement

    Makes the topic at generation 1. `consumer create` adds durable subscriptions; each reads it at its own pace.

    Example: grafctl topic create order-events --schema order-event.v1 \
      --replica events-aws=aws/us-east-1/us-east-1a --replica events-gcp=gcp/us-central1 --allow aws --allow gcp
    """
    from grafctl import client, interruption, render

    retention: dict[str, Any] = {"retain_age_ms": retain_age, "retain_bytes": retain_bytes}
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
    """Show what defines a topic

    Changes nothing.

    Example: grafctl topic show order-events
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.topics.show(name)

    render.show(shown, output, json)
