"""What one mutant is, and the files and tests that many of them name."""

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


RULES, REPLICA, REPLICATE = "grafctl/store/rules.py", "grafctl/store/replica/replica.py", "grafctl/store/replicate.py"
LOG, ELECT, LEARN = "grafctl/store/log.py", "grafctl/store/elect.py", "grafctl/store/learn.py"
RECORDS, AUTHORITY, FILES = "grafctl/store/records.py", "grafctl/store/authority.py", "grafctl/store/files.py"
JOURNAL, JOURNAL_BYTES = "grafctl/store/driver/journal.py", "grafctl/store/driver/journal_bytes.py"
DIRECTORY, GROUP = "grafctl/store/driver/lmdb_directory.py", "grafctl/store/resources/group.py"
RETENTION, TEST_SUBSCRIPTIONS = "grafctl/store/resources/retention.py", "tests/resources/test_subscriptions.py"
CONSUMERS, QUEUE = "grafctl/store/resources/consumers.py", "grafctl/store/resources/queue.py"
COMMIT, IDS = "grafctl/store/group_commit.py", "grafctl/store/resources/id_filters.py"
PROVING, OBSERVE = "grafctl/store/operations/proving.py", "grafctl/store/observe.py"

TEST_RULES, TEST_RECORDS = "tests/unit/test_rules.py", "tests/unit/test_records.py"
TEST_JOURNAL, TEST_POWER = "tests/drivers/test_journal.py", "tests/drivers/test_power_loss.py"
TEST_DAMAGE = "tests/drivers/test_journal_damage.py"
TEST_REFUSALS, TEST_PROOFS = "tests/store/test_refusals.py", "tests/store/test_proofs.py"
TEST_MIGRATION, TEST_LEARNING = "tests/store/test_migration.py", "tests/store/test_learning.py"
TEST_GROUP, TEST_FINISHING = "tests/resources/test_group.py", "tests/resources/test_finishing.py"
TEST_COMMIT, TEST_IDS = "tests/store/test_group_commit.py", "tests/resources/test_ids.py"
TEST_FLUSHES, TEST_STATEFUL = "tests/store/test_flushes.py", "tests/stateful"
TEST_COPY, TEST_SIMULATION = "tests/store/test_copying.py", "tests/simulation"
TEST_STRANGERS, TEST_RENDER = "tests/fuzz/test_strangers.py", "tests/cli/test_render.py"
TEST_OUTAGES, TEST_KILLS = "tests/faults/test_outages.py", "tests/faults/test_kill_sweep.py"
