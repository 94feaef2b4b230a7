"""Mutants of switches: how two outputs are compared, and when a consumer is sent back."""

from __future__ import annotations

from mutants.mutant import Mutant

COMPARE, FIELDS = "grafctl/store/switch_compare.py", "grafctl/store/switch_fields.py"
MATCH = "grafctl/store/switch_match.py"
TEST_COMPARE, TEST_MATCH = "tests/unit/test_switch_compare.py", "tests/unit/test_switch_match.py"

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
        "            if item is None or item.ms <= until_ms:\n",
        "            if item is None:\n",
        "What the new engine loses waits for ever and blocks nothing.",
        (TEST_COMPARE,),
    ),
    Mutant(
        "open records forgotten between two runs",
        COMPARE,
        'offsets(_unpacked(row[side]["open"])))',
        "())",
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
        '            self.counts[f"gone_{side}"] += 1\n',
        "            pass\n",
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
)
