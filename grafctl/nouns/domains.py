"""`domain`: failure domains of the store, and drills that take one out.

Promises
- A domain is added in steps that can each be done again: environment, `store.toml`, then a voter of the store's own
  logs.
- A domain that a locator still names is never removed. A removed one leaves no observation of its health behind, so one
  that comes later under its name has to be observed first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from grafctl.errors import Damaged, DriverError, GenerationConflict, GrafctlError, NoQuorum, NotFound, told
from grafctl.names import check_domain
from grafctl.nouns.creating import SYSTEM_LOGS, create_environments
from grafctl.nouns.file_systems import require_local
from grafctl.nouns.troubles import Trouble, Troubles
from grafctl.results import Change, Listed, Shown
from grafctl.store import files, keys
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import Identity
from grafctl.store.elect import NewVoters
from grafctl.store.learn import Progress, learn, needs_learning
from grafctl.store.log import Log
from grafctl.store.resources.control import Forget, log_beginners
from grafctl.store.rules import Voter
from grafctl.store.session import Session


class Domains:
    """The failure domains of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.cluster: Cluster = session.cluster

    def add(self, name: str, *, path: Path | None = None, dry_run: bool = False) -> Change:
        """Adds a domain; the same call again finishes what was begun."""
        check_domain(name)
        directory = self.cluster.directory
        with files.locked(directory):
            file = files.read(directory)
            known = name in file.domains
            if known and not dry_run:
                files.flush_names(directory)
            place = (
                str(path.absolute()) if path else (file.domains[name]["path"] if known else files.default_path(name))
            )
            if known and path is not None and file.places(directory)[name].path != path.absolute():
                raise GenerationConflict(
                    f"{name} is there already, in {file.places(directory)[name].path}.", domain=name
                )
            if not known:
                require_local([(name, directory / place)])
            actions = (
                []
                if known
                else [f"create the environment of {name} in {place}", "make it a voter of the store's own logs"]
            )
            if dry_run:
                return Change(not known, domain=name, dry_run=True, actions=actions)
            if not known:
                file = file.with_domain(name, place)
                files.write(directory, file)
            changed = not known
            if not known or self._never_joined(name):  # one that held a vote must not come back empty
                changed |= create_environments(self.cluster.driver, file, directory, name)
        self.cluster.add(name, file.places(directory)[name])
        joined = [self._join(log_id, name) for log_id in SYSTEM_LOGS]
        changed |= any(joined)
        if changed:
            self.session.note("changed", "domain add", domain=name)
        return Change(changed, domain=name, after=self._fields(name), actions=actions)

    def _never_joined(self, name: str) -> bool:
        lead = self.session.control.observe().lead()
        return lead is not None and all(config.voter(name) is None for config in lead.configs)

    def _log(self, log_id: bytes) -> Log:
        return self.session.control if log_id == keys.CONTROL_LOG else self.session.audit

    def _join(self, log_id: bytes, name: str) -> bool:
        """Makes a domain a voter of one of the store's own logs; returns whether it was none."""
        log = self._log(log_id)
        lead = log.settle()
        if lead.config.voter(name) is not None:
            return False
        try:
            if needs_learning(log, name):
                learn(log, name)
        except DriverError as error:
            raise told(error) from error
        voter = Voter(*self.cluster.member(name))
        _change(log, (*lead.config.voters, voter))
        return True

    def remove(self, name: str, *, dry_run: bool = False) -> Change:
        """Removes a domain that no locator names, and its environment."""
        self._require(name)
        with self.session.audited("domain remove", domain=name):
            holders = [resource for resource in self.session.resources() if self._is_named(resource, name)]
            if holders:
                raise GenerationConflict(
                    f"{name} still holds replicas of {', '.join(holders)}.",
                    hint=f"Run `grafctl locator set {holders[0]} --generation N --remove ID` first.",
                    domain=name,
                )
        actions = [f"take {name} out of the store's own logs", f"delete the environment of {name}"]
        if len(self.cluster.domains) == 1:
            raise GenerationConflict(f"{name} is the last domain of the store.", domain=name)
        if dry_run:
            return Change(True, domain=name, dry_run=True, actions=actions)
        for log_id in SYSTEM_LOGS:
            self._leave(log_id, name)
        self.session.control.append(Forget(name))
        directory = self.cluster.directory
        place = self.cluster.place(name)
        with files.locked(directory):
            files.write(directory, files.read(directory).without_domain(name))
        self.cluster.drop(name)
        self.cluster.driver.destroy(place.path)
        self.cluster.driver.discard(place.path)
        self.session.note("changed", "domain remove", domain=name)
        return Change(True, domain=name, actions=actions)

    def _held(self, name: str) -> Iterator[str]:
        """Yields the resources with a replica in a domain; of one that cannot be asked its registration says."""
        for resource, record in self.session.resources().items():
            try:
                is_named = self._is_named(resource, name)
            except NoQuorum:
                is_named = name in record["domains"]
            if is_named:
                yield resource

    def _is_named(self, resource: str, name: str) -> bool:
        with self.session.state(resource) as state:
            return any(item["domain"] == name for item in state.get_json(keys.locator())["replicas"])

    def _leave(self, log_id: bytes, name: str) -> None:
        log = self._log(log_id)
        lead = log.settle()
        if lead.config.voter(name) is None:
            return
        left = tuple(voter for voter in lead.config.voters if voter.domain != name)
        _change(log, left)

    def list(self) -> Listed:
        """Returns every domain with its state."""
        return Listed("domains", [self._fields(name) for name in self.cluster.domains])

    def show(self, name: str) -> Shown:
        """Returns one domain; raises `NotFound`."""
        self._require(name)
        fields = self._fields(name)
        if fields["state"] == "available":
            fields["resources"] = sorted(self._held(name))
        trouble = self._trouble(name)
        fields |= trouble.fields() if trouble else {}
        fields |= {"set_aside": self.cluster.driver.remains(self.cluster.place(name).path) or None}
        return Shown(fields)

    def _trouble(self, name: str) -> Trouble | None:
        """Returns what is the matter with a domain, looking at every log."""
        from grafctl.nouns.repairs import logs_of

        troubles = Troubles(self.cluster)
        try:
            logs = logs_of(self.session)
        except GrafctlError:
            logs = {}
        for title, log in logs.items():
            found = log.observe()
            if (lead := found.lead()) is not None:
                troubles.look(title, found, lead)
        return troubles.of(name)

    def fail(self, name: str, *, dry_run: bool = False) -> Change:
        """Takes a domain out for a drill, for all processes at once."""
        return self._drill(name, failed=True, dry_run=dry_run)

    def restore(self, name: str, *, dry_run: bool = False) -> Change:
        """Ends a drill, or takes back that a domain is damaged where a check of all of it finds nothing wrong; the
        domain catches up with what it missed."""
        change = self._drill(name, failed=False, dry_run=dry_run)
        what = self.cluster.driver.damage(self.cluster.place(name).path)
        if what is not None:
            before, after = {"state": f"damaged: {what}"}, {"state": "available"}
            change = Change(True, domain=name, before=before, after=after, dry_run=dry_run or None)
            if not dry_run:
                self._absolve(name)
        if not dry_run:
            self._heal()
        return change

    def _absolve(self, name: str) -> None:
        """Reads all of a domain in which damage was found; raises `Corrupt` where it is found again."""
        try:
            place = self.cluster.place(name)
            self.cluster.driver.absolve(place.path, Identity(self.cluster.store, name, place.incarnation))
        except DriverError as error:
            refusal = told(error)
            if isinstance(error, Damaged):
                refusal.hint = f"Run `grafctl domain repair {name}` to make it anew from the others."
            raise refusal from error

    def repair(
        self,
        name: str,
        *,
        accept_loss: Sequence[str] = (),
        lost: bool = False,
        path: Path | None = None,
        discard: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Change:
        """Brings a damaged or lost domain back as a new incarnation; the same call again goes on.

        With `discard`, what earlier repairs of a domain that is healthy moved aside is deleted.
        """
        from grafctl.nouns.repairs import repair

        self._require(name)
        given: dict[str, Any] = {"lost": lost, "path": path, "discard": discard, "dry_run": dry_run}
        return repair(self.session, name, accept_loss=list(accept_loss), progress=progress, **given)

    def _drill(self, name: str, *, failed: bool, dry_run: bool) -> Change:
        self._require(name)
        place = self.cluster.place(name)
        changed = self.cluster.driver.is_failed(place.path) != failed
        before = {"state": "failed" if not failed and changed else ("available" if changed else self._state(name))}
        if not dry_run:  # also where nothing changes: what an earlier run did may not be durable yet
            try:
                (self.cluster.driver.fail if failed else self.cluster.driver.restore)(place.path)
            except DriverError as error:
                raise told(error) from error
        after = {"state": "failed" if failed else "available"}
        return Change(changed, domain=name, before=before, after=after, dry_run=dry_run or None)

    def _heal(self) -> None:
        """Brings logs to the domains that were away; what cannot be reached now is left for the next helper."""
        logs = [self.session.control, self.session.audit]
        with suppress(GrafctlError):
            for name in log_beginners(self.session.resources()):
                with suppress(GrafctlError):
                    logs.append(self.session.resource(name))
        for log in logs:
            with suppress(GrafctlError):
                log.settle(deadline_s=2.0)

    def _require(self, name: str) -> None:
        check_domain(name)
        if not self.cluster.knows(name):
            raise NotFound(f"The store has no domain {name}.", hint="Run `grafctl domain list`.", domain=name)

    def _state(self, name: str) -> str:
        if self.cluster.is_failed(name):
            return "failed"
        try:
            with self.cluster.environment(name).read():
                return "available"
        except DriverError as error:
            return f"unavailable: {error.why}"

    def _fields(self, name: str) -> dict[str, Any]:
        place = self.cluster.place(name)
        return {"domain": name, "state": self._state(name), "path": str(place.path), "incarnation": place.incarnation}


def _change(log: Log, voters: tuple[Voter, ...]) -> None:
    """Makes these the voters of one of the store's own logs, with a majority rule."""
    size = len(voters) // 2 + 1
    log.change_voters(lambda _, __: NewVoters(voters, size, size, {}), frozenset(voter.member for voter in voters))
