"""Stages linked by edges, in one process: the rows that topics give, and what is said of everything that is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from grafctl import clock
from grafctl.errors import Busy, DomainUnavailable, Fenced, GenerationConflict, SchemaMismatch, Usage
from grafctl.pipeline import declaring
from grafctl.pipeline.live import differences
from grafctl.pipeline.message import Message, Output
from grafctl.pipeline.running import Run, Until
from grafctl.pipeline.stages.between_edges import LinkingStage
from grafctl.pipeline.stages.work import Place
from grafctl.pipeline.watching import status, tap, tapped
from pipeline.links import EDGES, GROUP, STAGES, links
from pipeline.shop import Shop, counts_of, orders, rows_of


@pytest.mark.parametrize("driver", ["memory", "lmdb"])
@pytest.mark.parametrize("topics", [(), ("raw",), ("clean",), ("rich",), EDGES])
def test_edges_give_the_rows_that_topics_give(tmp_path: Path, driver: str, topics: tuple[str, ...]) -> None:
    with links(tmp_path, driver, topics=topics) as shop:
        tests = [{"id": f"t{at}", "status": "test", "total": "1"} for at in range(2)]
        shop.orders(*orders(range(50)), tests[0], *orders(range(50, 61)), tests[1])
        counts = counts_of(shop.run())
        assert shop.rows() == rows_of(range(61))
        assert counts["load"]["written"] == 61 and counts["tidy"]["filtered"] == 2
        assert shop.is_whole()


@pytest.mark.parametrize("until", [Until.ONCE, Until.IDLE])
def test_a_run_ends_when_all_is_committed(tmp_path: Path, until: Until) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(500)))
        shop.run(until=until)
        assert len(shop.rows()) == 500


# --- the source is read again from the checkpoint, where it is still the same


def test_a_file_that_has_grown_is_read_from_the_checkpoint_on(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(30)))
        shop.run()
        shop.orders(*orders(range(40)))
        counts = counts_of(shop.run())
        assert (counts["take"]["read"], counts["load"]["written"], counts["load"]["replayed"]) == (10, 10, 0)
        assert counts_of(shop.run())["take"]["read"] == 0
        assert shop.rows() == rows_of(range(40))


@pytest.mark.parametrize("count", [3, 30, 60])
def test_another_file_in_its_place_is_read_as_a_whole(tmp_path: Path, count: int) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(30)))
        shop.run()
        shop.orders(*orders(range(100, 100 + count)))
        shop.run()
        assert shop.rows() == rows_of([*range(30), *range(100, 100 + count)])


def test_what_cannot_be_read_again_is_refused(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        os.mkfifo(tmp_path / "orders.jsonl")
        with pytest.raises(Usage, match="is no file that could be read again"):
            shop.run("take")


# --- records that are refused


def test_a_record_that_does_not_fit_stops_the_first_stage(tmp_path: Path) -> None:
    with links(tmp_path, ring='slots = 8\nbytes = "4KiB"') as shop:
        shop.orders(*orders(range(9)), *orders([9], more="x" * 300), *orders([10]))
        with pytest.raises(
            SchemaMismatch, match=r"stopped at orders.jsonl:10: It has \d+ bytes with its names; one of"
        ):
            shop.run()
        shop.orders(*orders(range(11)))
        shop.run()
        assert shop.rows() == rows_of(range(11)), "and it goes on where it was"


def test_a_record_that_grows_too_large_stops_a_stage_in_the_middle(tmp_path: Path) -> None:
    step = "fields = { large = \"replace(note, 'a', 'aaaaaaaaaaaaaaaa')\" }"
    with links(tmp_path, ring='slots = 8\nbytes = "4KiB"', enrich_step=step) as shop:
        given = [order | {"note": "a" if at != 5 else "a" * 30} for at, order in enumerate(orders(range(9)))]
        shop.orders(*given)
        with pytest.raises(SchemaMismatch, match=r"Stage enrich stopped at clean:.*: It has \d+ bytes with its names"):
            shop.run()
        assert set(shop.rows()) <= {f"o{at}" for at in range(5)}, "nothing from there on"


@pytest.mark.parametrize("at_end", [False, True])
def test_a_refused_record_is_a_dead_letter_once(tmp_path: Path, at_end: bool) -> None:
    with links(tmp_path, tidy='dead_letter = "aside"') as shop:
        bad = {"id": "bad", "status": "new", "total": "0.001"}
        shop.orders(*orders(range(9)), bad, *([] if at_end else orders([9])))
        shop.run()
        assert shop.rows() == rows_of(range(9 if at_end else 10))
        (letter,) = shop.records("aside")
        assert json.loads(letter.payload) == bad and letter.headers["stage"] == "tidy"
        assert letter.headers["place"] == "raw:bad" and "total" in letter.headers["reason"]
        begin_anew(shop)
        shop.run()
        assert len(shop.records("aside")) == 1, "worked on again, it is put aside under the same id"


def test_a_sink_puts_aside_what_makes_no_row(tmp_path: Path) -> None:
    with links(
        tmp_path, load='dead_letter = "aside"', enrich_step="fields = { id = \"null if id == 'o3' else id\" }"
    ) as shop:
        shop.orders(*orders(range(6)))
        shop.run()
        assert shop.rows() == {key: value for key, value in rows_of(range(6)).items() if key != "o3"}
        (letter,) = shop.records("aside")
        assert letter.headers["stage"] == "load"


def test_a_sink_that_stops_has_finished_nothing_from_there_on(tmp_path: Path) -> None:
    with links(tmp_path, enrich_step="fields = { id = \"null if id == 'o3' else id\" }") as shop:
        shop.orders(*orders(range(6)))
        for _ in range(2):
            with pytest.raises(SchemaMismatch, match=r"Stage load stopped at rich:.*o3: "):
                shop.run()
        assert set(shop.rows()) == {"o0", "o1", "o2"}
        shop.texts["last"] += 'dead_letter = "aside"\n'
        shop.run()
        assert set(shop.rows()) == {f"o{at}" for at in range(6) if at != 3} and len(shop.records("aside")) == 1


def test_a_stage_that_stops_goes_on_where_it_was_when_the_record_is_mended(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(5)), {"id": "o5", "status": "new", "total": "0.001"}, *orders([6]))
        for _ in range(2):
            with pytest.raises(SchemaMismatch, match="Stage tidy stopped at raw:o5: "):
                shop.run()
        assert set(shop.rows()) <= {f"o{at}" for at in range(5)}
        shop.texts["tidy"] = 'dead_letter = "aside"'
        shop.run()
        assert set(shop.rows()) == {f"o{at}" for at in range(7) if at != 5} and len(shop.records("aside")) == 1


def test_a_group_keeps_the_dead_letters_of_the_first_stage(tmp_path: Path) -> None:
    with links(tmp_path, first=GROUP, take='[[stage.step]]\nop = "cast"\nfields = { n = "int" }') as shop:
        for at, order in enumerate(orders(range(20))):
            body = json.dumps(order | {"n": "x" if at % 7 == 0 else at})
            shop.world.store.publish("given", body, id=order["id"], domain="aws")
        shop.run()
        assert set(shop.rows()) == {f"o{at}" for at in range(20) if at % 7}
        assert len(shop.world.store.dead.list("given", "take").items) == 3


def begin_anew(shop: Shop) -> None:
    """Lets the next run read everything: the file has another first line."""
    lines = (shop.folder / "orders.jsonl").read_text()
    (shop.folder / "orders.jsonl").write_text(json.dumps({"id": "t0", "status": "test", "total": "1"}) + "\n" + lines)


# --- who has an edge


def test_what_somebody_pushed_by_hand_is_told(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(3)))
        shop.run()
        shop.world.store.edges.push("clean", b"hello", domain="aws")
        shop.orders(*orders(range(6)))
        with pytest.raises(GenerationConflict, match="edge clean is nothing that a stage has pushed: it is too short"):
            shop.run()
        shop.world.store.edges.pop("clean", domain="aws")
        shop.run()
        assert shop.rows() == rows_of(range(6))


def test_an_edge_of_somebody_else_is_waited_for(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(3)))
        shop.world.store.leases.acquire("clean", domain="aws", bytes=4096, owner="somebody")
        with pytest.raises(Busy, match="The lease clean is held by somebody"):
            shop.run(until=Until.ONCE)
        os.environ[clock.OFFSET_VARIABLE] = "31000"
        shop.run()
        assert shop.rows() == rows_of(range(3))


def test_a_stage_at_an_edge_is_at_work_once(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(3)))
        run = Run(shop.world.store, shop.pipeline, "aws", stages=["tidy"])
        other = run.make(shop.pipeline.stages[1])
        with pytest.raises(Busy, match=r"Stage tidy is at work in another process of this domain"):
            shop.run("tidy", until=Until.ONCE)
        other.leave()
        shop.run()
        assert shop.rows() == rows_of(range(3))


def test_a_stage_that_dies_before_a_full_edge_takes_nothing_with_it(tmp_path: Path) -> None:
    with links(tmp_path, ring_of_clean='slots = 3\nbytes = "4KiB"') as shop:
        shop.orders(*orders(range(7)))
        run = Run(shop.world.store, shop.pipeline, "aws")
        stages = [run.make(stage) for stage in shop.pipeline.stages]
        for stage in (*[stages[0]] * 4, stages[1]):
            stage.step()
        assert [item["used"] for item in shop.world.store.edges.status().items if item["edge"] == "clean"] == [2]
        assert isinstance(stages[1], LinkingStage)
        stages[1]._work.close()  # nothing else of it is given back
        stages[1] = run.make(shop.pipeline.stages[1])
        for _ in range(50):
            for stage in stages:
                stage.step()
        for stage in stages:
            stage.leave()
        assert shop.rows() == rows_of(range(7))


class Slow:
    """A transform that takes three seconds for a record."""

    fingerprint = "sha256:slow"

    def __call__(self, message: Message) -> list[Output]:
        os.environ[clock.OFFSET_VARIABLE] = str(int(os.environ.get(clock.OFFSET_VARIABLE, "0")) + 3000)
        return [Output(message.value | {"total": 7})]

    def close(self) -> None:
        """Nothing is held."""


def test_a_lease_is_kept_while_a_batch_takes_longer_than_its_term(tmp_path: Path) -> None:
    with links(tmp_path, ring_of_clean='term = "10s"') as shop:
        shop.orders(*orders(range(5)))
        run = Run(shop.world.store, shop.pipeline, "aws")
        stages = {stage.name: run.make(stage) for stage in shop.pipeline.stages if stage.name != "tidy"}
        tidy = shop.pipeline.stages[1]
        stages["tidy"] = LinkingStage(Place(shop.world.store.session, shop.pipeline, "aws"), tidy, Slow())
        for _ in range(50):
            for name in STAGES:
                stages[name].step()
        for stage in stages.values():
            stage.leave()
        assert shop.rows() == {f"o{at}": 7 for at in range(5)}
        assert [item["generation"] for item in shop.world.store.edges.status().items] == [1, 1, 1]


def test_with_workers_the_first_has_the_stages_at_edges(tmp_path: Path) -> None:
    with links(tmp_path, topics=("raw",)) as shop:
        run = Run(shop.world.store, shop.pipeline, "aws")
        assert run.names(with_sources=True) == list(STAGES)
        assert run.names(with_sources=False) == []


@pytest.mark.parametrize("ring", ["slots = 16", 'bytes = "64KiB"\nslots = 16', 'kind = "block"', 'term = "5s"'])
def test_an_edge_that_is_declared_otherwise_begins_anew(tmp_path: Path, ring: str) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(20)))
        shop.run("take", until=Until.ONCE)
        for stage in ("tidy", "enrich"):
            shop.run(stage, until=Until.ONCE)
        shop.run("take", until=Until.ONCE)
        shop.texts["ring"] = ring
        shop.run()
        assert shop.rows() == rows_of(range(20)) and shop.is_whole()
        assert {item["generation"] for item in shop.world.store.edges.status().items} == {2}


def test_a_revoked_lease_ends_the_stage(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(3)))
        shop.run()
        shop.world.store.leases.revoke("clean", grace_ms=0)
        with pytest.raises(Fenced, match="The lease clean was revoked"):
            shop.run()


def test_a_stage_runs_where_its_edge_is_and_nowhere_else(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(3)))
        with pytest.raises(DomainUnavailable) as caught:
            shop.run("tidy", domain="gcp")
        assert caught.value.exit_code == 11
        shop.world.store.domains.fail("aws")
        with pytest.raises(DomainUnavailable) as away:
            shop.run("tidy", until=Until.ONCE)
        assert away.value.exit_code == 12
        shop.world.store.domains.restore("aws")
        shop.run()
        assert shop.rows() == rows_of(range(3))


# --- looking


def test_the_status_shows_edges_and_how_far_the_chain_is(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        body = status(shop.world.store, shop.pipeline).body
        assert body["chains"] == [{"chain": "shop/take", "stages": list(STAGES)}]
        assert [(item["edge"], item["state"]) for item in body["edges"]] == [(name, "absent") for name in EDGES]
        shop.orders(*orders(range(9)))
        shop.run()
        body = status(shop.world.store, shop.pipeline).body
        (chain,) = body["chains"]
        assert (chain["committed"], chain["records"], chain["done"]) == (9, 9, True)
        assert [(item["edge"], item["state"], item["used"]) for item in body["edges"]] == [
            (name, "held", 0) for name in EDGES
        ]
        assert [row.get("committed", row.get("lag")) for row in body["stages"]] == [9, 0, 0, 0]


def test_a_live_check_finds_edges_that_the_stages_cannot_have(tmp_path: Path) -> None:
    with links(tmp_path) as shop:
        shop.orders(*orders(range(3)))
        assert not found_live(shop)
        shop.run()
        assert not found_live(shop), "its own leases are none of it"
        shop.world.store.leases.revoke("clean", grace_ms=0)
        shop.world.store.leases.release("raw", token=token_of(shop, "raw"), domain="aws")
        shop.world.store.leases.acquire("raw", domain="aws", bytes=4096, owner="somebody")
        assert found_live(shop) == [
            "Edge 'raw' is held by somebody, and not by stage 'take'.",
            "The lease of edge 'clean' is revoked, and its name is not leased again.",
        ]


def found_live(shop: Shop) -> list[str]:
    examined = declaring.examine_file(shop.pipeline.file)
    return [item.problem for item in differences(shop.world.store, examined) if "dge" in item.problem]


def token_of(shop: Shop, edge: str) -> int:
    return next(int(row["token"]) for row in shop.world.store.leases.list().items if row["lease"] == edge)


def test_nothing_of_an_edge_can_be_looked_at(tmp_path: Path) -> None:
    with links(tmp_path, topics=("rich",)) as shop:
        for stage, is_input in (("take", False), ("tidy", True), ("tidy", False), ("enrich", True)):
            with pytest.raises(Usage, match="is an edge, and keeps nothing that could be looked at"):
                tapped(shop.pipeline, stage, None, is_input=is_input)
        assert tapped(shop.pipeline, "enrich", None, is_input=False) == "rich"
        assert tap(shop.world.store, "rich", domain="aws", offset=None, count=1).body["records"] == []
