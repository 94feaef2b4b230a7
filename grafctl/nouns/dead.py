"""`dead`: records that were delivered too often, and how they come back."""

from __future__ import annotations

from collections.abc import Sequence

from grafctl.errors import Usage
from grafctl.names import check_name
from grafctl.nouns.consumers import run_request
from grafctl.results import Change, Listed
from grafctl.store.intervals import from_offsets
from grafctl.store.resources.consumers import Redrive, dead_letters
from grafctl.store.session import Session


class Dead:
    """The dead letters of one store's groups."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def list(self, resource: str, group: str) -> Listed:
        """Returns the dead letters of the group's lineage, by offset."""
        with self.session.state(check_name("resource", resource)) as state:
            return Listed("dead", dead_letters(state, resource, check_name("group", group)))

    def redrive(
        self, resource: str, group: str, offsets: Sequence[int] | None = None, *, dry_run: bool = False
    ) -> Change:
        """Hands dead letters out again, counted from one; without offsets, all of them."""
        if offsets is not None and (not offsets or min(offsets) < 0):
            raise Usage("Name offsets of 0 or more, or none for all dead letters.")
        log = self.session.resource(check_name("resource", resource))
        request = Redrive(resource, check_name("group", group), None if offsets is None else from_offsets(offsets))
        count = run_request(self.session, log, request, dry_run)
        if count and not dry_run:
            self.session.note("changed", "dead redrive", resource=resource, group=group, count=count)
        return Change(count > 0, resource=resource, group=group, after={"redriven": count}, dry_run=dry_run or None)
