"""Mutants of switches of tables: what a reader is given, how two tables are compared, and what is refused."""

from __future__ import annotations

from mutants.mutant import Mutant

ROWS, TEST_ROWS = "grafctl/store/switch_rows.py", "tests/unit/test_switch_rows.py"
READING = "grafctl/store/operations/switching/reading.py"
COMPARING = "grafctl/store/operations/switching/comparing_tables.py"
REQUESTS = "grafctl/store/resources/table_switches.py"
TEST_REQUESTS = "tests/resources/test_table_switches.py"
TEST = "tests/store/test_switched_tables.py"
TEST_COMPARING = "tests/store/test_switched_table_comparing.py"
KILLS = "tests/faults/test_table_switch_kills.py"

OF_TABLE_SWITCHES = (
    Mutant(
        "a read that looks at the switch only before",
        READING,
        "        now = session.ways[table, group] = _now(session, table, group)\n        if now == way:\n",
        "        now = session.ways[table, group] = way\n        if now == way:\n",
        "A reader goes on with the table that it found first, however often the switch is flipped.",
        (TEST, KILLS),
    ),
    Mutant(
        "a scan that goes on across a flip",
        READING,
        "            if now != way and is_begun:\n",
        "            if False:\n",
        "The rows of two tables come as those of one.",
        (TEST,),
    ),
    Mutant(
        "a reader that falls back silently",
        REQUESTS,
        '        gone = {"switch": self.name, "gone": target} if row["side"] == TARGET else None\n',
        "        gone = None\n",
        "After the switch is detached its reader is given the old engine's rows again.",
        (TEST,),
    ),
    Mutant(
        "a flip of tables that nobody compared",
        REQUESTS,
        "            pass_compared(self.name, row)\n",
        "",
        "A reader is led to a table that differs.",
        (TEST_REQUESTS,),
    ),
    Mutant(
        "a flip of tables beside another one",
        REQUESTS,
        "            pass_flight(self.name, rows(state, switch_keys.switches()), self.wave)\n",
        "",
        "Two operators who come at once have two consumers in flight.",
        (TEST_REQUESTS,),
    ),
    Mutant(
        "rows that are never looked at again",
        COMPARING,
        "            self._look_again(made)\n",
        "",
        "What was written while it was compared is a mismatch.",
        (TEST_COMPARING,),
    ),
    Mutant(
        "a piece that counts as compared from its beginning on",
        ROWS,
        "            self.writes[side][piece] = _NEVER\n",
        "            pass\n",
        "What was not read when the comparison was stopped is never compared.",
        (TEST_ROWS, TEST_COMPARING),
    ),
    Mutant(
        "the writes that count are those at the end",
        COMPARING,
        "        made.end(piece, {side: sums[side][piece] for side in SIDES})\n",
        "        now = {side: made.sums(writes_of(self.session, self._table(side))) for side in SIDES}\n"
        "        made.end(piece, {side: now[side][piece] for side in SIDES})\n",
        "What was written while a piece was read is not compared again.",
        (TEST_COMPARING,),
    ),
    Mutant(
        "a row that is written all the time is never judged",
        ROWS,
        " and before.restarts < RESTARTS_MAX\n",
        "\n",
        "The error of a new engine in a row that is always written blocks nothing.",
        (TEST_ROWS,),
    ),
    Mutant(
        "what differs from the beginning on is taken for what was just written",
        ROWS,
        "        self._is_first = self.writes[SOURCE][piece] == _NEVER\n",
        "        self._is_first = False\n",
        "Whoever switches at once is given a table that has nothing in common with the other but a row.",
        (TEST_ROWS, TEST_COMPARING),
    ),
    Mutant(
        "what was forgiven is forgiven for good",
        ROWS,
        "before.is_forgiven and is_same, ",
        "before.is_forgiven, ",
        "A row that was wrong once may be wrong for ever.",
        (TEST_ROWS, TEST_COMPARING),
    ),
    Mutant(
        "rows of the target alone are not seen",
        ROWS,
        "            yield theirs[0], theirs[1], None, theirs[2]\n",
        "",
        "What the new engine invents is never seen.",
        (TEST_ROWS, TEST_COMPARING),
    ),
)
