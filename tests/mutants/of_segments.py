"""Mutants of leases on segments: who may hold one, until when, and what is left on disk."""

from __future__ import annotations

from mutants.mutant import AUTHORITY, Mutant

RULES, SEGMENTS = "grafctl/store/segment_rules.py", "grafctl/store/resources/segments.py"
NOUN, FILE = "grafctl/nouns/leases.py", "grafctl/edges/segment.py"
TEST_RULES, TEST_SEGMENTS = "tests/unit/test_segment_rules.py", "tests/resources/test_segments.py"
TEST_LEASES = "tests/nouns/test_leases.py"

OF_SEGMENTS = (
    Mutant(
        "a lease that never ends",
        RULES,
        '    if state == HELD and now_ms >= row["until_ms"]:\n',
        '    if state == HELD and now_ms > row["until_ms"] + 10**12:\n',
        "A name stays with a holder that died.",
        (TEST_RULES, TEST_SEGMENTS),
    ),
    Mutant(
        "an old token that counts",
        RULES,
        '    if token is not None and token != row["token"]:\n',
        '    if token is not None and token > row["token"]:\n',
        "Two holders use one name.",
        (TEST_RULES, TEST_SEGMENTS),
    ),
    Mutant(
        "a renewal past the grace",
        RULES,
        '    if row["gone_ms"] is not None:\n        until_ms = min',
        '    if row["gone_ms"] is not None:\n        until_ms = max',
        "A revoked lease goes on.",
        (TEST_RULES,),
    ),
    Mutant(
        "a renewal that shortens",
        RULES,
        '    return max(until_ms, int(row["until_ms"]))\n',
        "    return until_ms\n",
        "A clock that goes back ends a lease under its holder.",
        (TEST_RULES,),
    ),
    Mutant(
        "no grace",
        RULES,
        '        return REVOKING if is_there and now_ms < min(row["until_ms"], row["gone_ms"]) else REVOKED\n',
        "        return REVOKED\n",
        "A holder loses its segment in the middle of its work.",
        (TEST_RULES,),
    ),
    Mutant(
        "a grace without an end",
        RULES,
        '        return REVOKING if is_there and now_ms < min(row["until_ms"], row["gone_ms"]) else REVOKED\n',
        '        return REVOKING if is_there and now_ms < row["until_ms"] else REVOKED\n',
        "A revoked lease is used for as long as it is renewed.",
        (TEST_RULES,),
    ),
    Mutant(
        "everybody renews at once",
        RULES,
        " - jitter_ms\n",
        "\n",
        "The control log is hit by all holders together.",
        (TEST_RULES,),
    ),
    Mutant(
        "a held lease for another owner",
        SEGMENTS,
        '        if found == HELD and there["owner"] != self.owner:\n',
        '        if found == RELEASED and there["owner"] != self.owner:\n',
        "A lease is taken from its holder.",
        (TEST_SEGMENTS,),
    ),
    Mutant(
        "a revoked name leased again",
        SEGMENTS,
        "        if found in (REVOKING, REVOKED):\n            raise",
        "        if found in (REVOKING,):\n            raise",
        "What an operator forbade goes on.",
        (TEST_SEGMENTS,),
    ),
    Mutant(
        "any token replaces",
        SEGMENTS,
        '        if self.replace is not None and self.replace != there["token"]:\n',
        "        if self.replace is not None and self.replace < 0:\n",
        "A holder that slept takes the segment of its successor.",
        (TEST_SEGMENTS,),
    ),
    Mutant(
        "a grace that is made longer",
        SEGMENTS,
        ' or (found == REVOKING and there["gone_ms"] <= gone_ms)',
        "",
        "The same command again gives the holder more time.",
        (TEST_SEGMENTS,),
    ),
    Mutant(
        "a lease from anywhere",
        AUTHORITY,
        "    if asked.known and home in (None, asked.domain):\n",
        "    if asked.known:\n",
        "A domain renews what is not in it.",
        (TEST_LEASES,),
    ),
    Mutant(
        "a lease in an unhealthy domain",
        NOUN,
        "        pass_health(asked, self.session.health(), lease=",
        "        dict(lease=",
        "Work begins where it is known to fail.",
        (TEST_LEASES,),
    ),
    Mutant(
        "a file of a refusal stays",
        NOUN,
        '            if error.fields.get("outcome") != "unknown":\n',
        '            if error.fields.get("outcome") == "unknown":\n',
        "Each refusal costs the disk a segment.",
        (TEST_LEASES,),
    ),
    Mutant(
        "files of the dead stay",
        NOUN,
        "        segment.remove_others(place, request.name, request.segment)\n",
        "",
        "Each death costs the disk a segment.",
        (TEST_LEASES,),
    ),
    Mutant(
        "any file is a segment",
        FILE,
        "    return stat.S_ISREG(found.st_mode) and found.st_size == size\n",
        "    return True\n",
        "A lost segment is taken for one that is there.",
        (TEST_LEASES,),
    ),
)
