"""A process that goes on writing to the tables of `test_tpch_table.py` while their vshards are moved.

    python tpch_writer.py STORE DOMAIN SEED

It counts up `touched` in rows that are there, with compare-and-sets, until the file `calm` is in the store's directory;
then it prints how many it won. Any error but a compare-and-set that was lost ends it with a traceback.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import grafctl
from grafctl.errors import GenerationConflict


def main(directory: Path, domain: str, seed: int) -> None:
    dice, won = random.Random(seed), 0
    with grafctl.open(directory) as store:
        keys = [row.key for row in store.tables.scan("orders", domain=domain)]
        while not (directory / "calm").exists():
            key = dice.choice(keys)
            row = store.tables.get("orders", key, domain=domain)
            order = json.loads(row.value)
            order["touched"] = order.get("touched", 0) + 1
            value = json.dumps(order, separators=(",", ":"))
            try:
                store.tables.put("orders", key, value, domain=domain, expect=row.version)
            except GenerationConflict:
                continue
            won += 1
    print(won)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
