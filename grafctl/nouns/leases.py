"""`lease`: who may use which local segment until when.

A segment is a file of fixed size in one domain, for work that need not survive that domain: a queue edge between two
stages of one machine, for one. Nothing of what is in it is replicated; that somebody has it is, in the control log.

Promises
- A lease is taken in a domain that the store knows, that was not observed as unhealthy and that can be reached; only
  that domain renews and releases it.
- A refusal leaves no file, and whoever is granted a lease has its file, unless it was lost since.
- Grants, releases and revocations are audited, renewals are not: they change nobody's right.
- Whoever pushes or takes with a handle meets a lease that was replaced, released or revoked as soon as the command that
  did it has returned, unless that could not write to the segment: its ring says so before the change and after it.
- The segment of a lease that was revoked is removed by the first change of a lease in its domain after the grace.

When it fails: who died between the two leaves handles that ask for their lease before each record. What died between
making a file and getting its lease, or before it removed the earlier file, is cleared away with the next `acquire` or
`relocate` of that name, also where that changes nothing, or when the writer of its edge is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from grafctl import clock
from grafctl.edges import segment
from grafctl.edges.ring import Ring
from grafctl.edges.ring_bytes import Lost
from grafctl.errors import Busy, DomainUnavailable, GrafctlError
from grafctl.names import check_domain, check_name
from grafctl.nouns.consumers import run_request
from grafctl.results import Change, Listed
from grafctl.store import segment_keys
from grafctl.store.authority import ACQUIRE, RELEASE, RENEW, Asked, pass_health, pass_segment
from grafctl.store.checked import checked
from grafctl.store.resources.control import rows
from grafctl.store.resources.segments import (
    AcquireSegment,
    ForgetSegment,
    Leased,
    ReleaseSegment,
    RenewSegment,
    RevokeSegment,
    lease_row,
)
from grafctl.store.segment_rules import (
    HELD,
    MEMORY,
    REVOKED,
    REVOKING,
    check_bytes,
    check_grace,
    check_kind,
    check_owner,
    check_term,
    due_ms,
    judged,
)
from grafctl.store.session import Session

TERM_MS = GRACE_MS = 30_000
_SHOWN = ("domain", "kind", "bytes", "owner", "generation", "token", "term_ms", "until_ms")


def pass_domain(session: Session, asked: Asked) -> None:
    """Raises `DomainUnavailable` (12) where a segment in the caller's domain cannot be used now."""
    pass_health(asked, session.health(), lease=asked.resource, domain=asked.domain)
    if session.cluster.is_failed(asked.domain):
        raise DomainUnavailable(
            f"{asked.domain} cannot be reached.",
            reason="unreachable",
            hint=f"Run `grafctl domain show {asked.domain}`.",
            lease=asked.resource,
            domain=asked.domain,
        )


class Leases:
    """The leases on segments of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def acquire(
        self,
        name: str,
        *,
        domain: str,
        bytes: int,
        owner: str,
        kind: str = MEMORY,
        term_ms: int = TERM_MS,
        replace: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Takes a lease with its segment; the same again by its owner changes nothing.

        `replace` is the token of the owner's own lease, whose segment is lost: there is a new one, a generation later.
        """
        check_name("lease", name)
        check_domain(domain)
        definition = (check_kind(kind), check_bytes(bytes), check_owner(owner), check_term(term_ms))
        made = segment.new_name(name)
        request = AcquireSegment(name, domain, *definition, made, replace)
        op = "lease acquire"
        with self.session.audited(op, lease=name, domain=domain):
            asked = Asked(ACQUIRE, name, domain, known=self.session.cluster.knows(domain))
            pass_segment(asked)
            answer: Leased = run_request(self.session, self.session.control, request, True)
            pass_domain(self.session, asked)
            if answer.changed and not dry_run:
                answer = self._granted(request, answer.before)
            if not dry_run:
                self.clear_up(name, answer.row)
        if answer.changed and not dry_run:
            row = answer.row
            about = {"owner": owner, "generation": row["generation"], "token": row["token"], "bytes": bytes}
            self.session.note("changed", op, lease=name, domain=domain, **about)
        actions = [f"make a segment of {bytes:,} bytes in {domain}", f"lease it to {owner} as {name}"]
        return self._change(name, answer, dry_run, actions)

    def _granted(self, request: AcquireSegment, before: dict[str, Any] | None) -> Leased:
        """Makes the segment and takes its lease; removes it again unless the lease is, or may be, of this segment."""
        place = self.session.cluster.place(request.domain).where
        with segment.allocated(place, request.segment, request.bytes):
            try:
                answer = self._appended(request, before)
            except GrafctlError as error:
                if error.fields.get("outcome") != "unknown":
                    segment.remove(place, request.segment)
                raise
        if answer.row["segment"] != request.segment:  # somebody was quicker, for the same owner
            segment.remove(place, request.segment)
            return answer
        self._sweep(request.domain)
        return answer._replace(changed=True)

    def renew(self, name: str, *, token: int, domain: str, if_due: bool = False, dry_run: bool = False) -> Change:
        """Moves the deadline of a lease to a term from now; with `if_due` only from three quarters of its term on."""
        request = RenewSegment(name, token, if_due)
        with self.session.audited("lease renew", lease=name, domain=domain):
            asked = self._at_home(RENEW, name, domain)
            answer: Leased = run_request(self.session, self.session.control, request, True)
            pass_domain(self.session, asked)
            if answer.changed and not dry_run:
                answer = self.session.control.append(request).answer
                self._sweep(domain)
        return self._change(name, answer, dry_run, [f"renew the lease {name}"])

    def release(self, name: str, *, token: int, domain: str, dry_run: bool = False) -> Change:
        """Gives a lease back, with its segment."""
        op = "lease release"
        with self.session.audited(op, lease=name, domain=domain):
            self._at_home(RELEASE, name, domain)
            answer = self._done(ReleaseSegment(name, token), dry_run)
        if not dry_run:
            self._remove(answer.row)
            self._sweep(domain)
        if answer.changed and not dry_run:
            self.session.note("changed", op, lease=name, domain=domain, token=token)
        return self._change(name, answer, dry_run, [f"release the lease {name}", "remove its segment"])

    def revoke(self, name: str, *, grace_ms: int = GRACE_MS, dry_run: bool = False) -> Change:
        """Takes a lease away for good; its holder may use it up to the end of the grace."""
        op = "lease revoke"
        request = RevokeSegment(check_name("lease", name), check_grace(grace_ms))
        with self.session.audited(op, lease=name):
            answer = self._done(request, dry_run)
        if not dry_run:
            self._sweep(answer.row["domain"])
        if answer.changed and not dry_run:
            self.session.note("changed", op, lease=name, domain=answer.row["domain"], grace_ms=grace_ms)
        return self._change(name, answer, dry_run, [f"revoke the lease {name} for good"])

    def forget(self, name: str, *, dry_run: bool = False) -> Change:
        """Deletes what is known of a lease that has ended; a name that was revoked may be leased again after that."""
        op = "lease forget"
        request = ForgetSegment(check_name("lease", name))
        with self.session.audited(op, lease=name):
            answer: Leased = run_request(self.session, self.session.control, request, dry_run)
        if not dry_run:
            self._remove(answer.row)
            self._sweep(answer.row["domain"])
            told = {field: answer.row[field] for field in ("domain", "generation", "token")}
            self.session.note("changed", op, lease=name, **told)
        return Change(
            True,
            domain=answer.row["domain"],
            before=self._fields(name, answer.row),
            dry_run=dry_run or None,
            actions=[f"forget the lease {name}", "remove its segment"],
        )

    def list(self) -> Listed:
        """Returns every lease by name, with its state of this moment."""
        found = checked(self.session.control, lambda state: rows(state, segment_keys.segment_leases()))
        return Listed("leases", [self._fields(name, row) for name, row in sorted(found.items())])

    def clear_up(self, name: str, row: dict[str, Any]) -> None:
        """Removes what earlier leases of a name left behind, and who died over them; what cannot be now only takes
        room, until the next time."""
        for domain in self.session.cluster.domains:
            place = self.session.cluster.place(domain).where
            for found in segment.of_lease(place, name):
                if found == row["segment"]:
                    continue
                with suppress(GrafctlError), segment.unused(place, found) as is_unused:
                    # From here on nobody gets a lease that has it.
                    if is_unused and found != self._segment_in_force(name):
                        segment.remove(place, found)

    # --- the gate

    def _at_home(self, op: str, name: str, domain: str) -> Asked:
        """Passes the caller only into the domain where the segment is."""
        check_name("lease", name)
        asked = Asked(op, name, check_domain(domain), known=self.session.cluster.knows(domain))
        pass_segment(asked, checked(self.session.control, lambda state: lease_row(state, name))["domain"])
        return asked

    # --- segments

    def _done(self, request: ReleaseSegment | RevokeSegment, dry_run: bool) -> Leased:
        if dry_run:
            answer: Leased = run_request(self.session, self.session.control, request, True)
            return answer
        return self._appended(request, checked(self.session.control, lambda state: lease_row(state, request.name)))

    def _appended(
        self, request: AcquireSegment | ReleaseSegment | RevokeSegment, before: dict[str, Any] | None
    ) -> Leased:
        """Makes a request that may end the lease `before`, and says so in its ring."""
        with self._noticed(before):
            answer: Leased = self.session.control.append(request).answer
        ended = answer.before
        if ended is not None and (before is None or ended["segment"] != before["segment"]):
            with self._noticed(ended):  # it was another one by then: late, and not never
                pass
        return answer

    @contextmanager
    def _noticed(self, row: dict[str, Any] | None) -> Iterator[None]:
        """Lets those who have the ring of a lease open look at the lease again, from before the block until after it.

        What has no ring, or a torn one, is not used by anybody; one that cannot be reached is not used for long.
        """
        ring = None if row is None else self._begun(row)
        is_known = False  # as long as it is not, they go on looking
        try:
            yield
            is_known = True
        except GrafctlError as error:
            is_known = error.fields.get("outcome") != "unknown"
            raise
        finally:
            if ring is not None:
                with ring, suppress(Lost, Busy):
                    if is_known:
                        ring.end_notice()

    def _begun(self, row: dict[str, Any]) -> Ring | None:
        if not self.is_there(row):
            return None
        place = self.session.cluster.place(row["domain"]).where
        with suppress(Lost):
            ring = Ring(segment.path_of(place, row["segment"]), row["bytes"], row["token"])
            try:
                ring.begin_notice()
                return ring
            except (Lost, Busy):
                ring.close()
        return None

    def is_there(self, row: dict[str, Any]) -> bool:
        """Returns whether the segment of a lease can be used."""
        cluster, domain = self.session.cluster, row["domain"]
        return not cluster.is_failed(domain) and segment.is_there(
            cluster.place(domain).where, row["segment"], row["bytes"]
        )

    def _sweep(self, domain: str) -> None:
        """Removes the segments of a domain whose grace is over; nobody waits for that with a timer."""
        found = checked(self.session.control, lambda state: rows(state, segment_keys.segment_leases()))
        for row in found.values():
            if row["domain"] == domain and judged(row, clock.now_ms()) == REVOKED:
                self._remove(row)

    def _segment_in_force(self, name: str) -> str | None:
        self.session.control.settle()
        found = checked(self.session.control, lambda state: rows(state, segment_keys.segment_leases()), newest=True)
        return found[name]["segment"] if name in found else None

    def _remove(self, row: dict[str, Any]) -> None:
        if self.session.cluster.knows(row["domain"]):
            segment.remove(self.session.cluster.place(row["domain"]).where, row["segment"])

    # --- answers

    def _fields(self, name: str, row: dict[str, Any], *, is_there: bool | None = None) -> dict[str, Any]:
        found = self.is_there(row) if is_there is None else is_there
        state = judged(row, clock.now_ms(), is_there=found)
        fields = {"lease": name, "state": state, **{field: row[field] for field in _SHOWN}}
        fields |= {"due_ms": due_ms(row)} if state == HELD else {}
        return fields | ({"gone_ms": row["gone_ms"]} if state == REVOKING else {})

    def _change(self, name: str, answer: Leased, dry_run: bool, actions: Sequence[str]) -> Change:
        before = answer.before
        would = dry_run and answer.changed
        return Change(
            answer.changed,
            domain=answer.row["domain"],
            before=None if before is None else {"generation": before["generation"], "token": before["token"]},
            after=self._fields(name, answer.row, is_there=True if would else None),
            dry_run=dry_run or None,
            actions=[*actions] if answer.changed else [],
        )
