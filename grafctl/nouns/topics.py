"""`topic`: create, list, show and trim topics, with how far each of their subscriptions is.

A topic holds records as a queue does, for readers that each want all of them, or those that a filter picks: its groups
are durable subscriptions.

Promises
- `show` says of each subscription what it has not finished, in offsets: which of them its filter wants is known only of
  those that it has been past.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafctl import clock
from grafctl.errors import Usage
from grafctl.names import check_compression, check_name, shown
from grafctl.nouns.queues import Resources, queue_fields
from grafctl.nouns.status import group_status
from grafctl.results import Change
from grafctl.store import keys
from grafctl.store.blocks import NONE
from grafctl.store.records import parse_json
from grafctl.store.replica.state import State
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.group import lineage_of
from grafctl.store.resources.retention import DISCARDS, FINISHED


class Topics(Resources):
    """The topics of one store."""

    kind = "topic"

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
        discard: str = FINISHED,
        compression: str = NONE,
        dry_run: bool = False,
    ) -> Change:
        """Creates a topic on these replicas, which start ready and healthy, or in the log of another resource.

        `discard` says what retention may let go of: only what all subscriptions have finished, or simply the oldest.
        """
        if discard not in DISCARDS:
            raise Usage(f"--discard is one of {', '.join(DISCARDS)}, not {shown(discard)}.")
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
            retain_count=retain_count,
            discard=discard,
            compression=check_compression(compression),
        )

    def _shown(self, state: State, name: str) -> dict[str, Any]:
        """Returns a topic with its subscriptions."""
        rows = [parse_json(body) for _, body in state.scan(keys.groups())]
        return queue_fields(state, name) | {"subscriptions": [_subscription(state, row) for row in rows]}


def _subscription(state: State, row: dict[str, Any]) -> dict[str, Any]:
    """Returns how far a subscription is."""
    lineage = lineage_of(state, row["lineage"])
    stop = int(state.get_json(keys.queue())["next"])
    return group_status(row, lineage, stop) | {"oldest_unfinished_ms": _age_ms(state, lineage, stop)}


def _age_ms(state: State, lineage: Lineage, stop: int) -> int | None:
    """Returns how long ago the oldest record was published that a lineage has not finished, or None for none."""
    if lineage.floor >= stop:
        return None
    _, body = next(iter(state.scan(keys.blocks(0, lineage.floor + 1), reverse=True)))
    return max(0, clock.now_ms() - int(parse_json(body)["ms"]))
