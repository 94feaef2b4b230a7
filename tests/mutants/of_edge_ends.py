"""Mutants of open ends of edges: whom they follow, when they look, and what is told of a loss."""

from __future__ import annotations

from mutants.mutant import Mutant

ENDS, RULES, RING = "grafctl/nouns/edge_handles.py", "grafctl/store/edge_rules.py", "grafctl/edges/ring.py"
END, LEASES = "grafctl/nouns/edge_end.py", "grafctl/nouns/leases.py"
SEGMENTS, COUNTS = "grafctl/store/resources/segments.py", "grafctl/edges/counts.py"
METRICS, BUILDING = "grafctl/render_metrics.py", "grafctl/pipeline/building.py"
CHAINING = "grafctl/pipeline/transforms/chaining.py"
TEST_FORGETTING, TEST_COUNTS = "tests/nouns/test_forgetting.py", "tests/unit/test_edge_counts.py"
TEST_BUILDING, TEST_HANDLE_LEASES = "tests/pipeline/test_building.py", "tests/nouns/test_edge_handle_leases.py"
TEST_ENDS, TEST_RULES, TEST_RING = (
    "tests/nouns/test_edge_handles.py",
    "tests/unit/test_edge_rules.py",
    "tests/edges/test_ring.py",
)

OF_EDGE_ENDS = (
    Mutant(
        "an older generation followed",
        RULES,
        "    if known is None or found.generation > known.generation:\n",
        "    if known is None or found.generation != known.generation:\n",
        "A reader goes back to a segment that was given up.",
        (TEST_RULES, TEST_ENDS),
    ),
    Mutant(
        "one generation in two places",
        RULES,
        "    if found == known:\n",
        "    if found.generation == known.generation:\n",
        "Two processes follow the same generation to two segments.",
        (TEST_RULES, TEST_ENDS),
    ),
    Mutant(
        "the last good value for a corrupt record",
        END,
        "            handoff, lease = checked(self.session.control, self._read)\n            pass_segment",
        "            try:\n"
        "                handoff, lease = checked(self.session.control, self._read)\n"
        "                self._good = handoff, lease\n"
        "            except GrafctlError:\n"
        "                handoff, lease = self._good\n"
        "            pass_segment",
        "A reader goes on where nobody knows where the edge is.",
        (TEST_ENDS,),
    ),
    Mutant(
        "a failed push swallowed",
        ENDS,
        '        error.fields["generation"] = self.generation\n        raise error\n',
        "        return\n",
        "What was in the lost segment is never pushed again.",
        (TEST_ENDS,),
    ),
    Mutant(
        "a renewal that is never due",
        ENDS,
        "        if now_ms >= self._due_ms:\n",
        "        if now_ms >= self._due_ms + 10**12:\n",
        "Every term costs the edge what is in it.",
        (TEST_HANDLE_LEASES,),
    ),
    Mutant(
        "a deadline that nobody judges",
        END,
        "        if self._must_look or self._notice.is_pending or clock.now_ms() >= self._until_ms:\n",
        "        if self._must_look or self._notice.is_pending:\n",
        "A holder goes on after its lease has expired.",
        (TEST_ENDS,),
    ),
    Mutant(
        "a look that is not repeated while somebody ends the lease",
        END,
        " or self._notice.is_pending or ",
        " or ",
        "A handle goes on after a revoke whose maker died.",
        (TEST_HANDLE_LEASES,),
    ),
    Mutant(
        "a notice that nobody reads",
        RING,
        "        if front.notice != self._watched:\n            raise Noticed\n",
        "",
        "A grace has no end before the term has.",
        (TEST_ENDS, TEST_RING),
    ),
    Mutant(
        "a removed file that is used",
        RING,
        "        if not os.fstat(self._handle).st_nlink:\n            raise Lost(REMOVED)\n",
        "",
        "A producer fills a file that nobody can open.",
        (TEST_ENDS, TEST_RING),
    ),
    Mutant(
        "no notice before the change",
        LEASES,
        "                ring.begin_notice()\n",
        "                pass\n",
        "A push that begins after a revoke has returned is taken.",
        (TEST_HANDLE_LEASES,),
    ),
    Mutant(
        "a fenced writer that relocates",
        ENDS,
        "        is_own = is_ahead and (self._is_opening or",
        "        is_own = is_ahead or (self._is_opening or",
        "Two writers take the edge from each other for ever.",
        (TEST_HANDLE_LEASES,),
    ),
    Mutant(
        "any relocation taken for one's own",
        ENDS,
        '        is_ahead = lease["generation"] > found.generation\n',
        '        is_ahead = lease["generation"] >= found.generation\n',
        "A writer that was replaced goes on in the segment of its successor.",
        (TEST_HANDLE_LEASES,),
    ),
    Mutant(
        "what was taken of another generation finished",
        ENDS,
        "            if taken.generation != self.generation:\n",
        "            if taken.generation > self.generation:\n",
        "Records of the new segment are finished that nobody took.",
        (TEST_ENDS,),
    ),
    Mutant(
        "a ring made twice",
        RING,
        "boot_id()).layout == layout:\n",
        "boot_id()).layout == ():\n",
        "Who began to make it before it was published empties it after that.",
        (TEST_RING,),
    ),
    Mutant(
        "what is in use forgotten",
        SEGMENTS,
        "    if judged(lease, now_ms) in USABLE:\n        raise Busy(",
        "    if judged(lease, now_ms) == HELD:\n        raise Busy(",
        "A stage loses its edge before its grace is over.",
        (TEST_FORGETTING,),
    ),
    Mutant(
        "a lease forgotten under its edge",
        SEGMENTS,
        "        if state.get_json(segment_keys.edge(self.name)) is not None:\n",
        "        if state.get_json(segment_keys.edge(self.name)) is True:\n",
        "An edge is left of which nobody knows who may use it.",
        (TEST_FORGETTING,),
    ),
    Mutant(
        "a segment swept in its grace",
        LEASES,
        '            if row["domain"] == domain and judged(row, clock.now_ms()) == REVOKED:\n',
        '            if row["domain"] == domain and row["state"] in ("revoking", REVOKED):\n',
        "A holder loses its segment in the middle of its work.",
        (TEST_FORGETTING,),
    ),
    Mutant(
        "a segment of another domain swept",
        LEASES,
        '            if row["domain"] == domain and judged(row, clock.now_ms()) == REVOKED:\n',
        "            if judged(row, clock.now_ms()) == REVOKED:\n",
        "A change reaches into a domain that it does not name.",
        (TEST_FORGETTING,),
    ),
    Mutant(
        "a pause taken for a failover",
        COUNTS,
        "        if self.last_generation not in (0, self.generation):\n",
        "        if self.last_generation != 0:\n",
        "A dip is reported where nothing was lost.",
        (TEST_COUNTS,),
    ),
    Mutant(
        "records of earlier segments not counted",
        COUNTS,
        "before=self.before + self.passed, generation",
        "before=self.before, generation",
        "A counter goes back at each failover.",
        (TEST_COUNTS,),
    ),
    Mutant(
        "a label that ends where its text says",
        METRICS,
        """    return text.replace('"', '\\\\"') if quote else text\n""",
        "    return text\n",
        "A collector reads another metric, or none.",
        (TEST_COUNTS,),
    ),
    Mutant(
        "anything is a yes",
        CHAINING,
        "        if type(kept) is not bool:\n",
        "        if kept is None:\n",
        "A filter that returns a number lets records pass or not as it happens.",
        (TEST_BUILDING,),
    ),
    Mutant(
        "functions in any order",
        CHAINING,
        "fingerprint_of(chain=told)",
        "fingerprint_of(chain=sorted(told, key=str))",
        "What was done by another pipeline counts as done by this one.",
        (TEST_BUILDING,),
    ),
    Mutant(
        "a step that changes the pipeline before it",
        BUILDING,
        "        return copy.copy(self)\n",
        "        return self\n",
        "Two pipelines with one beginning have each other's functions.",
        (TEST_BUILDING,),
    ),
)
