"""`queue`: create, list and show queues; and what resources of every kind have in common here.

Promises
- A resource is its registration: from that entry on its log has one first entry, which whoever comes next writes where
  the creator died.
- The same `create` again changes nothing; the same name with another definition, or of another kind, is refused.
- Each noun lists and shows its own kind only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafctl import clock
from grafctl.errors import NotFound, Usage
from grafctl.names import check_compression, check_domain, check_name, check_pattern, noun_of, shown, with_article
from grafctl.results import Change, Listed, Shown
from grafctl.store import keys
from grafctl.store.authority import Placement
from grafctl.store.blocks import NONE
from grafctl.store.records import config_fields
from grafctl.store.replica.state import State
from grafctl.store.requests import Context
from grafctl.store.resources.carried import policy_row
from grafctl.store.resources.control import Register
from grafctl.store.resources.membership import READY, ROLES, VOTER, WITNESS, request_digest, sizes_of, voters_of
from grafctl.store.resources.queue import queue_row
from grafctl.store.rules import Config
from grafctl.store.session import Session

REPLICAS_MAX = 64
MAJORITY = "majority"
LIMITS = ("retain_age_ms", "retain_bytes", "retain_count")
UNUSED = {"next": 0, "first": 0, "bytes": 0, "epoch": 1}  # what a resource is in the beginning


def parse_placement(allow: Sequence[str], deny: Sequence[str]) -> Placement:
    """Returns the placement of these patterns; raises `Usage`."""
    return Placement(tuple(check_pattern(item) for item in allow), tuple(check_pattern(item) for item in deny))


def parse_replica(text: str) -> dict[str, str]:
    """Returns {id, domain, role} of `ID=DOMAIN[:role]`; raises `Usage`."""
    replica_id, equals, rest = text.partition("=")
    domain, _, role = rest.partition(":")
    if not equals:
        raise Usage(f"{shown(text)} is no replica.", hint="Write ID=DOMAIN[:role], such as orders-a=aws/us-east-1.")
    role = role or VOTER
    if role not in ROLES:
        raise Usage(f"{shown(role)} is no role of a replica; take {', '.join(ROLES)}.")
    return {"id": check_name("replica", replica_id), "domain": check_domain(domain), "role": role}


def check_replicas(session: Session, replicas: Sequence[dict[str, str]]) -> None:
    """Raises `Usage` for two replicas of one id or domain, and `NotFound` for a domain that the store does not have."""
    if len(replicas) > REPLICAS_MAX:
        raise Usage(f"A resource has at most {REPLICAS_MAX} replicas, not {len(replicas)}.")
    for field in ("id", "domain"):
        values = [replica[field] for replica in replicas]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise Usage(f"Two replicas have the {field} {twice}.")
    for replica in replicas:
        if not session.cluster.knows(replica["domain"]):
            raise NotFound(
                f"The store has no domain {replica['domain']}.",
                hint=f"Run `grafctl domain add {replica['domain']}` first.",
                domain=replica["domain"],
            )


class Resources:
    """The resources of one kind in one store."""

    kind = "queue"

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def _a_noun(self) -> str:
        return with_article(noun_of(self.kind))

    def _create(
        self,
        name: str,
        replicas: Sequence[str],
        *,
        log: str | None,
        ack: str,
        min_payload: int | None,
        allow: Sequence[str],
        deny: Sequence[str],
        dry_run: bool,
        **own: Any,
    ) -> Change:
        """Creates a resource on these replicas, which start ready and healthy, or in a named log that is there.

        `own` is what its kind is defined by.
        """
        check_name(noun_of(self.kind), name)
        parsed = [parse_replica(text) for text in replicas]
        if not parsed and log is None:
            raise Usage(
                f"{self._a_noun.capitalize()} needs at least one --replica ID=DOMAIN, or the --log of another resource "
                "to be in."
            )
        if not parsed and (ack != MAJORITY or min_payload is not None):
            raise Usage(
                f"The log {log} has its own rule for acknowledgements.",
                hint="Leave --ack and --min-payload out, or change the rule of the log with `grafctl policy set`.",
            )
        check_replicas(self.session, parsed)
        if any(own.get(name) is not None and own[name] < 0 for name in LIMITS):
            raise Usage("What is to be kept is 0 or more.")
        placement = parse_placement(allow, deny)
        definition: dict[str, Any] = {"name": name, "kind": self.kind}
        definition |= {"log": check_name("log", log)} if log is not None else {}
        definition |= {"ack": ack, "min_payload": min_payload} if parsed else {}
        definition |= {"allow": list(placement.allow), "deny": list(placement.deny), **own}
        record = self._record(definition, parsed) if parsed else self._joining(definition)
        if dry_run:
            return self._would_create(name, record, parsed)
        op = f"{self.kind} create"
        with self.session.audited(op, resource=name):
            changed, record = self.session.control.append(Register(name, record)).answer
        self.session.open_log(name, record)
        if changed:
            self.session.note("changed", op, resource=name, replicas=list(replicas), **placement.as_json())
        return Change(changed, resource=name, after=self._fields(name))

    def trim(self, name: str, *, dry_run: bool = False) -> Change:
        """Lets go of what retention allows now; publishing does that too, where a limit is passed."""
        from grafctl.store.operations.retention import trim, would_trim

        before = self._fields(check_name(self.kind, name))
        trimmed = would_trim(self.session, name) if dry_run else trim(self.session, name)
        lost = {lineage: loss for lineage, (_, loss) in trimmed.lost.items()}
        return Change(
            trimmed.first > before["first_offset"],
            resource=name,
            before={"first_offset": before["first_offset"]},
            after={"first_offset": trimmed.first} | ({"lost": lost} if lost else {}),
            dry_run=dry_run or None,
        )

    def _record(self, definition: dict[str, Any], replicas: list[dict[str, str]]) -> dict[str, Any]:
        members = self.session.members()
        locator = {
            "generation": 1,
            "replicas": [{**item, "state": READY, "content_generation": 1} for item in replicas],
            "request": None,
        }
        voters = voters_of(locator, members)
        if not any(not voter.witness for voter in voters):
            raise Usage(f"{self._a_noun.capitalize()} needs at least one voter that keeps payloads.")
        if any(item["role"] not in (VOTER, WITNESS) for item in replicas):
            raise Usage(
                f"{self._a_noun.capitalize()} begins with voters and witnesses.",
                hint="Add a learner later with `grafctl locator set`.",
            )
        write, payload = sizes_of(voters, definition["ack"], definition["min_payload"])
        primary = next(voter.domain for voter in voters if not voter.witness)
        now_ms = clock.now_ms()
        row = {**definition, **UNUSED, "created_ms": now_ms}
        config = Config(0, (0, 0), primary, voters, write, payload)
        return {
            "kind": self.kind,
            "log": f"{clock.random_u64() | 1 << 63:016x}",
            "domains": [item["domain"] for item in replicas],
            "term_uid": clock.random_u64(),
            "ms": now_ms,
            "request": request_digest({**definition, "replicas": replicas}),
            "start": {"do": "start", **config_fields(config), "locator": locator, "queue": row},
            **({"log_name": definition["log"]} if "log" in definition else {}),
        }

    def _joining(self, definition: dict[str, Any]) -> dict[str, Any]:
        """Returns the registration of a resource in a log that another one began."""
        return {
            "kind": self.kind,
            "log_name": definition["log"],
            "request": request_digest({**definition, "replicas": []}),
            "row": {**definition, **UNUSED, "created_ms": clock.now_ms()},
        }

    def _would_create(self, name: str, record: dict[str, Any], replicas: list[dict[str, str]]) -> Change:
        with self.session.control.view() as committed:
            decision = Register(name, record).decide(committed.state, Context(0, 0, committed.lead.config))
        changed = decision.answer[0]
        actions = [f"register {name}"] + [f"begin its log in {item['domain']} as {item['id']}" for item in replicas]
        actions += [] if replicas else [f"create it in the log {record['log_name']}"]
        return Change(changed, resource=name, dry_run=True, actions=actions if changed else [])

    def list(self) -> Listed:
        """Returns every resource of this kind, by name."""
        names = sorted(name for name, record in self.session.resources().items() if record["kind"] == self.kind)
        items = []
        for name in names:
            with self.session.state(name) as state:
                items.append(self._listed(state, name))
        return Listed(f"{self.kind}s", items)

    def show(self, name: str) -> Shown:
        """Returns one resource of this kind; raises `NotFound`."""
        return Shown(self._fields(check_name(noun_of(self.kind), name)))

    def _fields(self, name: str) -> dict[str, Any]:
        with self.session.state(name) as state:
            kind = queue_row(state, name)["kind"]
            if kind != self.kind:
                raise NotFound(
                    f"{name} is {with_article(noun_of(kind))}, not {self._a_noun}.",
                    hint=f"Run `grafctl {kind} show {name}`.",
                    resource=name,
                )
            return self._shown(state, name)

    def _listed(self, state: State, name: str) -> dict[str, Any]:
        """Returns what `list` prints of a resource of this kind."""
        return queue_fields(state, name)

    def _shown(self, state: State, name: str) -> dict[str, Any]:
        """Returns what `show` prints of a resource of this kind."""
        return queue_fields(state, name)


class Queues(Resources):
    """The queues of one store."""

    def create(
        self,
        name: str,
        *,
        replicas: Sequence[str] = (),
        log: str | None = None,
        schema: str | None = None,
        ack: str = "majority",
        min_payload: int | None = None,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        retain_age_ms: int | None = None,
        retain_bytes: int | None = None,
        retain_count: int | None = None,
        compression: str = NONE,
        dry_run: bool = False,
    ) -> Change:
        """Creates a queue on these replicas, which start ready and healthy, or in the log of another resource.

        `log` names a log that several resources share: the first of them brings its replicas, the others none.
        """
        return self._create(
            name,
            replicas,
            log=log,
            ack=ack,
            min_payload=min_payload,
            allow=allow,
            deny=deny,
            dry_run=dry_run,
            schema=check_name("schema", schema) if schema is not None else None,
            retain_age_ms=retain_age_ms,
            retain_bytes=retain_bytes,
            compression=check_compression(compression),
            **({"retain_count": retain_count} if retain_count is not None else {}),  # queues were made without it once
        )


def queue_fields(state: State, name: str) -> dict[str, Any]:
    """Returns what `queue show` and `topic show` print of a resource."""
    row = queue_row(state, name)
    locator, policy = state.get_json(keys.locator()), policy_row(state)
    placement = Placement.of(row)
    return {
        "resource": name,
        "kind": row["kind"],
        **({"log": row["log"]} if "log" in row else {}),
        "schema": row["schema"],
        "records": row["next"] - row["first"],
        "first_offset": row["first"],
        "next_offset": row["next"],
        "bytes": row["bytes"],
        "ack": policy["ack"],
        "min_payload": policy["min_payload"],
        "epoch": row["epoch"],
        "generation": locator["generation"],
        "placement": placement.as_json(),
        "placement_digest": placement.digest(),
        "replicas": locator["replicas"],
        "retain_age_ms": row["retain_age_ms"],
        "retain_bytes": row["retain_bytes"],
        "retain_count": row.get("retain_count"),
        **({"discard": row["discard"]} if "discard" in row else {}),
        "compression": row["compression"],
    }
