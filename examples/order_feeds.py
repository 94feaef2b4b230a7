"""What `mirrored-etl.toml` ingests: TPC-H orders as events, in two files, one for each ingesting domain.

    python examples/order_feeds.py feeds --scale 0.1

Writes `feeds/aws.jsonl` and `feeds/gcp.jsonl`, one event a line, and `feeds/orders.expected.json`. An event is an order
with its customer and its lines inside, an id and a tenant, which is the customer's nation. Orders go to the files in
turn, and one of each hundred comes a second time, the same bytes, some lines or some thousands later, in its own file
or in the other one: what a sender does that got no answer. The same scale and seed always give the same bytes.

`expected` is the check on what comes out of the pipeline: rows, tenants' totals and the sum of all prices, in whole
cents. It reads the generator's own tables and adds up; it knows neither the events nor anything of grafctl.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tpch

FILES = ("aws.jsonl", "gcp.jsonl")
SEED = 1
OF_EACH = 100  # orders, of which one is redelivered
LATER_MAX = 10_000  # orders between an event and its second delivery


class Line(NamedTuple):
    """One line, and which of the two files it is in."""

    file: int
    text: bytes


def lines(scale: float, cache: Path | None = None, seed: int = SEED) -> Iterator[Line]:
    """Yields the lines of both files in the order in which they come."""
    dice = random.Random(seed)
    later: list[tuple[int, int, Line]] = []  # when, a number that tells equals apart, what
    chosen = 0
    for number, event in enumerate(events(scale, cache)):
        if number % OF_EACH == 0:
            chosen = number + dice.randrange(OF_EACH)
        line = Line(number % 2, json.dumps(event, separators=(",", ":")).encode())
        yield line
        if number == chosen:
            again = Line(dice.randrange(2), line.text)
            heapq.heappush(later, (number + dice.randrange(1, LATER_MAX), number, again))
        while later and later[0][0] <= number:
            yield heapq.heappop(later)[2]
    while later:
        yield heapq.heappop(later)[2]


def events(scale: float, cache: Path | None = None) -> Iterator[dict[str, Any]]:
    """Yields each order once, as an event."""
    customers = {int(row[0]): row for row in tpch.read_table(tpch.generate(scale, cache) / "customer.tbl")}
    nations = {row[0]: row[1] for row in tpch.read_table(tpch.generate(scale, cache) / "nation.tbl")}
    for order in tpch.nested_orders(scale, cache):
        key, name, _, nation, phone, _, segment, *_ = customers[order["customer"]]
        who = {"key": int(key), "name": name, "nation": nations[nation], "segment": segment, "phone": phone}
        yield {"event": f"order-{order['order_key']}", "tenant": slug(nations[nation]), **order, "customer": who}


def slug(nation: str) -> str:
    """Returns the name of a tenant: `SAUDI ARABIA` is `saudi-arabia`."""
    return nation.lower().replace(" ", "-")


def expected(scale: float, cache: Path | None = None) -> dict[str, Any]:
    """Returns what must come out: `rows`, `total_cents`, and by tenant `[rows, cents]`."""
    tables = tpch.generate(scale, cache)
    names = {row[0]: row[1] for row in tpch.read_table(tables / "nation.tbl")}
    tenant_of = {row[0]: slug(names[row[3]]) for row in tpch.read_table(tables / "customer.tbl")}
    tenants: dict[str, list[int]] = {}
    for row in tpch.read_table(tables / "orders.tbl"):
        sums = tenants.setdefault(tenant_of[row[1]], [0, 0])
        sums[0] += 1
        sums[1] += tpch.cents(row[3])
    rows, cents = (sum(column) for column in zip(*tenants.values(), strict=True))
    return {"rows": rows, "total_cents": cents, "tenants": dict(sorted(tenants.items()))}


def write(folder: Path, scale: float, cache: Path | None = None, seed: int = SEED) -> dict[str, Any]:
    """Writes both files and what is expected, and returns the latter; `lines` there counts the lines of each file."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = [0, 0]
    with (folder / FILES[0]).open("wb") as one, (folder / FILES[1]).open("wb") as other:
        for line in lines(scale, cache, seed):
            (other if line.file else one).write(line.text + b"\n")
            counts[line.file] += 1
    told = {**expected(scale, cache), "lines": dict(zip(FILES, counts, strict=True))}
    (folder / "orders.expected.json").write_text(json.dumps(told, indent=1) + "\n")
    return told


def main() -> int:
    """Writes the files and says what is in them."""
    parser = argparse.ArgumentParser(description="TPC-H orders as events for two domains, some of them twice.")
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--scale", type=float, default=0.1, help="scale factor; 0.1 (the default) is 150,000 orders")
    parser.add_argument("--seed", type=int, default=SEED, help="says which come twice, and when")
    parser.add_argument("--cache", type=Path, help=f"where the tables are kept (default: {tpch.default_cache()})")
    options = parser.parse_args()
    try:
        told = write(options.folder, options.scale, options.cache, options.seed)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    again = sum(told["lines"].values()) - told["rows"]
    sys.stdout.write(f"{told['rows']:,} orders of {len(told['tenants'])} tenants, and {again:,} of them twice\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
