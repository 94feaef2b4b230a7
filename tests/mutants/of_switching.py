"""Mutants of a switch: who closes and opens, what is carried and owed, and where polls and acks go."""

from __future__ import annotations

from mutants.mutant import Mutant

RESOURCES, SWITCHING = "grafctl/store/resources", "grafctl/store/operations/switching"
SWITCHES, SWITCHED, CARRYING = (f"{RESOURCES}/{name}.py" for name in ("switches", "switched", "carrying"))
TURNING, CARRIER, ROUTED = (f"{SWITCHING}/{name}.py" for name in ("turning", "carrying", "routed"))
WORKER, RULES, RETENTION = "grafctl/worker.py", "grafctl/store/switch_rules.py", f"{RESOURCES}/retention.py"
ROWS, LIVES, KINDS = ("tests/resources/test_switches.py",), ("tests/store/test_switching.py",), (
    "tests/store/test_switched_kinds.py",
)  # fmt: skip
BOTH = (*LIVES, *KINDS)

OF_SWITCHING = (
    # --- the row that decides
    Mutant(
        "flip of a generation that is over", SWITCHES,
        '    if row["generation"] != generation:\n        raise moved_on(name, row, generation)\n    return row\n',
        "    return row\n", "A stale operator flips what another one has flipped.", ROWS,
    ),
    Mutant(
        "flip of what is not closing", SWITCHES,
        "            if not is_closing(row, self.side):\n", "            if False:\n",
        "Both sides are open.", ROWS,
    ),
    Mutant(
        "giving up that keeps the generation", SWITCHES,
        '    told = {"generation": row["generation"] + 1,',
        '    told = {"generation": row["generation"] + (side != row["side"] or state != row["state"]),',
        "An operator who sleeps flips what was given up, and both sides are open.", (*ROWS, *LIVES),
    ),
    Mutant(
        "closing that is given up before its time", SWITCHES,
        "(self.is_late and not is_over(row, now_ms))", "False", "No switch ever comes to its end.", ROWS,
    ),
    Mutant(
        "two switches in flight", SWITCHES,
        "            pass_flight(self.name, rows(state, switch_keys.switches()), self.wave)\n", "            pass\n",
        "Two consumers are away from their source at once.", ROWS,
    ),
    Mutant(
        "new switch that begins at one", SWITCHES,
        '"generation": context.at, "state": SOURCE', '"generation": 1, "state": SOURCE',
        "Whoever slept since an earlier switch opens a side of this one.", ROWS,
    ),
    # --- the groups
    Mutant(
        "opening by an old claim", SWITCHED,
        '        if self.generation <= switch["generation"]:\n', '        if self.generation < switch["generation"]:\n',
        "A side that was closed at a generation opens for it again.", LIVES,
    ),
    Mutant(
        "closing by an old generation", SWITCHED,
        '    if asked.generation < switch["generation"]:\n', "    if False:\n",
        "A stale operator closes the open side.", LIVES,
    ),
    Mutant(
        "closing without its generation", SWITCHED,
        'switch | {"generation": self.generation, "open": False, "draining": None}',
        'switch | {"open": False, "draining": None}',
        "A claim that comes after the way back opens the other side too.", LIVES,
    ),
    Mutant(
        "leases that outlive the closing", SWITCHED,
        "        return change(self.group, True, switch=closed, ends=True)\n",
        "        return change(self.group, True, switch=closed)\n",
        "What a closed side has leased never comes again from it.", BOTH,
    ),
    Mutant(
        "acks in a closed group", SWITCHED,
        '    elif switch["open"]:\n', "    elif True:\n",
        "A record is finished at both sides.", LIVES,
    ),
    Mutant(
        "acks in a group that was closed when it was detached", f"{RESOURCES}/group.py",
        '    if rest and ("switch" in group or "closed_by" in group):\n', '    if rest and "switch" in group:\n',
        "What was finished at the other output is finished again.", ("tests/store/test_switch_detaching.py",),
    ),
    Mutant(
        "poll of any generation", SWITCHED,
        'if switch["open"] and switch["draining"] is None and caller.generation == switch["generation"]:',
        'if switch["open"] and switch["draining"] is None:',
        "A poll that names one output reads the other's group without what is owed there.", LIVES,
    ),
    Mutant(
        "leases while it drains", SWITCHED,
        'if switch["open"] and switch["draining"] is None and caller', 'if switch["open"] and caller',
        "A drain never ends.", LIVES,
    ),
    Mutant(
        "poll by the way to what was detached", f"{RESOURCES}/group.py",
        '            if "switch" in group or self.generation is not None:\n', '            if "switch" in group:\n',
        "A consumer goes on reading another output after its switch is gone.", KINDS,
    ),
    Mutant(
        "late attach to what is gone", SWITCHED,
        '        if self.generation <= row.get("detached", 0):\n', "        if False:\n",
        "A group is tied to a switch that nobody knows.", KINDS,
    ),
    # --- what is carried
    Mutant(
        "nothing is carried after the closing", TURNING,
        "    carry(session, name, row, is_final=True, least=outcome.tail, beat=beat)\n", "",
        "What was finished in the drain is finished again at the other side.", LIVES,
    ),
    Mutant(
        "carrying into an open group", CARRYING,
        '        if switch["open"]:\n', "        if False:\n",
        "A late operator finishes what a consumer works on.", LIVES,
    ),
    Mutant(
        "owed records that are forgotten", CARRIER,
        "    if is_final and missing:\n", "    if False:\n",
        "What the other output gets later is delivered although it was finished.", LIVES,
    ),
    Mutant(
        "owed records that are delivered", ROUTED,
        "        if own in route.owed:\n", "        if False:\n", "They are finished twice.", LIVES,
    ),
    Mutant(
        "any number of owed records", CARRIER,
        "        if is_final and len(missing)", "        if False and len(missing)",
        "An entry grows with the lag of an engine.", ("tests/store/test_switching.py",),
    ),
    Mutant(
        "retention before the carry", RETENTION,
        "        if (kept := _first_uncarried(state)) is not None:\n", "        if (kept := None) is not None:\n",
        "What was finished is gone before the other side knows of it, and comes again there.", KINDS,
    ),
    # --- where polls and acks go
    Mutant(
        "nobody gives a closing up", ROUTED,
        "    if not is_over(row, clock.now_ms()):\n", "    if True:\n",
        "Consumers wait for a dead operator for ever.", LIVES,
    ),
    Mutant(
        "nobody opens after the flip", ROUTED,
        '    if switch["generation"] < generation:\n        side.log', '    if False:\n        side.log',
        "Consumers wait for an operator who died after the flip.", LIVES,
    ),
    Mutant(
        "worker that acks by the name it polls", WORKER,
        "self.store.ack(*batch.place, offsets, **caller)",
        "self.store.ack(self.resource, self.group, offsets, **caller)",
        "Offsets of the one output are finished at the other.", ("tests/workers/test_switched_worker.py",),
    ),
)  # fmt: skip
