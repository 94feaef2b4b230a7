"""Taking a switch away, in a store: not while the open side owes records, and by whoever comes late not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import clock
from grafctl.errors import Busy, Fenced, GenerationConflict, NotFound
from grafctl.store.checked import checked
from grafctl.store.keys import AUDIT_LOG
from grafctl.store.operations.switching.work import row_of, side_of
from grafctl.store.resources.carrying import CarryInto
from grafctl.store.resources.group import group_row
from grafctl.store.resources.switched import CloseGroup, OpenGroup
from grafctl.store.resources.switches import BeginClosing, Flip, NoteShadow
from grafctl.store.switch_match import HASH_BYTES
from store.world import World, without_log, world

AWS, GCP, AZURE = "aws", "gcp", "azure"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP, AZURE], "memory") as here:
        for output in ("old", "new"):
            here.store.queues.create(output, replicas=[f"a={AWS}", f"g={GCP}"], allow=[AWS, GCP])
            here.store.consumers.create(output, "g", allow=[AWS])
        here.store.switches.attach("s", source="old", target="new", group="g")
        yield here


def owes(here: World) -> None:
    """Turns the switch to a target that owes a record, and takes it back to a source that owes it."""
    session = here.store.session
    for to in ("target", "source"):
        row = row_of(session, "s")
        if to == "target":
            session.control.append(NoteShadow("s", row["generation"], {"mismatches": 0}))
        session.control.append(BeginClosing("s", row["generation"], to, clock.now_ms() + 60_000))
        left, taken = side_of(session, "s", row, row["side"]), side_of(session, "s", row, to)
        left.log.append(CloseGroup(*left.place, row["generation"]))
        taken.log.append(CarryInto(*taken.place, row["generation"], [], [[0, 1]], 0, [b"k" * HASH_BYTES]))
        session.control.append(Flip("s", row["generation"], to, "by hand"))
        taken.log.append(OpenGroup(*taken.place, row["generation"] + 1))


def test_a_switch_is_not_taken_away_while_the_open_side_owes_a_record(made: World) -> None:
    owes(made)
    match_text = "1 record that .* has not come to old yet"
    for dry_run in (True, False):
        with pytest.raises(Busy, match=match_text) as refused:
            made.store.switches.detach("s", dry_run=dry_run)
        assert refused.value.fields["owed"] == 1
    assert row_of(made.store.session, "s")["phase"] is None, "nothing was begun"


def test_a_switch_that_owes_nothing_is_taken_away(made: World) -> None:
    made.store.switches.detach("s")
    with pytest.raises(NotFound):
        made.store.switches.detach("s")


def test_a_group_that_a_detach_paused_is_read_again_once_it_is_attached_and_switched_to(made: World) -> None:
    made.store.switches.detach("s")
    assert made.store.consumers.show("new", "g").body["paused"]
    made.store.switches.attach("s", source="old", target="new", group="g")
    for output in ("old", "new"):
        made.store.publish(output, b"x", id="one", domain=AWS)
    made.store.switches.switch("s", to="target", domain=AWS)
    assert [record.id for record in made.store.poll("old", "g", domain=AWS).records] == ["one"]


@pytest.mark.parametrize("semantics", ["at-least-once", "effectively-once"])
def test_what_was_finished_at_the_other_output_is_not_finished_by_a_late_ack_after_a_detach(
    tmp_path: Path, semantics: str
) -> None:
    """It was an error that one without its lease, which had ended with the switch, finished the record again."""
    with world(tmp_path / "store", [AWS], "memory") as here:
        store = here.store
        for output in ("old", "new"):
            store.queues.create(output, replicas=[f"a={AWS}"], allow=[AWS])
            store.consumers.create(output, "g", allow=[AWS], semantics=semantics)
            store.publish(output, b"x", id="one", domain=AWS)
        store.switches.attach("s", source="old", target="new", group="g", window_ms=0)
        given = store.poll("old", "g", domain=AWS)
        store.switches.switch("s", to="target", domain=AWS, drain_ms=0)
        store.switches.lock("s", domain=AWS)  # from here on nothing is carried back
        again = store.poll("old", "g", domain=AWS)
        store.ack(again.resource, "g", [record.offset for record in again.records], domain=AWS, lease=again.lease)
        store.switches.detach("s")
        before = here.dump()
        for lease in (None, given.lease):
            with pytest.raises(Fenced) as refused:
                store.ack("old", "g", [0], domain=AWS, lease=lease)
            assert refused.value.fields["switch"] == "s" and "consumer resume old g" in (refused.value.hint or "")
        assert without_log(here.dump(), AUDIT_LOG) == without_log(before, AUDIT_LOG)
        with pytest.raises(Busy, match="at the other output when s was detached") as paused:
            store.poll("old", "g", domain=AWS)
        assert (paused.value.hint or "").startswith("Read the other output.")
        assert store.consumers.resume("old", "g").changed
        own = store.poll("old", "g", domain=AWS)
        assert [record.id for record in own.records] == ["one"], "whoever resumes it reads it by itself"
        assert store.ack("old", "g", [0], domain=AWS, lease=own.lease).changed


def test_a_group_that_a_detach_paused_is_attached_again_as_any_other(made: World) -> None:
    made.store.switches.detach("s")
    assert "closed_by" in row_of_group(made, "new")
    made.store.switches.attach("s", source="new", target="old", group="g")
    assert "closed_by" not in row_of_group(made, "new") and "closed_by" not in row_of_group(made, "old")


def row_of_group(here: World, output: str) -> dict[str, Any]:
    return checked(here.store.session.resource(output), lambda state: group_row(state, output, "g"))


def test_groups_with_different_filters_are_not_attached(made: World) -> None:
    for output, filter in (("old-topic", "all"), ("new-topic", "key:eu")):
        made.store.topics.create(output, replicas=[f"a={AWS}"], allow=[AWS])
        made.store.consumers.create(output, "g", allow=[AWS], filter=filter)
    for dry_run in (True, False):
        with pytest.raises(GenerationConflict, match="different filters, all and key:eu"):
            made.store.switches.attach("t", source="old-topic", target="new-topic", group="g", dry_run=dry_run)
    with pytest.raises(NotFound):
        made.store.switches.status("t")


def test_the_status_of_a_store_shows_where_its_switched_consumers_read(made: World) -> None:
    (shown,) = made.store.status().body["switches"]
    assert (shown["switch"], shown["state"], shown["reads"], shown["group"]) == ("s", "source", "old", "g")
    made.store.switches.detach("s")
    assert made.store.status().body["switches"] == []
