"""What the library returns: one frozen class for each answer; its fields are the fields of the JSON that commands
print.

Promises
- `as_json` is the whole contract of `--json`: `v`, `ok`, then the fields in the order written here, without those that
  are None. Fields are only ever added.
- Payloads are bytes here. In JSON they are text in `payload`, or base64 in `payload_base64` where they are not UTF-8.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

JSON_VERSION = 1


class Result:
    """The root of every answer."""

    __slots__ = ()

    def fields(self) -> dict[str, Any]:
        """Returns the fields that have a value, nested results included, in the order of their declaration."""
        names: dict[str, Any] = self.__dataclass_fields__  # type: ignore[attr-defined]
        values = ((name.rstrip("_"), getattr(self, name)) for name in names)
        return {name: plain(value) for name, value in values if value is not None}

    def as_json(self) -> dict[str, Any]:
        """Returns the document that `--json` prints."""
        return {"v": JSON_VERSION, "ok": True, **self.fields()}


def plain(value: Any) -> Any:
    """Returns a value that a JSON encoder knows."""
    if isinstance(value, Result):
        return value.fields()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class Record(Result):
    """One published message as it was delivered."""

    offset: int
    payload: bytes
    id: str | None = None
    key: str | None = None
    headers: dict[str, str] | None = None
    delivery: int | None = None

    def fields(self) -> dict[str, Any]:
        body: dict[str, Any] = {"offset": self.offset}
        if self.id is not None:
            body["id"] = self.id
        if self.key is not None:
            body["key"] = self.key
        try:
            body["payload"] = self.payload.decode()
        except UnicodeDecodeError:
            import base64

            body["payload_base64"] = base64.b64encode(self.payload).decode()
        if self.headers:
            body["headers"] = self.headers
        if self.delivery is not None:
            body["delivery"] = self.delivery
        return body


@dataclass(frozen=True, slots=True)
class Ack(Result):
    """One batch that is durable on its quorum; `offset` is that of the first record."""

    resource: str
    offset: int
    count: int
    generation: int
    acked_by: list[str]
    replayed: bool
    offsets: list[int] | None = None  # one a record, only where they are not consecutive (some were replayed)
    payload_copies: int | None = None  # only where a witness was counted
    conflicts: list[dict[str, Any]] | None = None  # {"line", "id", "stored", "offered"}: hashes, never payloads


@dataclass(frozen=True, slots=True)
class Delivery(Result):
    """What one poll handed out; `lease` is the token that `ack`, `nack` and `renew` may name."""

    resource: str
    group: str
    records: list[Record]
    ack_floor: int
    lease: int | None = None


@dataclass(frozen=True, slots=True)
class Finished(Result):
    """The outcome of an ack or nack: how many offsets it changed, and how many were already so."""

    resource: str
    group: str
    changed: bool
    count: int
    already: int
    ack_floor: int
    dead: int | None = None


@dataclass(frozen=True, slots=True)
class Change(Result):
    """The outcome of a command that sets something; `before` and `after` hold what it concerns."""

    changed: bool
    resource: str | None = None
    group: str | None = None
    domain: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    dry_run: bool | None = None
    actions: list[str] | None = None  # in order; what was done, or with --dry-run would be


@dataclass(frozen=True, slots=True)
class Shown(Result):
    """What a `show` command prints: the noun's fields, flat."""

    body: dict[str, Any]

    def fields(self) -> dict[str, Any]:
        return {name: plain(value) for name, value in self.body.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Listed(Result):
    """What a `list` command prints: `items` under the noun's plural."""

    noun: str
    items: list[dict[str, Any]]

    def fields(self) -> dict[str, Any]:
        return {self.noun: plain(self.items)}


@dataclass(frozen=True, slots=True)
class Proof(Result):
    """A catch-up proof: digests of what source and target can read back, bound to where and when they were read."""

    proof: str
    resource: str
    domain: str
    generation: int
    epoch: int
    through: int  # offset of the last record covered; -1 for an empty resource
    count: int
    source_digest: str
    target_digest: str
    match: bool
    covers: list[str]
    promoted: bool
    source: str | None = None  # the domain that was read as the source
    incarnation: str | None = None  # of the target
    first_offset: int | None = None  # the retained floor, where it is not 0
    changed: bool | None = None


@dataclass(frozen=True, slots=True)
class Shift(Result):
    """A new group of the same lineage in another place; the original as it was."""

    resource: str
    from_: str
    group: str
    lineage: str
    placement: dict[str, list[str]]
    start: int
    proof: str
    original: dict[str, Any] = field(default_factory=lambda: {"unchanged": True})
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Verdict(Result):
    """The answer of `can`: allowed or not, and by which line of which policy."""

    allowed: bool
    op: str
    resource: str
    domain: str
    by: str
    group: str | None = None
    code: str | None = None
    exit: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Finding(Result):
    """One inconsistency that `verify` found: where, what, and what to do."""

    where: str
    problem: str
    remedy: str
    domain: str | None = None
    resource: str | None = None
