"""A step of a consumer publishes nothing that does not conform, and says which of its outputs it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.errors import SchemaMismatch
from grafctl.pipeline.stages.publishing import culprits
from grafctl.store.blocks import Outgoing
from grafctl.store.operations.stepping import Change, step
from grafctl.store.resources.effects import Effect, RecordEffects
from grafctl.store.resources.queue import Publish
from store.world import world


def test_a_step_whose_output_does_not_conform_does_nothing(tmp_path: Path) -> None:
    with world(tmp_path / "store", ["aws", "gcp"]) as here:
        store = here.store
        store.queues.create("out", replicas=["a=aws", "g=gcp"], log="l", schema="n.v1", allow=["aws"])
        store.idem.create("effects", log="l", allow=["aws"])
        store.schemas.add("n.v1", '{"type":"object","properties":{"n":{"type":"integer"}}}')

        def work(*payloads: bytes) -> list[Change]:
            records = [Outgoing(payload, line=place + 1) for place, payload in enumerate(payloads)]
            effects = RecordEffects("effects", "s", [Effect("k", bytes(32))], "aws")
            return [Change("effects", effects), Change("out", Publish("out", records, "aws", atomic=True))]

        with pytest.raises(SchemaMismatch) as caught:
            step(store.session, work(b'{"n":1}', b'{"n":"SECRET"}'))
        (letter,) = culprits(caught.value)
        assert letter.at == 1
        assert letter.reason == "It does not conform to the schema of out at /n: it must be of type integer."
        assert store.idem.show("effects").fields()["completed"] == 0, "the effect is not recorded either"
        step(store.session, work(b'{"n":1}', b'{"n":2}'))
        assert store.idem.show("effects").fields()["completed"] == 1
        assert store.peek("out", domain="aws").body["next_offset"] == 2
