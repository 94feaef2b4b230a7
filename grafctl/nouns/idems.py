"""`idem`: idempotency stores, and what is reserved and completed in them.

Promises
- What `resources/idem.py` promises holds for every caller here: one completion for a key of a stage, and its result for
  whoever comes with the same payload again.
- `once` completes what its block did, and gives the reservation back where the block raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from grafctl.errors import GrafctlError, Usage
from grafctl.nouns.queues import Resources
from grafctl.results import Change, Listed, Reservation, Shown
from grafctl.store import keys
from grafctl.store.authority import Placement
from grafctl.store.fingerprints import fingerprint_of
from grafctl.store.operations import reserving
from grafctl.store.records import parse_json
from grafctl.store.replica.state import State
from grafctl.store.resources.carried import policy_row
from grafctl.store.resources.effects import Complete, Effect, RecordEffects
from grafctl.store.resources.idem import KIND, Release, Reserve, idem_row

LEASE_MS = 30_000
STAGES_SHOWN = 1_000


class Once:
    """The work of one block under `Idems.once`: where `done`, it was done before and `result` is the first one's."""

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation
        self.done = reservation.replayed
        self.result: bytes = reservation.result or b""


class Idems(Resources):
    """The idempotency stores of one store."""

    kind = KIND

    def create(
        self,
        name: str,
        *,
        replicas: Sequence[str] = (),
        log: str | None = None,
        ack: str = "majority",
        min_payload: int | None = None,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        retain_age_ms: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Creates an idempotency store on these replicas, or in the log of another resource.

        Without `retain_age_ms` its keys never expire.
        """
        placement: dict[str, Any] = {"allow": allow, "deny": deny}
        rule: dict[str, Any] = {"log": log, "ack": ack, "min_payload": min_payload}
        return self._create(name, replicas, **rule, **placement, dry_run=dry_run, retain_age_ms=retain_age_ms)

    def _shown(self, state: State, name: str) -> dict[str, Any]:
        return idem_fields(state, name)

    _listed = _shown

    def keys(self, name: str, *, stage: str | None = None, max: int = 100) -> Listed:
        """Returns up to `max` keys: those reserved, by digest, then those completed, the oldest first."""
        return Listed("keys", reserving.list_keys(self.session, name, stage, max))

    def key(self, name: str, key: str, *, stage: str) -> Shown:
        """Returns what is kept under a key; raises `NotFound`."""
        return reserving.key_fields(self.session, name, stage, key)

    # --- work

    def reserve(
        self,
        name: str,
        key: str,
        *,
        stage: str,
        domain: str,
        payload: bytes | str | None = None,
        fingerprint: bytes | None = None,
        lease_ms: int = LEASE_MS,
        epoch: int | None = None,
        dry_run: bool = False,
    ) -> Reservation:
        """Reserves a key for the work on a payload, or returns the first result of the same work.

        Raises `IdempotencyConflict` where it is for another payload, and `Busy` where somebody else is at it.
        """
        asker = reserving.asker_of(self.session, name, domain, epoch)
        reserving.check_key(stage, key)
        if (payload is None) == (fingerprint is None):
            raise Usage("A reservation needs either the payload or its fingerprint.")
        if fingerprint is None:
            body = payload.encode() if isinstance(payload, str) else payload or b""
            fingerprint = fingerprint_of(stage, key, body)
        return reserving.reserve(self.session, Reserve(asker, stage, key, fingerprint, lease_ms), dry_run=dry_run)

    def complete(
        self,
        name: str,
        key: str,
        *,
        stage: str,
        token: int,
        domain: str,
        result: bytes | str = b"",
        epoch: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Keeps the result of the work; the same token with the same result again changes nothing."""
        body = result.encode() if isinstance(result, str) else result
        asker = reserving.asker_of(self.session, name, domain, epoch)
        return reserving.complete(self.session, Complete(asker, stage, key, token, body), dry_run=dry_run)

    def release(
        self,
        name: str,
        key: str,
        *,
        stage: str,
        token: int,
        domain: str,
        epoch: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Gives a reservation back before its lease is over."""
        asker = reserving.asker_of(self.session, name, domain, epoch)
        return reserving.release(self.session, Release(asker, stage, key, token), dry_run=dry_run)

    def record(
        self, name: str, stage: str, effects: Sequence[Effect], *, domain: str, epoch: int | None = None
    ) -> Change:
        """Completes many keys as one entry, or none where one of them was used with another payload."""
        asker = reserving.asker_of(self.session, name, domain, epoch)
        request = RecordEffects(name, stage, effects, domain, epoch, asker.known)
        recorded = reserving.record(self.session, request)
        after = {"stage": stage, "recorded": len(recorded.new), "replayed": len(recorded.replayed)}
        return Change(len(recorded.new) > 0, resource=name, after=after)

    def expire(
        self,
        name: str,
        *,
        domain: str,
        older_than_ms: int | None = None,
        epoch: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Lets go of keys older than the declared retention, or than `older_than_ms` where that is longer."""
        asker = reserving.asker_of(self.session, name, domain, epoch)
        gone = reserving.expire(self.session, asker, older_than_ms, dry_run=dry_run)
        count = gone.completed + gone.reservations
        after = {"completed": gone.completed, "reservations": gone.reservations}
        if count and not dry_run:
            self.session.note("changed", "idem expire", resource=name, domain=domain, **after)
        return Change(count > 0, resource=name, after={"expired": after}, dry_run=dry_run or None)

    @contextmanager
    def once(
        self, name: str, key: str, *, stage: str, domain: str, payload: bytes | str, lease_ms: int = LEASE_MS
    ) -> Iterator[Once]:
        """Yields what to do once: unless it is `done`, the block does it and sets `result`, which is kept."""
        found = Once(self.reserve(name, key, stage=stage, domain=domain, payload=payload, lease_ms=lease_ms))
        token = found.reservation.token
        if token is None:
            yield found
            return
        try:
            yield found
        except BaseException:
            with suppress(GrafctlError):  # its lease ends by itself
                self.release(name, key, stage=stage, token=token, domain=domain)
            raise
        self.complete(name, key, stage=stage, token=token, domain=domain, result=found.result)


def idem_fields(state: State, name: str) -> dict[str, Any]:
    """Returns what `idem show` prints of a store."""
    row = idem_row(state, name)
    locator, policy = state.get_json(keys.locator()), policy_row(state)
    placement = Placement.of(row)
    stages: list[dict[str, Any]] = []
    for found, body in state.scan(keys.stages()):
        if len(stages) == STAGES_SHOWN:
            break
        stages.append({"stage": keys.parse_stage(found), **parse_json(body)})
    return {
        "resource": name,
        "kind": KIND,
        **({"log": row["log"]} if "log" in row else {}),
        "completed": row["next"] - row["first"],
        "reserved": sum(stage["reserved"] for stage in stages),
        "bytes": row["bytes"],
        "ack": policy["ack"],
        "min_payload": policy["min_payload"],
        "epoch": row["epoch"],
        "generation": locator["generation"],
        "placement": placement.as_json(),
        "placement_digest": placement.digest(),
        "replicas": locator["replicas"],
        "retain_age_ms": row["retain_age_ms"],
        "stages": stages or None,
    }
