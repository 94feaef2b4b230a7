"""Mutants of switches: how two outputs are compared, and when a consumer is sent back."""

from __future__ import annotations

from mutants.mutant import Mutant

COMPARE, FIELDS = "grafctl/store/switch_compare.py", "grafctl/store/switch_fields.py"
MATCH = "grafctl/store/switch_match.py"
TEST_COMPARE, TEST_MATCH = "tests/unit/test_switch_compare.py", "tests/unit/test_switch_match.py"

HEALTH, TEST_HEALTH = "grafctl/store/switch_health.py", "tests/unit/test_switch_health.py"
COMPARING = "grafctl/store/operations/switching/comparing_records.py"
COMPARED = "grafctl/store/operations/switching/compared.py"
SOAKING, TEST_SOAKING = "grafctl/store/operations/switching/soaking.py", "tests/store/test_switch_soaking.py"
TEST_COMPARING = "tests/store/test_switch_comparing.py"

OF_SWITCHES = (
    Mutant(
        "a comparison that goes one way",
        COMPARE,
        '        counts |= {EXTRA: self.counts["gone_target"] + old[TARGET]}\n',
        '        counts |= {EXTRA: self.counts["gone_target"]}\n',
        "What the new engine invents is never seen.",
        (TEST_COMPARE,),
    ),
    Mutant(
        "a missing record that is always young",
        COMPARE,
        "(item is None or item.ms <= until_ms):\n",
        "item is None:\n",
        "What the new engine loses waits for ever and blocks nothing.",
        (TEST_COMPARE,),
    ),
    Mutant(
        "open records forgotten between two runs",
        COMPARE,
        'offsets(_unpacked(kept["open"])), *more)',
        "(), *more)",
        "A missing record is counted until somebody looks again.",
        (TEST_COMPARE,),
    ),
    Mutant(
        "repeats that are not looked for after a pause",
        COMPARE,
        "        near = [[max(0, one.next - self.window), one.next]] if self.window else []\n",
        "        near: Intervals = []\n",
        "A record that stands twice in an output is not found where the comparison was stopped in between.",
        (TEST_COMPARE,),
    ),
    Mutant(
        "what retention took is forgiven",
        COMPARE,
        """            self.counts[f"gone_{side}" if offset >= one.judged_from else "not_compared"] += 1\n""",
        """            self.counts["not_compared"] += 1\n""",
        "A mismatch goes away by waiting.",
        (TEST_COMPARE,),
    ),
    Mutant(
        "a tolerance that counts one way",
        FIELDS,
        "    return bool(exact.subtract(source, target).copy_abs() <= most)\n",
        "    return bool(exact.subtract(source, target) <= most)\n",
        "A total that is far too large passes.",
        (TEST_MATCH,),
    ),
    Mutant(
        "absent and null are the same",
        FIELDS,
        "    if value is MISSING or _is_number(value):\n",
        '    if value is MISSING:\n        return "null"\n    if _is_number(value):\n',
        "A field that the new engine does not write is not missed.",
        (TEST_MATCH,),
    ),
    Mutant(
        "large payloads are compared by their beginning",
        FIELDS,
        'b"" if is_whole else digest(payload), key)',
        'b"" if is_whole else b"-", key)',
        "A wrong byte far inside a record is not seen.",
        (TEST_MATCH,),
    ),
    Mutant(
        "the number and its text are one match key",
        MATCH,
        "        return _of(exact_text(found), found if",
        "        return _of(exact_text(found).strip('\"'), found if",
        "Records of two orders are taken for counterparts.",
        (TEST_MATCH,),
    ),
    Mutant(
        "a limit that may be passed by one",
        HEALTH,
        "    ok = number is None or number <= limit\n",
        "    ok = number is None or number <= limit + 1\n",
        "A regression is seen later than was said.",
        (TEST_HEALTH,),
    ),
    Mutant(
        "a command that is always content",
        HEALTH,
        "    return Check(HEALTH_COMMAND, 0, verdict.exit, verdict.exit == 0,",
        "    return Check(HEALTH_COMMAND, 0, verdict.exit, True,",
        "What the operator's own check finds takes nobody back.",
        (TEST_HEALTH,),
    ),
    Mutant(
        "idle for as long as one looks",
        HEALTH,
        "    progress_ms = now_ms if numbers.lag == 0 else min(last_ms, now_ms)\n",
        "    progress_ms = now_ms\n",
        "A consumer that does nothing is healthy.",
        (TEST_HEALTH, TEST_SOAKING),
    ),
    Mutant(
        "redeliveries that nobody counts",
        "grafctl/store/resources/delivery.py",
        "            self.redelivered += sum(",
        "            self.redelivered += 0 * sum(",
        "A consumer that fails again and again is healthy.",
        ("tests/unit/test_delivery.py", TEST_SOAKING),
    ),
    Mutant(
        "a regression that is told and no more",
        SOAKING,
        "        row = turn(session, name, row, SOURCE, drain_ms=drain_ms, why=why)\n",
        "        pass\n",
        "The consumer goes on at an output that is wrong.",
        (TEST_SOAKING,),
    ),
    Mutant(
        "a lock without a look",
        "grafctl/store/operations/switching/locking.py",
        "    if found.sentences:\n        raise take_back",
        "    if found.sentences and dry_run:\n        raise take_back",
        "There is no way back from an output that is wrong.",
        (TEST_SOAKING,),
    ),
    Mutant(
        "a comparison without the gate",
        COMPARING,
        "        pass_local_gate(self.session, state, asked, Placement.of(row), ())\n",
        "",
        "Records are read where they must not be.",
        (TEST_COMPARING,),
    ),
    Mutant(
        "outputs that drifted apart are equal",
        COMPARED,
        "full=full, is_complete=full is None)",
        "full=full, is_complete=True)",
        "A consumer is switched to an output that is far behind.",
        (TEST_COMPARING,),
    ),
    Mutant(
        "nothing in common is proof enough",
        COMPARED,
        "        is_proof = is_complete and not undated and (counts[MATCHED] > 0 or counts[WAITING] == 0)\n",
        "        is_proof = is_complete and not undated\n",
        "A consumer is switched to an engine that has written nothing.",
        (TEST_COMPARING,),
    ),
    Mutant(
        "numbers of a soak from the first judgement on",
        "grafctl/store/operations/switching/turning.py",
        "    return begun(numbers_at(session, name, row, 0), clock.now_ms())\n",
        "    return {}\n",
        "What a consumer does before somebody judges it is taken for what had been there.",
        (TEST_SOAKING,),
    ),
    Mutant(
        "any error of a judgement passed over",
        SOAKING,
        "            with suppress(*FOR_NOW):",
        "            with suppress(GrafctlError):",
        "Damage that keeps finished work from being carried back is found when it is too late.",
        (TEST_SOAKING,),
    ),
    Mutant(
        "acks without their time",
        "grafctl/store/resources/group.py",
        "    if note_finish(group, entry):\n",
        "    if False:\n",
        "A consumer that works slowly is idle.",
        ("tests/resources/test_switched_groups.py", TEST_SOAKING),
    ),
    Mutant(
        "idle before there was anything to do",
        "grafctl/store/operations/switching/work.py",
        "    return 0 if ref is None else ref.ms\n",
        "    return 0\n",
        "A consumer is taken back for a quiet night.",
        (TEST_SOAKING,),
    ),
    Mutant(
        "a judgement that takes back what was forgiven meanwhile",
        "grafctl/store/resources/switches.py",
        '        if self.since not in (-1, row["shadow"].get("forgiven_ms")):\n',
        "        if False:\n",
        "A soak that goes on all the while brings a consumer back for what an operator has forgiven.",
        (TEST_COMPARING,),
    ),
)
