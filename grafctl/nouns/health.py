"""`health`: signed observations of failure domains, and the last one of each.

Promises
- An observation is kept only when its signature holds under the key that the store knows for its authority. It was
  made for this store, this domain and this time; one that is copied from elsewhere is worth nothing.
- A domain may be observed before any locator names it: that is how a migration begins.
- Time does not go back for a domain. Observations that come quicker than the clock ticks are each newer by a
  millisecond; a clock that is behind the last observation by more than `CLOCK_STEP_MS_MAX` is refused, because then
  nobody knows which came first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.errors import HealthRejected, NotFound, Usage
from grafctl.names import check_domain, check_name, shown
from grafctl.nouns.consumers import run_request
from grafctl.results import Change, Listed
from grafctl.store import keys, signing
from grafctl.store.resources.control import Observe
from grafctl.store.session import Session

STATUSES = ("healthy", "unhealthy")
NEVER = "never observed"
CLOCK_STEP_MS_MAX = 100
TRIES = 5
OP = "health observe"


class Health:
    """The health observations of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def observe(self, domain: str, status: str, *, authority: str, key_file: Path, dry_run: bool = False) -> Change:
        """Signs and keeps an observation of now; raises `NotFound` or `HealthRejected`."""
        check_domain(domain)
        check_name("authority", authority)
        if status not in STATUSES:
            raise Usage(f"{shown(status)} is no status of a domain.", hint=f"Take {' or '.join(STATUSES)}.")
        if not self.session.cluster.knows(domain):
            raise NotFound(
                f"The store has no domain {domain}.", hint=f"Run `grafctl domain add {domain}` first.", domain=domain
            )
        with self.session.audited(OP, domain=domain, authority=authority):
            private = signing.load_private(key_file)
            public_key = self._trusted_key(authority)
            there, observation = self._keep(domain, status, authority, private, public_key, dry_run)
        if not dry_run:
            self.session.note("changed", OP, domain=domain, authority=authority, status=status)
        return Change(
            True,
            domain=domain,
            before={"status": there["status"] if there else NEVER},
            after={name: observation[name] for name in ("status", "authority", "observed_ms")},
            dry_run=dry_run or None,
            actions=[f"keep the observation that {domain} is {status}"],
        )

    def _trusted_key(self, authority: str) -> str:
        """Returns the public key of an authority; raises `HealthRejected` for one that is not known or was revoked."""
        with self.session.control.view() as committed:
            row = committed.state.get_json(keys.authority(authority))
        if row is None or row["revoked"]:
            raise HealthRejected(
                f"The observation is refused: authority {authority} {'was revoked' if row else 'is not known'}.",
                hint="Run `grafctl authority list` to see whose word counts.",
                authority=authority,
            )
        return str(row["public_key"])

    def _keep(
        self, domain: str, status: str, authority: str, private: bytes, public_key: str, dry_run: bool
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Appends an observation that is newer than the last; returns the last one and it."""
        last = self.session.observations().get(domain)
        for tries_left in reversed(range(TRIES)):
            observed_ms = _next_ms(domain, last)
            observation = self._signed(domain, status, authority, observed_ms, private)
            self._check_signature(domain, observation, public_key)
            try:
                request = Observe(domain, observation, public_key)
                _, there = run_request(self.session, self.session.control, request, dry_run)
                return there, observation
            except HealthRejected:
                newest = self.session.observations().get(domain)
                if newest == last or not tries_left:
                    raise
                last = newest  # another observer was quicker by less than a tick
        raise AssertionError("the last try returns or raises")

    def _signed(self, domain: str, status: str, authority: str, observed_ms: int, private: bytes) -> dict[str, Any]:
        message = signing.observation_message(self.session.cluster.store, domain, authority, status, observed_ms)
        signature = signing.sign(private, message)
        return {"authority": authority, "observed_ms": observed_ms, "signature": signature, "status": status}

    def _check_signature(self, domain: str, observation: dict[str, Any], public_key: str) -> None:
        if not self.is_signed(domain, observation, public_key):
            raise HealthRejected(
                f"The observation is refused: the key is not that of authority {observation['authority']}.",
                hint="Name the key file that belongs to its public key; `grafctl authority list` shows fingerprints.",
                authority=observation["authority"],
                domain=domain,
            )

    def is_signed(self, domain: str, observation: dict[str, Any], public_key: str) -> bool:
        """Returns whether an observation, new or kept, is what its authority signed for this store."""
        store, authority = self.session.cluster.store, observation["authority"]
        message = signing.observation_message(
            store, domain, authority, observation["status"], observation["observed_ms"]
        )
        return signing.verify(public_key, observation["signature"], message)

    def list(self) -> Listed:
        """Returns the last observation of every domain of the store."""
        kept, now_ms = self.session.observations(), clock.now_ms()
        rows = [_fields(domain, kept.get(domain), now_ms) for domain in self.session.cluster.domains]
        return Listed("observations", rows)


def _next_ms(domain: str, last: dict[str, Any] | None) -> int:
    """Returns the time of a new observation; raises `HealthRejected` when the clock is behind the last one."""
    now_ms = clock.now_ms()
    if last is None:
        return now_ms
    behind_ms = int(last["observed_ms"]) - now_ms
    if behind_ms > CLOCK_STEP_MS_MAX:
        raise HealthRejected(
            f"The clock is {behind_ms} ms behind the last observation of {domain}, which {last['authority']} made.",
            hint="Check the clock of this machine with `grafctl doctor`.",
            domain=domain,
        )
    return max(now_ms, int(last["observed_ms"]) + 1)


def _fields(domain: str, row: dict[str, Any] | None, now_ms: int) -> dict[str, Any]:
    if row is None:
        return {"domain": domain, "status": NEVER, "authority": None, "observed_ms": None, "age_ms": None}
    fields = {name: row[name] for name in ("status", "authority", "observed_ms")}
    return {"domain": domain, **fields, "age_ms": max(0, now_ms - row["observed_ms"])}
