"""Orders from files to a warehouse: `examples/mirrored-etl.toml`, beside a plain loop and beside Redis Streams.

All three read the same two files and commit the same rows to SQLite in transactions of the same size. The loop is one
process with nothing durable between file and warehouse. Redis and we are four processes: two that ingest, one that
normalises, one that commits; Redis keeps one copy and flushes before it answers, we keep three, one in each domain, and
look up the id of each order. What came out is compared with what the generator says, each time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import orders_by_hand as by_hand
from bench import redis, redis_stages
from bench.pipeline_runs import BATCH, Inputs, inputs, prepare, run_ours
from bench.rows import Row, Target, unmeasured
from bench.servers import Missing
from bench.stores import surroundings
from bench.turns import Action, in_turn, ratio

NAME = "pipeline: ingest, normalise, commit to SQLite, end to end"
SCALE, ROUNDS = 0.1, 3  # 150,000 orders
LOOP_MIN, REDIS_MIN = 0.25, 1.0


def run() -> list[Row]:
    """Measures the three in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        given = inputs(folder / "feeds", SCALE)
        actions = [_in_turns(folder / "loop", _loop, given), _in_turns(folder / "ours", run_ours, given, prepare)]
        why = ""
        try:
            stack.enter_context(redis.started(folder / "redis"))
            actions.append(_in_turns(folder / "streams", _redis, given))
        except Missing as missing:
            why = str(missing)
        times = in_turn(ROUNDS, *actions)
        for database in folder.glob("*/*/warehouse.db"):
            found = by_hand.sums(database)
            assert found == (given.expected["rows"], given.expected["total_cents"]), f"{database} holds {found}"
    count = given.expected["rows"]
    note = f"{ROUNDS} rounds of {count:,} orders, {BATCH:,} in a transaction, with the start of all processes"
    plain = "a plain loop: json, dict, SQLite, and nothing durable in between"
    what = "orders from files to SQLite"
    rows = [
        Row("a plain loop", count / median(times[0]), "/s"),
        Row("the example pipeline", count / median(times[1]), "/s"),
        Row(what, ratio(times[0], times[1]), "x", Target(">=", LOOP_MIN), plain, note),
    ]
    ahead = Row(what, None, "x", Target(">=", REDIS_MIN), redis.NAME, note)
    if why:
        return [*rows, unmeasured(ahead, why)]
    return [
        *rows,
        Row("Redis Streams", count / median(times[2]), "/s"),
        ahead._replace(value=ratio(times[2], times[1])),
    ]


def _in_turns(
    folder: Path, go: Callable[[Path, Inputs], object], given: Inputs, make: Callable[[Path], None] = Path.mkdir
) -> Action:
    """Returns what does one run after the other, each in a directory of its own that is ready before."""
    folder.mkdir()
    places = [folder / str(number) for number in range(ROUNDS + 1)]
    for place in places:
        make(place)
    left: Iterator[Path] = iter(places)
    return lambda: go(next(left), given)


def _loop(place: Path, given: Inputs) -> None:
    command = [sys.executable, "-m", "bench.orders_by_hand", str(place / "warehouse.db"), str(BATCH)]
    subprocess.run([*command, *map(str, given.files)], env=surroundings(), check=True)


def _redis(place: Path, given: Inputs) -> None:
    at, size, count = str(place.parent.parent / "redis" / "socket"), str(BATCH), str(given.lines)
    redis_stages.prepare(at)
    words: list[tuple[str, ...]] = [("ingest", at, size, str(file)) for file in given.files]
    words += [("normalise", at, size, count), ("sink", at, size, count, str(place / "warehouse.db"))]
    command = (sys.executable, "-m", "bench.redis_stages")
    started = [subprocess.Popen([*command, *each], env=surroundings()) for each in words]
    assert [process.wait() for process in started] == [0] * len(started)
