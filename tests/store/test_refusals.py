"""The refusal matrix: every operation, asked from or for a domain of every kind, under every placement.

Each case is one row of a table that is written out here, not computed: what is refused, with which exit code and
reason. A refusal leaves every key and value of every environment as it was, but for one audit record; the same refusal
again leaves not even that; and `can` answers what the operation answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from grafctl.errors import GrafctlError
from grafctl.store import keys
from grafctl.store.authority import OPERATIONS
from grafctl.store.session import AUDITED
from store.world import World, changed_keys, without_log, world

# The domains of the store, named for what is wrong with them. `base` domains are always allowed and always there.
BASE_A, BASE_B = "base/a", "base/b"
READY, ABSENT, BEHIND, SICK, DOWN, UNKNOWN = "ready/x", "absent/x", "behind/x", "sick/x", "down/x", "unknown/x"
KINDS = (READY, ABSENT, BEHIND, SICK, DOWN, UNKNOWN)
DOMAINS = (BASE_A, BASE_B, READY, ABSENT, BEHIND, SICK, DOWN)

OK = (0, None)
NOT_PLACED, NOT_LOCATED = (11, "not_in_placement"), (11, "not_in_locator")
UNHEALTHY, NOT_CAUGHT_UP, UNREACHABLE = (12, "unhealthy"), (12, "not_caught_up"), (12, "unreachable")

ANYWHERE = {READY: OK, ABSENT: OK, BEHIND: OK, SICK: OK, DOWN: OK, UNKNOWN: NOT_PLACED}
LOCAL = {
    READY: OK,
    ABSENT: NOT_LOCATED,
    BEHIND: NOT_CAUGHT_UP,
    SICK: UNHEALTHY,
    DOWN: UNREACHABLE,
    UNKNOWN: NOT_PLACED,
}
COPYING = {READY: OK, ABSENT: NOT_LOCATED, BEHIND: OK, SICK: UNHEALTHY, DOWN: UNREACHABLE, UNKNOWN: NOT_LOCATED}
SHIFTING = {**COPYING, BEHIND: NOT_CAUGHT_UP}

# Operation: whose placement decides, and what a domain of each kind is told where that placement allows it.
MATRIX: dict[str, tuple[str | None, dict[str, tuple[int, str | None]]]] = {
    "publish": ("resource", ANYWHERE),
    "publish with an id": ("resource", ANYWHERE),
    "peek": ("resource", LOCAL),
    "poll": ("group", LOCAL),
    "ack": ("group", ANYWHERE),
    "nack": ("group", ANYWHERE),
    "renew": ("group", ANYWHERE),
    "catch-up": (None, COPYING),
    "shift": (None, SHIFTING),
}
CASES = [
    pytest.param(op, kind, resource, group, id=f"{op.replace(' ', '-')}-{kind[:-2]}-queue_{resource}-group_{group}")
    for op in MATRIX
    for kind in KINDS
    for resource in ("open", "shut")
    for group in ("open", "shut")
]


class Setting:
    """The world of the matrix, what a case has leased, and the proofs that a shift needs."""

    def __init__(self, made: World) -> None:
        self.world = made
        self.store = made.store
        self.proofs: dict[tuple[str, str], str] = {}
        self.count = 0
        for name in ("open", "shut"):
            self._make_queue(name)
        made.observe(SICK, "unhealthy")
        self.store.domains.fail(DOWN)

    def _make_queue(self, name: str) -> None:
        store = self.store
        deny = [] if name == "open" else list(KINDS)
        voters = (BASE_A, BASE_B, READY, SICK, DOWN)
        store.queues.create(
            name, replicas=[f"r-{domain[:-2]}-{domain[-1]}={domain}" for domain in voters], allow=["**"]
        )
        for group in ("open", "shut"):
            store.consumers.create(name, group, allow=["**"], deny=[] if group == "open" else list(KINDS))
        store.publish(name, b"first", domain=BASE_A)
        self.world.observe(BEHIND)
        store.locator.set(name, generation=2, add=[f"r-behind={BEHIND}"])
        for domain in (READY, SICK, DOWN):
            self.proofs[name, domain] = store.catch_up(name, domain=domain).proof
        if deny:
            store.placement.set(name, allow=["**"], deny=deny)

    def prepare(self, resource: str, group: str) -> tuple[list[int], int]:
        """Publishes a record and leases it to the group from a base domain; returns its offset and the lease."""
        self.world.advance(61_000)  # past the minute in which equal refusals are one record
        self.count += 1
        self.store.publish(resource, f"record {self.count}".encode(), domain=BASE_A, id=f"id-{self.count}")
        delivery = self.store.poll(resource, group, domain=BASE_B, max=1, visibility_ms=1 << 40)
        assert delivery.lease is not None
        for log in (self.store.session.control, self.store.session.audit, self.store.session.resource(resource)):
            log.settle()
        return [record.offset for record in delivery.records], delivery.lease

    def operation(self, op: str, resource: str, group: str, domain: str) -> Callable[[], Any]:
        """Returns the operation, ready to be called."""
        store = self.store
        offsets, lease = self.prepare(resource, group)
        calls: dict[str, Callable[[], Any]] = {
            "publish": lambda: store.publish(resource, b"x", domain=domain),
            "publish with an id": lambda: store.publish(resource, b"x", id=f"try-{self.count}", domain=domain),
            "peek": lambda: store.peek(resource, domain=domain),
            "poll": lambda: store.poll(resource, group, domain=domain),
            "ack": lambda: store.ack(resource, group, offsets, domain=domain, lease=lease),
            "nack": lambda: store.nack(resource, group, offsets, domain=domain, lease=lease),
            "renew": lambda: store.renew(resource, group, lease, domain=domain),
            "catch-up": lambda: store.catch_up(resource, domain=domain),
            "shift": lambda: store.consumers.shift(
                resource,
                group,
                as_=f"g{self.count}",
                allow=[domain],
                proof=self.proofs.get((resource, domain), "prf_0"),
            ),
        }
        return calls[op]


@pytest.fixture(scope="module", params=["memory", "lmdb"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with world(tmp_path_factory.mktemp("matrix"), DOMAINS, request.param) as made:
        yield Setting(made)


def outcome(call: Callable[[], Any]) -> tuple[tuple[int, str | None], GrafctlError | None]:
    """Returns exit code and reason of a call, and its error."""
    try:
        call()
    except GrafctlError as error:
        return (error.exit_code, error.fields.get("reason")), error
    return OK, None


def refused(setting: Setting, call: Callable[[], Any], *, records: int) -> GrafctlError:
    """Makes a call that must be refused, twice; asserts that it changed nothing but `records` audit records at most."""
    made = setting.world
    before, audited = made.dump(), len(made.audit_records())
    _, error = outcome(call)
    assert error is not None, "it was allowed"
    after = made.dump()
    assert changed_keys(without_log(before, keys.AUDIT_LOG), without_log(after, keys.AUDIT_LOG)) == []
    assert len(made.audit_records()) == audited + records
    assert (changed_keys(before, after) == []) == (records == 0)
    assert outcome(call)[0] == (error.exit_code, error.fields.get("reason"))
    assert changed_keys(after, made.dump()) == [], "the same refusal again left something"
    return error


@pytest.mark.parametrize(("op", "kind", "resource", "group"), CASES)
def test_every_operation_from_every_kind_of_domain(
    setting: Setting, op: str, kind: str, resource: str, group: str
) -> None:
    holder, by_kind = MATRIX[op]
    denied = {"resource": resource, "group": group, None: "open"}[holder] == "shut"
    expected = NOT_PLACED if denied else by_kind[kind]
    call = setting.operation(op, resource, group, kind)
    verb = op.split()[0]
    verdict = None
    if verb in OPERATIONS:
        before = setting.world.dump()
        verdict = setting.store.can(verb, resource, domain=kind, group=group if holder == "group" else None)
        assert changed_keys(before, setting.world.dump()) == [], "`can` wrote"
        assert (verdict.exit or 0, verdict.reason) == expected
        assert verdict.allowed == (expected == OK)
    if op == "catch-up" and kind == BEHIND:
        return  # allowed, and would end this kind; test_migration does it
    if expected == OK:
        assert outcome(call)[0] == OK
        return
    error = refused(setting, call, records=1)
    assert (error.exit_code, error.fields["reason"]) == expected
    record = setting.world.audit_records()[-1]
    assert (record["outcome"], record["op"], record["code"]) == ("refused", verb, "domain_unavailable")
    assert (record["resource"], record["reason"]) == (resource, expected[1])
    assert record.get("domain", kind) == kind
    assert error.fields["audit"] == len(setting.world.audit_records()) - 1


# --- the operations that change who may: no domain asks, so each has its own table of refusals


Call = Callable[[Setting, str], Any]

CHANGES: list[tuple[str, Call, int, str | None]] = [
    ("locator set, lower", lambda s, q: s.store.locator.set(q, generation=1, remove=["r-ready-x"]), 13, None),
    ("locator set, same", lambda s, q: s.store.locator.set(q, generation=2, remove=["r-ready-x"]), 13, None),
    ("locator set, skipping", lambda s, q: s.store.locator.set(q, generation=4, remove=["r-ready-x"]), 13, None),
    (
        "locator set, skipping and never observed",
        lambda s, q: s.store.locator.set(q, generation=4, add=[f"new={ABSENT}"]),
        13,
        None,
    ),
    (
        "locator set, never observed",
        lambda s, q: s.store.locator.set(q, generation=3, add=[f"new={ABSENT}"]),
        12,
        "unhealthy",
    ),
    (
        "locator set, unhealthy",
        lambda s, q: s.store.locator.set(q, generation=3, remove=["r-sick-x"], add=[f"again={SICK}"]),
        12,
        "unhealthy",
    ),
    (
        "locator set, unknown domain",
        lambda s, q: s.store.locator.set(q, generation=3, add=[f"new={UNKNOWN}"]),
        10,
        None,
    ),
    ("locator set, domain twice", lambda s, q: s.store.locator.set(q, generation=3, add=[f"new={READY}"]), 13, None),
    ("locator set, no such replica", lambda s, q: s.store.locator.set(q, generation=3, remove=["nobody"]), 10, None),
    (
        "locator set, no quorum left",
        lambda s, q: s.store.locator.set(
            q, generation=3, remove=[f"r-{name}" for name in ("base-a", "base-b", "ready-x", "sick-x", "down-x")]
        ),
        21,
        None,
    ),
    ("placement set, stale digest", lambda s, q: s.store.placement.set(q, allow=["x"], expect="pl_0"), 13, None),
    (
        "placement set of a group, stale digest",
        lambda s, q: s.store.placement.set(q, group="open", allow=["x"], expect="pl_0"),
        13,
        None,
    ),
    ("fence, lower", lambda s, q: s.store.fence(q, epoch=0), 14, None),
    ("fence of a group, lower", lambda s, q: s.store.fence(q, group="open", epoch=0), 14, None),
    ("policy set, too many", lambda s, q: s.store.policy.set(q, ack="6"), 21, None),
    ("policy set, one of five", lambda s, q: s.store.policy.set(q, ack="1"), 21, None),
    ("domain remove, in use", lambda s, q: s.store.domains.remove(READY), 13, None),
    ("domain remove, catching up", lambda s, q: s.store.domains.remove(BEHIND), 13, None),
    ("domain remove, unknown", lambda s, q: s.store.domains.remove(UNKNOWN), 10, None),
    ("publish, old epoch", lambda s, q: s.store.publish(q, b"x", domain=BASE_A, epoch=0), 14, None),
    ("poll, old epoch", lambda s, q: s.store.poll(q, "open", domain=BASE_A, epoch=0), 14, None),
    ("ack, old epoch", lambda s, q: s.store.ack(q, "open", [0], domain=BASE_A, epoch=0), 14, None),
    ("nack, old epoch", lambda s, q: s.store.nack(q, "open", [0], domain=BASE_A, epoch=0), 14, None),
    ("publish, same id", lambda s, q: s.store.publish(q, b"other", domain=BASE_A, id=f"id-{s.count}"), 16, None),
    ("publish, other schema", lambda s, q: s.store.publish(q, b"x", domain=BASE_A, schema="orders.v9"), 17, None),
    ("poll, no such group", lambda s, q: s.store.poll(q, "nobody", domain=BASE_A), 10, None),
    (
        "shift, no proof",
        lambda s, q: s.store.consumers.shift(q, "open", as_="new", allow=[READY], proof="none"),
        19,
        None,
    ),
    (
        "shift, unknown proof",
        lambda s, q: s.store.consumers.shift(q, "open", as_="new", allow=[READY], proof="prf_0"),
        19,
        None,
    ),
    (
        "shift, a proof of another domain",
        lambda s, q: s.store.consumers.shift(q, "open", as_="new", allow=[BASE_A], proof=s.proofs[q, READY]),
        19,
        None,
    ),
    (
        "shift, the proven domain became unhealthy",
        lambda s, q: s.store.consumers.shift(q, "open", as_="new", allow=[READY, SICK], proof=s.proofs[q, SICK]),
        12,
        "unhealthy",
    ),
    (
        "consumer create, another definition",
        lambda s, q: s.store.consumers.create(q, "open", allow=["elsewhere"]),
        13,
        None,
    ),
    (
        "queue create, another definition",
        lambda s, q: s.store.queues.create(q, replicas=[f"r={BASE_A}"], allow=["elsewhere"]),
        13,
        None,
    ),
]


@pytest.mark.parametrize(
    ("call", "code", "reason"), [pytest.param(*row[1:], id=row[0].replace(" ", "-")) for row in CHANGES]
)
def test_a_refused_change_changes_nothing(setting: Setting, call: Call, code: int, reason: str | None) -> None:
    setting.prepare("open", "shut")
    if setting.count == 1:
        setting.prepare("open", "shut")
    (exit_code, _), error = outcome(lambda: call(setting, "open"))
    assert exit_code == code, error
    setting.world.advance(61_000)
    error = refused(setting, lambda: call(setting, "open"), records=1 if isinstance(error, AUDITED) else 0)
    assert (error.exit_code, error.fields.get("reason")) == (code, reason)


def test_a_refusal_never_names_a_payload(setting: Setting) -> None:
    setting.prepare("open", "open")
    _, error = outcome(lambda: setting.store.publish("open", b"a secret", domain=BASE_A, id=f"id-{setting.count}"))
    assert error is not None
    shown = str(error.as_json())
    assert "a secret" not in shown and f"record {setting.count}" not in shown
    assert {"stored", "offered"} <= error.as_json().keys()


def test_placement_is_checked_before_everything_else(setting: Setting) -> None:
    """A domain that is denied, absent, unhealthy or out, with an old epoch, hears of the placement."""
    for kind in KINDS:
        for call in (
            lambda kind=kind: setting.store.poll("shut", "shut", domain=kind, epoch=0),
            lambda kind=kind: setting.store.publish("shut", b"x", domain=kind, epoch=0),
            lambda kind=kind: setting.store.ack("shut", "shut", [1 << 40], domain=kind, epoch=0),
        ):
            assert outcome(call)[0] == NOT_PLACED


def test_an_epoch_is_checked_before_the_locator(setting: Setting) -> None:
    for kind in (ABSENT, BEHIND, SICK, DOWN):
        call = partial(setting.store.poll, "open", "open", domain=kind, epoch=0)
        assert outcome(call)[0] == (14, None)


def test_nouns_are_checked_before_the_placement(setting: Setting) -> None:
    assert outcome(lambda: setting.store.poll("nothing", "open", domain=UNKNOWN))[0] == (10, None)
    assert outcome(lambda: setting.store.poll("shut", "nobody", domain=UNKNOWN))[0] == (10, None)
    assert outcome(lambda: setting.store.publish("nothing", b"x", domain=UNKNOWN))[0] == (10, None)
