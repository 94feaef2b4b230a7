"""Mutants of stages behind a switch: where what they hold is ended, which may follow, and what is named after what."""

from __future__ import annotations

from mutants.mutant import Mutant

STAGES, SWITCHING = "grafctl/pipeline/stages", "grafctl/store/operations/switching"
READING, FOLLOWING = f"{STAGES}/reading.py", f"{STAGES}/following.py"
ROUTED, ATTACHING = f"{SWITCHING}/routed.py", f"{SWITCHING}/attaching.py"
GO, STAY = ("tests/pipeline/test_following.py",), ("tests/pipeline/test_not_following.py",)
KINDS = ("tests/store/test_switched_kinds.py",)

OF_SWITCHED_STAGES = (
    # --- where a lease is ended
    Mutant(
        "step in the stage's own group, wherever the lease is", READING,
        "self.lease, self.resource, self.group = delivery.lease, delivery.resource, delivery.group\n",
        "self.lease = delivery.lease\n",
        "Every step at the other output is refused, or finishes other records.", GO,
    ),
    Mutant(
        "what a sink has finished finished in its own group", READING,
        "held_at=(self.resource, self.group))", "held_at=None)",
        "Offsets of one output are finished at the other.", GO,
    ),
    Mutant(
        "offsets of the other output finished by a poll of this one", ROUTED,
        "    held = held_at or key\n", "    held = key\n",
        "Offsets of one output are finished at the other.", GO,
    ),
    Mutant(
        "a poll that takes any finished offsets along", ROUTED,
        "if finish and (route is None or (route.resource, route.group) != held):", "if finish and route is None:",
        "Offsets of the side that was closed are finished at the one that opened.", GO,
    ),
    Mutant(
        "a poll that forgets of which group it finishes", "grafctl/store/operations/polling.py",
        " and held_at in (None, (resource, group)):", ":",
        "Offsets of one output are finished at the other, where the way to it was forgotten.", GO,
    ),
    Mutant(
        "idle as soon as its own group is", READING,
        "    if not is_attached:\n        return is_done\n", "    return is_done\n",
        "A run until idle ends while the open output has more, or never.", GO,
    ),
    # --- who may follow
    Mutant(
        "every stage follows", FOLLOWING,
        "    if why is None or (resource, group) == (stage.input, stage.group):\n", "    if True:\n",
        "A step that the flip has cut has its effect a second time.", STAY,
    ),
    Mutant(
        "records judged by where the consumer is now", FOLLOWING,
        "    resource, group = at or (found.resource, found.group)\n",
        "    resource, group = found.resource, found.group\n",
        "A stage that slept works on records that it may not read.", STAY,
    ),
    Mutant(
        "refused records kept", READING,
        "                self.leave()\n                raise\n", "                raise\n",
        "What nobody may work on is leased until its time is over.", STAY,
    ),
    Mutant(
        "any logs taken for one", FOLLOWING,
        "for name in touched}) == 1:", "for name in touched}) >= 1:",
        "Outputs under other ids come a second time.", STAY,
    ),
    Mutant(
        "the other output's log not looked at", FOLLOWING,
        "touched = [*sides, *written,", "touched = [sides[0], *written,",
        "A step is no one entry there, and its outputs come a second time.", STAY,
    ),
    Mutant(
        "outputs named after ids that are not matched", FOLLOWING,
        '    if row["match"] != ID:\n', "    if False:\n", "Outputs under other ids come a second time.", STAY,
    ),
    Mutant(
        "outputs made of fields that may differ", FOLLOWING,
        '    if row["compare"]["fields"]:\n', "    if False:\n",
        "What was there already is refused when it comes again.", STAY,
    ),
    Mutant(
        "steps not looked into", FOLLOWING,
        "        if _is_named(name, stage.steps):\n", "        if False:\n",
        "The same record makes something else at the other output.", STAY,
    ),
    Mutant(
        "effect keys of ids that are not matched", FOLLOWING,
        'else {*UNCOMPARED, "_id"}', "else {*UNCOMPARED}", "A row is there twice, under two effect keys.", STAY,
    ),
    Mutant(
        "effect keys of offsets", FOLLOWING,
        "    return _apart((names | columns) & strange)\n", "    return _apart(columns & strange)\n",
        "A row is there twice, under two effect keys.", STAY,
    ),
    Mutant(
        "columns of offsets", FOLLOWING,
        "    return _apart((names | columns) & strange)\n", "    return _apart(names & strange)\n",
        "A row that is there is refused when its record comes again.", STAY,
    ),
    Mutant(
        "effect keys of fields that are equal and written otherwise", FOLLOWING,
        "        if own is None or names != {own}:\n", "        if False:\n",
        "A row is there twice, under two effect keys.", STAY,
    ),
    Mutant(
        "the first stage of a chain follows", FOLLOWING,
        "    if pipeline.chain_of(stage.name) is not None:\n", "    if False:\n",
        "The checkpoint of one output is taken for that of the other.", STAY,
    ),
    Mutant(
        "a stage that reads what it writes", FOLLOWING,
        "        if name in written:\n", "        if False:\n", "Records go round for ever.", STAY,
    ),
    Mutant(
        "at-most-once at one of two outputs", ATTACHING,
        "    if len(final) == 1:\n", "    if False:\n", "What a stage cannot work on is lost at one output.", KINDS,
    ),
    # --- what is named after what
    Mutant(
        "ids of other work taken for the same", READING,
        "        if record.id is None or self._is_by_place:\n", "        if record.id is None:\n",
        "An order is refused because another one has its id at the other output.", STAY,
    ),
    Mutant(
        "records named after the place of others", READING,
        "place_id(self.resource, record)", "place_id(self._own[0], record)",
        "A record without an id is refused, because another one stood there at the other output.", GO,
    ),
)  # fmt: skip
