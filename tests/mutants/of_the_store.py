"""Mutants of what is built on the log: reading, the gate, work, strangers, and several writers at once."""

from __future__ import annotations

from mutants.mutant import (
    AUTHORITY,
    COMMIT,
    CONSUMERS,
    GROUP,
    IDS,
    LEARN,
    PROVING,
    QUEUE,
    RECORDS,
    RETENTION,
    TEST_COMMIT,
    TEST_FINISHING,
    TEST_GROUP,
    TEST_IDS,
    TEST_LEARNING,
    TEST_MIGRATION,
    TEST_PROOFS,
    TEST_RECORDS,
    TEST_REFUSALS,
    TEST_RENDER,
    TEST_STATEFUL,
    TEST_STRANGERS,
    TEST_SUBSCRIPTIONS,
    Mutant,
)

IDEM, EFFECTS = "grafctl/store/resources/idem.py", "grafctl/store/resources/effects.py"
TEST_IDEM = "tests/resources/test_idem.py"

OF_THE_STORE = (
    # --- reading
    Mutant(
        "digest of a block not checked", RECORDS,
        "    if verify_block and block and digest(block) != entry.block_digest:\n",
        "    if verify_block and block and not entry.block_digest:\n", "A flipped bit of a payload is served.",
        (TEST_RECORDS,),
    ),
    Mutant(
        "digest of a block not checked while learning", RECORDS,
        "    block = memoryview(raw)[at:]\n    if block and digest(block) != entry.block_digest:\n",
        "    block = memoryview(raw)[at:]\n    if block and not entry.block_digest:\n",
        "A flipped bit travels to a new replica and into a proof.", (TEST_LEARNING, TEST_PROOFS),
    ),
    Mutant(
        "checksum of a row not checked", RECORDS,
        "body if raw[: _ROW.size] == _ROW.pack(ROW_VERSION, crc32(body, crc32(key))) else None",
        "body if raw[0] == ROW_VERSION else None", "A flipped bit of the state is served.", (TEST_RECORDS,),
    ),
    Mutant(
        "mark of a dead copy taken for a copy", LEARN, "head.learning and head.tail > head.floor", "head.learning",
        "A domain keeps entries of the log that it was to forget.", (TEST_LEARNING,),
    ),
    Mutant(
        "chain not checked while learning", LEARN, "    if not follows(chain, raw):\n", "    if not raw:\n",
        "An entry of another history is learnt.", (TEST_LEARNING, TEST_PROOFS),
    ),
    # --- the gate
    Mutant(
        "no check of the placement", AUTHORITY, "    if asked.known and allowed:\n", "    if asked.known:\n",
        "A domain serves what it was never allowed.", (TEST_REFUSALS,),
    ),
    Mutant(
        "no check of the epoch", AUTHORITY, "asked.epoch < current:\n", "asked.epoch < 0:\n",
        "Who was fenced goes on.", (TEST_REFUSALS,),
    ),
    Mutant(
        "no check of the generation", AUTHORITY, "    if asked != current + 1:\n", "    if asked < current:\n",
        "Two changes of one generation both happen.", (TEST_REFUSALS, TEST_MIGRATION),
    ),
    Mutant(
        "no check of health", AUTHORITY, '    if status != "healthy":\n', "    if not status:\n",
        "A domain that is ill is given work.", (TEST_REFUSALS, TEST_MIGRATION),
    ),
    Mutant(
        "no check of the locator", AUTHORITY, '    if replica["state"] != "ready" and asked.op != CATCH_UP:\n',
        '    if replica["state"] == "gone":\n', "A replica serves before it has caught up.",
        (TEST_REFUSALS, TEST_MIGRATION),
    ),
    Mutant(
        "old proof", CONSUMERS,
        "        check_proof(state, self.resource, self.proof_id, self.claimed, self.members)\n", "",
        "A group moves to a copy that nobody has proven.", (TEST_PROOFS, TEST_MIGRATION),
    ),
    # --- work
    Mutant(
        "token of a lease not checked", "grafctl/store/resources/leases.py",
        "        if token is not None:\n            lease",
        "        if token == -1:\n            lease", "Who lost a lease finishes what another holds.",
        (TEST_GROUP, TEST_FINISHING),
    ),
    Mutant(
        "finalise twice", GROUP, "    rest = lineage.unfinished(ranges)\n    already", "    rest = ranges\n    already",
        "What is finished is finished again.", (TEST_GROUP, TEST_FINISHING),
    ),
    Mutant(
        "lease never ends", "grafctl/store/resources/leases.py",
        'if lease["until"] <= now_ms]\n', 'if lease["until"] < 0]\n',
        "What a dead consumer held is never given to another.", (TEST_GROUP,),
    ),
    Mutant(
        "shift starts at zero", CONSUMERS,
        "        start = lineage.floor if self.start is None else resolve_start(",
        "        start = 0 if self.start is None else resolve_start(",
        "A group that moves is given again what its lineage has finished.", (TEST_PROOFS, TEST_MIGRATION),
    ),
    Mutant(
        "filter of ids says no", IDS, "& mask == mask\n", "& mask == mask != 0 and place % 5 != 0\n",
        "An id that was published is published again.", (TEST_IDS, "tests/resources/test_id_rows.py"),
    ),
    Mutant(
        "filter of ids used where it is short", IDS, "        return self.low <= span.low and span.high <= self.high\n",
        "        return self.low <= span.low\n", "An id that was published is published again.",
        (TEST_IDS, "tests/resources/test_id_rows.py", "tests/store/test_known_ids.py"),
    ),
    Mutant(
        "other payload taken for the same", QUEUE,
        "            elif item is not None and held.fingerprint == item[size:]:\n",
        "            elif item is not None:\n", "Another payload under an old id is dropped in silence.",
        ("tests/resources/test_queue.py",),
    ),
    Mutant(
        "retention below what is retained", "grafctl/store/operations/retention.py",
        "    return min([committed.upto, *(index for index in kept if index is not None)])\n",
        "    return committed.upto\n", "Entries go whose records are still to be read.",
        ("tests/store/test_retention.py", TEST_STATEFUL),
    ),
    Mutant(
        "retention of one resource taken for all of its log", "grafctl/store/operations/retention.py",
        "    kept = [first_kept_index(scoped(state, number)) for number in numbers(state)]\n",
        "    kept = [first_kept_index(scoped(state, number)) for number in numbers(state)][:1]\n",
        "Entries go that another resource of the log still retains.", ("tests/store/test_shared_log.py",),
    ),
    Mutant(
        "retention below a group's floor", RETENTION, "        return min((lineage.floor for lineage in lineages",
        "        return max((lineage.floor for lineage in lineages",
        "A slow group never sees what a quick one has finished.", ("tests/store/test_retention.py",),
    ),
    Mutant(
        "retention takes from subscriptions unasked", RETENTION,
        '        if is_topic and (not lineages or queue.get("discard") == OLDEST):\n', "        if is_topic:\n",
        "A topic drops what a durable subscription has not finished.", (TEST_SUBSCRIPTIONS,),
    ),
    Mutant(
        "a loss that is not counted", RETENTION,
        '    for name in entry.request.get("lost", []):\n', "    for name in list[str]():\n",
        "A subscription waits for ever for what retention took, and nobody is told.", (TEST_SUBSCRIPTIONS,),
    ),
    # --- subscriptions
    Mutant(
        "what a filter leaves out is not finished", GROUP, '    lineage.skip(request.get("skipped", []))\n', "",
        "A subscription that wants little holds retention for ever.", (TEST_SUBSCRIPTIONS,),
    ),
    Mutant(
        "a judgement from another term", GROUP,
        '        if judged is None or judged[:2] != (group["filter"], context.config.term):\n',
        "        if judged is None:\n",
        "After a loss that an operator accepted, other records stand at these offsets.", (TEST_SUBSCRIPTIONS,),
    ),
    Mutant(
        "what nobody judged is left out", "grafctl/store/resources/delivery.py",
        "        return max(cursor, min(self.stop, stop)) if self.start <= cursor else cursor\n",
        "        return stop\n",
        "A record that was published after the look is finished unseen.", (TEST_SUBSCRIPTIONS,),
    ),
    Mutant(
        "what was refused is judged no more", "grafctl/store/operations/filtering.py",
        "    return Known(leased.cursor, None if is_refused else judged)\n",
        "    return Known(leased.cursor, judged)\n",
        "After an election a subscription gets nothing any more.", ("tests/store/test_subscriptions.py",),
    ),
    Mutant(
        "a poll that does not go on", "grafctl/store/operations/filtering.py",
        "        if leased.grants or not leased.is_behind or leased.cursor == before:\n", "        if True:\n",
        "What is wanted far on looks as if it were not there.", ("tests/store/test_subscriptions.py",),
    ),
    Mutant(
        "a filter that drops what it cannot judge", "grafctl/store/filters.py",
        "            return True\n", "            return False\n",
        "A record that is no JSON is dropped in silence.", ("tests/unit/test_filters.py",),
    ),
    # --- strangers
    Mutant(
        "files made for everybody", "grafctl/store/driver/private.py", "    return 0o660 if is_shared else 0o600\n",
        "    return 0o666 if is_shared else 0o644\n", "Everybody on the machine reads the records.", (TEST_STRANGERS,),
    ),
    Mutant(
        "links followed out of a store", "grafctl/store/driver/private.py", " | os.O_NOFOLLOW, mode_in", ", mode_in",
        "A store from a stranger has another file written to.", (TEST_STRANGERS,),
    ),
    Mutant(
        "pipes opened for files", "grafctl/store/driver/private.py",
        "        if not stat.S_ISREG(mode):\n", "        if not mode:\n",
        "A store from a stranger makes a command wait for ever.", (TEST_STRANGERS,),
    ),
    Mutant(
        "key that others may read", "grafctl/store/signing.py", "    if mode & _OTHERS:\n", "    if not mode:\n",
        "A signature no longer says who made it.", ("tests/unit/test_signing.py",),
    ),
    Mutant(
        "escapes reach the terminal", "grafctl/render.py", "    if text.isprintable():\n        return text\n",
        "    if text:\n        return text\n", "A payload moves the cursor of whoever looks at it.", (TEST_RENDER,),
    ),
    # --- several at once
    Mutant(
        "group commit answers all alike", COMMIT,
        "                member.outcome = outcome._replace(answer=answer, operation=operation_of(operation, place))\n",
        "                member.outcome = outcome._replace(answer=outcome.answer[0], operation=operation)\n",
        "A publisher is told the offset of another's record.", (TEST_COMMIT,),
    ),
    Mutant(
        "part of a group commit lost", COMMIT,
        "        joined = self._join([member.request for member in members])\n",
        "        joined = self._join([member.request for member in members[:-1]] + [members[0].request])\n",
        "A record is acknowledged that is in no entry.", (TEST_COMMIT,),
    ),
    Mutant(
        "places in a group commit mixed up", "grafctl/store/requests.py", "(_place(operation) + place).to_bytes(",
        "_place(operation).to_bytes(", "A retry is told the answer of another's record.",
        ("tests/unit/test_requests.py",),
    ),
    Mutant(
        "signals dropped", "grafctl/store/driver/signals.py", "            if _pending:\n                _deliver()\n",
        "            _pending.clear()\n", "Ctrl-C during a commit is swallowed.",
        ("tests/drivers/test_lmdb_processes.py", "tests/drivers/test_lmdb_accidents.py", "tests/cli/test_outcome.py"),
    ),
    Mutant(
        "proof computed from the source alone", PROVING,
        "        Ahead(_blocks(target, resource, checked), LINES_AHEAD) as others,\n",
        "        Ahead(_blocks(source, resource, checked), LINES_AHEAD) as others,\n",
        "A proof says that a damaged copy is whole.", (TEST_PROOFS,),
    ),
    Mutant(
        "state of the target not read for a proof", PROVING, "        read_back = theirs.content(target, resource)\n",
        "        read_back = theirs.content(source, resource)\n",
        "A proof covers groups and ids that nobody has compared.", (TEST_PROOFS,),
    ),
    Mutant(
        "no comparison of fingerprints", IDEM,
        "            if stored != self.fingerprint:\n", "            if False:\n",
        "Two payloads under one key: both are worked on.", (TEST_IDEM,),
    ),
    Mutant(
        "a completed key answers any payload", IDEM,
        "            if found.fingerprint != self.fingerprint[:DIGEST_BYTES]:\n", "            if False:\n",
        "The result of one payload is given for another.", (TEST_IDEM,),
    ),
    Mutant(
        "a live lease is taken over", IDEM,
        '            if there["until"] > context.now_ms:\n', "            if False:\n",
        "Two are at the same work at once.", (TEST_IDEM,),
    ),
    Mutant(
        "an old token completes", EFFECTS,
        '        if there is None or there["token"] != self.token:\n', "        if there is None:\n",
        "Somebody who was given up overwrites who came after.", (TEST_IDEM,),
    ),
    Mutant(
        "many at once compare no fingerprints", EFFECTS,
        "                (replayed if stored == fingerprint else conflicts).append(place)\n",
        "                replayed.append(place)\n",
        "Another definition of a stage counts as done.", (TEST_IDEM,),
    ),
    Mutant(
        "a live reservation expires", IDEM,
        '            if parse_json(body)["until"] <= cut:\n', "            if True:\n",
        "Work that goes on is done again.", (TEST_IDEM,),
    ),
    Mutant(
        "a schema that follows what comes back to itself", "grafctl/json_schema_rules.py",
        "        if id(schema) in path:\n", "        if False:\n",
        "A document ends each publish in a recursion.", ("tests/unit/test_json_schema.py",),
    ),
    Mutant(
        "repeats inside repeats", "grafctl/json_pattern.py",
        "        if repeated and not is_fixed:\n", "        if False:\n",
        "A record of thirty letters holds a publisher up for ages.", ("tests/unit/test_json_schema.py",),
    ),
    Mutant(
        "a schema that is not asked", "grafctl/store/operations/conforming.py",
        "    if not wrong:\n", "    if True:\n",
        "What nobody can read is published.", ("tests/store/test_schemas.py",),
    ),
)  # fmt: skip
