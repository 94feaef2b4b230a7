"""`domain repair`: whatever happened to one domain's bytes, it comes back as a new incarnation and nothing is lost.

The store's own logs have a voter in each of four domains; the queue's voters are those of the shape.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import grafctl.client as client
from faults.deeds import GROUP, QUEUE
from faults.forks import Forks, heard
from faults.stores import SHAPES, Templates, overwrite_meta, publish
from faults.verdict import Ledger, verdict
from grafctl.errors import ConfirmationRequired, DomainUnavailable, NoQuorum, Usage

Damage = Callable[[Path, Path], None]  # (directory of the domain, a copy of it from before the last records)


def _wiped(place: Path, old: Path) -> None:
    for child in place.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()


def _gone(place: Path, old: Path) -> None:
    shutil.rmtree(place)


def _flipped(place: Path, old: Path) -> None:
    overwrite_meta(place)


def _no_journal(place: Path, old: Path) -> None:
    (place / "env" / "journal").unlink()


def _rolled_back(place: Path, old: Path) -> None:
    shutil.rmtree(place)
    shutil.copytree(old, place)


def _foreign(place: Path, old: Path) -> None:
    other = place.parent.parent.parent / "other"
    client.create(other, {"a": None, "b": None})
    shutil.rmtree(place)
    shutil.copytree(other / "domains" / "a", place)
    shutil.rmtree(other)


DAMAGES: dict[str, tuple[Damage, bool]] = {  # and whether the operator has to say that the domain is lost
    "wiped": (_wiped, True),
    "gone": (_gone, True),
    "flipped": (_flipped, False),
    "no journal": (_no_journal, False),
    "rolled back": (_rolled_back, False),
    "another store's": (_foreign, True),
}


def place_of(store: Path, domain: str) -> Path:
    return store / "domains" / domain


def damage(store: Path, ledger: Ledger, domain: str, kind: str) -> None:
    """Damages a domain, after more was published than a copy of it knows."""
    old = store / "old copy"
    shutil.copytree(place_of(store, domain), old)
    with client.open(store) as opened:
        publish(opened, ledger, "a", [(f"later {n}", f"later{n}") for n in range(3)])
        done = opened.ack(QUEUE, GROUP, [2], domain="a")
        ledger.finalised(GROUP, [2], done.count)
        for name in ("one", "two"):  # in the store's own logs too, twice, so that the others have seen the first
            opened.authorities.add(name, public_key=store / "watch.pub")
    DAMAGES[kind][0](place_of(store, domain), old)
    shutil.rmtree(old)


def repair(store: Path, domain: str, kind: str) -> None:
    is_lost = DAMAGES[kind][1]
    with client.open(store) as opened:
        if is_lost:
            with pytest.raises(DomainUnavailable, match="may be good"):
                opened.domains.repair(domain)
        planned = opened.domains.repair(domain, lost=is_lost, dry_run=True)
        assert planned.changed and planned.actions
        done = opened.domains.repair(domain, lost=is_lost)
        assert done.changed and done.actions == planned.actions
        again = opened.domains.repair(domain)
        assert not again.changed and again.actions == [], again


CASES = [(kind, domain, shape) for kind in DAMAGES for domain in "abc" for shape in SHAPES]


@pytest.mark.parametrize(("kind", "domain", "shape"), CASES[::3])
def test_a_damaged_domain_comes_back_and_nothing_is_lost(
    templates: Templates, kind: str, domain: str, shape: str
) -> None:
    comes_back(templates, kind, domain, shape)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "domain", "shape"), CASES)
def test_every_damage_in_every_domain(templates: Templates, kind: str, domain: str, shape: str) -> None:
    comes_back(templates, kind, domain, shape)


def comes_back(templates: Templates, kind: str, domain: str, shape: str) -> None:
    """Damages a domain and repairs it; raises where the verdict does not hold, or the quorum does not count it."""
    store, ledger = templates.copy(shape, "base")
    damage(store, ledger, domain, kind)
    repair(store, domain, kind)
    verdict(store, ledger)
    with client.open(store) as opened:
        publish(opened, ledger, "b", [("afterwards", "afterwards")])
        other = "b" if domain != "b" else "a"
        assert opened.session.members()[domain][1] != ""
        if shape == "three":  # the quorum counts it again
            opened.domains.fail(other)
            publish(opened, ledger, domain, [("with it alone", None)])
            opened.domains.restore(other)
    verdict(store, ledger)
    templates.discard(store)


def test_the_old_incarnation_is_refused_for_ever(templates: Templates) -> None:
    store, ledger = templates.copy("three", "base")
    good = store / "good copy"
    shutil.copytree(place_of(store, "b"), good)
    damage(store, ledger, "b", "gone")
    repair(store, "b", "gone")
    new = store / "new"
    place_of(store, "b").rename(new)
    shutil.copytree(good, place_of(store, "b"))
    with client.open(store) as opened:
        state = opened.domains.show("b").body["state"]
        assert "incarnation" in state and "registered" in state
        publish(opened, ledger, "a", [("without it", None)])
    shutil.rmtree(place_of(store, "b"))
    new.rename(place_of(store, "b"))
    verdict(store, ledger)


def test_what_is_only_out_of_reach_is_not_given_up(templates: Templates) -> None:
    store, ledger = templates.copy("three", "base")
    with client.open(store) as opened:
        opened.domains.fail("b")
        for lost in (False, True):  # nobody can say of a drill that it is a loss
            with pytest.raises(DomainUnavailable, match="drill") as refused:
                opened.domains.repair("b", lost=lost)
            assert refused.value.exit_code == 12 and "domain restore b" in str(refused.value.hint)
        opened.domains.restore("b")
        assert not opened.domains.repair("b").changed
        before = opened.session.members()
        overwrite_meta(place_of(store, "b"))
        opened.domains.fail("c")
        with pytest.raises(NoQuorum, match="Nothing was touched, because c did not answer"):
            opened.domains.repair("b")
        assert opened.session.members() == before and not opened.session.cluster.driver.remains(place_of(store, "b"))
        opened.domains.restore("c")
        assert opened.domains.repair("b").changed
    verdict(store, ledger)


def test_entries_that_only_a_witness_knows_are_named_before_they_are_given_up(templates: Templates) -> None:
    store, ledger = templates.copy("witness1", "base")
    with client.open(store) as opened:
        opened.domains.fail("b")
        lost = opened.publish(QUEUE, "one copy", domain="a")
        assert lost.acked_by == ["a", "c"] and lost.payload_copies == 1
    overwrite_meta(place_of(store, "a"))
    with client.open(store) as opened:
        opened.domains.restore("b")
        with pytest.raises(ConfirmationRequired, match="only a witness knows") as refused:
            opened.domains.repair("a")
        assert "--accept-loss q." in str(refused.value.hint)
        for wrong in (["control"], ["q", "audit"]):
            with pytest.raises(Usage, match="needs to be given up"):
                opened.domains.repair("a", accept_loss=wrong)
        done = opened.domains.repair("a", accept_loss=[QUEUE])
        assert any(action.startswith("give up q: entry 10 (publish, block sha256:") for action in done.actions or ())
        noted = [item for item in opened.audit.tail().items if item["op"] == "domain repair"]
        assert len(noted) == 1 and noted[0]["lost"][0].startswith("q: entry 10")
    verdict(store, ledger)


def test_two_of_three_are_lost(templates: Templates) -> None:
    store, ledger = templates.copy("three", "base")
    overwrite_meta(place_of(store, "b"))
    shutil.rmtree(place_of(store, "c"))
    with client.open(store) as opened:
        with pytest.raises(NoQuorum, match="c did not answer"):
            opened.domains.repair("b", accept_loss=[QUEUE])
        with pytest.raises(ConfirmationRequired, match="too few of its voters are left"):
            opened.domains.repair("c", lost=True)
        with pytest.raises(NoQuorum, match="c is made anew") as pending:
            opened.domains.repair("c", lost=True, accept_loss=[QUEUE])
        assert "domain repair b" in str(pending.value.hint)
        assert opened.domains.repair("b", accept_loss=[QUEUE]).changed
        assert not opened.domains.repair("b").changed and not opened.domains.repair("c").changed
        publish(opened, ledger, "c", [("afterwards", None)])
    verdict(store, ledger)


def test_two_repairs_at_once_while_publishers_work(templates: Templates, forks: Forks, tmp_path: Path) -> None:
    store, ledger = templates.copy("three", "base")
    overwrite_meta(place_of(store, "b"))
    logs = {}
    for number, domain in enumerate("ac"):
        about: dict[str, Any] = {"name": f"p{number}", "domain": domain, "seed": number, "goes": 20}
        pid = forks.start("publish_many", store, tmp_path / f"p{number}", **about)
        logs[pid] = tmp_path / f"p{number}"
    repairs = {forks.start("domain_repair", store, tmp_path / f"r{n}"): tmp_path / f"r{n}" for n in range(2)}
    for pid in (*repairs, *logs):
        forks.ended(pid, wait=True)
    ended = [heard(path) for path in repairs.values()]
    assert any({"changed": True} in said for said in ended), ended
    for path in logs.values():
        for said in heard(path):
            ledger.publishes(said.get("tries", []))
            if "published" in said:
                ledger.published(*said["published"])
    with client.open(store) as opened:
        opened.domains.repair("b")
    verdict(store, ledger)
