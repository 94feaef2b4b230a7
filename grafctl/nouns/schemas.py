"""`schema`: what records must look like, by the id that queues and topics name.

Promises
- A document that cannot be used is refused before it is kept; nothing in it is fetched and none of it is run.
- The same document again changes nothing; another one under the same id is refused.
"""

from __future__ import annotations

import os
from typing import Any

from grafctl.errors import NotFound, Usage
from grafctl.json_schema import DOCUMENT_BYTES_MAX, Schema, parse_document
from grafctl.names import check_name, shown
from grafctl.nouns.consumers import run_request
from grafctl.results import Change, Listed, Shown
from grafctl.store import keys
from grafctl.store.checked import checked
from grafctl.store.fingerprints import fingerprint_text
from grafctl.store.records import digest, encode_json, parse_json
from grafctl.store.resources.control import rows
from grafctl.store.resources.schemas import AddSchema
from grafctl.store.session import Session


class Schemas:
    """The schemas of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, schema_id: str, document: bytes | str, *, dry_run: bool = False) -> Change:
        """Binds an id to a JSON Schema document."""
        check_name("schema", schema_id)
        parsed = parse_document(document.encode() if isinstance(document, str) else document)
        Schema(parsed)
        text = encode_json(parsed)
        request = AddSchema(schema_id, text.decode(), fingerprint_text(digest(text)))
        with self.session.audited("schema add", schema=schema_id):
            changed = run_request(self.session, self.session.control, request, dry_run)
        if not dry_run:
            self.session.look_again()
        if changed and not dry_run:
            self.session.note("changed", "schema add", schema=schema_id, digest=request.digest)
        after = {"schema": schema_id, "digest": request.digest}
        return Change(changed, after=after, dry_run=dry_run or None)

    def add_file(self, schema_id: str, file: str | os.PathLike[str], *, dry_run: bool = False) -> Change:
        """Binds an id to the JSON Schema document that a file holds."""
        try:
            with open(file, "rb") as opened:
                document = opened.read(DOCUMENT_BYTES_MAX + 1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise Usage(f"The file {shown(str(file))} cannot be read: {why}.") from None
        return self.add(schema_id, document, dry_run=dry_run)

    def list(self) -> Listed:
        """Returns every schema, by id."""
        found = checked(self.session.control, lambda state: rows(state, keys.schemas()))
        items = [
            {"schema": name, "digest": row["digest"], "bytes": len(row["document"].encode())}
            for name, row in sorted(found.items())
        ]
        return Listed("schemas", items)

    def show(self, schema_id: str) -> Shown:
        """Returns one schema with its document; raises `NotFound`."""
        row: dict[str, Any] | None
        key = keys.schema(check_name("schema", schema_id))
        row = checked(self.session.control, lambda state: state.get_json(key))
        if row is None:
            raise NotFound(f"There is no schema {schema_id}.", hint="Run `grafctl schema list`.", schema=schema_id)
        fields = {"schema": schema_id, "digest": row["digest"], "added_ms": row["added_ms"]}
        return Shown(fields | {"document": parse_json(row["document"].encode())})
