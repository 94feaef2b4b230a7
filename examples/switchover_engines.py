"""The two engines of `switchover.toml`: from the same TPC-H orders each writes five outputs, and the new one has a bug.

    python examples/switchover_engines.py ./store --orders 250

Orders come by their date. Of each, both engines write a record about its shipment, the points that it brings, its taxes
and its invoice, and one about a refund where lines of it left more than 100 days late. The old engine counts in whole
cents. The new one counts in floating point and rounds nothing, so its amounts have other digits and are right to a
fraction of a cent; and it takes the days between two days of a year, so a line that left in January looks very late,
and is refunded. The first such orders are of October: before that nobody can see the bug.

`hit` is the check on what a comparison finds: it looks at the dates alone, and knows neither engine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import tpch

import grafctl
from grafctl.client import Store
from grafctl.store.blocks import Outgoing

SHAPES = ("shipments", "points", "taxes", "refunds", "invoices")
LATE_DAYS = 100
BATCH = 50  # orders
SCALE = 0.001  # 1,500 orders
AWS, GCP = "aws/us-east-1", "gcp/us-central1"  # where the old engine writes from, and the new one

Order = Mapping[str, Any]
Records = dict[str, bytes]  # shape -> payload


def orders(scale: float = SCALE, cache: Path | None = None) -> list[dict[str, Any]]:
    """Returns all orders, by date."""
    return sorted(tpch.nested_orders(scale, cache), key=lambda order: (order["date"], order["order_key"]))


def old(order: Order) -> Records:
    """Returns what the old engine writes about an order: exact, and in whole cents."""
    lines = [
        (Fraction(line["extended_price"]) * (1 - Fraction(line["discount"])), Fraction(line["tax"]), line)
        for line in order["lines"]
    ]
    late = [net for net, _, line in lines if _days(order["date"], line["ship_date"]) > LATE_DAYS]
    invoice = sum(net * (1 + tax) for net, tax, _ in lines)
    amounts = {"points": int(invoice) // 100, "taxes": sum(net * tax for net, tax, _ in lines), "invoices": invoice}
    amounts |= {"refunds": Fraction(1, 10) * sum(late)} if late else {}
    cents = {shape: round(Fraction(amount) * 100) for shape, amount in amounts.items()}
    texts = {shape: f"{amount // 100}.{amount % 100:02}" for shape, amount in cents.items()}
    return {shape: _record(order, float(text)) for shape, text in texts.items()} | {"shipments": _parcels(order)}


def new(order: Order) -> Records:
    """Returns what the new engine writes: in floating point, and with its bug."""
    lines = [
        (float(line["extended_price"]) * (1 - float(line["discount"])), float(line["tax"]), line)
        for line in order["lines"]
    ]
    late = [net for net, _, line in lines if _days_of_years(order["date"], line["ship_date"]) > LATE_DAYS]
    invoice = sum(net + net * tax for net, tax, _ in lines)
    amounts = {"points": invoice // 100, "taxes": sum(net * tax for net, tax, _ in lines), "invoices": invoice}
    amounts |= {"refunds": sum(late) * 0.1} if late else {}
    return {shape: _record(order, amount) for shape, amount in amounts.items()} | {"shipments": _parcels(order)}


def _days(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)).days


def _days_of_years(first: str, last: str) -> int:
    return abs(date.fromisoformat(last).timetuple().tm_yday - date.fromisoformat(first).timetuple().tm_yday)


def _record(order: Order, amount: float) -> bytes:
    return _json({"order": order["order_key"], "customer": order["customer"], "amount": amount})


def _parcels(order: Order) -> bytes:
    parcels = sorted((line["ship_date"], line["ship_mode"], line["quantity"]) for line in order["lines"])
    return _json({"order": order["order_key"], "parcels": parcels})


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def hit(some: Sequence[Order]) -> list[str]:
    """Returns the keys of the refunds that the bug spoils: of a line that left in another year, and not late."""
    return [
        key_of(order)
        for order in some
        if any(
            line["ship_date"][:4] > order["date"][:4] and _days(order["date"], line["ship_date"]) <= LATE_DAYS
            for line in order["lines"]
        )
    ]


def key_of(order: Order) -> str:
    """Returns the key of every record about an order."""
    return f"order-{order['order_key']}"


def publish(store: Store, some: Sequence[Order]) -> dict[str, int]:
    """Lets both engines write about some orders; returns how many records went to each topic.

    Each record has an id, so publishing the same orders again publishes nothing.
    """
    counts = dict[str, int]()
    for engine, write, domain in (("old", old, AWS), ("new", new, GCP)):
        for topic, records in _outputs(engine, write, some).items():
            store.publish_batch(topic, records, domain=domain)
            counts[topic] = len(records)
    return counts


def _outputs(engine: str, write: Callable[[Order], Records], some: Sequence[Order]) -> dict[str, list[Outgoing]]:
    outputs = dict[str, list[Outgoing]]()
    for order in some:
        for shape, payload in write(order).items():
            key = key_of(order)
            outputs.setdefault(f"{shape}-{engine}", []).append(Outgoing(payload, f"{shape}-{key}", key))
    return outputs


def batches(some: Sequence[Order], size: int = BATCH) -> Iterator[list[Order]]:
    """Yields orders as they come."""
    source = iter(some)
    while batch := list(islice(source, size)):
        yield batch


def main() -> int:
    """Lets the engines write, and says how much."""
    parser = argparse.ArgumentParser(description="Two engines write about the same TPC-H orders, side by side.")
    parser.add_argument("store", type=Path, help="the store that switchover.toml declares")
    parser.add_argument("--orders", type=int, default=1500, help="how many orders, by date (default: 1500)")
    parser.add_argument("--scale", type=float, default=SCALE, help=f"scale factor of TPC-H (default: {SCALE})")
    parser.add_argument("--cache", type=Path, help=f"where the tables are kept (default: {tpch.default_cache()})")
    options = parser.parse_args()
    try:
        some = orders(options.scale, options.cache)[: options.orders]
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    count = 0
    with grafctl.open(options.store) as store:
        for batch in batches(some):
            count += sum(publish(store, batch).values())
    sys.stdout.write(f"{count:,} records about {len(some):,} orders; the bug hits the refunds of {len(hit(some)):,}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
