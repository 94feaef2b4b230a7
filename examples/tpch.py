"""Real input: the orders of TPC-H, each with its lines inside, as JSON Lines.

    python examples/tpch.py --scale 0.1 > orders.jsonl
    python examples/tpch.py --scale 0.1 --id-lines | grafctl publish orders - --input jsonl -d aws/us-east-1

Scale 0.1 is 150,000 orders. The tables come from `tpchgen-cli` (a development dependency), which writes them once into
a cache directory (95 MB); the same version and scale always give the same bytes. Orders and lines are sorted by order
key, so they are joined in one pass, one order in memory at a time. Money stays what the generator wrote, a decimal
string, because a JSON number would not be exact.

`totals` is the check on all that: it counts and adds up the orders table alone, and knows nothing of nested orders.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TABLES = ("orders", "lineitem", "customer", "nation")


class Totals(NamedTuple):
    """What must come out at the other end."""

    orders: int
    total_price_cents: int


class Order(NamedTuple):
    key: int
    text: bytes


def orders(scale: float, cache: Path | None = None) -> Iterator[bytes]:
    """Yields each order as one line of JSON without its line end, in order-key order."""
    return (order.text for order in keyed_orders(scale, cache))


def id_lines(scale: float, cache: Path | None = None) -> Iterator[bytes]:
    """Yields each order as `grafctl publish - --input jsonl` takes it: an id made of the order key, and the payload."""
    for key, text in keyed_orders(scale, cache):
        yield json.dumps({"id": f"order-{key}", "payload": text.decode()}, separators=(",", ":")).encode()


def keyed_orders(scale: float, cache: Path | None = None) -> Iterator[Order]:
    """Yields each order with its key, in order-key order; raises ValueError where the two tables do not fit."""
    for order in nested_orders(scale, cache):
        yield Order(order["order_key"], json.dumps(order, separators=(",", ":")).encode())


def nested_orders(scale: float, cache: Path | None = None) -> Iterator[dict[str, Any]]:
    """Yields each order as an object with its lines inside; raises ValueError where the two tables do not fit."""
    tables = generate(scale, cache)
    lines = read_table(tables / "lineitem.tbl")
    line = next(lines, None)
    for row in read_table(tables / "orders.tbl"):
        own = []
        while line is not None and line[0] == row[0]:
            own.append(order_line(line))
            line = next(lines, None)
        if not own:
            raise ValueError(f"order {row[0]} has no lines; remove {tables} and run again")
        yield {
            "order_key": int(row[0]),
            "customer": int(row[1]),
            "status": row[2],
            "total_price": row[3],
            "date": row[4],
            "priority": row[5],
            "clerk": row[6],
            "lines": own,
        }
    if line is not None:
        raise ValueError(f"line of order {line[0]} belongs to no order; remove {tables} and run again")


def order_line(row: list[str]) -> dict[str, Any]:
    """Returns one row of the lineitem table as an object."""
    return {
        "number": int(row[3]),
        "part": int(row[1]),
        "supplier": int(row[2]),
        "quantity": int(row[4]),
        "extended_price": row[5],
        "discount": row[6],
        "tax": row[7],
        "ship_date": row[10],
        "ship_mode": row[14],
    }


def totals(scale: float, cache: Path | None = None) -> Totals:
    """Returns the number of orders and the exact sum of their total prices in cents, from the orders table alone."""
    count = total = 0
    for row in read_table(generate(scale, cache) / "orders.tbl"):
        count += 1
        total += cents(row[3])
    return Totals(count, total)


def cents(price: str) -> int:
    """Returns a decimal string with two places as whole cents; raises ValueError for any other form."""
    whole, dot, fraction = price.partition(".")
    if dot != "." or len(fraction) != 2:
        raise ValueError(f"{price!r} is not an amount with two decimal places")
    return int(whole + fraction)


def read_table(file: Path) -> Iterator[list[str]]:
    """Yields the fields of each row: separated and ended by `|`, never quoted, never holding one."""
    with file.open(encoding="ascii", newline="\n") as rows:
        for row in rows:
            yield row.split("|")


def generate(scale: float, cache: Path | None = None) -> Path:
    """Returns the directory with the tables, made first if need be.

    A directory appears under its name only when it is whole, so two processes may call this at once, and a killed one
    leaves nothing that looks finished.
    """
    tool = generator()
    version = subprocess.run([tool, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    parent = cache or default_cache()
    done = parent / f"tpch-{version}-sf{scale:g}-{len(TABLES)}"  # a directory of an older version has fewer tables
    if done.is_dir():
        return done
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix="making-", dir=parent))
    try:
        scope = ["--scale-factor", f"{scale:g}", "--tables", ",".join(TABLES)]
        subprocess.run([tool, *scope, "--output-dir", str(making), "--quiet"], check=True, stdout=subprocess.DEVNULL)
        making.rename(done)
    except OSError:
        if not done.is_dir():  # otherwise another process was first, and its tables are the same
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return done


def default_cache() -> Path:
    """Returns a directory of this user below the system's temporary one."""
    return Path(tempfile.gettempdir()) / f"grafctl-tpch-{os.getuid()}"


def generator() -> str:
    """Returns the path of tpchgen-cli: the one beside this Python, else the one on PATH."""
    beside = Path(sys.executable).with_name("tpchgen-cli")
    found = str(beside) if beside.is_file() else shutil.which("tpchgen-cli")
    if found is None:
        raise FileNotFoundError("tpchgen-cli is not installed: run `pip install -e '.[dev]'` first")
    return found


def main() -> int:
    """Writes the lines to stdout; a reader that has seen enough, as `head`, ends it quietly."""
    parser = argparse.ArgumentParser(description="TPC-H orders with their lines, as JSON Lines.")
    parser.add_argument("--scale", type=float, default=0.1, help="scale factor; 0.1 (the default) is 150,000 orders")
    parser.add_argument("--id-lines", action="store_true", help='write {"id": …, "payload": …} for `grafctl publish`')
    parser.add_argument("--totals", action="store_true", help="write only the number of orders and their sum in cents")
    parser.add_argument("--cache", type=Path, help=f"where the tables are kept (default: {default_cache()})")
    options = parser.parse_args()
    try:
        if options.totals:
            lines = iter([json.dumps(totals(options.scale, options.cache)._asdict()).encode()])
        else:
            lines = (id_lines if options.id_lines else orders)(options.scale, options.cache)
        for line in lines:
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Python flushes stdout once more on its way out, and must not fail there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
