"""Schemas in the control log: documents by id, which queues and topics name.

Promises
- An id is bound to one document for ever: what was checked by it once would be by it again.
"""

from __future__ import annotations

from grafctl.errors import GenerationConflict
from grafctl.store import keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.typed import NamedTuple


class AddSchema(NamedTuple):
    """The request to bind an id to a document, given as canonical JSON; the answer is whether it is new."""

    schema_id: str
    document: str
    digest: str

    def decide(self, state: State, context: Context) -> Decision:
        there = state.get_json(keys.schema(self.schema_id))
        if there is None:
            row = {"document": self.document, "digest": self.digest, "added_ms": context.now_ms}
            meta = {"do": "schema", "id": self.schema_id, "row": row}
            return Decision(True, encode_json(meta), kind=CTRL)
        if there["digest"] != self.digest:
            raise GenerationConflict(
                f"Schema {self.schema_id} is there already, with another document.",
                hint="Give the new document an id of its own, such as the next version.",
                schema=self.schema_id,
                stored=there["digest"],
                offered=self.digest,
            )
        return Decision(False)


def apply_schema(state: State, entry: Entry, index: int) -> Writes:
    return [json_write(keys.schema(entry.request["id"]), entry.request["row"])]
