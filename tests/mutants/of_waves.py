"""Mutants of waves: the order, who may begin, and what halts."""

from __future__ import annotations

from mutants.mutant import Mutant

WAVE_RULES, DECLARED = "grafctl/store/wave_rules.py", "grafctl/declare/switchover.py"
RUNNING, WAVES, TEST_WAVES = "grafctl/nouns/wave_running.py", "grafctl/nouns/waves.py", "tests/nouns/test_waves.py"
TEST_RULES, TEST_DECLARED = "tests/unit/test_wave_rules.py", "tests/unit/test_declare_switchover.py"

OF_WAVES = (
    Mutant(
        "a shape goes first twice", WAVE_RULES, " if shape not in represented)", ")",
        "Every risk begins with all shapes again, whatever they are worth.", (TEST_RULES,),
    ),
    Mutant(
        "high value where it falls", WAVE_RULES,
        "valued = [member for member in everyone if is_high(member, high_value)]", "valued = list[Member]()",
        "What costs most is risked before all is known.", (TEST_RULES,),
    ),
    Mutant(
        "one more in flight", WAVE_RULES, "len(left) + len(begin) < at_once", "len(left) + len(begin) <= at_once",
        "More consumers are on their way than were allowed.", (TEST_RULES,),
    ),
    Mutant(
        "places of those who wait for a person", WAVE_RULES, "elif in_flight + len(left) +", "elif in_flight +",
        "More consumers are on their way than were allowed.", (TEST_RULES,),
    ),
    Mutant(
        "shapes that went back", WAVE_RULES, "if stops.same_shape and member.shape in flawed:",
        "if not stops.same_shape and member.shape in flawed:",
        "A bug that sent one consumer back is tried on the next of its shape.", (TEST_RULES,),
    ),
    Mutant(
        "a halt that halts nobody", WAVE_RULES, "        elif halted is not None:\n", "        elif not standings:\n",
        "A wave goes on whatever went back.", (TEST_RULES,),
    ),
    Mutant(
        "one rollback too many", WAVE_RULES, "len(names) >= most:", "len(names) > most:",
        "A wave goes on after the number that should halt it.", (TEST_RULES,),
    ),
    Mutant(
        "two switches of a group", DECLARED, "if resource and group and other != consumer.name:",
        "if not resource and other != consumer.name:",
        "Two consumers of one file fight over a group.", (TEST_DECLARED,),
    ),
    Mutant(
        "a window of nothing", DECLARED, "    if not found:\n        raise Usage(\"A window",
        "    if found < 0:\n        raise Usage(\"A window",
        "A consumer is locked before anybody saw it work.", (TEST_DECLARED,),
    ),
    Mutant(
        "waves that begin blindly", RUNNING,
        "            check(self._session, consumer, self._domain)\n", "            pass\n",
        "Half of the consumers are attached before the wave is refused.", (TEST_WAVES,),
    ),
    Mutant(
        "switches of no wave", RUNNING, "drain_ms=self._wave.drain_ms, wave=wave)", "drain_ms=self._wave.drain_ms)",
        "The store takes the second consumer of a wave for a stranger.", (TEST_WAVES,),
    ),
    Mutant(
        "again and again", RUNNING, "again = self._again and member.name not in self._tried", "again = self._again",
        "A consumer is sent back as often as it is brought back.", (TEST_WAVES,),
    ),
    Mutant(
        "tried though it went back", WAVES, "and is_ours and not again else WAITING", "and again else WAITING",
        "What went back is tried again by every run.", (TEST_WAVES,),
    ),
    Mutant(
        "everybody's rollbacks", WAVES, "ROLLED_BACK and is_ours and", "ROLLED_BACK and",
        "What somebody brought back by hand is never switched again.", (TEST_WAVES,),
    ),
    Mutant(
        "a grace of one's own", RUNNING, "domain=self._domain, grace_ms=grace_ms)", "domain=self._domain)",
        "What is late counts as it was declared for nobody.", (TEST_WAVES,),
    ),
)  # fmt: skip
