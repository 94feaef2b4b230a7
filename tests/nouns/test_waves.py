"""Waves in a store: who is begun, what halts them, what is refused before anything is changed, and going on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store.world import World, without_log, world

from grafctl.client import Outgoing
from grafctl.errors import (
    DomainUnavailable,
    GenerationConflict,
    GrafctlError,
    InvalidConfig,
    NotFound,
    ProofRequired,
    Usage,
)
from grafctl.nouns import wave_running
from grafctl.nouns.wave_running import require_all
from grafctl.results import Shown

AWS, GCP = "aws", "gcp"
HEAD = '[wave]\nname = "w"\nwindow = "1ms"\ngrace = "0"\ndrain = "0"\n'
NAMES = ("a1", "a2", "b1", "b2")  # their shape is the letter


class Plant:
    """A store with two outputs of each shape, which hold the same, and a file that declares a wave."""

    def __init__(self, here: World, folder: Path) -> None:
        self.here, self.store, self.file = here, here.store, folder / "wave.toml"
        for shape in "ab":
            for name in (f"old-{shape}", f"new-{shape}"):
                self.store.queues.create(name, schema="s", replicas=[f"r={AWS}"], allow=[AWS])
                for number in (1, 2):
                    self.store.consumers.create(name, f"{shape}{number}", allow=[AWS])
                self.publish(name, "1")
        self.declare()

    def publish(self, queue: str, id: str, payload: str = "same") -> None:
        self.store.publish_batch(queue, [Outgoing(payload.encode(), id)], domain=AWS)

    def declare(self, *lines: str, **of_one: str) -> None:
        text = HEAD + "\n".join(lines) + "\n"
        for name in NAMES:
            text += f'[[consumer]]\nname = "{name}"\nsource = "old-{name[0]}"\ntarget = "new-{name[0]}"\n'
            text += f'shape = "{name[0]}"\nrisk = "low"\n{of_one.get(name, "")}\n'
        self.file.write_text(text)

    def wave(self, **how: Any) -> Shown:
        return self.store.switches.wave(self.file, **{"domain": AWS} | how)

    def plan(self, **how: Any) -> dict[str, Any]:
        return {item["consumer"]: item for item in self.store.switches.plan(self.file, **how).body["consumers"]}

    def states(self) -> dict[str, str]:
        return {item["switch"]: item["state"] for item in self.store.switches.status().fields()["switches"]}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with world(tmp_path / "store", [AWS, GCP]) as here:
        yield Plant(here, tmp_path)


def standings(done: Shown) -> dict[str, str]:
    return {item["consumer"]: item["standing"] for item in done.body["consumers"]}


def notes(done: Shown) -> dict[str, str | None]:
    return {item["consumer"]: item["note"] for item in done.body["consumers"]}


def test_everybody_is_locked_in_the_order_of_the_plan(plant: Plant) -> None:
    order = list(plant.plan())
    assert order == ["a1", "b1", "a2", "b2"]
    events: list[dict[str, Any]] = []
    done = plant.wave(watch=events.append)
    assert [event["consumer"] for event in events if event["state"] == "soaking"] == order
    assert [event["consumer"] for event in events if event["state"] == "locked"] == order
    assert set(plant.states().values()) == {"locked"} == set(standings(done).values())
    require_all(done)
    assert done.body["changed"] and not plant.wave().body["changed"]
    assert {item["standing"] for item in plant.plan().values()} == {"locked"}


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_are_on_their_way_than_were_allowed(plant: Plant, at_once: int) -> None:
    plant.declare(f"at_once = {at_once}")
    most = 0

    def watch(event: dict[str, Any]) -> None:
        nonlocal most
        in_flight = [item for item in plant.store.switches.status().fields()["switches"] if item["in_flight"]]
        most = max(most, len(in_flight))

    plant.wave(watch=watch)
    assert most == at_once


def spoil_when_soaking(plant: Plant, *names: str) -> Any:
    """Returns what publishes a record that differs, when one of these has just been switched."""

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "state" and event["state"] == "soaking" and event["consumer"] in names:
            shape = event["consumer"][0]
            plant.publish(f"old-{shape}", "2", "right")
            plant.publish(f"new-{shape}", "2", "wrong")

    return watch


def test_a_wave_may_have_consumers_that_read_tables(plant: Plant) -> None:
    for name in ("old-t", "new-t"):
        plant.store.tables.create(name, replicas=[f"r={AWS}"], allow=[AWS], vshards=4)
        plant.store.tables.put(name, "k", "same", domain=AWS)
    more = '[[consumer]]\nname = "t1"\nsource = "old-t"\ntarget = "new-t"\nshape = "t"\nrisk = "low"\n'
    plant.file.write_text(plant.file.read_text() + more)
    assert plant.plan(domain=AWS)["t1"]["standing"] == "waiting"
    assert standings(plant.wave())["t1"] == "locked"
    assert plant.store.tables.get("old-t", "k", domain=AWS, group="t1").resource == "new-t"
    plant.file.write_text(plant.file.read_text().replace('"t1"', '"t2"') + "rules = { max_lag = 5 }\n")
    with pytest.raises(Usage, match="--max-lag would say nothing"):
        plant.wave()


STRICT = "rules = { max_mismatches = 0 }"


def test_who_went_back_keeps_the_others_of_its_shape_from_being_begun(plant: Plant) -> None:
    plant.declare(STRICT)
    done = plant.wave(watch=spoil_when_soaking(plant, "a1"))
    assert standings(done) == {"a1": "went_back", "a2": "waiting", "b1": "locked", "b2": "locked"}
    assert notes(done)["a2"] == "a1 of the same shape went back" and "mismatch" in str(notes(done)["a1"])
    assert plant.states() == {"a1": "rolled_back", "a2": "source", "b1": "locked", "b2": "locked"}
    with pytest.raises(ProofRequired, match="2 of 4 consumers of wave w are not at their target: a1, a2") as caught:
        require_all(done)
    assert caught.value.exit_code == 19
    assert plant.plan()["a1"]["note"] == notes(done)["a1"] and plant.plan()["a2"]["note"] == notes(done)["a2"]


def test_without_that_rule_the_comparison_keeps_them_back(plant: Plant) -> None:
    plant.declare(STRICT, "stop_same_shape = false")
    done = plant.wave(watch=spoil_when_soaking(plant, "a1"))
    assert standings(done) == {"a1": "went_back", "a2": "blocked", "b1": "locked", "b2": "locked"}
    (blocked,) = [item for item in done.body["consumers"] if item["standing"] == "blocked"]
    assert (blocked["code"], blocked["exit"], blocked["state"]) == ("proof_required", 19, "shadow")
    assert plant.plan()["a2"]["standing"] == "blocked" and "1 mismatch." in str(plant.plan()["a2"]["note"])


@pytest.mark.parametrize(("grace", "standing"), [("0", "blocked"), ("1h", "locked")])
def test_a_record_without_a_counterpart_is_missing_when_the_grace_is_over(
    plant: Plant, grace: str, standing: str
) -> None:
    plant.declare(a1=f'grace = "{grace}"')
    plant.publish("old-a", "2")
    assert standings(plant.wave())["a1"] == standing


def test_a_wave_is_halted_after_enough_went_back(plant: Plant) -> None:
    plant.declare(STRICT, "stop_after_rollbacks = 1")
    done = plant.wave(watch=spoil_when_soaking(plant, "a1"))
    assert done.body["halted"] == "a1 went back, and 1 is enough"
    assert standings(done) == {"a1": "went_back", "a2": "waiting", "b1": "waiting", "b2": "waiting"}
    assert plant.store.switches.plan(plant.file).body["halted"] == done.body["halted"]
    assert standings(plant.wave()) == standings(done), "the next one is halted too"
    assert plant.states()["b1"] == "source"


def test_who_went_back_is_tried_again_only_when_that_is_said(plant: Plant) -> None:
    plant.declare(STRICT)
    plant.wave(watch=spoil_when_soaking(plant, "a1"))
    assert standings(plant.wave())["a1"] == "went_back"
    assert standings(plant.wave(again=True)) == {"a1": "blocked", "a2": "blocked", "b1": "locked", "b2": "locked"}
    for name in ("a1", "a2"):  # whoever looked at the difference forgives it
        plant.store.switches.compare(name, domain=AWS, compare_from="now")
    assert set(standings(plant.wave(again=True)).values()) == {"locked"}


def test_a_second_rollback_in_one_run_is_the_last(plant: Plant) -> None:
    plant.declare(STRICT)
    plant.wave(watch=spoil_when_soaking(plant, "a1"))
    plant.store.switches.compare("a1", domain=AWS, compare_from="now")
    plant.store.switches.rollback("a1", domain=AWS)

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "state" and event["state"] == "soaking" and event["consumer"] == "a1":
            plant.publish("new-a", "3", "extra")

    assert standings(plant.wave(again=True, watch=watch))["a1"] == "went_back"
    assert standings(plant.wave(again=True))["a1"] == "blocked"


def test_who_was_brought_back_by_hand_or_by_another_wave_is_tried(plant: Plant) -> None:
    plant.store.switches.attach("a1", source="old-a", target="new-a", group="a1", window_ms=1, shape="a")
    plant.store.switches.switch("a1", "target", domain=AWS, wave={"name": "other", "at_once": 1})
    plant.store.switches.rollback("a1", domain=AWS)
    assert plant.plan()["a1"]["standing"] == "waiting"
    assert set(standings(plant.wave()).values()) == {"locked"}


def test_a_person_may_lock_by_hand(plant: Plant) -> None:
    plant.declare("at_once = 2")
    done = plant.wave(lock=False)
    assert standings(done) == {"a1": "soaked", "b1": "soaked", "a2": "waiting", "b2": "waiting"}
    assert notes(done)["a2"] == "there is no place before somebody locks or brings back a1, b1"
    plant.store.switches.lock("a1", domain=AWS)
    assert standings(plant.wave(lock=False)) == {"a1": "locked", "b1": "soaked", "a2": "soaked", "b2": "waiting"}
    assert set(standings(plant.wave()).values()) == {"locked"}


def test_who_cannot_be_begun_yet_is_tried_again_and_then_left(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wave_running, "PATIENCE_MS", 0)
    for name in ("old-c", "new-c"):
        plant.store.queues.create(name, schema="s", replicas=[f"r={AWS}"], allow=[AWS])
        plant.store.consumers.create(name, "c", allow=[AWS])
    plant.store.switches.attach("c", source="old-c", target="new-c", group="c")
    plant.store.switches.switch("c", "target", domain=AWS)
    done = plant.wave()
    assert set(standings(done).values()) == {"blocked"}
    assert {item["code"] for item in done.body["consumers"]} == {"busy"}
    plant.store.switches.rollback("c", domain=AWS)
    assert set(standings(plant.wave()).values()) == {"locked"}


# --- what is refused


def unchanged(plant: Plant, error: type[GrafctlError], **how: Any) -> GrafctlError:
    """Runs a wave that must be refused, and returns why; nothing but the audit log is another than before."""
    audit = plant.here.store.session.audit.id
    before = without_log(plant.here.dump(), audit)
    with pytest.raises(error) as caught:
        plant.wave(**how)
    assert without_log(plant.here.dump(), audit) == before
    return caught.value


def test_a_wave_is_refused_before_anything_is_changed(plant: Plant) -> None:
    assert unchanged(plant, DomainUnavailable, domain=GCP).exit_code == 11
    plant.declare(b2='group = "absent"')
    unchanged(plant, NotFound)
    assert plant.plan()["b2"]["standing"] == "blocked" and "absent" in plant.plan()["b2"]["note"]
    plant.declare(b2='match = "what"')
    unchanged(plant, InvalidConfig)
    plant.declare()
    plant.store.switches.attach("b2", source="old-b", target="new-b", group="b2", match="key")
    assert "b2" in unchanged(plant, GenerationConflict).message
    with pytest.raises(NotFound):
        plant.store.switches.wave(plant.file.with_name("none.toml"), domain=AWS)


def test_a_dry_run_says_what_is_left_and_changes_nothing(plant: Plant) -> None:
    before = plant.here.dump()
    told = plant.store.switches.plan(plant.file, domain=AWS).body
    assert plant.here.dump() == before
    assert told["changed"] and told["dry_run"]
    assert told["actions"][:4] == ["attach a1", "switch a1 to a1 of new-a", "watch a1 for 1 ms", "lock a1"]
    assert len(told["actions"]) == 16
    assert len(plant.store.switches.plan(plant.file, domain=AWS, lock=False).body["actions"]) == 12
    refused = plant.store.switches.plan(plant.file, domain=GCP).body
    assert not refused["changed"] and {item["standing"] for item in refused["consumers"]} == {"blocked"}
    plant.declare(b1='group = "nobody"')
    partly = plant.store.switches.plan(plant.file, domain=AWS).body
    assert not partly["actions"] and standings(Shown(partly)) == dict.fromkeys(NAMES, "waiting") | {"b1": "blocked"}
    unchanged(plant, NotFound)  # so nothing would be done for the others either
    plant.declare()
    plant.wave()
    assert not plant.store.switches.plan(plant.file, domain=AWS).body["changed"]


# --- going on


class Killed(BaseException):
    """Ends a wave where it stands."""


class Ending:
    """Watches a wave and ends it at its n-th event; spoils the shape of a1 as soon as that soaks."""

    def __init__(self, plant: Plant, at: int) -> None:
        self.left, self.spoil = at, spoil_when_soaking(plant, "a1")

    def __call__(self, event: dict[str, Any]) -> None:
        self.spoil(event)
        self.left -= 1
        if not self.left:
            raise Killed


def test_a_wave_that_was_ended_at_any_change_goes_on(tmp_path: Path) -> None:
    for ends in range(1, 100):
        with world(tmp_path / f"store-{ends}", [AWS, GCP]) as here:
            plant = Plant(here, tmp_path)
            plant.declare(STRICT, "at_once = 2")
            ending = Ending(plant, ends)
            try:
                plant.wave(watch=ending)
            except Killed:
                with here.reopened() as store:
                    plant.store = store
                    found = standings(plant.wave())
                    assert found == standings(plant.wave())
                assert (found["b1"], found["b2"]) == ("locked", "locked")
                is_spoilt = plant.here.store.queues.show("new-a").body["next_offset"] == 2
                assert found["a1"] == ("went_back" if is_spoilt else "locked")
                assert found["a2"] in (("waiting", "went_back") if is_spoilt else ("locked",))
            else:
                assert ends > 8
                return
    raise AssertionError("the wave never ended")


def test_two_who_run_one_wave_do_not_get_in_each_others_way(plant: Plant) -> None:
    """The other one runs whenever something changed, as long as it may."""
    depth = 0

    def watch(event: dict[str, Any]) -> None:
        nonlocal depth
        if depth < 2:
            depth += 1
            with plant.here.reopened() as store:
                store.switches.wave(plant.file, domain=AWS, watch=watch)

    assert set(standings(plant.wave(watch=watch)).values()) == {"locked"}
