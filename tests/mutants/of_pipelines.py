"""Mutants of declared pipelines: what a file is refused for, what is not shown of it, and what its tests compare."""

from __future__ import annotations

from mutants.mutant import Mutant

WHERE, REFERENCES = "grafctl/pipeline/where.py", "grafctl/pipeline/declaring_references.py"
DECLARING, SECRETS = "grafctl/pipeline/declaring.py", "grafctl/pipeline/declaring_secrets.py"
STEPS, TRYING, GRAPH = (f"grafctl/pipeline/{name}.py" for name in ("declaring_steps", "trying", "graph"))
STORE = "grafctl/pipeline/declaring_store.py"
INGESTING, TRANSFORMING, SINKING = (
    f"grafctl/pipeline/stages/{name}.py" for name in ("ingesting", "transforming", "sinking")
)
SQLITE = "grafctl/pipeline/sinks/sqlite.py"
DYING = "tests/running/test_failures.py::test_a_{}"
TRANSFORMER_DIES = (DYING.format("transformer_that_dies_goes_on_in_the_other_domain"),)
SINK_DIES = (DYING.format("sink_that_dies_between_row_and_acknowledgement_writes_no_second_row"),)
PLACES, FILES = ("tests/pipeline/test_declaring_places.py",), ("tests/pipeline/test_declaring.py",)
TRIED, DRAWN = ("tests/pipeline/test_trying.py",), ("tests/pipeline/test_graph.py",)

OF_PIPELINES = (
    # --- where a stage may run
    Mutant(
        "stage placed where it may not publish", WHERE,
        "        if not covered:\n", "        if not covered and not line:\n",
        "A stage is let run in a domain where each of its publishes will be refused.", PLACES,
    ),
    Mutant(
        "witness taken for an input", WHERE,
        'item["domain"] == domain and item["role"] == VOTER for', 'item["domain"] == domain for',
        "A stage is let run where its input has no payloads.", PLACES,
    ),
    Mutant(
        "dead letters not asked for", REFERENCES,
        "        if self.dead_letter:\n", "        if self.dead_letter and not self.outputs:\n",
        "A refused record has nowhere to go in a domain in which the stage may run.", PLACES,
    ),
    Mutant(
        "effects not asked for", REFERENCES,
        "        if self.effects:\n", "        if self.effects and not self.outputs:\n",
        "A stage is let run where it may not reserve its effects.", PLACES,
    ),
    Mutant(
        "stage with two placements", REFERENCES,
        "declared.placement != stage.placement", "declared.placement != declared.placement",
        "A stage says that it runs in one domain, and its group polls in another.", PLACES,
    ),
    Mutant(
        "two stages with one group", REFERENCES,
        "        if other is not stage:\n", "        if other.name == stage.name and other is not stage:\n",
        "Two stages take records from each other, and each sees a part of them.", PLACES,
    ),
    Mutant(
        "circle of stages", REFERENCES,
        "        if path:\n", "        if len(path) > 3:\n", "Records go round for ever.", PLACES,
    ),
    Mutant(
        "store made for a wrong pipeline", STORE,
        "    if body.keys().isdisjoint(store.PIPELINE_KEYS):\n", "    if body:\n",
        "`apply` makes a store whose stages cannot run, without the groups of the stages.", (*FILES, *PLACES),
    ),
    # --- what is not shown
    Mutant(
        "secret let pass", DECLARING, "    note_secrets(root)\n", "    note_secrets\n",
        "A password stands in a file that is read by many.", PLACES,
    ),
    Mutant(
        "secret shown", SECRETS, "    kept = [note for note in root.notes if note[0] not in found and",
        "    kept = [note for note in root.notes if note[0] or", "A sentence shows the password, to logs and screens.",
        PLACES,
    ),
    Mutant(
        "quotation mark in a DOT label", GRAPH, """.replace('"', '\\\\"')""", "",
        "A name in the file writes what it likes into the picture.", DRAWN,
    ),
    Mutant(
        "markup in a Mermaid label", GRAPH, """letter.isalnum() or letter in " ._-/:,;()$…" """.rstrip(),
        """letter.isalnum() or letter in " ._-/:,;()$…<>" """.rstrip(),
        "A name in the file draws markup in a browser.", DRAWN,
    ),
    # --- what is compared
    Mutant(
        "true taken for 1 in a test", TRYING,
        "        if _text(wanted) != _text(made):\n", "        if wanted != made:\n",
        "A test case passes for a record that the schema of the next stage refuses.", TRIED,
    ),
    Mutant(
        "refusal for another reason", TRYING, "            elif test.refuse not in str(refused):\n",
        "            elif not str(refused):\n", "A test case passes because of another mistake in the record.", TRIED,
    ),
    Mutant(
        "route to what is no output", STEPS,
        "    if text not in outputs:\n", "    if text not in outputs and not outputs:\n",
        "A record is routed to where the stage was never checked to publish.", FILES,
    ),
    # --- what a stage that dies, or cannot commit for now, leaves
    Mutant(
        "what could not be committed passed over", INGESTING,
        "        self._commit(self._pending)\n        self._pending = None\n",
        "        items, self._pending = self._pending, None\n        self._commit(items)\n",
        "A batch that an ingest has read while no quorum was there is lost.", ("tests/pipeline/test_running.py",),
    ),
    Mutant(
        "input finished before its outputs", TRANSFORMING,
        "                answers = step(self.place.session, changes) if changes else []\n",
        "                answers = [step(self.place.session, [change])[0] for change in reversed(changes)]\n",
        "A transformer that dies in between has made nothing of records that never come again.", TRANSFORMER_DIES,
    ),
    Mutant(
        "records finished before their rows", SINKING,
        "        self._input.hold()\n        if rows:\n",
        "        step(self.place.session, self._input.changes([record.offset for record in records], []))\n"
        "        self._input.settled([record.offset for record in records])\n        if rows:\n",
        "A sink that dies in between has written no rows for records that never come again.", SINK_DIES,
    ),
    Mutant(
        "row without its effect key", SQLITE,
        "                if not self._file.add_effects(rows):\n", "                if not rows:\n",
        "A sink that dies before its records are finished writes their rows twice.", SINK_DIES,
    ),
)  # fmt: skip
