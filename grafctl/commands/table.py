"""`table`: values under keys, replicated, and written only where the version is the expected one."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument, Literal, Option
from grafctl.commands.publish import TimeoutMs
from grafctl.commands.queue import LogName, Replicas
from grafctl.typed import Any

TableName = Annotated[
    str,
    Argument(
        metavar="TABLE",
        help="Name of the table",
        parser=options.name_of("table"),
        autocompletion=options.names_in_store("resource"),
    ),
]
Key = Annotated[str, Argument(metavar="KEY", help="Key of 1 to 480 bytes", parser=options.filled("key"))]
Keys = Annotated[
    list[str],
    Argument(metavar="KEY...", help="Keys of 1 to 480 bytes", parser=options.filled("key"), show_default=False),
]
Value = Annotated[
    str,
    Argument(
        metavar="VALUE|@FILE|-", help="The value, a file that holds it, or - for stdin", parser=str, show_default=False
    ),
]
KeyBase64 = Annotated[bool, Option("--key-base64", help="KEY is base64, as JSON has keys that are not UTF-8")]
Expect = Annotated[
    int | None,
    Option(
        "--expect", metavar="VERSION", help="Only where this version is there; 0: no such key", parser=options.whole()
    ),
]
IfAbsent = Annotated[bool, Option("--if-absent", help="Only where there is no such key; the same as --expect 0")]
Vshards = Annotated[
    int,
    Option("--vshards", metavar="N", help="In how many parts it can be moved, for good", parser=options.whole(1)),
]  # fmt: skip
Vshard = Annotated[int | None, Option("--vshard", metavar="N", help="Only this vshard", parser=options.whole())]
Prefix = Annotated[
    str | None, Option("--prefix", metavar="TEXT", help="Only keys that begin so", parser=options.filled("prefix"))
]
Max = Annotated[
    int | None,
    Option("--max", "-n", metavar="N", help="At most so many keys", parser=options.whole(1), show_default="all"),
]
File = Annotated[
    str,
    Argument(
        metavar="FILE|-", help="JSON Lines or CSV, or - for stdin", parser=options.path_text, show_default=False
    ),
]  # fmt: skip
Input = Annotated[
    Literal["auto", "jsonl", "csv"],
    Option("--input", metavar="FORMAT", help="jsonl or csv; auto: what the file's ending says, else jsonl"),
]
KeyColumn = Annotated[
    str | None,
    Option("--key", metavar="COLUMN", help="Column or field of the keys", parser=options.text_of("name of the column")),
]
ValueColumn = Annotated[
    str | None,
    Option(
        "--value", metavar="COLUMN", help="Column or field of the values; without it, with --key: the whole row",
        parser=options.text_of("name of the column"),
    ),
]  # fmt: skip
OutFile = Annotated[
    str | None,
    Argument(metavar="[FILE]", help="Where to; without it stdout", parser=options.path_text, show_default=False),
]
Rows = Annotated[
    Literal["auto", "jsonl", "csv"],
    Option("--output", "-o", metavar="FORMAT", help="jsonl or csv; auto: what the file's ending says, else jsonl"),
]
Reader = Annotated[
    str | None,
    Option(
        "--group", "-g", metavar="GROUP", help="Who reads: `consumer switch` says from which table",
        parser=options.name_of("group"),
    ),
]  # fmt: skip
Raw = Annotated[bool, Option("--raw", help="Print the bytes of one value, and nothing else")]


def create(
    name: TableName,
    store: options.StorePath,
    replica: Replicas = None,
    log: LogName = None,
    ack: options.AckRule = "majority",
    min_payload: options.MinPayload = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
    vshards: Vshards = 1024,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    r"""Create a keyed table with its replicas and placement

    A key belongs to one of its vshards, by the first 8 bytes of the SHA-256 of the key modulo their number, which never
    changes. Each vshard can be moved to other domains while it is being written.

    Example: grafctl table create accounts --replica accounts-aws=aws/us-east-1/us-east-1a \
      --replica accounts-gcp=gcp/us-central1 --allow aws --allow gcp
    """
    from grafctl import client, interruption, render

    policy: dict[str, Any] = {"ack": ack, "min_payload": min_payload, "allow": allow or [], "deny": deny or []}
    with interruption.change(dry_run, several=True), client.open(store) as opened:
        change = opened.tables.create(name, replicas=replica or [], log=log, **policy, vshards=vshards, dry_run=dry_run)
        render.show(change, output, json)


def list_(store: options.StorePath, json: options.Json = False, output: options.Output = "table") -> None:
    """List the tables

    Changes nothing.

    Example: grafctl table list
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.tables.list()

    render.show(listed, output, json)


def show(
    name: TableName, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show what defines a table

    Changes nothing.

    Example: grafctl table show accounts
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.tables.show(name)

    render.show(shown, output, json)


def put(
    name: TableName,
    key: Key,
    value: Value,
    domain: options.Domain,
    store: options.StorePath,
    expect: Expect = None,
    if_absent: IfAbsent = False,
    key_base64: KeyBase64 = False,
    epoch: options.Epoch = None,
    timeout: TimeoutMs = 10_000,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Put a value under a key, durable before it returns

    Prints the version. A value that is there already is left as it is. With --expect only where that version is there,
    else a conflict (13): so nobody's write is lost. A value that begins with @ or is - itself comes in by stdin.

    Example: grafctl table put accounts alice '{"balance":100}' -d gcp/us-central1
    """
    options.require_one(
        not (if_absent and expect), "--if-absent expects that there is no such key.", "Leave one of the two out."
    )

    from grafctl import client, interruption, render

    caller: dict[str, Any] = {"domain": domain, "epoch": epoch, "timeout_s": timeout / 1000}
    wanted, body = options.key_of(key, key_base64), options.content_of(value)
    with interruption.change(dry_run), client.open(store) as opened:
        expected = 0 if if_absent else expect
        stored = opened.tables.put(name, wanted, body, expect=expected, **caller, dry_run=dry_run)
        render.show(stored, output, json)


def delete(
    name: TableName,
    key: Key,
    domain: options.Domain,
    store: options.StorePath,
    expect: Expect = None,
    key_base64: KeyBase64 = False,
    epoch: options.Epoch = None,
    timeout: TimeoutMs = 10_000,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Delete a key

    Where there is no such key nothing changes. Its version never comes again, whatever is put there later.

    Example: grafctl table delete accounts bob --expect 2 -d gcp/us-central1
    """
    from grafctl import client, interruption, render

    caller: dict[str, Any] = {"domain": domain, "epoch": epoch, "timeout_s": timeout / 1000}
    wanted = options.key_of(key, key_base64)
    with interruption.change(dry_run), client.open(store) as opened:
        stored = opened.tables.delete(name, wanted, expect=expect, **caller, dry_run=dry_run)
        render.show(stored, output, json)


def get(
    name: TableName,
    key: Keys,
    domain: options.Domain,
    store: options.StorePath,
    group: Reader = None,
    raw: Raw = False,
    key_base64: KeyBase64 = False,
    timeout: TimeoutMs = 10_000,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Get what is there under keys

    The newest that was acknowledged. For people a key is one line: key, version, value. Of several keys those that are
    there are printed, and the others named at the end (10).

    Example: grafctl table get accounts alice -d aws/us-east-1/us-east-1a
    """
    options.require_one(
        not raw or (len(key) == 1 and not json and output == "table"),
        "--raw prints the bytes of one value, without any form.",
        "Name one key, and take neither --json nor -o with it.",
    )

    from grafctl import client, render_rows

    keys = [options.key_of(text, key_base64) for text in key]
    with client.open(store) as opened:
        found = opened.tables.get_many(name, keys, domain=domain, group=group, timeout_s=timeout / 1000)

    render_rows.got(name, keys, found, output, json, raw, group)


def scan(
    name: TableName,
    domain: options.Domain,
    store: options.StorePath,
    prefix: Prefix = None,
    vshard: Vshard = None,
    group: Reader = None,
    max: Max = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Scan the keys of a table, by vshard and then by key

    Each part is the newest when it is read; what is written meanwhile may be seen or not. For people a key is one line:
    key, version, value. -o jsonl prints them as they come.

    Example: grafctl table scan accounts --prefix a --max 10 -d gcp/us-central1
    """
    from grafctl import client, render_rows

    with client.open(store) as opened:
        what: dict[str, Any] = {"prefix": options.bytes_of(prefix or ""), "vshard": vshard, "group": group}
        rows = opened.tables.scan(name, domain=domain, **what)
        render_rows.rows(name, rows, output, json, max)


def count(
    name: TableName,
    store: options.StorePath,
    vshard: Vshard = None,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Count the keys of a table and their bytes

    Changes nothing, and reads no key: each vshard keeps count.

    Example: grafctl table count accounts
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.tables.count(name, vshard=vshard)

    render.show(shown, output, json)


def load(
    name: TableName,
    file: File,
    domain: options.Domain,
    store: options.StorePath,
    input: Input = "auto",
    key: KeyColumn = None,
    value: ValueColumn = None,
    epoch: options.Epoch = None,
    timeout: TimeoutMs = 10_000,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Load keys and values from a file or from stdin

    A line of JSON Lines is {"key":...,"value":...}: a text is stored as it is, other JSON as its compact text. CSV
    needs --key. What is there already is not written again, so the same command goes on after Ctrl-C. A line that is
    no row is named and left out (2). Where a key comes twice the last one counts.

    Example: grafctl table load accounts examples/accounts.csv --key id -d gcp/us-central1
    """
    from grafctl import client, interruption, render_rows, table_input

    caller: dict[str, Any] = {"domain": domain, "epoch": epoch, "timeout_s": timeout / 1000, "dry_run": dry_run}
    with (
        table_input.Source(file, input, key=key, value=value) as source,
        interruption.resumable(dry_run),
        client.open(store) as opened,
    ):
        render_rows.loads(lambda rows: opened.tables.load(name, rows, **caller), source, output, json, quiet)


def export(
    name: TableName,
    domain: options.Domain,
    store: options.StorePath,
    file: OutFile = None,
    group: Reader = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
    output: Rows = "auto",
) -> None:
    """Export all keys and values, for load to read again

    CSV has the columns key and value, and only text; JSON Lines has every byte. A FILE is written beside its place and
    moved there when it is whole. --json tells how many rows it has.

    Example: grafctl table export accounts accounts.jsonl -d aws/us-east-1/us-east-1a
    """
    options.require_one(
        not json or file is not None,
        "--json tells of a file, and the rows go to stdout.",
        "Name a FILE, or take -o jsonl.",
    )

    from grafctl import client, render_rows, table_input

    form = table_input.form_of(file or "") if output == "auto" else output
    with client.open(store) as opened:
        render_rows.exports(opened.tables.scan(name, domain=domain, group=group), name, file, form, json, quiet)
