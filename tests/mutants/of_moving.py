"""Mutants of what a migration copies, proves and leaves behind; of its seal and of claims: `of_tables.py`."""

from __future__ import annotations

from mutants.mutant import Mutant

RESOURCES, MOVING = "grafctl/store/resources", "grafctl/store/operations/moving"
TABLE, SOURCE, TARGET = (f"{RESOURCES}/{name}.py" for name in ("table", "moving", "receiving"))
CUTTING, REPLAYING, PROOF, ENDING = (f"{MOVING}/{name}.py" for name in ("cutting_over", "replaying", "proof", "ending"))
RETENTION, ROUTING = f"{RESOURCES}/retention.py", "grafctl/store/operations/routing.py"
MOVES, ROWS = ("tests/store/test_moving.py",), ("tests/resources/test_moves.py",)
BESIDE = ("tests/store/test_moving_beside.py",)
FAULTS, PROOFS = ("tests/store/test_moving_faults.py",), ("tests/store/test_moving_proofs.py",)
STOPS, KILLS = "tests/faults/test_moving_stops.py", "tests/faults/test_moving_kills.py::test_killed_anywhere"
KILLED = f"{KILLS}_a_migration_goes_on_or_is_undone"

OF_MOVING = (
    # --- the pause
    Mutant(
        "seal that stops readers", TABLE,
        "    if how in (OPEN, SEALED) or (", "    if how == OPEN or (", "Nobody can read while writers wait.", MOVES,
    ),
    Mutant(
        "unseal after the flip", SOURCE,
        'if row["state"] != SEALED or row["token"] != self.token:\n            return Decision(False)',
        'if row.get("token") != self.token:\n            return Decision(False)',
        "Two logs own the vshard.", ROWS,
    ),
    Mutant(
        "waiting for a seal that is lifted", ROUTING,
        "            if not self._is_sealed(number, reason.token):\n                self._follow",
        "            if False:\n                self._follow",
        "Writers wait for the whole budget, however short the pause was.", FAULTS,
    ),
    # --- what is copied, replayed and drained
    Mutant(
        "drained one entry short", CUTTING,
        "collect(work.source, work.place.vshard, seen.stop, token + 1)",
        "collect(work.source, work.place.vshard, seen.stop, max(seen.stop, token - 1))",
        "The last write before the seal is lost.", (*FAULTS, *PROOFS),
    ),
    Mutant(
        "drained one batch only", CUTTING,
        "    while found.has_more:", "    while False:",
        "What does not fit into one batch is not at the target.", FAULTS,
    ),
    Mutant(
        "drained from a view that lags",
        CUTTING,
        "collect(work.source, work.place.vshard, seen.stop, token + 1)",
        "collect(work.source, work.place.vshard, seen.stop)",
        "A write that was acknowledged is not seen in the pause, and lost.",
        FAULTS,
    ),
    Mutant(
        "versions ignored", TARGET,
        "        if old is None or U64.unpack_from(old)[0] < write.version:\n", "        if True:\n",
        "An older value takes the place of a newer one.", ROWS,
    ),
    Mutant(
        "cursor not moved with the rows", TARGET,
        'moving |= {"cursor": request["cursor"], "copied"', 'moving |= {"copied"',
        "A copy begins anew, or two operators interleave.", PROOFS,
    ),
    Mutant(
        "replay that does not go on where it ended", TARGET,
        'or moving["applied"] != self.start or', "or", "An entry is left out, or an old batch comes late.",
        ROWS,
    ),
    # --- proof
    Mutant(
        "drained records not read back", PROOF,
        "            if body != expected:\n", "            if body is None and expected is not None:\n",
        "A wrong byte of a drained record is served after the flip.", PROOFS,
    ),
    Mutant(
        "replayed records not read back", "grafctl/store/operations/moving/migrating.py",
        "        if is_proven:\n            read_back(work, found)\n", "",
        "What was applied after the proof is proven by nobody.", PROOFS,
    ),
    Mutant(
        "counts not compared", PROOF,
        "            if there != counts:\n", "            if False:\n",
        "Rows that the source does not have are served after the flip.", PROOFS,
    ),
    Mutant(
        "digests not compared", PROOF, "        if target != source:\n", "        if False:\n",
        "A copy that was altered is flipped to.", (*MOVES, *PROOFS),
    ),
    Mutant(
        "divergence let pass", "grafctl/store/moving_rules.py", "    if applied > tail:\n", "    if applied < 0:\n",
        "A target that somebody else wrote is flipped to.", (*FAULTS, "tests/unit/test_moving_rules.py"),
    ),
    # --- what comes after
    Mutant(
        "no way back", TABLE,
        "    return [json_write(vshard_keys.way_back(number), back), (", "    return [(",
        "What was moved cannot be brought back.", MOVES,
    ),
    Mutant(
        "entries of a way back swept", RETENTION,
        "for span in (vshard_keys.migrations(), vshard_keys.ways_back()):", "for span in (vshard_keys.migrations(),):",
        "The way back ends in an entry that is not there.", PROOFS,
    ),
    Mutant(
        "entries of a migration swept", RETENTION,
        "for span in (vshard_keys.migrations(), vshard_keys.ways_back()):", "for span in (vshard_keys.ways_back(),):",
        "A migration cannot be resumed.", PROOFS,
    ),
    Mutant(
        "retired with its way back", ENDING,
        "session.resource(owner.part).append(ForgetWayBack(place, caller)).answer", "owner.back",
        "A way back leads into a copy that is half deleted.", MOVES,
    ),
    Mutant(
        "cancel that forgets the target", ENDING,
        '    drop(session.resource(record["to"]), place)\n', "", "Rows of a migration that never was stay.", MOVES,
    ),
    Mutant(
        "half dropped and counted whole", TARGET,
        'last |= {"records": last["records"] - count, "bytes": last["bytes"] - size}', "pass",
        "A log counts rows that it does not hold.", (f"{KILLED}[retire-nobody]",),
    ),
    Mutant(
        "drop of the copy of another migration", TARGET,
        'if there is None or there["id"] != self.place.migration or row is None:',
        "if there is None or row is None:",
        "Who slept since a migration that was cancelled deletes the copy of the next one.",
        ROWS,
    ),
    Mutant(
        "route that a dead operator did not set", "grafctl/nouns/moves.py",
        "    if changed and not dry_run:\n        session.control.append(SetRoute(", "    if dry_run:\n        print((",
        "Everybody asks the old log first, for ever.", (f"{KILLED}[migrate-again]",),
    ),
    Mutant(
        "retired copy that is read", TABLE,
        "    if how in (OPEN, SEALED) or (", "    if how in (OPEN, SEALED, RETIRED) or (",
        "A client with an old route is answered that nothing is there.", PROOFS,
    ),
    Mutant(
        "limits of a migration that is being cancelled changed", SOURCE,
        '        if moving["state"] == CANCELLING:\n            raise conflict(self.place, "is being cancelled")\n', "",
        "A cancel goes on deleting the copy that a resume replays into.", BESIDE,
    ),
    Mutant(
        "failure noted over a cancel", SOURCE,
        'if moving["state"] in (self.state, CANCELLING):', 'if moving["state"] == self.state:',
        "A migration whose copy is half deleted looks like one that can be resumed.", BESIDE,
    ),
)  # fmt: skip
