"""The demo as a user runs it, on 150,000 orders; what it left is read again by other code; Ctrl-C in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import tpch
from conftest import ROOT

import grafctl

DEMO = ROOT / "examples" / "demo.py"
DOMAINS = ("aws/us-east-1/us-east-1a", "gcp/us-central1", "azure/eastus")
ORDERS = 150_000


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(cwd)}
    return subprocess.Popen(
        [sys.executable, str(DEMO), *words], cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE
    )


def test_every_order_is_at_its_offset_in_three_domains_and_finished_once(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    demo = start("--orders", str(ORDERS), "--keep", str(kept), cwd=tmp_path)
    said, _ = demo.communicate()
    assert demo.returncode == 0, said
    assert "All of it agrees" in said

    made = {f"order-{key}": text for key, text in tpch.keyed_orders(ORDERS / 1_500_000)}
    assert len(made) == ORDERS
    first: list[str] = []
    with grafctl.open(kept / "store") as store:
        for domain in DOMAINS:
            names: list[str] = []
            while records := store.peek("orders", domain=domain, offset=len(names), max=5000).body["records"]:
                for record in records:
                    assert made[record.id] == record.payload
                    assert record.offset == len(names)
                    names.append(record.id)
            assert Counter(names) == Counter(made.keys())
            first = first or names
            assert names == first, f"{domain} has another order of the orders"
        groups = [store.consumers.show("orders", group).body for group in ("active-workers", "azure-workers")]
        assert [group["ack_floor"] for group in groups] == [ORDERS, ORDERS]
        assert not list(store.verify())

    booked = [line.split() for book in kept.glob("*.ledger") for line in book.read_text().splitlines()]
    assert sorted(int(offset) for offset, _, _ in booked) == list(range(ORDERS))
    cents = sum(tpch.cents(json.loads(text)["total_price"]) for text in made.values())
    assert sum(int(price) for _, _, price in booked) == cents


def test_ctrl_c_in_the_middle_of_the_demo_leaves_nothing(tmp_path: Path) -> None:
    demo = start("--orders", "30000", cwd=tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "published" in line and re.search(r"finished +[1-9]", line):
            break  # publishers and workers are at work
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, rest
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("grafctl-tpch-")] == []
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running
