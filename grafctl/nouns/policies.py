"""`policy`: how many voters must be durable before a write is acknowledged; resources of one log have one rule."""

from __future__ import annotations

from typing import Any

from grafctl.names import check_name
from grafctl.results import Change, Shown
from grafctl.store import keys
from grafctl.store.replica.state import State
from grafctl.store.resources.carried import policy_row
from grafctl.store.resources.membership import new_voters, sizes_of, voters_of
from grafctl.store.session import Session


class Policies:
    """The replica policies of one store's resources."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def show(self, resource: str) -> Shown:
        """Returns the rule and what it comes to with the present voters."""
        with self.session.state(check_name("resource", resource)) as state:
            return Shown({"resource": resource, **self._fields(state)})

    def _fields(self, state: State) -> dict[str, Any]:
        policy = policy_row(state)
        voters = voters_of(state.get_json(keys.locator()), self.session.members())
        write, payload = sizes_of(voters, policy["ack"], policy["min_payload"])
        holders = sum(1 for voter in voters if not voter.witness)
        return {
            "ack": policy["ack"],
            "min_payload": policy["min_payload"],
            "voters": holders,
            "witnesses": sum(1 for voter in voters if voter.witness),
            "must_be_durable": write,
            "payload_copies": payload,
            "domains_that_may_be_away": min(len(voters) - max(write, len(voters) - write + 1), holders - payload),
        }

    def set(self, resource: str, *, ack: str, min_payload: int | None = None, dry_run: bool = False) -> Change:
        """Changes the rule by a new term, in force once the voters of the old rule and the new one hold it."""
        log = self.session.resource(check_name("resource", resource))
        policy = {"ack": ack, "min_payload": min_payload}
        members = self.session.members()
        with log.view() as committed:
            row = policy_row(committed.state)
            locator = committed.state.get_json(keys.locator())
        before = {"ack": row["ack"], "min_payload": row["min_payload"]}
        voters = voters_of(locator, members)
        sizes_of(voters, ack, min_payload)
        changed = before != policy
        if changed and not dry_run:

            def change(state: State, _: Any) -> Any:
                return new_voters(state, state.get_json(keys.locator()), members, policy=policy)

            log.change_voters(change, frozenset(voter.member for voter in voters))
            self.session.note("changed", "policy set", resource=resource, **policy)
        return Change(changed, resource=resource, before=before, after=policy, dry_run=dry_run or None)
