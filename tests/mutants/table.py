"""The errors that the tests must catch: each is one piece of the product's text replaced by another.

`LISTED` says for each error of the protocol's own list what catches it: a mutant of the explorer
(`model/mutants.py`), or one of those below. `MUTANTS` are those in the product's code.

Promises
- Each old text occurs exactly once in its file, so a mutant cannot come to mean nothing (`test_mutants.py`).
- A mutant is caught by a test that fails, not by a file that no longer imports.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One error; `tests` are run one after another until one fails."""

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]


# Each error of the protocol's list, and who catches it: "model:" a mutant of the explorer, "product:" of here.
LISTED = {
    "acknowledge after the primary alone": (
        "model:acknowledge after the primary alone",
        "product:ack before the quorum",
    ),
    "backup before primary": ("model:backup before primary",),
    "no fence at the primary": ("model:no fence at the primary", "product:no fence at the primary"),
    "none at a backup": ("model:no fence at a backup", "product:no fence at a backup"),
    "no promise": ("model:no promise", "product:promise not durable"),
    "longest log": ("model:longest log", "product:longest log"),
    "counting old-term entries": ("model:counting entries of an old term", "product:old-term entries counted"),
    "non-unique terms": ("model:terms not unique", "product:terms not unique"),
    "no idempotency": ("model:no idempotency", "product:no search for the operation key"),
    "certify too early": ("model:certify too early",),
    "no joint quorum": ("model:no joint quorum", "product:no joint quorum"),
    "lock-all": ("test:model/test_model.py::test_locking_a_majority_without_promises_loses_an_acknowledged_record",),
    "a wiped voter keeping its vote": ("model:wiped voter keeps its vote", "product:a wiped voter keeps its vote"),
    "answer from uncommitted state": ("model:refuse from uncommitted state", "product:ack before the quorum"),
    "shift on a proof of an older generation": ("model:shift on a proof of an older generation", "product:old proof"),
    "a revoked grant honoured late": ("model:revoked grant honoured late", "product:no check of the placement"),
}
NOT_BUILT = {"a seal that does not stop writers": "vshards and their seals are not built yet"}

RULES, REPLICA, REPLICATE = "grafctl/store/rules.py", "grafctl/store/replica/replica.py", "grafctl/store/replicate.py"
LOG, ELECT, LEARN = "grafctl/store/log.py", "grafctl/store/elect.py", "grafctl/store/learn.py"
RECORDS, AUTHORITY, FILES = "grafctl/store/records.py", "grafctl/store/authority.py", "grafctl/store/files.py"
JOURNAL, JOURNAL_BYTES = "grafctl/store/driver/journal.py", "grafctl/store/driver/journal_bytes.py"
DIRECTORY, GROUP = "grafctl/store/driver/lmdb_directory.py", "grafctl/store/resources/group.py"
CONSUMERS, QUEUE = "grafctl/store/resources/consumers.py", "grafctl/store/resources/queue.py"
COMMIT, IDS = "grafctl/store/group_commit.py", "grafctl/store/resources/id_filters.py"
PROVING, OBSERVE = "grafctl/store/operations/proving.py", "grafctl/store/observe.py"

TEST_RULES, TEST_RECORDS = "tests/unit/test_rules.py", "tests/unit/test_records.py"
TEST_JOURNAL, TEST_POWER = "tests/drivers/test_journal.py", "tests/drivers/test_power_loss.py"
TEST_REFUSALS, TEST_PROOFS = "tests/store/test_refusals.py", "tests/store/test_proofs.py"
TEST_MIGRATION, TEST_LEARNING = "tests/store/test_migration.py", "tests/store/test_learning.py"
TEST_GROUP, TEST_FINISHING = "tests/resources/test_group.py", "tests/resources/test_finishing.py"
TEST_COMMIT, TEST_IDS = "tests/store/test_group_commit.py", "tests/resources/test_ids.py"
TEST_FLUSHES, TEST_STATEFUL = "tests/store/test_flushes.py", "tests/stateful"
TEST_COPY, TEST_SIMULATION = "tests/store/test_copying.py", "tests/simulation"
TEST_STRANGERS, TEST_RENDER = "tests/fuzz/test_strangers.py", "tests/cli/test_render.py"
TEST_OUTAGES, TEST_KILLS = "tests/faults/test_outages.py", "tests/faults/test_kill_sweep.py"

MUTANTS = (
    # --- what must be on the disk
    Mutant(
        "journal not flushed", JOURNAL, "            os.fdatasync(self._fd)\n", "            os.fstat(self._fd)\n",
        "A power loss takes what was acknowledged.", (TEST_FLUSHES, TEST_JOURNAL, TEST_POWER),
    ),
    Mutant(
        "store.toml not flushed", FILES,
        "            os.fsync(handle)\n        finally:\n            os.close(handle)\n        temporary",
        "            os.fstat(handle)\n        finally:\n            os.close(handle)\n        temporary",
        "A power loss leaves an empty file under the name of the store.", (TEST_FLUSHES,),
    ),
    Mutant(
        "rename of store.toml not flushed", FILES, "        sync_path(path.parent)\n    except OSError as error:\n",
        "    except OSError as error:\n",
        "A power loss takes a domain away that was acknowledged.", (TEST_FLUSHES,),
    ),
    Mutant(
        "new domain not flushed", DIRECTORY,
        "    for path in (*inside, files.env, files.directory):\n        sync_path(path)\n",
        "    for path in (*inside, files.env, files.directory):\n        os.stat(path)\n",
        "A power loss leaves half a domain under its name.", (TEST_FLUSHES,),
    ),
    Mutant(
        "rename of a domain not flushed", DIRECTORY,
        "        sync_path(os.path.dirname(files.directory))\n", "        os.stat(os.path.dirname(files.directory))\n",
        "A power loss takes a domain away whose voter was counted.", (TEST_FLUSHES,),
    ),
    Mutant(
        "a part written for the whole", FILES, "            write_whole(handle, data)\n",
        "            os.write(handle, data)\n",
        "On a disk that fills up, a part of store.toml takes the place of the whole.",
        ("tests/faults/test_system_calls.py::test_what_was_found_stays_mended",),
    ),
    Mutant(
        "records of an older term delivered", "grafctl/store/operations/polling.py",
        "if head.learning or head.acc < outcome.term or head.tail < outcome.tail:", "if head.learning:",
        "A consumer gets a record that was never committed.", (TEST_OUTAGES,),
    ),
    Mutant(
        "an operation key taken for other records", "grafctl/store/resources/recalling.py",
        "            if at == stop or not _is_same(record, stored[at - first]):\n", "            if at == stop:\n",
        "Records are said to be stored that are not.", ("tests/resources/test_recalling.py",),
    ),
    Mutant(
        "backup of what was settled with others", "grafctl/store/operations/backup.py",
        "        if settled is not None and committed.upto >= settled:\n", "        if settled is not None:\n",
        "A backup lacks what was acknowledged before it began.", ("tests/store/backup/test_backup.py",),
    ),
    Mutant(
        "spool taken from under a writer", "grafctl/store/spool.py",
        "        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "",
        "An audit record is lost between two processes.", ("tests/store/test_spool.py",),
    ),
    Mutant(
        "fenced members counted for an entry", RULES,
        "        return 0 < len(left) < len(config.voters) and left.issubset(members)\n",
        "        return 0 < len(left) < len(config.voters) and bool(left.intersection(members))\n",
        "A committed START of a repair is lost.", ("tests/model/test_model.py",),
    ),
    Mutant(
        "mark of the journal ignored", JOURNAL,
        "            raise self.lacks(marked, overlay.number)\n", "            pass\n",
        "An old copy of the files that was put back is served as if it were new.", (TEST_JOURNAL,),
    ),
    Mutant(
        "torn record of the journal believed", JOURNAL_BYTES, "crc32(raw[12:at]) == checksum else None",
        "size else None",
        "Half a commit counts after a power loss.", (TEST_JOURNAL, "tests/fuzz/test_decoders.py", TEST_POWER),
    ),
    Mutant(
        "record of another history believed", JOURNAL_BYTES, " and its_previous == previous", "",
        "What was never flushed counts behind a gap.", (TEST_POWER, TEST_JOURNAL, "tests/fuzz/test_decoders.py"),
    ),
    # --- the four transactions
    Mutant(
        "lost undo", REPLICA, "        if before and keep_undo:\n",
        "        if before and keep_undo is None:\n",
        "A tail that is cut leaves its effect in the tables.",
        (TEST_COPY, TEST_OUTAGES, TEST_STATEFUL, TEST_SIMULATION),
    ),
    Mutant(
        "pre-images of absent rows lost", REPLICA, "            if old is None:\n",
        "            if old is None and not row:\n",
        "What an undone entry had made stays.", (TEST_COPY, TEST_OUTAGES, TEST_STATEFUL, TEST_SIMULATION),
    ),
    Mutant(
        "ack before the quorum", LOG, "        self._commit(attempt, lead, tail, done.fresh if done else None)\n", "",
        "An answer leaves before its entry is committed.", ("tests/store/test_quorum.py", TEST_OUTAGES),
    ),
    Mutant(
        "no fence at the primary", RULES, "            and head.promised == head.acc\n", "",
        "A late writer appends after a newer term was promised.", (TEST_RULES,),
    ),
    Mutant(
        "no fence at a backup", RULES, "        return head.promised <= term\n", "        return True\n",
        "A copy of an old term overwrites a newer one.", (TEST_RULES,),
    ),
    Mutant(
        "promise twice", RULES, "        return head.promised < term\n", "        return head.promised <= term\n",
        "Two electors lead one term.", (TEST_RULES,),
    ),
    Mutant(
        "promise not durable", ELECT, '        replica.save()\n        point("promise.before")\n',
        '        point("promise.before")\n',
        "A term is promised and forgotten.", (TEST_COPY, TEST_OUTAGES, TEST_SIMULATION),
    ),
    Mutant(
        "start on another log than was compared", RULES, "head.promised == term and head.tail == promised_tail and not",
        "head.promised == term and not", "A term begins on a log that is not the best.", (TEST_RULES,),
    ),
    Mutant(
        "copy cuts what is committed", RULES,
        "        return match >= head.commit and (head.acc != term or match >= head.tail)\n",
        "        return True\n", "An old copy of the primary takes acknowledged entries from a backup.",
        (TEST_RULES, TEST_COPY),
    ),
    Mutant(
        "chain not checked by a copy", REPLICATE, "        if not follows(chain, raw):\n", "        if not raw:\n",
        "A damaged entry travels to the other domains.", (TEST_COPY, TEST_SIMULATION),
    ),
    Mutant(
        "source of a copy has moved on", REPLICATE,
        "                if primary.acc != lead.term:\n                    raise Moved(lead.term)\n",
        "", "Entries of another term are taken for those of this one.", (TEST_COPY,),
    ),
    Mutant(
        "fresh entry taken on another log", REPLICATE, "head.tail == fresh.at and target.row.chain == fresh.previous",
        "head.tail == fresh.at", "An entry lies on a log that it does not follow.",
        (TEST_COPY, TEST_OUTAGES, TEST_SIMULATION),
    ),
    Mutant(
        "old-term entries counted", RULES, "        return config.at  # reached", "        return -1  # reached",
        "An entry counts as committed that an election may still drop.", (TEST_RULES,),
    ),
    Mutant(
        "old term taken for this one", REPLICATE,
        "    return head.tail if head.acc == lead.term and not head.learning else -1\n",
        "    return head.tail if not head.learning else -1\n",
        "A backup is counted for entries that it does not hold.", (TEST_COPY, TEST_OUTAGES, TEST_SIMULATION),
    ),
    Mutant(
        "learner counted", REPLICATE, "    return head.tail if head.acc == lead.term and not head.learning else -1\n",
        "    return head.tail if head.acc == lead.term else -1\n",
        "Half a copy is counted as a whole one.", (TEST_LEARNING, TEST_COPY),
    ),
    Mutant(
        "log of a learner compared", ELECT, "if not head.learning else ((0, 0), 0)",
        "if head.tail >= 0 else ((0, 0), 0)",
        "A replica that is being filled is elected.", (TEST_LEARNING, TEST_COPY, TEST_SIMULATION),
    ),
    Mutant(
        "commit point not kept by a copy", REPLICATE, "    target.advance_commit(commit)\n\n\ndef _take(",
        "\n\ndef _take(",
        "The replica that completes a quorum does not know it.", (TEST_COPY, "tests/store/test_one_commit.py"),
    ),
    Mutant(
        "no search for the operation key", LOG,
        "        found = writer.find_operation(attempt.operation, attempt.hint)\n",
        "        found = None\n", "A try whose outcome is unknown is written twice.",
        (TEST_OUTAGES, TEST_KILLS, TEST_SIMULATION),
    ),
    Mutant(
        "leftovers of anybody taken for a restore's own", "grafctl/nouns/backups.py",
        "    return found is not None and found[:3] == (store, domain, place.incarnation)\n",
        "    return found is not None\n", "A restore removes a domain of another store.",
        ("tests/store/backup/test_restore.py::test_a_restore_never_takes_away_what_bears_another_identity",),
    ),
    Mutant(
        "an operation key believed unchecked", REPLICA, "            if chain is None or not follows(chain, raw):\n",
        "            if chain is None:\n", "A flipped bit in a key makes another try publish again.",
        ("tests/store/test_one_damaged.py::test_a_damaged_operation_key_publishes_nothing_twice",),
    ),
    # --- quorums and elections
    Mutant(
        "quorum off by one", RULES, "        return durable >= config.write_size and",
        "        return durable >= config.write_size - 1 and",
        "One copy too few is acknowledged.", (TEST_RULES,),
    ),
    Mutant(
        "election quorum off by one", RULES, ">= config.election_size\n", ">= config.election_size - 1\n",
        "An election misses what was acknowledged.", (TEST_RULES,),
    ),
    Mutant(
        "payload copies not counted", RULES, " and payload >= config.payload_size\n", "\n",
        "A record is acknowledged whose payload nobody has twice.", (TEST_RULES,),
    ),
    Mutant(
        "witness chosen as primary", RULES,
        "        holders = [promise for promise in promises if not promise.witness]\n",
        "        holders = list(promises)\n", "A primary leads that has no payloads.", (TEST_RULES,),
    ),
    Mutant(
        "longest log", RULES, "        return (promise.acc, promise.tail)\n",
        "        return ((promise.tail, 0), promise.acc[0])\n",
        "A long log of an old term wins.", (TEST_RULES,),
    ),
    Mutant(
        "terms not unique", RULES, "default=0) + 1, uid)\n", "default=0) + 1, 0)\n",
        "Two electors make the same term.", (TEST_RULES,),
    ),
    Mutant(
        "no joint quorum", RULES, "            force.append(older)\n", "            pass\n",
        "A change of voters forgets the old set before the new one is committed.", (TEST_RULES,),
    ),
    Mutant(
        "a wiped voter keeps its vote", RULES, "            if (domain, incarnation) in members:\n",
        "            if domain in {member[0] for member in members}:\n",
        "A domain that was made anew is counted as the one it was.", (TEST_RULES,),
    ),
    Mutant(
        "another life of a domain opened", "grafctl/store/driver/lmdb_files.py",
        "    if expected.incarnation and found.incarnation != expected.incarnation:\n",
        "    if not found.incarnation:\n",
        "An environment that was made anew is opened as the old one.",
        ("tests/drivers/test_lmdb_file.py", "tests/drivers/test_lmdb.py"),
    ),
    Mutant(
        "memory of peers ignored", OBSERVE, "        if RULES.is_rolled_back(memory, sight.head):\n",
        "        if not memory:\n",
        "A domain of which an old copy was put back votes.", (TEST_COPY, TEST_SIMULATION),
    ),
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
        "version == ROW_VERSION and crc32(body, crc32(key)) == checksum else None",
        "version == ROW_VERSION else None", "A flipped bit of the state is served.", (TEST_RECORDS,),
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
        "        start = lineage.floor if self.start is None else resolve_start(queue, self.start)\n",
        "        start = 0 if self.start is None else resolve_start(queue, self.start)\n",
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
        "        floor = committed.upto if kept is None else min(kept, committed.upto)\n",
        "        floor = committed.upto\n", "Entries go whose records are still to be read.",
        ("tests/store/test_retention.py", TEST_STATEFUL),
    ),
    Mutant(
        "retention below a group's floor", QUEUE, "            if last > min(floors) or not",
        "            if last > max(floors) or not",
        "A slow group never sees what a quick one has finished.", ("tests/store/test_retention.py",),
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
)  # fmt: skip
