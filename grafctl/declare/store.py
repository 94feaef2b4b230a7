"""A declared store: TOML text to frozen dataclasses, with every problem of the file at once, each with its line.

The file holds `[[domain]]` (name, path), `[[authority]]` (name, public_key), `[[queue]]` (name, schema, replicas, ack,
min_payload, allow, deny, retain_age, retain_bytes, compression) and, below its queue, `[[queue.group]]` (name, allow,
deny, semantics, start, max_deliveries). `replicas` is a table, `id = "domain[:role]"`. Paths are relative to the file.
`[store]` may stand there, empty: where the store is, the caller says. What a pipeline is made of stands in the same
file and is read by `grafctl.pipeline`; here it is let pass. Shown in `examples/provider-migration.toml`.

Promises
- `parse` returns a declaration that holds in itself, or raises `InvalidConfig` with all problems, sorted by line, and
  nothing else, whatever the text is. It opens no file; `read` does, and looks at the public keys too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from grafctl.declare.document import read_text
from grafctl.declare.table import FILE_NAME, NUMBER, Check, Table, kind_of, like
from grafctl.names import check_compression, check_domain, check_name, shown
from grafctl.store.authority import Placement
from grafctl.store.blocks import NONE
from grafctl.store.resources.group import SEMANTICS
from grafctl.store.resources.membership import VOTER, WITNESS
from grafctl.store.rules import ack_sizes
from grafctl.units import duration_ms, size_bytes

PIPELINE_KEYS = ("pipeline", "source", "stage", "sink", "test")

START = like("earliest|latest|[0-9]{1,18}", "earliest, latest or an offset")
SEMANTICS_OF_GROUP = like("|".join(SEMANTICS), " or ".join(SEMANTICS))
ROLE = like("voter|witness", "voter or witness, with which a queue begins")


@dataclass(frozen=True, slots=True)
class DeclaredGroup:
    name: str
    placement: Placement
    semantics: str
    start: str
    max_deliveries: int | None


@dataclass(frozen=True, slots=True)
class DeclaredQueue:
    name: str
    schema: str | None
    replicas: tuple[dict[str, str], ...]  # {id, domain, role}
    ack: str
    min_payload: int | None
    placement: Placement
    retain_age_ms: int | None
    retain_bytes: int | None
    compression: str
    groups: tuple[DeclaredGroup, ...]


@dataclass(frozen=True, slots=True)
class Declaration:
    domains: dict[str, Path | None]  # name -> where, None where the store decides
    authorities: dict[str, Path]  # name -> file of the public key
    queues: tuple[DeclaredQueue, ...]


def read(file: Path) -> Declaration:
    """Returns what a file declares; raises `InvalidConfig`, or `NotFound` where it cannot be read."""
    from grafctl.store.signing import load_public

    return parse(read_text(file), str(file), file.absolute().parent, load_public)


def parse(text: bytes, file: str, folder: Path, check_key: Check = bool) -> Declaration:
    """Returns what a text declares; `check_key` raises a `GrafctlError` for a file that holds no public key."""
    root = Table.of_file(text, file)
    declaration = parse_tables(root, folder, check_key)
    root.pass_over(*PIPELINE_KEYS)
    root.finish(file)
    return declaration


def parse_tables(root: Table, folder: Path, check_key: Check = bool) -> Declaration:
    """Returns what the store's tables of a file declare, and notes what is wrong with them.

    The other keys of the file are left to the caller, who closes the table.
    """
    store = root.take("store", "a table", dict, {}, dict)
    Table("[store]", ("store",), store, root.lines, root.notes).close()
    if not root.body.get("domain", []):
        root.note("The file declares no [[domain]], and a store needs at least one.", "domain")
    domains = dict(_domain(table, folder) for table in root.tables("domain", "domain"))
    authorities = dict(_authority(table, folder, check_key) for table in root.tables("authority", "authority"))
    queues = tuple(_queue(table, domains) for table in root.tables("queue", "queue"))
    places = [path for path in domains.values() if path is not None]
    if len(set(places)) < len(places):
        root.note("Two domains have one path.", "domain")
    return Declaration(domains, authorities, queues)


def _domain(table: Table, folder: Path) -> tuple[str, Path | None]:
    found = table.require("name", check_domain), table.take("path", "text", lambda text: folder / FILE_NAME(text))
    table.close()
    return found


def _authority(table: Table, folder: Path, check_key: Check) -> tuple[str, Path]:
    name = table.require("name", partial(check_name, "authority"))
    path = table.require("public_key", lambda text: folder / FILE_NAME(text))
    if path:
        table.attempt(check_key, path, None, "public_key")
    table.close()
    return name, path


def _queue(table: Table, domains: Iterable[str]) -> DeclaredQueue:
    name = table.require("name", partial(check_name, "queue"))
    schema = table.take("schema", "text", partial(check_name, "schema"))
    replicas = tuple(_replicas(table, domains))
    ack = table.take("ack", "majority, all or a number", str, "majority", str, int)
    min_payload = table.take("min_payload", "a whole number", NUMBER, None, int)
    if replicas:
        _check_replicas(table, replicas, ack, min_payload)
    placement = table.placement()
    if placement.allow and not any(placement.decide(domain)[0] for domain in domains if domain):
        table.note(f"No declared domain may publish to {table.title}: allow covers none, or deny covers all.", "allow")
    retain_age_ms = table.take("retain_age", "text, such as 7d", duration_ms)
    retain_bytes = table.take(
        "retain_bytes", "a size, such as 10GB", lambda size: size_bytes(str(size)), None, str, int
    )
    compression = table.take("compression", "text", check_compression, NONE)
    holders = [replica["domain"] for replica in replicas if replica["role"] == VOTER]
    groups = tuple(_group(group, holders) for group in table.tables("group", "queue.group"))
    table.close()
    return DeclaredQueue(
        name, schema, replicas, ack, min_payload, placement, retain_age_ms, retain_bytes, compression, groups
    )


def _replicas(table: Table, domains: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yields {id, domain, role} of each replica that is one."""
    items = table.take("replicas", 'a table of id = "domain[:role]"', dict, {}, dict)
    if not items:
        table.note(f'{table.title} has no replicas; write [queue.replicas] and under it ID = "DOMAIN".', "replicas")
    for key, text in items.items():
        if not isinstance(text, str):
            table.note(f'Replica {shown(key)} is text, "domain[:role]", not {kind_of(text)}.', "replicas", key)
        elif (replica := table.attempt(partial(_replica, key), text, None, "replicas", key)) is not None:
            if replica["domain"] in domains:
                yield replica
            else:
                table.note(f"Replica {key} is in {replica['domain']}, which no [[domain]] declares.", "replicas", key)


def _replica(replica_id: str, text: str) -> dict[str, str]:
    domain, _, role = text.partition(":")
    return {"id": check_name("replica", replica_id), "domain": check_domain(domain), "role": ROLE(role or VOTER)}


def _check_replicas(table: Table, replicas: tuple[dict[str, str], ...], ack: str, min_payload: int | None) -> None:
    """Notes replicas that cannot stand together, and an acknowledgement rule that cannot hold with them."""
    seen: set[str] = set()
    for replica in replicas:
        if replica["domain"] in seen:
            table.note(f"Two replicas of {table.title} are in {replica['domain']}.", "replicas", replica["id"])
        seen.add(replica["domain"])
    roles = [replica["role"] for replica in replicas]
    try:
        ack_sizes(ack, roles.count(VOTER), roles.count(WITNESS), min_payload)
    except ValueError as error:
        why = str(error).replace("--min-payload", "min_payload").replace("--ack", "ack")
        culprit = next((key for key in ("min_payload", "ack") if key in why and key in table.body), "replicas")
        table.note(f"{table.title}: {why}.", culprit)


def _group(table: Table, holders: list[str]) -> DeclaredGroup:
    name, placement = table.require("name", partial(check_name, "group")), table.placement()
    if holders and not any(placement.decide(domain)[0] for domain in holders):
        table.note(f"{table.title} may poll nowhere: no replica that keeps payloads is in its placement.", "allow")
    semantics = table.take("semantics", "text", SEMANTICS_OF_GROUP, "at-least-once")
    start = table.take("start", "earliest, latest or an offset", START, "earliest", str, int)
    max_deliveries = table.take("max_deliveries", "a whole number", NUMBER, None, int)
    table.close()
    return DeclaredGroup(name, placement, semantics, start, max_deliveries)
