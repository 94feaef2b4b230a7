"""A sink that is a resource: each record goes on as it is, under its effect key as the id.

Promises
- What is published under an effect key that is there already, with the same payload, changes nothing: a repeated commit
  makes no second record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from grafctl.pipeline.message import Message, Output
from grafctl.pipeline.model import DeclaredSink, DeclaredStage
from grafctl.pipeline.sinks.rows import RowMaker


class RowTransform:
    """The rows of a sink as outputs."""

    def __init__(self, sink: DeclaredSink) -> None:
        self._make = RowMaker(sink)
        self.fingerprint = f"sha256:{hashlib.sha256(repr((sink.resource, sink.key)).encode()).hexdigest()}"

    def __call__(self, message: Message) -> Sequence[Output]:
        return [Output(message.value, id=self._make(message).effect)]

    def close(self) -> None:
        """Nothing is held."""


def publishing(stage: DeclaredStage, sink: DeclaredSink) -> DeclaredStage:
    """Returns a sink stage as the stage that publishes to the sink's resource."""
    assert sink.resource is not None
    return replace(stage, outputs=(sink.resource,))
