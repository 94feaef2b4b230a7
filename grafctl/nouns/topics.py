"""`topic`: create, list and show topics.

A topic holds records as a queue does, for readers that each want all of them, or those that a filter picks: its groups
are durable subscriptions.
"""

from __future__ import annotations

from collections.abc import Sequence

from grafctl.names import check_compression, check_name
from grafctl.nouns.queues import Resources
from grafctl.results import Change
from grafctl.store.blocks import NONE


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
        compression: str = NONE,
        dry_run: bool = False,
    ) -> Change:
        """Creates a topic on these replicas, which start ready and healthy, or in the log of another resource."""
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
        )
