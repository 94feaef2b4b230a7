"""What the log of a table keeps: no more than voters and migrations need, however often its keys are overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grafctl.errors import Timeout
from grafctl.store import keys
from grafctl.store import log as logs
from grafctl.store.operations import retention
from grafctl.store.operations.tables import Item
from grafctl.store.replica.replica import Replica
from store.world import World, world

AWS, GCP, AZURE, OCI = "aws/us-east-1", "gcp/us-central1", "azure/eastus", "oci/phx"
T, EVERY = "accounts", 8
MOST = (retention.RENEW_AFTER + 2) * EVERY + 4


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(retention, "SWEEP_EVERY", EVERY)
    with world(tmp_path / "store", [AWS, GCP, AZURE, OCI], request.param) as here:
        for domain in (AWS, GCP, AZURE, OCI):
            here.observe(domain)
        here.store.tables.create(T, replicas=[f"a={AWS}", f"g={GCP}", f"z={AZURE}"], allow=["**"], vshards=4)
        yield here


def overwrite(here: World, count: int, start: int = 0, size: int = 1) -> None:
    for number in range(start, start + count):
        here.store.tables.put(T, b"key-%d" % (number % 5), b"%0*d" % (size, number), domain=AWS)


def spans(here: World, domains: tuple[str, ...] = (AWS, GCP, AZURE)) -> dict[str, tuple[int, int, int]]:
    """Returns the floor, the tail and the number of voter sets of each copy."""
    log, found = here.log_id(T), {}
    for domain in domains:
        with here.store.session.cluster.environment(domain).read() as view:
            head = Replica(view, log, domain).row.head
            found[domain] = (head.floor, head.tail, len(list(view.scan(*keys.configs(log)))))
    return found


def test_overwrites_leave_a_log_of_bounded_length(made: World) -> None:
    for round in range(5):
        overwrite(made, 60, round * 60)
        for floor, tail, sets in spans(made).values():
            assert tail - floor <= MOST and sets <= 3
    assert min(floor for floor, _, _ in spans(made).values()) > 200
    assert [row.value for row in made.store.tables.get_many(T, [b"key-4"], domain=GCP) if row] == [b"299"]
    assert list(made.store.verify()) == []


def test_large_values_are_let_go_sooner(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SWEEP_EVERY", 1024)
    monkeypatch.setattr(retention, "SWEEP_BYTES", 4000)
    overwrite(made, 60, size=1000)
    assert all(tail - floor <= (retention.RENEW_AFTER + 2) * 4 + 4 for floor, tail, _ in spans(made).values())


def test_nothing_goes_that_a_voter_which_is_away_still_needs(made: World) -> None:
    overwrite(made, 40)
    before = spans(made)[AZURE]
    made.store.domains.fail(AZURE)
    overwrite(made, 200, 40)
    assert all(floor <= before[1] for floor, _, _ in spans(made, (AWS, GCP)).values())
    made.store.domains.restore(AZURE)
    overwrite(made, 3 * EVERY, 240)  # it is brought up by the writes themselves
    made.store.session.resource(T).settle()
    assert spans(made)[AZURE][1] == spans(made)[AWS][1]
    made.store.domains.fail(AWS)
    with made.reopened() as other:
        assert other.tables.get(T, "key-0", domain=AZURE).value == b"260"
    made.store.domains.restore(AWS)
    overwrite(made, 60, 264)
    assert all(tail - floor <= MOST for floor, tail, _ in spans(made).values())
    assert list(made.store.verify()) == []


def test_a_migration_keeps_what_it_needs_and_no_more_when_it_is_over(made: World) -> None:
    overwrite(made, 60)
    moved = made.store.vshards.migrate(T, [0, 1, 2, 3], to=[OCI], domain=AWS, hold_cutover=True, budget_us=60_000_000)
    assert {one.state for one in moved} == {"wal_catchup"}
    at = spans(made)[AWS][1]
    overwrite(made, 100, 60)
    assert all(floor <= at for floor, _, _ in spans(made).values())
    made.store.vshards.cancel(T, [0, 1, 2, 3], domain=AWS)
    overwrite(made, 60, 160)
    assert all(floor > at for floor, _, _ in spans(made).values())
    assert list(made.store.verify()) == []


def test_two_who_begin_a_term_at_once_begin_one(made: World) -> None:
    overwrite(made, 20)
    log = made.store.session.resource(T)
    with log.view() as committed:
        before = committed.lead.config
    assert retention._renew(log, before)
    with made.reopened() as other:
        theirs = other.session.resource(T)
        assert not retention._renew(theirs, before)
        with theirs.view() as committed:
            assert committed.lead.config.primary == before.primary and committed.lead.config.at > before.at
            assert committed.lead.config.voters == before.voters
    made.store.tables.put_many(T, [Item(b"k", b"v")], domain=AWS)


@pytest.mark.parametrize("sweeps", [1, 2])
def test_a_put_that_meets_a_new_term_is_never_refused_for_what_it_wrote(
    made: World, monkeypatch: pytest.MonkeyPatch, sweeps: int
) -> None:
    """Its entry is in the log when another process begins the term. It is let go by the sweep after that one, and where
    that came before the writer looked again, nobody knows."""
    overwrite(made, 20)
    monkeypatch.setattr(retention, "SWEEP_EVERY", 1024)
    met: list[str] = []
    with made.reopened() as other:
        theirs = other.session.resource(T)

        def meet(name: str) -> None:
            if name == "append.after" and not met:
                met.append(name)
                for _ in range(sweeps):
                    retention.sweep_what_all_have(theirs, 0)
                    other.tables.put(T, "key-2", "theirs", domain=AWS)

        monkeypatch.setattr(logs, "point", meet)
        version = made.store.tables.get(T, b"key-1", domain=AWS).version
        if sweeps == 1:
            stored = made.store.tables.put(T, b"key-1", b"mine", domain=AWS, expect=version)
            assert stored.changed and stored.version == made.store.tables.get(T, b"key-1", domain=AWS).version
        else:
            with pytest.raises(Timeout) as unsure:
                made.store.tables.put(T, b"key-1", b"mine", domain=AWS, expect=version)
            assert unsure.value.fields["outcome"] == "unknown"
    assert met and made.store.tables.get(T, b"key-1", domain=AWS).value == b"mine"
