"""Mutants of keyed tables and of the migration of their vshards."""

from __future__ import annotations

from mutants.mutant import Mutant

TABLE, MOVING, RECEIVING = (f"grafctl/store/resources/{name}.py" for name in ("table", "moving", "receiving"))
ROUTING = "grafctl/store/operations/routing.py"
CUTTING_OVER = "grafctl/store/operations/moving/cutting_over.py"
MOVES, TEST_MOVING, STORM = "tests/resources/test_moves.py", "tests/store/test_moving.py", "tests/test_vshard_storm.py"
ORDER = f"{STORM}::test_a_table_keeps_its_order_while_domains_go_away_and_writers_are_killed"
BACK_AND_FORTH = f"{STORM}::test_a_vshard_goes_back_and_forth_while_it_is_written"

OF_TABLES = (
    # --- writing and reading
    Mutant(
        "compare-and-set not compared", TABLE, "            if expect is not None and expect != version:\n",
        "            if expect is not None and expect != version and not version:\n",
        "Of two writers who read the same, the later one wipes out the other.", (ORDER,),
    ),
    Mutant(
        "version given twice", TABLE, '            row["seq"] += 1\n', '            row["seq"] += bool(expect)\n',
        "A compare-and-set is won over a write that nobody has seen.", (ORDER,),
    ),
    # --- the pause
    Mutant(
        "a seal that does not stop writers", TABLE, '    if row is not None and row["state"] == SEALED:\n',
        '    if row is not None and row["state"] == SEALED and now_ms < 0:\n',
        "What is written in the pause is not where the vshard went.", (MOVES, TEST_MOVING),
    ),
    Mutant(
        "seal lifted by anybody at any time", MOVING,
        '        if self.waited_us is not None and not is_over and self.waited_us < row["budget"]:\n',
        '        if self.waited_us is not None and not is_over and self.waited_us < 0:\n',
        "No vshard that is written to is ever moved.", (MOVES,),
    ),
    Mutant(
        "seal lifted by nobody", ROUTING,
        "        if waited_us >= budget_us or clock.now_ms() > (reason.until_ms or 0):\n",
        "        if waited_us < 0:\n",
        "An operator who dies in the pause leaves the writers paused for ever.",
        (f"{STORM}::test_an_operator_who_sleeps_through_the_pause_flips_nothing",),
    ),
    Mutant(
        "flip after the budget by the own clock", MOVING,
        '        if clock.monotonic_s() > self.deadline_s or context.now_ms > row["until"]:\n',
        '        if context.now_ms > row["until"]:\n', "The pause is longer than its budget.", (MOVES,),
    ),
    Mutant(
        "flip after the budget by the stamp", MOVING,
        '        if clock.monotonic_s() > self.deadline_s or context.now_ms > row["until"]:\n',
        "        if clock.monotonic_s() > self.deadline_s:\n", "Who slept on another machine flips late.", (MOVES,),
    ),
    Mutant(
        "flip under another's seal", MOVING,
        '        if row["state"] != SEALED or row["token"] != self.token:\n            raise self._over',
        '        if row["state"] != SEALED:\n            raise self._over',
        "What was written between two seals is lost.", (MOVES,),
    ),
    # --- who owns it
    Mutant(
        "old copy still read", TABLE, "    if how in (OPEN, SEALED) or ", "    if how in (OPEN, SEALED, MOVED) or ",
        "A reader with an old route is answered with what was there before the move.", (MOVES, BACK_AND_FORTH),
    ),
    Mutant(
        "ready to everybody", TABLE, '(how == READY and claim == (row["token"], row["generation"]))', "how == READY",
        "Two logs take writes to one vshard.",
        (f"{STORM}::test_who_knows_the_target_from_long_ago_waits_as_everybody_does",),
    ),
    Mutant(
        "claim without its generation", TABLE, 'claim == (row["token"], row["generation"])',
        'claim is not None and claim[0] == row["token"]',
        "The claim of an earlier move opens a copy that was not given away.", (MOVES,),
    ),
    # --- the copy
    Mutant(
        "versions begin again", RECEIVING, '        row["seq"] = max(row["seq"], moving["seq"])', "        pass",
        "A version of something that was deleted before the move is given again.", (MOVES,),
    ),
    Mutant(
        "counts of before put back", RECEIVING, 'there["old"] | now', 'there["old"]',
        "After a way back was cancelled, the next one counts wrong.", (MOVES,),
    ),
    Mutant(
        "target not read once more", CUTTING_OVER, "        read_back(work, found, seal.counts)\n",
        "        read_back(work, found)\n", "A target that lost its quorum by now is given the vshard.",
        (f"{STORM}::test_nothing_is_given_to_a_target_that_lost_its_quorum_after_the_last_entry",),
    ),
)  # fmt: skip
