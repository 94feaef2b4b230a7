"""SIGKILL at the points of each verb of a switch of two tables; then the same verb again. Who reads is led by what the
control log says at every moment, and once a flip was answered nobody is given a row of the other table.

SWITCH_KILLS=N takes N kills of each verb at moments drawn from all points that it passes, those of the commits too.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import grafctl.client as client
from faults.forks import Forks
from faults.table_switches import NAME, NEW, OLD, STAGES, VERBS, attached, read, wrong
from grafctl.errors import NotFound

KILLS = int(os.environ.get("SWITCH_KILLS", "0"))
OTHERS = 2  # kills of each verb at points that every commit passes
PATIENCE_S = 60.0
ONCE_MORE = ("table_detach",)  # is refused the second time: there is no such switch any more


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    for name, stage in STAGES.items():
        stage(folder / name)
    return {name: folder / name for name in STAGES}


@pytest.mark.parametrize("verb", VERBS)
def test_killed_anywhere_readers_are_led_by_the_log(
    tmp_path: Path, forks: Forks, stages: dict[str, Path], seed: int, verb: str
) -> None:
    stage, before, after = VERBS[verb]
    store = tmp_path / "store"
    shutil.copytree(stages[stage], store)
    hits = forks.run(verb, store, count=True).hits
    every = [(point, n) for point, count in sorted(hits.items()) for n in range(1, count + 1)]
    own = [kill for kill in every if kill[0].startswith(("switching.", "comparing."))]
    others = [kill for kill in every if kill not in own]
    chance = random.Random(f"{seed} {verb}")
    kills = chance.choices(every, k=KILLS) if KILLS else own + chance.sample(others, min(OTHERS, len(others)))
    failed: list[str] = []
    for point, nth in kills:
        shutil.rmtree(store)
        shutil.copytree(stages[stage], store)
        failed += [f"{verb} killed at {point} {nth}: {what}" for what in _killed(forks, store, verb, {point: nth})]
    print(f"{verb}: {len(kills)} kills, {len(failed)} wrong")
    assert kills and not failed, "\n".join(["", *failed[:5]])
    assert before != after or verb in ("table_attach", "table_lock")


def _killed(forks: Forks, store: Path, verb: str, kill: dict[str, int]) -> Iterator[str]:
    _, before, after = VERBS[verb]
    ran = forks.run(verb, store, kill=kill)
    if not ran.killed:
        yield f"it was not killed: {ran}"
    with client.open(store) as opened:
        given = read(opened)
        if given not in (before, after) or (ran.of("changed") and given != after):
            yield f"{given} was read, {ran}"
        yield from wrong(opened)
    again = forks.run(verb, store)
    gone = verb in ONCE_MORE and again.exit == NotFound.exit_code
    if not (again.exit == 0 or gone):
        yield f"again: {again}"
    more = forks.run(verb, store)
    if more.of("changed") != [False] and not (verb in ONCE_MORE and more.exit == NotFound.exit_code):
        yield f"once more: {more}"
    with client.open(store) as opened:
        if read(opened) != after:
            yield f"{read(opened)} is read in the end, and not {after}"
        yield from wrong(opened)


def test_once_a_flip_was_answered_no_reader_is_given_the_other_table(tmp_path: Path, forks: Forks, seed: int) -> None:
    """Two readers read on while the switch is flipped there and back; one of them is killed in the middle."""
    store, chance = tmp_path / "store", random.Random(seed)
    attached(store)
    logs = [tmp_path / f"reader{number}" for number in range(2)]
    readers = [forks.start("table_read", store, log) for log in logs]
    done = 0
    with client.open(store) as opened:
        for turn in range(6):
            for log in logs:
                _wait_for_more(log, chance.randrange(1, 4))
            to, place = ("target", NEW) if turn % 2 == 0 else ("source", OLD)
            opened.switches.switch(NAME, to, domain="a")
            marks = [len(_said(log)) for log in logs]
            for log, mark in zip(logs, marks, strict=True):
                _wait_for_more(log, 6)
                # What was begun before the answer may be of either; what begins after it is of this side alone.
                said = _said(log)[mark:]
                begun = next(at for at, line in enumerate(said) if "begins" in line)
                given = [line["read"] for line in said[begun:] if "read" in line]
                assert given and set(given) == {place}, f"turn {turn}: {said}"
                done += len(given)
    for pid in readers:
        os.kill(pid, 9)
    assert done >= 6


def _said(log: Path) -> list[dict[str, object]]:
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    return [json.loads(line) for line in lines]


def _wait_for_more(log: Path, count: int) -> None:
    least, until_s = len(_said(log)) + count, time.monotonic() + PATIENCE_S
    while len(_said(log)) < least:
        assert time.monotonic() < until_s, f"{log.name} says nothing any more: {_said(log)[-2:]}"
        time.sleep(0.005)
