"""The demo's input is what it claims to be: every order of the generator once, in order, with exact money."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
import tpch

SCALE = 0.001
SCRIPT = Path(tpch.__file__)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tpch")


@pytest.fixture(scope="module")
def nested(cache: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tpch.orders(SCALE, cache)]


def test_every_order_is_there_once_in_key_order(nested: list[dict[str, Any]]) -> None:
    keys = [order["order_key"] for order in nested]
    assert len(keys) == 1500
    assert keys == sorted(set(keys))


def test_every_line_is_in_its_order(nested: list[dict[str, Any]], cache: Path) -> None:
    flat = [(int(row[0]), int(row[3]), row[5]) for row in tpch.read_table(tpch.generate(SCALE, cache) / "lineitem.tbl")]
    inside = [
        (order["order_key"], line["number"], line["extended_price"]) for order in nested for line in order["lines"]
    ]
    assert inside == flat
    assert all(1 <= len(order["lines"]) <= 7 for order in nested)


def test_totals_agree_with_the_nested_orders(nested: list[dict[str, Any]], cache: Path) -> None:
    assert tpch.totals(SCALE, cache) == (len(nested), sum(tpch.cents(order["total_price"]) for order in nested))


def test_the_lines_of_an_order_make_its_total(nested: list[dict[str, Any]]) -> None:
    # An oracle from the TPC-H specification: the total is the sum of price * (1 + tax) * (1 - discount). The generator
    # rounds each line down on the way, so an order may be off by a cent or two for each of its lines.
    for order in nested:
        exact = sum(
            Decimal(line["extended_price"]) * (1 + Decimal(line["tax"])) * (1 - Decimal(line["discount"]))
            for line in order["lines"]
        )
        difference = Decimal(order["total_price"]) - Decimal(exact).quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert abs(difference) <= Decimal("0.02") * len(order["lines"])


def test_the_command_writes_the_same_orders_with_ids(nested: list[dict[str, Any]], cache: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--scale", str(SCALE), "--cache", str(cache)]
    plain = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
    assert [json.loads(line) for line in plain] == nested
    with_ids = [
        json.loads(line)
        for line in subprocess.run([*command, "--id-lines"], check=True, capture_output=True).stdout.splitlines()
    ]
    assert [line["payload"].encode() for line in with_ids] == plain
    assert [line["id"] for line in with_ids] == [f"order-{order['order_key']}" for order in nested]
    said = json.loads(subprocess.run([*command, "--totals"], check=True, capture_output=True).stdout)
    assert said == tpch.totals(SCALE, cache)._asdict()


def test_a_reader_that_has_seen_enough_ends_it_quietly(cache: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--scale", str(SCALE), "--cache", str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_processes_that_generate_at_once_share_one_result(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: tpch.generate(SCALE, tmp_path), range(4)))
    assert list(tmp_path.iterdir()) == list(made)


@pytest.mark.parametrize(("price", "expected"), [("0.01", 1), ("194029.55", 19402955), ("-3.10", -310)])
def test_cents_are_exact(price: str, expected: int) -> None:
    assert tpch.cents(price) == expected


@pytest.mark.parametrize("price", ["", "12", "1.5", "1.234", "1.2e3", "one.00"])
def test_cents_refuse_any_other_form(price: str) -> None:
    with pytest.raises(ValueError):
        tpch.cents(price)


def test_tables_that_do_not_fit_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpch, "generate", lambda scale, cache: tmp_path)
    row = "|".join(["1"] * 17) + "\n"
    (tmp_path / "orders.tbl").write_text(row)
    (tmp_path / "lineitem.tbl").write_text("")
    with pytest.raises(ValueError, match="order 1 has no lines"):
        list(tpch.orders(SCALE))
    (tmp_path / "lineitem.tbl").write_text(row + row.replace("1", "2", 1))
    with pytest.raises(ValueError, match="order 2 belongs to no order"):
        list(tpch.orders(SCALE))
