"""A wave over three consumers whose orders are known from outside, and the deed that runs it from one domain."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import grafctl.client as client
from faults.rivals import World, write
from faults.switches import DOMAINS, NEW, OLD, Orders
from grafctl import clock
from grafctl.nouns.wave_running import require_all

Say = Callable[..., None]
AT_ONCE = 2
CONSUMERS = {"ledger": "ledgers", "letters": "letters", "fraud": "fraud"}  # name -> group
HEAD = f'[wave]\nname = "w"\nwindow = "1ms"\ngrace = "1h"\ndrain = "0"\nat_once = {AT_ONCE}\n'


def run_wave(store: Path, say: Say, domain: str) -> None:
    """One `consumer wave`, to its end."""
    os.environ[clock.OFFSET_VARIABLE] = "0"
    with client.open(store) as opened:
        done = opened.switches.wave(store / "wave.toml", domain=domain)
        say(changed=done.body["changed"], standings=[item["standing"] for item in done.body["consumers"]])
        require_all(done)


def made(store: Path) -> World:
    """Both outputs, of which the new one lags, and consumers that have finished some; the first holds one."""
    client.create(store, dict.fromkeys(DOMAINS))
    world = World(store, {group: Orders(name=name, group=group) for name, group in CONSUMERS.items()})
    with client.open(store) as opened:
        for output in (OLD, NEW):
            opened.queues.create(output, replicas=[f"r{name}={name}" for name in DOMAINS], allow=list(DOMAINS))
            for group in world.orders:
                opened.consumers.create(output, group, allow=list(DOMAINS))
        write(world, opened, range(6), OLD, NEW)
        write(world, opened, range(6, 9), OLD)
        for count, orders in enumerate(world.orders.values(), 3):
            orders.take(opened, count)
            orders.hold(opened, 1)
    text = HEAD
    for name, group in CONSUMERS.items():
        text += f'[[consumer]]\nname = "{name}"\nsource = "{OLD}"\ntarget = "{NEW}"\ngroup = "{group}"\n'
        text += f'shape = "{name}"\nrisk = "low"\n'
    (store / "wave.toml").write_text(text)
    return world
