"""Domains away, replicas that come back with a tail of their own, outcomes nobody knows, and stopped holders.

Every process here is a real one, and nothing waits for a clock: a step begins when the one before has been seen to end.
"""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import grafctl.client as client
from faults.deeds import GROUP, QUEUE
from faults.forks import Forks, Ran, heard
from faults.steps import away, refuses_and_leaves_all_as_it_was, work
from faults.stores import Templates, note, publish
from faults.sweeping import quarantined
from faults.verdict import Ledger, verdict
from grafctl.errors import DomainUnavailable, NoQuorum, NotFound, Timeout

LOCK_WAIT_S = 0.2  # where a stopped process is known to hold the lock, so that waiting longer changes nothing


# --- three voters


@pytest.mark.parametrize("out", ["a", "b", "c"])
def test_three_voters_work_on_without_any_one_domain(templates: Templates, out: str) -> None:
    store, ledger = templates.copy("three", "base")
    left = [domain for domain in "abc" if domain != out]
    with away(store, out), client.open(store) as opened:
        for domain in left:
            work(opened, ledger, domain, f"from {domain} without {out}")
        with pytest.raises(DomainUnavailable) as refused:
            opened.poll(QUEUE, GROUP, domain=out)
        assert (refused.value.exit_code, refused.value.reason) == (12, "unreachable")
        verdict(store, ledger, away=frozenset(out))
    with client.open(store) as opened:
        heads = {item["domain"]: item["state"] for item in opened.domains.list().items}
        assert heads[out] == "available"
        work(opened, ledger, out, f"from {out} again")
    verdict(store, ledger)


@pytest.mark.parametrize("point", ["append.after", "copy.before"])
def test_a_diverged_tail_is_discarded_and_kept_in_quarantine(templates: Templates, forks: Forks, point: str) -> None:
    store, ledger = templates.copy("three", "base")
    ledger.publishes(["diverged"])
    assert forks.run("publish", store, kill={point: 1}, payload="diverged").killed
    with away(store, "a"), client.open(store) as opened:
        work(opened, ledger, "b", "meanwhile at b")
        work(opened, ledger, "c", "meanwhile at c")
    verdict(store, ledger)
    assert any(b"diverged" in raw for raw in quarantined(store, "a"))
    with client.open(store) as opened:
        payloads = [record.payload for record in opened.peek(QUEUE, domain="a").body["records"]]
    assert b"diverged" not in payloads


def test_an_entry_that_one_other_domain_has_survives_the_primary(templates: Templates, forks: Forks) -> None:
    """Two of three held it, so it may have been acknowledged: it must stay, though nobody saw an acknowledgement."""
    store, ledger = templates.copy("three", "base")
    ledger.publishes(["perhaps"])
    assert forks.run("publish", store, kill={"copy.after": 1}, payload="perhaps").killed
    with away(store, "a"), client.open(store) as opened:
        work(opened, ledger, "b", "after")
        assert b"perhaps" in [record.payload for record in opened.peek(QUEUE, domain="c").body["records"]]
    verdict(store, ledger)


def test_a_running_process_sees_a_failed_domain_at_once(templates: Templates) -> None:
    store, ledger = templates.copy("three", "base")
    with client.open(store) as running:
        work(running, ledger, "a", "before")
        with away(store, "a"):
            ledger.publishes(["during"])
            ack = running.publish(QUEUE, "during", domain="b")
            assert sorted(ack.acked_by) == ["b", "c"]
            ledger.published(ack.offset, "during")
            with pytest.raises(DomainUnavailable) as refused:
                running.poll(QUEUE, GROUP, domain="a")
            assert refused.value.reason == "unreachable"
        work(running, ledger, "a", "after")
    verdict(store, ledger)


def test_without_two_of_three_nothing_is_written(templates: Templates) -> None:
    store, ledger = templates.copy("three", "base")
    with away(store, "a"), away(store, "c"):
        refuses_and_leaves_all_as_it_was(store, "b")
    with client.open(store) as opened:
        work(opened, ledger, "b", "after")
    verdict(store, ledger)


@pytest.mark.parametrize("out", ["bc", "bd", "cd"])
def test_a_view_that_lags_denies_nothing_that_was_acknowledged(templates: Templates, out: str) -> None:
    """The store's own log has four voters, so with two away nobody can count; its first voter never knows the most.

    The queue is registered there, acknowledged, and works on wherever it has a quorum of its own.
    """
    store, ledger = templates.copy("three", "base")
    with away(store, out[0]), away(store, out[1]), client.open(store) as opened:
        with pytest.raises(NoQuorum) if "d" not in out else nullcontext():
            publish(opened, ledger, "a", [("while two are away", "two")])
        with pytest.raises(NotFound):  # two of four meet every quorum of three: they would know of it
            opened.publish("never", "x", domain="a")
        opened.domains.fail("a")
        with pytest.raises(NoQuorum):  # one of four cannot tell
            opened.publish("never", "x", domain="a")
        opened.domains.restore("a")
    verdict(store, ledger)


# --- two voters


@pytest.mark.parametrize(("out", "left"), [("a", "b"), ("b", "a")])
def test_two_voters_refuse_without_one_and_work_when_it_is_back(templates: Templates, out: str, left: str) -> None:
    store, ledger = templates.copy("two", "base")
    with client.open(store) as opened:
        work(opened, ledger, "a", "before")
    with away(store, out):
        refuses_and_leaves_all_as_it_was(store, left)
        with client.open(store) as opened:  # what is committed can still be read
            assert opened.peek(QUEUE, domain=left).body["records"][0].payload == b"record 0"
    with client.open(store) as opened:
        work(opened, ledger, left, "after")
        work(opened, ledger, out, "after too")
    verdict(store, ledger)


# --- the witness: the table in protocol.md, section 10


@pytest.mark.parametrize(("out", "left"), [("a", "b"), ("b", "a")])
def test_with_two_copies_asked_for_a_witness_does_not_replace_one(templates: Templates, out: str, left: str) -> None:
    store, ledger = templates.copy("witness", "base")
    with away(store, out):
        refuses_and_leaves_all_as_it_was(store, left)
        with client.open(store) as opened:
            assert len(opened.peek(QUEUE, domain=left).body["records"]) == 6
    with client.open(store) as opened:
        work(opened, ledger, left, "after")
    verdict(store, ledger)


@pytest.mark.parametrize("shape", ["witness", "witness1"])
def test_without_the_witness_two_copies_are_enough(templates: Templates, shape: str) -> None:
    store, ledger = templates.copy(shape, "base")
    with away(store, "c"), client.open(store) as opened:
        work(opened, ledger, "a", "without the witness")
        ack = opened.publish(QUEUE, "record 1", domain="a", id="r1")
        assert ack.replayed and sorted(ack.acked_by) == ["a", "b"]
    verdict(store, ledger)


@pytest.mark.parametrize(("out", "left"), [("a", "b"), ("b", "a")])
def test_with_one_copy_asked_for_the_other_domain_goes_on(templates: Templates, out: str, left: str) -> None:
    store, ledger = templates.copy("witness1", "base")
    with away(store, out), client.open(store) as opened:
        work(opened, ledger, left, f"without {out}")
        ledger.publishes(["one copy"])
        ack = opened.publish(QUEUE, "one copy", domain=left)
        ledger.published(ack.offset, "one copy")
        assert sorted(ack.acked_by) == sorted([left, "c"]) and ack.payload_copies == 1
    verdict(store, ledger)  # which reads every record in both domains: it was copied when the domain was back


def test_records_with_one_copy_block_the_election_until_it_is_back(templates: Templates) -> None:
    store, ledger = templates.copy("witness1", "base")
    with away(store, "b"), client.open(store) as opened:
        work(opened, ledger, "a", "only at a")
        opened.domains.fail("a")
    with client.open(store) as opened:
        opened.session.cluster.driver.restore(opened.session.cluster.place("b").path)  # b is back, a is not
        with pytest.raises(NoQuorum) as refused:
            opened.publish(QUEUE, "lost?", domain="b")
        assert refused.value.fields["outcome"] == "not_written"
        assert "witness" in refused.value.message
        opened.domains.restore("a")
        work(opened, ledger, "b", "all is well")
    verdict(store, ledger)


# --- outcomes that nobody knows


def try_again_twice(forks: Forks, store: Path, ledger: Ledger, operation: str) -> None:
    for _ in range(2):
        ran = forks.run("publish", store, payload="perhaps", operation=operation)
        assert ran.exit == 0, ran
        note(ledger, ran)
    verdict(store, ledger)


def test_an_unknown_outcome_tried_again_by_its_operation_is_one_record(
    templates: Templates, forks: Forks, tmp_path: Path
) -> None:
    store, ledger = templates.copy("two", "base")
    error = unknown(store, forks, tmp_path / "log")
    ledger.publishes(["perhaps"])
    with client.open(store) as opened:
        opened.domains.restore("b")
    try_again_twice(forks, store, ledger, error["operation"])


def test_an_unknown_outcome_that_was_lost_is_written_by_the_second_try(
    templates: Templates, forks: Forks, tmp_path: Path
) -> None:
    """The only copy went away with a, another primary was elected, and a's tail was dropped when it came back."""
    store, ledger = templates.copy("three", "base")
    error = unknown(store, forks, tmp_path / "log", failing="bc")
    ledger.publishes(["perhaps"])
    with client.open(store) as opened:
        opened.domains.fail("a")
        for domain in "bc":
            opened.session.cluster.driver.restore(opened.session.cluster.place(domain).path)
        work(opened, ledger, "b", "another")
        opened.domains.restore("a")
    try_again_twice(forks, store, ledger, error["operation"])
    assert quarantined(store, "a")


def unknown(store: Path, forks: Forks, log: Path, failing: str = "b") -> dict[str, Any]:
    """Returns the refusal of a publish whose backups failed between its append and its copies."""
    pid = forks.start("publish", store, log, stop={"append.after": 1}, payload="perhaps")
    forks.stopped(pid)
    with client.open(store) as opened:
        for domain in failing:
            opened.domains.fail(domain)
    os.kill(pid, signal.SIGCONT)
    assert forks.ended(pid, wait=True) == 0
    error: dict[str, Any] = heard(log)[0]["error"]
    assert (error["exit"], error["code"], error["outcome"]) == (21, "no_quorum", "unknown")
    return error


def test_what_a_replica_holds_of_an_older_term_is_never_delivered(templates: Templates, forks: Forks) -> None:
    """a has another record at offset 6, and cannot be brought up, because somebody holds its lock; it can be read."""
    store, ledger = templates.copy("three", "behind")
    with client.open(store) as opened:
        cluster = opened.session.cluster
        assert len(opened.poll(QUEUE, GROUP, domain="b", max=3).records) == 3  # what is before it
        cluster.driver.restore(cluster.place("a").path)  # without the settling that `domain restore` does
        cluster.lock_wait_s = LOCK_WAIT_S
        with cluster.environment("a").write(wait_s=1), pytest.raises(DomainUnavailable) as refused:
            opened.poll(QUEUE, GROUP, domain="a")
        assert refused.value.reason == "not_caught_up"
        records = opened.poll(QUEUE, GROUP, domain="a").records
    assert [(record.offset, record.payload) for record in records] == [(6, b"while a was away")]
    verdict(store, ledger)


# --- stopped holders


@pytest.mark.parametrize("point", ["append.before", "driver.commit.before"])
def test_a_stopped_holder_of_the_lock_is_left_behind_and_fenced(
    templates: Templates, forks: Forks, tmp_path: Path, point: str
) -> None:
    store, ledger = templates.copy("three", "base")
    ledger.publishes(["late"])
    pid = forks.start("publish", store, tmp_path / "log", stop={point: 1}, payload="late")
    forks.stopped(pid)
    with client.open(store) as opened:
        opened.session.cluster.lock_wait_s = LOCK_WAIT_S
        for domain in "bc":
            publish(opened, ledger, domain, [(f"not waiting, {domain}", None)])
    resume(forks, pid, tmp_path / "log", ledger)
    assert len(ledger.acked) == 6 + 2 + 1  # the late one too, by a try in the new term
    verdict(store, ledger)
    assert any(b"late" in raw for raw in quarantined(store, "a"))


def test_a_primary_that_promised_its_term_away_appends_no_more(templates: Templates, forks: Forks) -> None:
    """The elector had the promises of a and b; c knows nothing of it, and would be a quorum with a."""
    store, ledger = templates.copy("three", "base")
    with client.open(store) as running:
        work(running, ledger, "a", "while a leads")
        running.domains.fail("c")
        assert forks.run("locator", store, kill={"start.after": 1}, generation=2, remove=["ra"]).killed
        cluster = running.session.cluster
        cluster.driver.restore(cluster.place("c").path)  # without the settling that `domain restore` does
        publish(running, ledger, "a", [("a leads no more", None)])
    verdict(store, ledger)


@pytest.mark.parametrize(("hit", "held"), [(1, "b"), (2, "c")])
def test_a_stopped_copier_delays_nobody(
    templates: Templates, forks: Forks, tmp_path: Path, hit: int, held: str
) -> None:
    """It holds the lock of the other domain, or of the witness; the primary and the third are a quorum without it."""
    store, ledger = templates.copy("witness1", "base")
    ledger.publishes(["late"])
    pid = forks.start("publish", store, tmp_path / "log", stop={"copy.before": hit}, payload="late")
    forks.stopped(pid)
    with client.open(store) as opened:
        opened.session.cluster.lock_wait_s = LOCK_WAIT_S
        ledger.publishes(["not waiting"])
        ack = opened.publish(QUEUE, "not waiting", domain="a")
        assert held not in ack.acked_by and len(ack.acked_by) == 2
        ledger.published(ack.offset, "not waiting")
    resume(forks, pid, tmp_path / "log", ledger)
    assert len(ledger.acked) == 8
    verdict(store, ledger)


def test_behind_a_stopped_copier_of_the_only_backup_the_outcome_is_unknown(
    templates: Templates, forks: Forks, tmp_path: Path
) -> None:
    store, ledger = templates.copy("two", "base")
    ledger.publishes(["late", "waiting"])
    pid = forks.start("publish", store, tmp_path / "log", stop={"copy.before": 1}, payload="late")
    forks.stopped(pid)
    with client.open(store) as opened:
        opened.session.cluster.lock_wait_s = LOCK_WAIT_S
        with pytest.raises(Timeout) as unknown:
            opened.publish(QUEUE, "waiting", domain="a", timeout_s=LOCK_WAIT_S)
        assert unknown.value.fields["outcome"] == "unknown"
    resume(forks, pid, tmp_path / "log", ledger)
    for _ in range(2):
        ran = forks.run("publish", store, payload="waiting", operation=unknown.value.fields["operation"])
        assert ran.exit == 0, ran
        note(ledger, ran)
    assert len(ledger.acked) == 8
    verdict(store, ledger)


def resume(forks: Forks, pid: int, log: Path, ledger: Ledger) -> None:
    """Lets a stopped child go on to its end, and notes what it acknowledged."""
    os.kill(pid, signal.SIGCONT)
    assert forks.ended(pid, wait=True) == 0
    note(ledger, Ran(0, heard(log)))
