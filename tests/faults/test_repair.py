"""`domain repair`: whatever happened to one domain's bytes, it comes back as a new incarnation and nothing is lost.

The store's own logs have a voter in each of four domains; the queue's voters are those of the shape.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import grafctl.client as client
from faults.deeds import GROUP, QUEUE
from faults.forks import Forks
from faults.stores import SHAPES, Templates, overwrite_meta, publish
from faults.verdict import Ledger, verdict
from grafctl.errors import DomainUnavailable

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


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Templates]:
    forks = Forks()
    yield Templates(tmp_path_factory.mktemp("stores"), forks)
    forks.close()


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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("domain", ["a", "b", "c"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_domain_comes_back_and_nothing_is_lost(
    templates: Templates, shape: str, domain: str, kind: str
) -> None:
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
