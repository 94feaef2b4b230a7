"""`idem`: stores of what was done under a key, so that it is done once."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Option
from grafctl.commands.queue import LogName, Replicas
from grafctl.typed import Any

Name = Annotated[
    str,
    Argument(
        metavar="NAME",
        help="Name of the idempotency store",
        parser=options.name_of("idempotency store"),
        autocompletion=options.names_in_store("resource"),
    ),
]
OptionalName = Annotated[
    str | None,
    Argument(
        metavar="[NAME]",
        help="Store whose keys are listed; without it the stores are",
        parser=options.name_of("idempotency store"),
        autocompletion=options.names_in_store("resource"),
        show_default=False,
    ),
]
Key = Annotated[str, Argument(metavar="KEY", help="Idempotency key", parser=options.text_of("key"), show_default=False)]
OptionalKey = Annotated[
    str | None, Argument(metavar="[KEY]", help="Idempotency key", parser=options.text_of("key"), show_default=False)
]
Stage = Annotated[
    str, Option("--stage", metavar="NAME", help="Whose key it is: a namespace", parser=options.name_of("stage"))
]
OptionalStage = Annotated[
    str | None, Option("--stage", metavar="NAME", help="Keys of this stage", parser=options.name_of("stage"))
]
Token = Annotated[int, Option("--token", metavar="N", help="Token that reserve gave", parser=options.whole())]
RetainAge = Annotated[
    int | None,
    Option(
        "--retain-age", metavar="TIME", help="Let `idem expire` forget what is older, such as 30d",
        parser=options.duration_ms,
    ),
]  # fmt: skip
OlderThan = Annotated[
    int | None,
    Option("--older-than", metavar="TIME", help="Forget what is older, such as 7d", parser=options.duration_ms),
]
LeaseTime = Annotated[
    int,
    Option(
        "--lease", metavar="TIME", help="Others may take over after", parser=options.duration_ms, show_default="30s"
    ),
]
Payload = Annotated[
    str | None,
    Option(
        "--payload", metavar="TEXT|@FILE|-", help="What the work is done for: only its hash is kept",
        parser=options.text_of("payload"),
    ),
]  # fmt: skip
Fingerprint = Annotated[
    str | None,
    Option("--fingerprint", metavar="sha256:HEX", help="Its hash, instead", parser=options.text_of("fingerprint")),
]
Canonical = Annotated[bool, Option("--canonical", help="The payload is JSON: take equal values as equal")]
Outcome = Annotated[
    str,
    Option("--result", metavar="TEXT|@FILE|-", help="What is given to whoever comes again", parser=str),
]
Max = Annotated[int, Option("--max", "-n", metavar="N", help="List so many keys at most", parser=options.whole(1))]


def create(
    name: Name,
    store: options.StorePath,
    replica: Replicas = None,
    log: LogName = None,
    ack: options.AckRule = "majority",
    min_payload: options.MinPayload = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
    retain_age: RetainAge = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Create an idempotency store with its replicas and placement

    It keeps keys, fingerprints and results, replicated as a queue is. Without --retain-age nothing in it expires. In
    one --log with a queue, what is recorded here and what is published there can be one commit.

    Example: grafctl idem create charges --replica charges-aws=aws/us-east-1/us-east-1a \
      --replica charges-gcp=gcp/us-central1 --allow aws --allow gcp
    """
    from grafctl import client, interruption, render

    policy: dict[str, Any] = {"ack": ack, "min_payload": min_payload, "allow": allow or [], "deny": deny or []}
    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.idem.create(
            name, replicas=replica or [], log=log, **policy, retain_age_ms=retain_age, dry_run=dry_run
        )
        render.show(change, output, json)


def list_(
    store: options.StorePath,
    name: OptionalName = None,
    stage: OptionalStage = None,
    max: Max = 100,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """List the idempotency stores, or the keys of one

    Changes nothing. Of a store the reserved keys come first, and then the completed ones, the oldest first.

    Example: grafctl idem list charges
    """
    options.require_one(name is not None or stage is None, "--stage belongs to the keys of one store.", "Name it.")

    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.idem.list() if name is None else opened.idem.keys(name, stage=stage, max=max)

    render.show(listed, output, json)


def show(
    name: Name,
    store: options.StorePath,
    key: OptionalKey = None,
    stage: OptionalStage = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Show an idempotency store, or what is kept under a key

    Changes nothing.

    Example: grafctl idem show charges order-1 --stage charge
    """
    options.require_one(
        (key is None) == (stage is None),
        "A key and its --stage go together.",
        "Write: grafctl idem show NAME KEY --stage STAGE",
    )

    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.idem.show(name) if key is None else opened.idem.key(name, key, stage=stage or "")

    render.show(shown, output, json)


def reserve(
    name: Name,
    key: Key,
    stage: Stage,
    domain: options.Domain,
    store: options.StorePath,
    payload: Payload = None,
    fingerprint: Fingerprint = None,
    canonical: Canonical = False,
    lease: LeaseTime = 30_000,
    epoch: options.Epoch = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Reserve a key before the work, or get the first result

    Gives a token to complete it with. Where the same work is done already, its result; where the payload is another, a
    conflict (16); where somebody is at it, busy (22) until their lease ends.

    Example: grafctl idem reserve charges order-1 --stage charge --payload '{"total":42}' -d gcp/us-central1
    """
    options.require_one(
        (payload is None) != (fingerprint is None) and not (canonical and payload is None),
        "Give either the --payload or its --fingerprint; --canonical belongs to a payload.",
        "Write: grafctl idem reserve NAME KEY --stage STAGE --payload TEXT",
    )

    from grafctl import client, interruption, render
    from grafctl.store.fingerprints import canonical_json, parse_fingerprint

    work: dict[str, Any] = {"fingerprint": None if fingerprint is None else parse_fingerprint(fingerprint)}
    if payload is not None:
        body = options.content_of(payload)
        work["payload"] = canonical_json(body) if canonical else body
    caller: dict[str, Any] = {"domain": domain, "epoch": epoch, "lease_ms": lease}
    with interruption.change(dry_run), client.open(store) as opened:
        reservation = opened.idem.reserve(name, key, stage=stage, **work, **caller, dry_run=dry_run)
        render.show(reservation, output, json)


def complete(
    name: Name,
    key: Key,
    stage: Stage,
    token: Token,
    result: Outcome,
    domain: options.Domain,
    store: options.StorePath,
    epoch: options.Epoch = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Keep the result of the work under a key

    Whoever reserves the key with the same payload gets it from now on. An older token than the one in force is refused
    (14). The same again changes nothing; another result is a conflict (16).

    Example: grafctl idem complete charges order-1 --stage charge --token 1 --result paid -d gcp/us-central1
    """
    from grafctl import client, interruption, render

    caller: dict[str, Any] = {"token": token, "domain": domain, "epoch": epoch}
    body = options.content_of(result)
    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.idem.complete(name, key, stage=stage, result=body, **caller, dry_run=dry_run)
        render.show(change, output, json)


def release(
    name: Name,
    key: Key,
    stage: Stage,
    token: Token,
    domain: options.Domain,
    store: options.StorePath,
    epoch: options.Epoch = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Give a reservation back before its lease ends

    The key is free at once, for any payload.

    Example: grafctl idem release charges order-2 --stage charge --token 2 -d gcp/us-central1
    """
    from grafctl import client, interruption, render

    caller: dict[str, Any] = {"token": token, "domain": domain, "epoch": epoch}
    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.idem.release(name, key, stage=stage, **caller, dry_run=dry_run)
        render.show(change, output, json)


def expire(
    name: Name,
    domain: options.Domain,
    store: options.StorePath,
    older_than: OlderThan = None,
    epoch: options.Epoch = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Forget keys that are older than the retention

    The retention is what --retain-age of `idem create` said, or a longer --older-than; without either it is refused. A
    live reservation never expires; one that was left does, so long after its lease.

    Example: grafctl idem expire charges --older-than 30d -d gcp/us-central1
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.idem.expire(name, domain=domain, older_than_ms=older_than, epoch=epoch, dry_run=dry_run)
        render.show(change, output, json)
