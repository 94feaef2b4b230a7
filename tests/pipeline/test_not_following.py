"""Stages of which nobody can say that a record has its effect once at two outputs: they stay with their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import Busy, GenerationConflict
from grafctl.pipeline import declaring, watching
from grafctl.pipeline.live import differences
from grafctl.pipeline.running import Run
from grafctl.pipeline.stages.following import pass_follow
from grafctl.store.blocks import Outgoing
from grafctl.store.operations.switching.work import look, row_of, side_of
from pipeline import links
from pipeline.shop import OWN, Shop, orders, rows_of
from pipeline.switched import APART, NEW, OLD, ROWS, Hand, finished, flip, ids, once, rows, switched, write

BY_ID = ROWS.replace("'shop://' + id", "_id")
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "outputs named after other ids": ("tidy", {**APART, "how": {"match": "key"}}, "the switch matches by key"),
    "one of the outputs in another log": (
        "tidy", {"new_log": OWN, "how": {"match": "key"}}, "what it reads and writes is not all in one log"
    ),
    "fields that may differ": ("tidy", {**APART, "how": {"fields": ["n"]}}, "what is made of the other fields may"),
    "offsets in what it makes": (
        "tidy", {**APART, "steps": '[[stage.step]]\nop = "set"\nfields = { at = "_offset" }'}, "its steps read _offset"
    ),
    "headers in what it makes": (
        "tidy", {**APART, "steps": '[[stage.step]]\nop = "filter"\nwhen = "_headers != 1"'}, "its steps read _headers"
    ),
    "rows named after other ids": ("load", {"sink": BY_ID, "how": {"match": "json:n"}}, "its rows are made of _id"),
    "records named after offsets": (
        "load", {**APART, "sink": 'kind = "resource"\nresource = "clean"\nkey = "text(_offset)"'}, "its rows are made"
    ),
    "rows named after offsets": (
        "load", {"sink": ROWS.replace("'shop://' + id", "text(_offset)")}, "its rows are made of _offset"
    ),
    "offsets in rows": ("load", {"sink": ROWS.replace("n * 100", "_offset")}, "its rows are made of _offset"),
    "rows named after what is not compared": (
        "load", {"how": {"fields": ["n"]}}, "another effect key: it reads id, not _id alone"
    ),
    "rows named after numbers that are written otherwise": (
        "load", {"how": {"fields": ["n"], "match": "json:n"}}, "another effect key: the switch matches by json:n"
    ),
}  # fmt: skip
ALLOWED: dict[str, tuple[str, dict[str, Any]]] = {
    "one log and any match key": ("tidy", {"how": {"match": "json:n", "fields": ["n"]}}),
    "one log and a resource for rows": (
        "load", {"sink": 'kind = "resource"\nresource = "clean"\nkey = "text(_offset)"', "how": {"match": "key"}}
    ),
    "records for rows in another log": (
        "load", {**APART, "sink": 'kind = "resource"\nresource = "clean"\nkey = "id"', "how": {"match": "key"}}
    ),
    "one log and offsets": ("tidy", {"steps": '[[stage.step]]\nop = "set"\nfields = { at = "_offset" }'}),
    "one log with effects": ("tidy", {"tidy": 'effects = "effects"', "how": {"match": "key"}}),
    "effects in another log": ("tidy", {**APART, "tidy": 'effects = "effects"'}),
    "rows of equal payloads": ("load", {"how": {"match": "key"}}),
    "rows named after ids": ("load", {"sink": BY_ID, "how": {"fields": ["n~1%"]}}),
    "rows named after keys": (
        "load", {"sink": ROWS.replace("'shop://' + id", "_key"), "how": {"fields": ["n"], "match": "key"}}
    ),
}  # fmt: skip


def stays(shop: Shop, stage: str) -> str | None:
    """Returns why a stage may not follow its switch, as the status says."""
    (row,) = (row for row in watching.status(shop.world.store, shop.pipeline).body["stages"] if row["stage"] == stage)
    return row.get("stays")


@pytest.mark.parametrize("why", REFUSED)
def test_a_stage_that_may_not_follow_works_on_nothing_there_and_goes_on_at_its_own(tmp_path: Path, why: str) -> None:
    stage, texts, sentence = REFUSED[why]
    with switched(tmp_path, attach=[stage], **texts) as ours:
        store = ours.world.store
        write(store, range(8))
        said: list[str] = []
        Run(store, ours.pipeline, "aws", stages=[stage], say=said.append)
        assert len(said) == 1 and sentence in said[0], "it is begun, and says what is coming"
        hand = Hand(ours, stage)
        hand.stage.step()
        before = ours.rows(), len(ours.records("clean"))
        flip(store, stage, "target")
        for _ in range(2):
            with pytest.raises(Busy, match=r"does not go on at new") as refused:
                hand.drain()
            assert sentence in refused.value.message and f"consumer rollback {stage}" in (refused.value.hint or "")
        with pytest.raises(Busy, match="does not go on at new"):
            ours.run(stage)
        assert (ours.rows(), len(ours.records("clean"))) == before
        at = look(side_of(store.session, stage, row_of(store.session, stage), "target"))
        assert not at.leases and not at.lineage.dead and all(item[2] == 0 for item in at.lineage.retry)
        (found,) = [item for item in differences(store, declaring.examine_file(ours.folder / "shop.toml"))
                    if "may not follow" in item.problem]  # fmt: skip
        words = sentence.partition(" ")[2]
        assert words in found.problem and words in (stays(ours, stage) or "")
        flip(store, stage, "source")
        hand.drain()
        hand.stage.leave()
        assert finished(store, stage, "source") == [[0, 8]]
        assert len(ours.records("clean")) + len(ours.rows()) == 8


@pytest.mark.parametrize("why", ALLOWED)
def test_a_stage_whose_records_have_their_effect_once_follows(tmp_path: Path, why: str) -> None:
    stage, texts = ALLOWED[why]
    with switched(tmp_path, attach=[stage], **texts) as ours:
        write(ours.world.store, range(8))
        assert stays(ours, stage) is None
        hand = Hand(ours, stage)
        hand.stage.step()
        flip(ours.world.store, stage, "target")
        hand.drain()
        hand.stage.leave()
        if stage == "load" and "resource" not in texts.get("sink", ""):
            assert ours.rows() == rows(range(8))
        else:
            assert ids(ours) == once(range(8))


@pytest.mark.parametrize("effects", ["", 'effects = "effects"'])
def test_ids_that_mean_other_work_at_the_other_output(tmp_path: Path, effects: str) -> None:
    """Both engines count their records, each by itself: what one calls 3 is another order than what the other does."""
    with switched(tmp_path, attach=["tidy"], tidy=effects, how={"match": "key"}) as ours:
        store = ours.world.store
        orders = [json.dumps({"id": f"o{n}", "n": n}).encode() for n in range(8)]
        store.publish_batch(OLD, [Outgoing(orders[n], str(n), f"k{n}") for n in range(8)], domain="aws")
        store.publish_batch(NEW, [Outgoing(orders[n], str(7 - n), f"k{n}") for n in range(8)], domain="aws")
        hand = Hand(ours, "tidy")
        hand.stage.step()
        for side in ("target", "source"):
            flip(store, "tidy", side)
            hand.stage.step()
        hand.stage.leave()
        assert ids(ours) == once(range(8)) and len(ours.records("clean")) == 8
        assert {record.id for record in ours.records("clean")} >= {"tidy:0", "tidy:new@4"}
        assert finished(store, "tidy", "source") == [[0, 8]] and not store.dead.list(NEW, "tidy").items


def test_records_that_came_from_there_are_given_back_though_the_consumer_is_back(tmp_path: Path) -> None:
    """The stage slept between its poll and its look: it must not work on what it holds."""
    stage, texts, _ = REFUSED["outputs named after other ids"]
    with switched(tmp_path, attach=[stage], **texts) as ours:
        write(ours.world.store, range(4))
        place = Hand(ours, stage).stage.place
        (declared,) = (item for item in ours.pipeline.stages if item.name == stage)
        assert pass_follow(place, declared) is not None
        with pytest.raises(Busy, match="does not go on at new"):
            pass_follow(place, declared, (NEW, stage))
        ours.world.store.switches.detach(stage)
        with pytest.raises(Busy, match="was detached"):
            pass_follow(place, declared, (NEW, stage))


def test_after_the_lock_there_is_no_way_back_to_wait_for(tmp_path: Path) -> None:
    stage, texts, sentence = REFUSED["rows named after offsets"]
    with switched(tmp_path, attach=[stage], **texts) as ours:
        write(ours.world.store, range(4))
        flip(ours.world.store, stage, "target")
        ours.world.store.switches.lock(stage, domain="aws")
        for act in (lambda: ours.run(stage), lambda: Hand(ours, stage)):
            with pytest.raises(GenerationConflict, match=sentence):
                act()


def test_other_stages_go_on_while_one_waits_for_its_way_back(tmp_path: Path) -> None:
    texts = REFUSED["rows named after offsets"][1]
    with switched(tmp_path, attach=["load"], **texts) as ours:
        store = ours.world.store
        said: list[str] = []

        def say(sentence: str) -> None:
            said.append(sentence)
            if "Waiting for it" in sentence:
                write(store, range(4))

        def watch(stages: list[dict[str, Any]]) -> None:
            if not said:
                flip(store, "load", "target")
                write(store, range(4, 6))
                said.append("flipped")
            if stages[0].get("read") == 6:
                flip(store, "load", "source")
            if stages[1].get("read") == 6:
                run.stop()

        run = Run(store, ours.pipeline, "aws", say=say, timeout_s=60)
        said.clear()
        run.run(watch)
        assert len([sentence for sentence in said if "load: Stage load does not go on at new" in sentence]) == 1
        assert len(ours.rows()) == 6 and ids(ours) == once(range(6))


def test_a_stage_does_not_read_what_it_writes(tmp_path: Path) -> None:
    with switched(tmp_path, attach=()) as ours:
        store = ours.world.store
        store.consumers.create("clean", "tidy", allow=["aws"], semantics="effectively-once")
        store.switches.attach("tidy", source=OLD, target="clean", group="tidy")
        assert stays(ours, "tidy") == "It writes to clean, which it would read."


def test_the_first_stage_of_a_chain_stays_and_goes_on_when_its_consumer_is_back(tmp_path: Path) -> None:
    with links.links(tmp_path, first=links.GROUP) as ours:
        store = ours.world.store
        store.queues.create("given2", log="shop", allow=["aws"])
        store.consumers.create("given2", "take", allow=["aws"], semantics="effectively-once")
        store.switches.attach("take", source="given", target="given2", group="take")
        for output in ("given", "given2"):
            for order in orders(range(9)):
                store.publish(output, json.dumps(order), id=order["id"], domain="aws")
        run = Run(store, ours.pipeline, "aws")
        stages = {name: run.make(declared) for name in links.STAGES for declared in ours.pipeline.stages
                  if declared.name == name}  # fmt: skip

        def step(times: int) -> None:
            for _ in range(times):
                for stage in stages.values():
                    stage.step()

        while not ours.rows():
            step(1)
        flip(store, "take", "target")
        for _ in range(3):
            with pytest.raises(Busy, match="first of a chain"):
                step(1000)
        flip(store, "take", "source")
        step(100)
        for stage in stages.values():
            stage.leave()
        assert ours.rows() == rows_of(range(9))
        assert store.consumers.show("given", "take").body["ack_floor"] == 9
