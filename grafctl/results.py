"""What the library returns: one frozen class for each answer; its fields are the fields of the JSON that commands
print.

Promises
- `as_json` is the whole contract of `--json`: `v`, `ok`, then the fields in the order written here, without those that
  are None. Fields are only ever added.
- Payloads are bytes here. In JSON they are text in `payload`, or base64 in `payload_base64` where they are not UTF-8.
"""

from __future__ import annotations

from grafctl.typed import Any, ClassVar, NamedTuple, dataclass_transform

JSON_VERSION = 1


# Not `dataclass`: that writes and compiles six functions a class, and all of them took longer than a publish.
@dataclass_transform(frozen_default=True)
class Result:
    """The root of every answer: a class below it names its fields and is made, compared and shown as a frozen dataclass
    is."""

    _order: ClassVar[tuple[str, ...]] = ()
    _names: ClassVar[frozenset[str]] = frozenset()
    _required: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls._order = tuple(cls.__annotations__)
        setattr(cls, "__match_args__", cls._order)  # noqa: B010  (mypy lets nobody assign it)
        cls._names = frozenset(cls._order)
        cls._required = frozenset(name for name in cls._names if name not in cls.__dict__)

    def __init__(self, *values: Any, **named: Any) -> None:
        own = self.__dict__  # where a default is not: that one stays in the class
        own.update(zip(self._order, values, strict=False))
        own.update(named)
        if len(own) != len(values) + len(named) or not self._required <= own.keys() <= self._names:
            raise TypeError(f"{type(self).__name__} takes {', '.join(self._order)}, each once.")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is an answer, and answers do not change.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is an answer, and answers do not change.")

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        pairs = zip(self._order, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._order)

    def fields(self) -> dict[str, Any]:
        """Returns the fields that have a value, nested results included, in the order of their declaration."""
        values = ((name.rstrip("_"), getattr(self, name)) for name in self._order)
        return {name: plain(value) for name, value in values if value is not None}

    def as_json(self) -> dict[str, Any]:
        """Returns the document that `--json` prints."""
        return {"v": JSON_VERSION, "ok": True, **self.fields()}


def plain(value: Any) -> Any:
    """Returns a value that a JSON encoder knows."""
    if (fields := getattr(value, "fields", None)) is not None:  # a result, a record or a row
        return fields()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def text_fields(name: str, value: bytes) -> dict[str, str]:
    """Returns bytes as JSON has them: text under their name, or base64 where they are not UTF-8."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        import base64

        return {f"{name}_base64": base64.b64encode(value).decode()}


class Record(NamedTuple):
    """One published message as it was delivered; a tuple, because a poll makes thousands."""

    offset: int
    payload: bytes
    id: str | None = None
    key: str | None = None
    headers: dict[str, str] | None = None
    delivery: int | None = None

    def fields(self) -> dict[str, Any]:
        """Returns the fields that have a value, as JSON has them."""
        body: dict[str, Any] = {"offset": self.offset}
        if self.id is not None:
            body["id"] = self.id
        if self.key is not None:
            body["key"] = self.key
        body |= text_fields("payload", self.payload)
        if self.headers:
            body["headers"] = self.headers
        if self.delivery is not None:
            body["delivery"] = self.delivery
        return body

    def as_json(self) -> dict[str, Any]:
        """Returns the record as a JSON document of its own."""
        return {"v": JSON_VERSION, "ok": True, **self.fields()}


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
    mismatches: list[dict[str, Any]] | None = None  # {"place", "line", "id", "path", "rule"}: never values


class Delivery(Result):
    """What one poll handed out; `lease` is the token that `ack`, `nack` and `renew` may name."""

    resource: str
    group: str
    records: list[Record]
    ack_floor: int
    lease: int | None = None
    finished: int | None = None  # how many records the poll finished, where it was given some to finish
    lost: dict[str, int] | None = None  # what retention let go of before the group finished it: records, first, last
    switch: str | None = None  # to which the group is attached: `resource` is the output that the records are of


class Finished(Result):
    """The outcome of an ack or nack: how many offsets it changed, and how many were already so."""

    resource: str
    group: str
    changed: bool
    count: int
    already: int
    ack_floor: int
    dead: int | None = None


class Reservation(Result):
    """What became of a reservation: a token to complete it with, or the first result of the same work."""

    resource: str
    stage: str
    key: str
    state: str  # reserved: the work is the caller's; completed: it was done before
    replayed: bool
    fingerprint: str
    token: int | None = None
    until_ms: int | None = None
    taken_over: bool | None = None  # from one whose lease was over
    result: bytes | None = None
    dry_run: bool | None = None

    def fields(self) -> dict[str, Any]:
        """Returns the fields as JSON has them: the result is text in `result`, or base64 in `result_base64`."""
        body = super().fields()
        result = body.pop("result", None)
        return body if result is None else body | text_fields("result", result)


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


class Plan(Result):
    """A declared store beside the real one: what `apply` would make, what it leaves as it is, what nobody declared."""

    changes: bool  # whether anything is missing or different
    file: str
    file_digest: str
    store: str
    identity: str | None  # of the store, None where there is none yet
    actions: list[dict[str, Any]]  # in the order of `apply`
    differences: list[dict[str, Any]]  # with the command that leads from the one to the other, where there is one
    undeclared: list[dict[str, Any]]
    refused: str | None = None  # why `apply` would make nothing
    out: str | None = None
    plan: str | None = None
    digest: str | None = None


class Drift(Result):
    """What is not in the store as a file declares it; each finding has a sentence and the line of the file."""

    file: str
    store: str
    findings: list[dict[str, Any]]
    count: int


class Shown(Result):
    """What a `show` command prints: the noun's fields, flat."""

    body: dict[str, Any]

    def fields(self) -> dict[str, Any]:
        return {name: plain(value) for name, value in self.body.items() if value is not None}


class Listed(Result):
    """What a `list` command prints: `items` under the noun's plural."""

    noun: str
    items: list[dict[str, Any]]

    def fields(self) -> dict[str, Any]:
        return {self.noun: plain(self.items)}


class Migrated(Result):
    """How far the migration of one vshard was brought."""

    table: str
    vshard: int
    state: str
    changed: bool
    bytes: int
    records: int
    generation: int
    owner: list[str]  # domains that keep it now
    part: str  # the log that owns it
    to: list[str] | None = None  # domains it is going to, while it is under way
    lag: int | None = None  # records, while it is under way
    lag_at_cutover: int | None = None
    estimate_us: int | None = None
    pause_us: int | None = None
    lock_wait_us: int | None = None
    budget_us: int | None = None
    proof: dict[str, Any] | None = None
    way_back: str | None = None
    dry_run: bool | None = None
    actions: list[str] | None = None


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


class Shift(Result):
    """A new group of the same lineage in another place; the original as it was."""

    resource: str
    from_: str
    group: str
    lineage: str
    placement: dict[str, list[str]]
    start: int
    proof: str
    original: dict[str, Any]  # what the shift left as it was
    changed: bool = True


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


class Finding(Result):
    """One inconsistency that `verify` found: where, what, and what to do."""

    where: str
    problem: str
    remedy: str
    domain: str | None = None
    resource: str | None = None


class Backup(Result):
    """What a backup holds: for each log the index it was taken at and the chain there, and the digest over the file."""

    changed: bool
    file: str
    store: str
    taken_ms: int
    domains: list[str]
    bytes: int | None = None
    sha256: str | None = None
    one_moment: bool | None = None  # whether all logs are as they were at one moment
    logs: list[dict[str, Any]] | None = None
    away: dict[str, str] | None = None  # domains that could not be read, and why
    dry_run: bool | None = None
    actions: list[str] | None = None


class Drawing(Result):
    """A pipeline as a graph; `text` is its picture in the form that was asked for."""

    pipeline: str
    format: str
    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]  # {"from", "to", "label"?}
    text: str


class Tried(Result):
    """What the test cases of a pipeline came to; a case that failed holds the difference, line by line."""

    pipeline: str
    passed: int
    failed: int
    cases: list[dict[str, Any]]  # {"test", "stage", "passed", "file", "line", "difference"?}
