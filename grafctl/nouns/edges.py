"""`edge`: a local queue between two stages of one domain, in the segment of a lease that has its name.

One pushes at one end, one takes at the other, in order, and nothing of it leaves the domain: it has no copy, gives no
guarantee when the domain is lost, and no resource gets another generation by it. For work that must survive its domain
there are queues.

Promises
- Each operation passes the gate and asks for the lease first: the edge's token is in force, and its time is not over.
- `full` and `empty` are answers, no errors.
- What was torn is met as a lost segment, never as another record.

When it fails: a push that was refused, or whose process died, may be made again; what was taken and not finished comes
again. While domains are away a lease that an operator revoked may be used up to its deadline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grafctl import clock
from grafctl.edges import counts, segment
from grafctl.edges.ring import Ring
from grafctl.edges.ring_bytes import Front, Layout, Lost, layout_of
from grafctl.errors import GenerationConflict, GrafctlError, NotFound, Usage
from grafctl.names import check_domain, check_name
from grafctl.nouns.consumers import run_request
from grafctl.nouns.leases import Leases, pass_domain
from grafctl.results import Change, Listed, Record, Shown
from grafctl.store import segment_keys
from grafctl.store.authority import CREATE, POP, PUSH, Asked, pass_segment
from grafctl.store.checked import checked
from grafctl.store.driver.journal_bytes import boot_id
from grafctl.store.replica.state import State
from grafctl.store.resources.control import rows
from grafctl.store.resources.edges import Handoff, PublishEdge, RemoveEdge, handoff_of
from grafctl.store.resources.segments import lease_row
from grafctl.store.segment_rules import DISCONNECTED, FENCED, USABLE, judged, refusal
from grafctl.store.session import Session

if TYPE_CHECKING:
    from grafctl.nouns.edge_handles import EdgeReader, EdgeWriter

TAKE_MAX = 10_000


class Edges:
    """The edges of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def create(self, name: str, *, token: int, slots: int, domain: str, dry_run: bool = False) -> Change:
        """Makes an empty ring in the segment of the lease of this name; what is there already stays as it is."""
        op = "edge create"
        asked = Asked(CREATE, check_name("edge", name), check_domain(domain), known=self.session.cluster.knows(domain))
        with self.session.audited(op, lease=name, domain=domain):
            lease = checked(self.session.control, lambda state: lease_row(state, name))
            pass_segment(asked, lease["domain"])
            boot = bytes(8) if lease["kind"] == "block" else boot_id()
            layout = layout_of(lease["kind"], slots, lease["bytes"], token, boot)
            request = PublishEdge(name, token, slots, layout.slot_bytes)
            changed, handoff = run_request(self.session, self.session.control, request, True)
            pass_domain(self.session, asked)
            if changed and not dry_run:
                self._format(name, handoff, layout)
                changed, handoff = self.session.control.append(request).answer
        if changed and not dry_run:
            about = {"generation": handoff.generation, "token": token, "slots": slots}
            self.session.note("changed", op, lease=name, domain=domain, **about)
        return Change(
            changed,
            domain=domain,
            after=_fields(name, handoff),
            dry_run=dry_run or None,
            actions=[f"make a ring of {slots:,} slots in the segment of {name}", f"publish it as edge {name}"]
            if changed
            else [],
        )

    def _format(self, name: str, handoff: Handoff, layout: Layout) -> None:
        try:
            with self._ring(handoff) as ring:
                ring.format(layout)
        except Lost as lost:
            raise _lost(name, handoff, lost) from None

    def relocate(self, name: str, *, token: int, domain: str, dry_run: bool = False) -> Change:
        """Gives an edge a new segment in the caller's domain, a generation later; `token` is of the lease that it had.

        The new segment is empty: what was in the old one is the producer's to push again. Each step is safe to repeat.
        """
        check_name("edge", name)
        check_domain(domain)

        def look(state: State) -> tuple[Handoff, dict[str, Any]]:
            return handoff_of(state, name), lease_row(state, name)

        handoff, lease = checked(self.session.control, look)
        same: dict[str, Any] = {field: lease[field] for field in ("kind", "bytes", "owner", "term_ms")}
        leases = Leases(self.session)
        leased = leases.acquire(name, domain=domain, replace=token, **same, dry_run=dry_run)
        actions = list(leased.actions or ())
        fields = _fields(name, handoff) | {"domain": domain}
        changed = leased.changed
        if dry_run:
            fields |= {field: (leased.after or {})[field] for field in ("generation", "token")}
        else:
            now = (leased.after or {})["token"]
            made = self.create(name, token=now, slots=handoff.slots, domain=domain)
            changed, fields, actions = changed or made.changed, made.after or {}, actions + list(made.actions or ())
        return Change(
            changed,
            domain=domain,
            before={"generation": handoff.generation, "token": handoff.token, "domain": handoff.domain},
            after=fields,
            dry_run=dry_run or None,
            actions=actions,
        )

    def remove(self, name: str, *, dry_run: bool = False) -> Change:
        """Deletes an edge whose lease is over, with what its ends counted; the lease stays."""
        op = "edge remove"
        request = RemoveEdge(check_name("edge", name))
        with self.session.audited(op, lease=name):
            _, handoff = run_request(self.session, self.session.control, request, dry_run)
        if not dry_run:
            if self.session.cluster.knows(handoff.domain):
                counts.remove(self.session.cluster.place(handoff.domain).where, name)
            self.session.note("changed", op, lease=name, domain=handoff.domain, generation=handoff.generation)
        return Change(
            True,
            domain=handoff.domain,
            before=_fields(name, handoff),
            dry_run=dry_run or None,
            actions=[f"remove the edge {name}", "forget what its ends counted"],
        )

    def push(
        self, name: str, payload: bytes | str, *, domain: str, token: int | None = None, dry_run: bool = False
    ) -> Shown:
        """Appends a record, or says that the edge is full; with a token only under that lease."""
        return self.push_batch(name, [payload], domain=domain, token=token, dry_run=dry_run)

    def push_batch(
        self,
        name: str,
        payloads: Sequence[bytes | str],
        *,
        domain: str,
        token: int | None = None,
        dry_run: bool = False,
    ) -> Shown:
        """Appends as many of these records as there is room for, in their order, in one write of the tail."""
        bodies = [payload.encode() if isinstance(payload, str) else payload for payload in payloads]
        with self.session.audited("edge push", lease=name, domain=domain):
            handoff = self._passed(PUSH, name, domain, token)
            most = layout_in(handoff).payload_bytes_max
            for body in bodies:
                if len(body) > most:
                    raise Usage(f"The record has {len(body):,} bytes; one of the edge {name} has at most {most:,}.")
            try:
                with self._ring(handoff) as ring:
                    front = ring.front()
                    count, front = (min(len(bodies), front.room), front) if dry_run else ring.push(bodies)
            except Lost as lost:
                raise _lost(name, handoff, lost) from None
        first = front.tail if dry_run else front.tail - count
        where = {"offset": first} if count else {}
        pushed = {"count": count, "full": count < len(bodies)} | where | ({"dry_run": True} if dry_run else {})
        return Shown({"edge": name, **pushed, **_ends(front), "generation": handoff.generation})

    def take(self, name: str, *, domain: str, max: int = 1, token: int | None = None) -> Shown:
        """Returns the next records, which stay until they are finished; `empty` says that there is none."""
        if not 1 <= max <= TAKE_MAX:
            raise Usage(f"At most {TAKE_MAX:,} records are taken at once, and at least 1; not {max:,}.")
        with self.session.audited("edge pop", lease=name, domain=domain):
            handoff = self._passed(POP, name, domain, token)
            try:
                with self._ring(handoff) as ring:
                    payloads, front = ring.take(max)
            except Lost as lost:
                raise _lost(name, handoff, lost) from None
        records = [Record(front.head + place, payload) for place, payload in enumerate(payloads)]
        more = {"empty": not records, **_ends(front), "generation": handoff.generation, "token": handoff.token}
        return Shown({"edge": name, "records": records, **more})

    def finish(self, name: str, taken: Shown, *, domain: str) -> bool:
        """Takes the records out that `take` gave; returns False where there were none.

        Raises `GenerationConflict` where somebody else finished them, or the edge is in another segment by now.
        """
        records: list[Record] = taken.body["records"]
        if not records:
            return False
        with self.session.audited("edge pop", lease=name, domain=domain):
            handoff = self._passed(POP, name, domain, taken.body["token"])
            try:
                with self._ring(handoff) as ring:
                    front = ring.finish(records[0].offset, records[-1].offset + 1)
            except Lost as lost:
                raise _lost(name, handoff, lost) from None
        if front is None:
            raise GenerationConflict(
                f"Record {records[0].offset} of the edge {name} was finished by somebody else.",
                hint="An edge has one consumer; end the other one.",
                edge=name,
            )
        return True

    def pop(self, name: str, *, domain: str, max: int = 1, token: int | None = None) -> Shown:
        """Takes the next records and finishes them."""
        taken = self.take(name, domain=domain, max=max, token=token)
        self.finish(name, taken, domain=domain)
        return taken

    def status(self, name: str | None = None) -> Listed:
        """Returns every edge, or one, with what is in it and the state of its lease."""
        found = checked(self.session.control, _everything)
        if name is not None and check_name("edge", name) not in found:
            raise NotFound(f"There is no edge {name}.", hint="Run `grafctl edge status`.", edge=name)
        chosen = sorted(found) if name is None else [name]
        return Listed("edges", [self._status_of(edge, *found[edge]) for edge in chosen])

    def _status_of(self, name: str, handoff: Handoff, lease: dict[str, Any]) -> dict[str, Any]:
        state = judged(lease, clock.now_ms(), token=handoff.token)
        more: dict[str, Any] = {}
        front: Front | None = None
        if state in USABLE:
            try:
                with self._ring(handoff) as ring:
                    front = ring.front()
                more = _ends(front)
            except Lost as lost:
                state, more = DISCONNECTED, {"why": str(lost)}
            except GrafctlError as error:
                more = {"why": error.message}
        return {**_fields(name, handoff), "state": state, **more, "counts": self._counts_of(name, handoff, front)}

    def _counts_of(self, name: str, handoff: Handoff, front: Front | None) -> dict[str, int]:
        ends = (counts.Counts(), counts.Counts())
        if not self.session.cluster.is_failed(handoff.domain):
            ends = counts.read(self.session.cluster.place(handoff.domain).where, name)
        head, tail = (None, None) if front is None else (front.head, front.tail)
        return counts.shown(ends, handoff.generation, head, tail)

    # --- both ends, kept open

    def writer(self, name: str, *, domain: str, token: int | None = None) -> EdgeWriter:
        """Opens the end at which records are pushed; a segment that is lost is replaced, with an empty one.

        With a token only under that lease, or under the one that replaced it.
        """
        from grafctl.nouns.edge_handles import EdgeWriter

        return EdgeWriter(self.session, name, domain, token)

    def reader(self, name: str, *, domain: str) -> EdgeReader:
        """Opens the end at which records are taken."""
        from grafctl.nouns.edge_handles import EdgeReader

        return EdgeReader(self.session, name, domain)

    # --- the gate

    def _passed(self, op: str, name: str, domain: str, token: int | None) -> Handoff:
        """Returns where the edge is, for a caller that may use it now; raises the refusal."""
        check_name("edge", name)

        def look(state: State) -> tuple[Handoff, dict[str, Any]]:
            return handoff_of(state, name), lease_row(state, name)

        asked = Asked(op, name, check_domain(domain), known=self.session.cluster.knows(domain))
        handoff, lease = checked(self.session.control, look)
        pass_segment(asked, handoff.domain)
        if token is not None and token != handoff.token:
            raise refusal(name, FENCED, token=token, current=handoff.token)
        found = judged(lease, clock.now_ms(), token=handoff.token)
        if found not in USABLE:
            raise refusal(name, found, token=handoff.token, current=lease["token"])
        pass_domain(self.session, asked)
        return handoff

    def _ring(self, handoff: Handoff) -> Ring:
        if self.session.cluster.is_failed(handoff.domain):
            raise Lost(f"{handoff.domain} cannot be reached")
        place = self.session.cluster.place(handoff.domain).where
        return Ring(segment.path_of(place, handoff.segment), handoff.bytes, handoff.token)


def _everything(state: State) -> dict[str, tuple[Handoff, dict[str, Any]]]:
    return {
        name: (Handoff.of(row, name), lease_row(state, name)) for name, row in rows(state, segment_keys.edges()).items()
    }


def layout_in(handoff: Handoff) -> Layout:
    """Returns how the ring of an edge lies in its segment, for what does not depend on the boot."""
    return Layout(handoff.kind, handoff.slots, handoff.slot_bytes, handoff.token, b"")


def _fields(name: str, handoff: Handoff) -> dict[str, Any]:
    layout = layout_in(handoff)
    return {
        "edge": name,
        "domain": handoff.domain,
        "kind": handoff.kind,
        "generation": handoff.generation,
        "token": handoff.token,
        "slots": handoff.slots,
        "capacity": layout.capacity,
        "payload_bytes_max": layout.payload_bytes_max,
    }


def _ends(front: Front) -> dict[str, int]:
    return {"used": front.used, "capacity": front.layout.capacity, "head": front.head, "tail": front.tail}


def _lost(name: str, handoff: Handoff, lost: Lost) -> GrafctlError:
    return refusal(name, DISCONNECTED, token=handoff.token, why=str(lost))
