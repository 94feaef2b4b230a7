"""An open store: its cluster, its own two logs, and its resources by name.

Promises
- Every refusal and every change of who may do what goes to the audit log before the answer leaves; without a quorum
  it goes to a spool file beside the environments, and whoever comes next with a quorum appends it. Where the disk takes
  that neither, the answer is given all the same.
- A resource's log is found through the control log, which only says where to look; the log itself says what it is.

When it fails: a resource that is registered but has no log yet (its creator died) is finished by whoever opens it.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial

from grafctl import clock
from grafctl.errors import (
    DomainUnavailable,
    DriverError,
    Fenced,
    GenerationConflict,
    GrafctlError,
    HealthRejected,
    NoQuorum,
    NotFound,
    ProofRequired,
    StoreFull,
    Timeout,
)
from grafctl.store import keys, spool
from grafctl.store.checked import checked
from grafctl.store.cluster import Cluster
from grafctl.store.group_commit import GroupCommit
from grafctl.store.log import Log
from grafctl.store.reading import Held
from grafctl.store.replica.scope import FIRST
from grafctl.store.replica.state import State
from grafctl.store.requests import Outcome
from grafctl.store.resources.applying import apply_entry
from grafctl.store.rules import Member
from grafctl.typed import TYPE_CHECKING, Any, Iterator, Mapping, NamedTuple

if TYPE_CHECKING:
    from grafctl.store.resources.delivery import Judged

AUDITED = (DomainUnavailable, Fenced, GenerationConflict, HealthRejected, ProofRequired)
AUDIT_DEADLINE_S = 3.0
LOOK_S = 1.0  # between two looks for a schema that is not bound yet


class Known(NamedTuple):
    """Where a group with a filter was, and what this process has found out about the records from there on."""

    cursor: int
    judged: Judged | None = None


class Bound(NamedTuple):
    """The schema that a resource names, and the document that it is bound to, None where it was not when we looked."""

    schema_id: str
    document: str | None
    looked_s: float


class Session:
    """One open store, for the threads of one process."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.control = Log(cluster, keys.CONTROL_LOG, cluster.domains, apply_entry)
        self.audit = Log(cluster, keys.AUDIT_LOG, cluster.domains, apply_entry)
        self.compressions: dict[str, str] = {}  # of queues that were published to; it never changes
        self.publishers: dict[str, GroupCommit] = {}
        self._logs: dict[str, Log] = {}
        self._carriers: dict[bytes, Log] = {}
        self._bound: dict[str, Bound] = {}  # by resource
        self.held = Held()
        self.tables: dict[str, Any] = {}  # of `operations/routing.py`, by name
        self.routes: dict[tuple[str, str], Any] = {}  # of `operations/switching/routed.py`, by resource and group
        self.ways: dict[tuple[str, str], Any] = {}  # of `operations/switching/reading.py`, by table and group
        self.known: dict[tuple[str, str], Known | None] = {}  # of groups that were polled; None: it has no filter
        self._health: tuple[dict[str, bytes | None] | None, dict[str, str]] | None = None

    # --- resources

    def resource(self, name: str) -> Log:
        """Returns the log of a resource; raises `NotFound`."""
        log = self._logs.get(name)
        if log is None:
            record = checked(self.control, partial(self._look_up, name))
            log = self._logs[name] = self.open_log(name, record)
        return log

    def _look_up(self, name: str, state: State) -> dict[str, Any]:
        """Returns the registration of a resource, and keeps what its schema is bound to."""
        from grafctl.store.resources.queue import record_of

        record = record_of(state, name)
        row = record["start"]["queue"] if "start" in record else record["row"]
        if (schema_id := row.get("schema")) is not None:
            self._bound[name] = Bound(schema_id, document_of(state, schema_id), clock.monotonic_s())
        return record

    def schema_of(self, name: str) -> str | None:
        """Returns the document that records of an opened resource must conform to, or None.

        A binding stays for ever, so it is looked for only as long as there is none, and then once a second.
        """
        bound = self._bound.get(name)
        if bound is None or bound.document is not None:
            return None if bound is None else bound.document
        if (now_s := clock.monotonic_s()) - bound.looked_s >= LOOK_S:
            document = None
            with suppress(GrafctlError), self.control.view() as committed:  # a publish does not fail for it
                document = document_of(committed.state, bound.schema_id)
            bound = self._bound[name] = Bound(bound.schema_id, document, now_s)
        return bound.document

    def look_again(self) -> None:
        """Lets the next publish look for its schema at once: one was bound here."""
        self._bound = {name: bound._replace(looked_s=-LOOK_S) for name, bound in self._bound.items()}

    def open_log(self, name: str, record: Mapping[str, Any]) -> Log:
        """Returns the log of a registered resource, begun where its creator died before that."""
        log = Log(self.cluster, bytes.fromhex(record["log"]), list(record["domains"]), apply_entry)
        found = log.observe()
        lead = found.lead()
        if lead is None:
            from grafctl.store.beginning import begin_registered  # it is rare

            begin_registered(self.cluster, log, *self._beginner(name, record), found)
        elif lead.known == 0:  # its creator died before a quorum had the first entry
            log.settle()
        return log if "start" in record else self._join(log, name, record)

    def carrier(self, log: Log) -> Log:
        """Returns the log of a resource for requests to several of its resources, each with its number."""
        if log.number == FIRST:
            return log
        carrier = self._carriers.get(log.id)
        if carrier is None:
            carrier = self._carriers[log.id] = Log(self.cluster, log.id, log.hint, apply_entry)
        return carrier

    def _beginner(self, name: str, record: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Returns the resource that began the log of another."""
        if "start" in record:
            return name, record
        return next(item for item in self.resources().items() if item[1]["log"] == record["log"] and "start" in item[1])

    def _join(self, log: Log, name: str, record: Mapping[str, Any]) -> Log:
        """Returns the log as a later resource of it sees it, created there where its creator died before that."""
        from grafctl.store.resources.carried import Create, carried_row

        own = Log(self.cluster, log.id, log.hint, apply_entry, record["number"])
        try:
            checked(own, lambda state: carried_row(state, name))
        except NotFound:
            own.append(Create(name, record["row"]))
        return own

    def resources(self) -> dict[str, dict[str, Any]]:
        """Returns the registered resources by name."""
        from grafctl.store.resources.control import rows

        return checked(self.control, lambda state: rows(state, keys.resources()))

    def members(self) -> dict[str, Member]:
        """Returns every domain of the store with its incarnation."""
        return {domain: self.cluster.member(domain) for domain in self.cluster.domains}

    def health(self) -> dict[str, str]:
        """Returns the last observed status of each domain that was observed.

        Every poll asks this: what the control log said is kept for as long as no replica of it has another head.
        """
        heads = self._control_heads()
        if heads is None or self._health is None or self._health[0] != heads:
            self._health = (heads, {domain: row["status"] for domain, row in self.observations().items()})
        return self._health[1]

    @property
    def is_complete(self) -> bool:
        """Returns whether every domain could be read when the health was asked for last."""
        return self._health is not None and self._health[0] is not None

    def _control_heads(self) -> dict[str, bytes | None] | None:
        """Returns the head of the control log in every domain, or None where one cannot be read."""
        self.cluster.refresh()
        heads = {}
        for domain in self.cluster.domains:
            try:
                with self.cluster.environment(domain).read() as view:
                    heads[domain] = view.get(keys.head(keys.CONTROL_LOG))
            except DriverError:
                return None
        return heads

    def observations(self) -> dict[str, dict[str, Any]]:
        """Returns the last observation of each domain that was observed."""
        from grafctl.store.resources.control import rows

        return checked(self.control, lambda state: rows(state, keys.observations()))

    @contextmanager
    def state(self, name: str) -> Iterator[State]:
        """Yields the committed state of a resource."""
        with self.resource(name).view() as committed:
            yield committed.state

    # --- audit

    @contextmanager
    def audited(self, op: str, what: tuple[type[GrafctlError], ...] = AUDITED, **about: Any) -> Iterator[None]:
        """Notes a refusal that leaves the block, and gives the error its number."""
        try:
            yield
        except what as error:
            self.note_refusal(error, op, **about)
            raise

    def note_refusal(self, error: GrafctlError, op: str, **about: Any) -> None:
        """Keeps an audit record of a refusal, unless it has one, and gives the error its number."""
        if "audit" in error.fields:
            return
        fields = {name: error.fields.get(name) for name in ("resource", "group", "domain", "reason", "by")}
        fields |= {name: value for name, value in about.items() if value is not None}
        number = self.note("refused", op, code=error.code, message=error.message, **fields)
        if number is not None:
            error.fields["audit"] = number

    def note(self, outcome: str, op: str, **about: Any) -> int | None:
        """Keeps an audit record and returns its number, or None where it could only be spooled."""
        from grafctl.store.resources.audit import Note

        record = {name: value for name, value in about.items() if value is not None}
        record |= {"outcome": outcome, "op": op, "ms": clock.now_ms()}
        has_spool = self.cluster.directory.is_dir()

        def append(noted: dict[str, Any]) -> Outcome:
            return self.audit.append(Note(noted), deadline_s=AUDIT_DEADLINE_S)

        try:
            if has_spool:
                spool.take(self.cluster.directory, lambda waited: append(waited | {"spooled": True}))
            number, _ = append(record).answer
        except (NoQuorum, Timeout, StoreFull, DriverError, OSError):
            if has_spool:
                with suppress(OSError):  # on a full disk the refusal or the change must not fail for its record
                    spool.add(self.cluster.directory, record)
            return None
        return int(number)

    def close(self) -> None:
        self.cluster.close()


def document_of(state: State, schema_id: str) -> str | None:
    """Returns the document that a schema id is bound to in the control log, or None."""
    row = state.get_json(keys.schema(schema_id))
    return None if row is None else str(row["document"])
