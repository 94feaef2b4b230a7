"""Storms over a keyed table: four writers and two readers in processes of their own, and what happens to the table
meanwhile. Every key's history must have an order, whatever happened.

`STORM_ROUNDS=20` makes each storm that many times as long (`make storms`).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from faults.forks import Forks
from faults.vshard_storm import DOMAINS, HOME, VshardStorm

import grafctl.client as client

ROUNDS = int(os.environ.get("STORM_ROUNDS", "1"))


def test_a_table_keeps_its_order_while_domains_go_away_and_writers_are_killed(tmp_path: Path, seed: int) -> None:
    forks = Forks()
    try:
        storm = VshardStorm(tmp_path / "storm", forks, seed, weather=True)
        storm.launch()
        storm.begin()
        for number in range(8 * ROUNDS):
            # Now and then two of three, so that what was asked for then has no answer.
            gone = storm.chance.sample(HOME, 2) if number % 4 == 3 else [storm.chance.choice(DOMAINS)]
            with client.open(storm.store) as opened:
                for domain in gone:
                    opened.domains.fail(domain)
                time.sleep(storm.chance.uniform(0.05, 0.4))
                for domain in gone:
                    opened.domains.restore(domain)
            storm.kill_a_writer()
            time.sleep(storm.chance.uniform(0.0, 0.2))
        storm.end()
        storm.judge()
    finally:
        forks.close()
    print(dict(storm.counts))
    assert storm.counts["calls without an answer"] and storm.counts["killed"] == 8 * ROUNDS
