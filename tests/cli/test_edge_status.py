"""`edge status`: what the ends counted, again and again, and as a file for a collector."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from conftest import Runner

import grafctl

LEASE = ("lease", "acquire", "e", "--bytes", "4KiB", "--owner", "me", "--term", "1h", "-d", "aws")


@pytest.fixture
def made(run: Runner, tmp_path: Path) -> Path:
    run("init", "store", "--domain", "aws", "--domain", "gcp")
    run(*LEASE, store="store")
    run("edge", "create", "e", "--slots", "8", "--token", "1", "-d", "aws", store="store")
    with grafctl.open(tmp_path / "store") as store:
        with store.edges.writer("e", domain="aws") as writer, store.edges.reader("e", domain="aws") as reader:
            writer.push_batch(["a", "b", "c"])
            reader.pop(2)
            store.edges.relocate("e", token=1, domain="aws")
            assert reader.pop().generation == 2
        with store.edges.writer("e", domain="aws") as writer:
            writer.push("c")
    return tmp_path


COUNTS = {
    "pushed": 4,
    "popped": 2,
    "writer_restarts": 1,
    "reader_restarts": 0,
    "relocations": 0,
    "rebinds": 1,
    "generation_changes": 1,
}


def test_what_was_counted_is_shown(run: Runner, made: Path) -> None:
    (edge,) = run("edge", "status", "--json", store="store").json["edges"]
    assert {name: edge["counts"][name] for name in COUNTS} == COUNTS
    text = run("edge", "status", store="store").out
    assert "REBINDS" in text.upper() and text.count("\n\n") == 1, "what it is and what it counted are two tables"


def test_a_record_of_the_commands_counts_too(run: Runner, made: Path) -> None:
    run("edge", "push", "e", "x", "-d", "aws", store="store")
    run("edge", "pop", "e", "--max", "9", "-d", "aws", store="store")
    (edge,) = run("edge", "status", "--json", store="store").json["edges"]
    assert (edge["counts"]["pushed"], edge["counts"]["popped"]) == (5, 4)


def test_it_watches_until_ctrl_c_and_writes_the_file_each_time(run: Runner, made: Path) -> None:
    file = made / "edges.prom"
    words = ("edge", "status", "e", "--watch", "--prometheus", str(file), "-o", "jsonl")
    command = run.start(*words, env={"GRAFCTL_STORE": str(made / "store")})
    assert command.stdout is not None
    assert json.loads(command.stdout.readline())["edges"][0]["edge"] == "e"
    assert file.read_text().startswith("# HELP grafctl_edge_records_pushed_total")
    file.unlink()
    assert json.loads(command.stdout.readline())["ok"] is True
    assert 'grafctl_edge_rebinds_total{edge="e",domain="aws"} 1\n' in file.read_text()
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 130
    assert sorted(path.name for path in made.iterdir() if "prom" in path.name) == ["edges.prom"]


def test_a_file_takes_the_place_of_the_one_before_at_once(run: Runner, made: Path) -> None:
    file = made / "edges.prom"
    file.write_text("old")
    with file.open() as before:
        run("edge", "status", "--prometheus", str(file), store="store")
        assert before.read() == "old", "who has it open reads the old one to its end"
    assert file.read_text().count("# TYPE ") == len(set(file.read_text().split("# TYPE ")[1:])) >= 10
    run("edge", "status", "absent", "--prometheus", str(made / "none"), store="store", check=10)
    assert not (made / "none").exists()


@pytest.mark.parametrize("name", ["-", "", "folder", "folder/", "pipe", "link", "absent/x", "a\0b"])
def test_only_a_regular_file_is_replaced(run: Runner, made: Path, name: str) -> None:
    (made / "folder").mkdir()
    os.mkfifo(made / "pipe")
    (made / "link").symlink_to(made / "elsewhere")
    before = sorted(made.rglob("*"))
    if "\0" in name:
        from grafctl.errors import Usage
        from grafctl.render_metrics import check_file

        with pytest.raises(Usage):
            check_file(name)
        return
    done = run("edge", "status", "--prometheus", name, "--json", store="store", check=2)
    refused = json.loads(done.err)
    assert refused["code"] == "usage" and done.out == ""
    assert sorted(made.rglob("*")) == before and (made / "pipe").is_fifo() and (made / "link").is_symlink()
