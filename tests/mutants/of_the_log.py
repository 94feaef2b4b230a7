"""Mutants of what makes a log safe: what must be on the disk, the transactions, quorums and elections."""

from __future__ import annotations

from mutants.mutant import (
    DIRECTORY,
    ELECT,
    FILES,
    JOURNAL,
    JOURNAL_BYTES,
    LOG,
    OBSERVE,
    REPLICA,
    REPLICATE,
    RULES,
    TEST_COPY,
    TEST_DAMAGE,
    TEST_FLUSHES,
    TEST_JOURNAL,
    TEST_KILLS,
    TEST_LEARNING,
    TEST_OUTAGES,
    TEST_POWER,
    TEST_RULES,
    TEST_SIMULATION,
    TEST_STATEFUL,
    Mutant,
)

OF_THE_LOG = (
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
        "An old copy of the files that was put back is served as if it were new.", (TEST_JOURNAL, TEST_DAMAGE),
    ),
    Mutant(
        "end of a journal behind which nobody looks", JOURNAL,
        "        for begin in range(start, self.size, _READ_BYTES):\n",
        "        for begin in range(start, start + 1, _READ_BYTES):\n",
        "What was acknowledged after a changed record is gone, and nobody says so.", (TEST_DAMAGE,),
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
)  # fmt: skip
