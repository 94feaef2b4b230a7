"""What moving a vshard costs: its base copy beside `cp`, the pause that writers see, and what other writers notice.

Writers are processes of their own. A pause is the put of a writer that was under way when its vshard had been sealed,
from its call to its acknowledgement: its own commit is in it. One durable commit is a put of a writer that is alone, of
the same run.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import grafctl
from bench.child import Child
from bench.rows import Row, Target
from bench.stores import DOMAINS, PAYLOAD_BYTES, payload
from bench.table_writer import keys_of
from bench.turns import ratio
from grafctl.client import Store
from grafctl.results import Migrated
from grafctl.store.operations.moving.work import Watch
from grafctl.store.operations.tables import Item

NAME = "migration: one vshard of a table is moved to two other domains while it is written"
TABLE = "customers"
TARGETS = ("azure", "oci")
MIB = 1 << 20
SIZES = (1, 16, 256, 1024)  # of vshard 0, 1, …, in MiB
TIMES = (12, 12, 3, 1)  # each of them is moved there and back
OTHER = len(SIZES)  # a vshard that stays
VSHARDS = 8
COPIED, COPIES = 2, 2  # which vshard is copied beside `cp`, and how often
WRITERS, ALONE = 2, 300
BUDGET_US = 5_000_000  # so that a busy machine shows as a long pause, and not as one that was given up
QUIET_S = 3.0
COPY_MIN, PAUSE_MAX, OTHERS_MIN, FLAT_MAX = 0.5, 5.0, 0.7, 1.10


def run() -> list[Row]:
    """Measures one store."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with _store(directory) as store:
            began_s = time.monotonic()
            for vshard, size in enumerate(SIZES):
                _load(store, vshard, size * MIB)
            rate = sum(SIZES) * MIB / 1e6 / (time.monotonic() - began_s)
            rows = [Row("loading by put_many", rate, "MB/s")]
            rows += _copies(store, directory)
            rows += _others(store, directory)
            return rows + _pauses(store, directory)


@contextmanager
def _store(directory: Path) -> Iterator[Store]:
    """Makes a store of four domains with a table in two of them."""
    grafctl.create(directory / "store", dict.fromkeys((*DOMAINS, *TARGETS)))
    grafctl.keygen("operator", directory)
    with grafctl.open(directory / "store") as store:
        store.authorities.add("operator", directory / "operator.pub")
        for domain in (*DOMAINS, *TARGETS):
            store.health.observe(domain, "healthy", authority="operator", key_file=directory / "operator.key")
        replicas = [f"{TABLE}-{domain}={domain}" for domain in DOMAINS]
        store.tables.create(TABLE, replicas=replicas, allow=(*DOMAINS, *TARGETS), vshards=VSHARDS)
        yield store


def _load(store: Store, vshard: int, size: int) -> None:
    keys, value = keys_of(vshard, VSHARDS, "row"), payload()
    left = size // PAYLOAD_BYTES
    while left > 0:
        few = [Item(key, value) for key in islice(keys, min(left, 10_000))]
        store.tables.put_many(TABLE, few, domain=DOMAINS[0])
        left -= len(few)


# --- the base copy


def _copies(store: Store, directory: Path) -> list[Row]:
    """Returns the base copy beside as many copies of a file."""
    size = int(store.tables.count(TABLE, vshard=COPIED).body["bytes"])
    source = directory / "bytes"
    with source.open("wb") as file:
        for row in store.tables.scan(TABLE, domain=DOMAINS[0], vshard=COPIED):
            file.write(row.key + row.value)
    copies_s, ours_s, moves_s = [], [], []
    for number in range(COPIES + 1):
        _settle(directory)
        began_s = time.perf_counter()
        _copy_file(source)
        copied_s = time.perf_counter() - began_s
        _settle(directory)
        ours, whole = _copy_vshard(store)
        if number:  # the first round makes the files as long as they will be
            copies_s.append(copied_s)
            ours_s.append(ours)
            moves_s.append(whole)
    against = f"`cp` and fsync of the same bytes into {len(TARGETS)} files at once"
    note = f"{COPIES} rounds of {size / MIB:,.0f} MiB in values of 1 KiB"
    least = Target(">=", COPY_MIN)
    return [
        Row(f"cp and fsync, {len(TARGETS)} copies", size / 1e6 / median(copies_s), "MB/s"),
        Row("base copy of a vshard", size / 1e6 / median(ours_s), "MB/s"),
        Row("base copy and the proof of it", size / 1e6 / median(moves_s), "MB/s"),
        Row("base copy of a vshard", ratio(copies_s, ours_s), "x", least, against, note),
    ]


def _settle(directory: Path) -> None:
    """Leaves nothing to be written from before."""
    subprocess.run(["sync", "-f", str(directory)], check=True)


def _copy_file(source: Path) -> None:
    copies = [source.with_suffix(f".{domain}") for domain in TARGETS]
    script = 'cp "$0" "$1" && sync "$1"'
    running = [subprocess.Popen(["sh", "-c", script, str(source), str(copy)]) for copy in copies]
    assert not any(process.wait() for process in running)
    for copy in copies:
        copy.unlink()


def _copy_vshard(store: Store) -> tuple[float, float]:
    """Copies a vshard, and undoes it; returns how long the base copy took, and that with the proof."""
    seen: dict[str, float] = {}

    def watch(event: dict[str, Any]) -> None:
        seen.setdefault(event.get("state", event["event"]), time.perf_counter())

    _migrate(store, COPIED, watch, hold_cutover=True)
    store.vshards.cancel(TABLE, [COPIED], domain=DOMAINS[0])
    return seen["wal_catchup"] - seen["base_copy"], seen["proof"] - seen["base_copy"]


# --- writers


class Times(list[tuple[float, float]]):
    """When each put of one writer began and ended, in their order."""

    def within(self, start_s: float, stop_s: float) -> int:
        """Returns how many ended in that span."""
        return sum(1 for _, ended_s in self if start_s <= ended_s < stop_s)

    def over(self, moment_s: float) -> float:
        """Returns the seconds of the one that was under way at a moment, or of the next."""
        return next(ended_s - began_s for began_s, ended_s in self if ended_s >= moment_s)


class Writers:
    """Processes that write to a vshard of a store, in a `with` block; their times are there after it."""

    def __init__(self, directory: Path, vshard: int) -> None:
        files = [directory / f"times-{number}" for number in range(WRITERS)]
        words = str(directory / "store"), TABLE, str(vshard)
        self._children = [Child(*words, str(file), module="bench.table_writer") for file in files]
        self._files = files
        for child in self._children:
            child.ask("put", 20)
        self.times: list[Times] = []

    def alone(self) -> list[float]:
        """Returns the seconds of puts of one of them, while nobody else writes."""
        return sorted(self._children[0].ask("put", 1) for _ in range(ALONE))

    def __enter__(self) -> Writers:
        for child in self._children:
            child.begin("write", 0)
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.begin("stop", 0)
        for child, file in zip(self._children, self._files, strict=True):
            child.answer()
            child.answer()
            found = array("d", file.read_bytes())
            self.times.append(Times(zip(found[::2], found[1::2], strict=True)))
            with child:
                pass


def _others(store: Store, directory: Path) -> list[Row]:
    """Returns how the writers of a vshard get on while another one is moved there and back."""
    spans = []
    with Writers(directory, OTHER) as writers:
        for _ in range(COPIES):
            began_s = time.monotonic()
            time.sleep(QUIET_S)
            quiet_s = time.monotonic()
            _migrate(store, COPIED)
            spans.append((began_s, quiet_s, time.monotonic()))
            _reverse(store, COPIED)
            store.vshards.retire(TABLE, [COPIED], domain=DOMAINS[0])
    before, during = [], []
    for began_s, quiet_s, ended_s in spans:
        before.append(sum(times.within(began_s, quiet_s) for times in writers.times) / (quiet_s - began_s))
        during.append(sum(times.within(quiet_s, ended_s) for times in writers.times) / (ended_s - quiet_s))
    moved_s = median(ended_s - quiet_s for _, quiet_s, ended_s in spans)
    note = f"{COPIES} rounds; {WRITERS} processes, {SIZES[COPIED]} MiB moved in {moved_s:.0f} s"
    return [
        Row(f"{WRITERS} writers of a vshard, nothing is moved", median(before), "/s"),
        Row("the same while another vshard is moved", median(during), "/s"),
        Row(
            "writers to other vshards during a migration",
            ratio(during, before),
            "x",
            Target(">=", OTHERS_MIN),
            "the same before it",
            note,
        ),
    ]


def _migrate(store: Store, vshard: int, watch: Watch | None = None, *, hold_cutover: bool = False) -> list[Migrated]:
    return store.vshards.migrate(
        TABLE,
        [vshard],
        to=TARGETS,
        domain=DOMAINS[0],
        budget_us=BUDGET_US,
        lock_wait_us=BUDGET_US,
        hold_cutover=hold_cutover,
        watch=watch,
    )


def _reverse(store: Store, vshard: int, watch: Watch | None = None) -> list[Migrated]:
    limits: dict[str, Any] = {"budget_us": BUDGET_US, "lock_wait_us": BUDGET_US}
    return store.vshards.reverse(TABLE, [vshard], domain=DOMAINS[0], watch=watch, **limits)


# --- the pause


def _pauses(store: Store, directory: Path) -> list[Row]:
    """Returns the pauses of vshards of each size."""
    rows: list[Row] = []
    middles = []
    for vshard, (size, times) in enumerate(zip(SIZES, TIMES, strict=True)):
        commits_s, pauses_s = _cut_over_and_back(store, directory, vshard, times)
        name = f"{size:,} MiB"
        _show_histogram(name, pauses_s)
        note = f"{len(pauses_s)} pauses of {WRITERS} processes, {2 * times} cut-overs"
        middles.append(_at(pauses_s, 50))
        for percent in (50, 99):
            pause_s, commit_s = _at(pauses_s, percent), _at(commits_s, percent)
            rows.append(Row(f"p{percent} of a put, one writer alone", commit_s * 1e3, "ms"))
            rows.append(Row(f"p{percent} of the pause, vshard of {name}", pause_s * 1e3, "ms"))
            most, against = Target("<=", PAUSE_MAX), f"p{percent} of a put by one writer alone"
            what = f"write pause, p{percent}, vshard of {name}"
            rows.append(Row(what, pause_s / commit_s, "x", most, against, note))
        rows.append(Row(what, _at(pauses_s, 99) / _at(commits_s, 50), "x", None, "p50 of a put by one writer alone"))
    flat, against = Target("<=", FLAT_MAX), f"a vshard of {SIZES[0]} MiB"
    for size, middle_s in zip(SIZES[1:], middles[1:], strict=True):
        what = f"write pause, p50, vshard of {size:,} MiB"
        rows.append(Row(what, middle_s / middles[0], "x", flat, against))
    return rows


def _cut_over_and_back(store: Store, directory: Path, vshard: int, times: int) -> tuple[list[float], list[float]]:
    """Moves a vshard there and back so often; returns the seconds of puts of one writer alone, and of the pauses."""
    pauses_s = []
    called_s = 0.0

    def watch(event: dict[str, Any]) -> None:
        nonlocal called_s
        if event.get("state") == "wal_catchup":  # the last of these comes just before the seal
            called_s = time.monotonic()

    crew = Writers(directory, vshard)
    commits_s = crew.alone()
    with crew as writers:
        for _ in range(times):
            for move in (_migrate, _reverse):
                (moved,) = move(store, vshard, watch)
                pauses_s.append(called_s + ((moved.lock_wait_us or 0) + (moved.pause_us or 0) / 2) / 1e6)
            store.vshards.retire(TABLE, [vshard], domain=DOMAINS[0])
    return commits_s, sorted(found.over(moment_s) for found in writers.times for moment_s in pauses_s)


def _at(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _show_histogram(name: str, pauses_s: list[float]) -> None:
    """Prints how many pauses were how long, in classes that grow by half."""
    print(f"  pauses of a vshard of {name}", flush=True)
    low_s = 0.001
    while low_s > pauses_s[0]:
        low_s /= 1.5
    while low_s * 1.5 <= pauses_s[0]:
        low_s *= 1.5
    while low_s <= pauses_s[-1]:
        count = sum(1 for pause_s in pauses_s if low_s <= pause_s < low_s * 1.5)
        print(f"    {low_s * 1e3:7.1f} to {low_s * 1.5e3:7.1f} ms {count:4} {'#' * count}", flush=True)
        low_s *= 1.5
