"""What the library returns of keyed tables, as `results.py` has the other answers."""

from __future__ import annotations

from grafctl.results import JSON_VERSION, Result, text_fields
from grafctl.typed import Any, NamedTuple


class Row(NamedTuple):
    """A key of a table with what is there."""

    key: bytes
    value: bytes
    version: int
    vshard: int
    resource: str | None = None  # the table that it is of, where it was read through a switch

    def fields(self) -> dict[str, Any]:
        """Returns the row as it is in JSON."""
        body: dict[str, Any] = {**text_fields("key", self.key), **text_fields("value", self.value)}
        body |= {"version": self.version, "vshard": self.vshard}
        return body if self.resource is None else {**body, "resource": self.resource}

    def as_json(self) -> dict[str, Any]:
        """Returns the row as a JSON document of its own."""
        return {"v": JSON_VERSION, "ok": True, **self.fields()}


class Stored(Result):
    """What became of a put or a delete; a version of 0 says that the key is not there."""

    table: str
    key: bytes
    version: int
    vshard: int
    changed: bool
    acked_by: list[str]
    dry_run: bool | None = None

    def fields(self) -> dict[str, Any]:
        body = super().fields()
        return {"table": body.pop("table"), **text_fields("key", body.pop("key")), **body}


class Loaded(Result):
    """How many keys of a batch were written, and how many had their value; of a key that came twice the last counts."""

    table: str
    rows: int
    written: int
    already: int
    dry_run: bool | None = None
