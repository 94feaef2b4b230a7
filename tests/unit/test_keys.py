"""Keys: byte order is the order of the parts, no name reaches into another's range, foreign keys are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Corrupt
from grafctl.names import NAME_CHARACTERS_MAX
from grafctl.store import keys
from grafctl.store.driver.contract import KEY_BYTES_MAX

LOGS = st.binary(min_size=8, max_size=8)
NUMBERS = st.integers(0, keys.U64_MAX - 1) | st.integers(0, 600)
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,6}\Z") | st.sampled_from(["a", "a-", "a.b", "a0", "b", "ab"])
DOMAINS = st.sampled_from(["aws", "aws/us-east-1", "aws/us-east-10", "aws-2", "gcp/eu/a", "gcp/eu"])
LOG = bytes(range(8))


def within(span: tuple[bytes, bytes], key: bytes) -> bool:
    return span[0] <= key < span[1]


@given(st.lists(st.tuples(LOGS, NUMBERS), min_size=2))
def test_indexed_keys_sort_like_their_parts(parts: list[tuple[bytes, int]]) -> None:
    for shape in (keys.config, keys.entry, keys.undo):
        assert sorted(shape(*part) for part in parts) == [shape(*part) for part in sorted(parts)]


@given(st.lists(st.tuples(LOGS, NUMBERS, st.tuples(NUMBERS, NUMBERS)), min_size=2))
def test_quarantine_keys_sort_like_their_parts(parts: list[tuple[bytes, int, tuple[int, int]]]) -> None:
    assert sorted(keys.quarantine(*part) for part in parts) == [keys.quarantine(*part) for part in sorted(parts)]


@given(st.lists(NUMBERS, min_size=2))
def test_rows_of_numbers_sort_like_numbers(numbers: list[int]) -> None:
    for shape in (keys.block, keys.locator_generation):
        assert sorted(map(shape, numbers)) == list(map(shape, sorted(numbers)))


@given(st.lists(st.tuples(NAMES, NUMBERS), min_size=2))
def test_rows_of_name_and_number_sort_like_tuples(parts: list[tuple[str, int]]) -> None:
    for shape in (keys.lease, keys.dead):
        assert sorted(shape(*part) for part in parts) == [shape(*part) for part in sorted(parts)]


@given(st.lists(NAMES, min_size=2))
def test_rows_of_names_sort_like_names(names: list[str]) -> None:
    for shape in (keys.group, keys.lineage, keys.resource, keys.authority, keys.proof):
        assert sorted(map(shape, names)) == list(map(shape, sorted(names)))


@given(NAMES, NAMES, NUMBERS)
def test_the_range_of_a_lineage_holds_its_rows_and_no_others(mine: str, other: str, number: int) -> None:
    for shape, span in ((keys.lease, keys.leases), (keys.dead, keys.dead_letters)):
        assert within(span(mine), shape(mine, number))
        assert within(span(mine), shape(other, number)) == (mine == other)


@given(LOGS, LOGS, NUMBERS, NAMES)
def test_the_ranges_of_a_log_hold_its_keys_and_no_others(mine: bytes, other: bytes, index: int, name: str) -> None:
    assert within(keys.configs(mine), keys.config(other, index)) == (mine == other)
    assert within(keys.quarantines(mine), keys.quarantine(other, index, (1, 2))) == (mine == other)
    assert within(keys.states(mine), keys.state(other, keys.group(name))) == (mine == other)
    assert within(keys.entries(mine, 0, keys.U64_MAX), keys.entry(other, index)) == (mine == other)
    assert within(keys.undos(mine, 0, keys.U64_MAX), keys.undo(other, index)) == (mine == other)
    assert within(keys.heads(), keys.head(mine))
    assert not within(keys.heads(), keys.config(mine, index))


@pytest.mark.parametrize("log", [b"\xff" * 8, b"\0" * 8, b"\0" * 7 + b"\xff", b"\xff" * 7 + b"\0"])
def test_a_log_at_the_edge_of_the_bytes_has_a_range_of_its_own(log: bytes) -> None:
    following = (int.from_bytes(log, "big") + 1) % (1 << 64)
    for other in {following.to_bytes(8, "big"), b"\0" * 8, b"\xff" * 8} - {log}:
        assert not within(keys.states(log), keys.state(other, b""))
    assert within(keys.states(log), keys.state(log, b"\xff" * 20))
    assert not within(keys.states(log), b"\x31" + b"\0" * 20)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_ranges_are_half_open(start: int, stop: int, number: int) -> None:
    assert within(keys.blocks(start, stop), keys.block(number)) == (start <= number < stop)
    assert within(keys.entries(LOG, start, stop), keys.entry(LOG, number)) == (start <= number < stop)
    assert within(keys.undos(LOG, start, stop), keys.undo(LOG, number)) == (start <= number < stop)


TABLES = {
    "locator history": (keys.locator_history(), [keys.locator_generation(0), keys.locator_generation(9)]),
    "proofs": (keys.proofs(), [keys.proof("prf_0"), keys.proof("z")]),
    "ids": (
        keys.ids(),
        [keys.id_directory(), keys.id_records(0), keys.id_items(9, b"\xff" * 16), keys.id_filter(9, 9)],
    ),
    "groups": (keys.groups(), [keys.group("a"), keys.group("z")]),
    "lineages": (keys.lineages(), [keys.lineage("a"), keys.lineage("z")]),
    "leases": (keys.all_leases(), [keys.lease("a", 0), keys.lease("z", keys.U64_MAX)]),
    "dead letters": (keys.all_dead_letters(), [keys.dead("a", 0), keys.dead("z", keys.U64_MAX)]),
    "blocks": (keys.blocks(0), [keys.block(0), keys.block(1 << 40)]),
    "resources": (keys.resources(), [keys.resource("a")]),
    "authorities": (keys.authorities(), [keys.authority("a")]),
    "observations": (keys.observations(), [keys.observation("aws/x")]),
    "one row": ((b"\0\0L", b"\0\0M"), [keys.locator()]),
    "queue": ((b"\0\1Q", b"\0\1R"), [keys.queue()]),
    "counters": ((b"\0\1C", b"\0\1D"), [keys.audit_counters()]),
    "refusals": ((b"\0\1U", b"\0\1V"), [keys.refusal(bytes(16))]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_holds_its_own_rows_alone(name: str) -> None:
    for other, (_, rows) in TABLES.items():
        for row in rows:
            assert within(TABLES[name][0], row) == (other == name), (other, row)


@given(LOGS, NUMBERS)
def test_what_is_parsed_is_what_was_joined(log: bytes, number: int) -> None:
    assert keys.parse_head(keys.head(log)) == log
    for shape in (keys.config, keys.entry, keys.undo):
        assert keys.parse_index(shape(log, number)) == number
    assert keys.parse_index(keys.quarantine(log, number, (7, 8))) == number
    assert keys.parse_block(keys.block(number)) == number
    assert keys.last_u64(keys.lease("name", number)) == keys.last_u64(keys.dead("name", number)) == number


FOREIGN = [b"", b"\x10", keys.head(LOG) + b"\0", keys.seen(LOG, "aws/us-east-1"), keys.state(LOG, keys.queue())]
FOREIGN += [keys.state(LOG, keys.block(3)), keys.entry(LOG, 1)[:-1], keys.entry(LOG, 1) + b"\0", b"\x40" * 17]
FOREIGN += [keys.quarantine(LOG, 1, (1, 1))[:-1], b"\x01identity"]


@pytest.mark.parametrize("key", FOREIGN, ids=bytes.hex)
def test_foreign_keys_are_refused(key: bytes) -> None:
    with pytest.raises(Corrupt):
        keys.parse_index(key)
    with pytest.raises(Corrupt):
        keys.parse_head(key)


def test_a_head_has_no_index_and_an_entry_is_no_head() -> None:
    with pytest.raises(Corrupt):
        keys.parse_index(keys.head(LOG))
    with pytest.raises(Corrupt):
        keys.parse_head(keys.entry(LOG, 1))


def test_the_longest_names_fit() -> None:
    name, domain = "n" * NAME_CHARACTERS_MAX, "/".join(["d" * 63] * 3)
    rows = [keys.lease(name, 1), keys.dead(name, 1), keys.group(name), keys.resource(name), keys.authority(name)]
    rows += [
        keys.observation(domain),
        keys.proof("prf_" + "0" * 24),
        keys.id_items(1, bytes(16)),
        keys.refusal(bytes(16)),
    ]
    for key in [keys.state(LOG, row) for row in rows] + [keys.seen(LOG, domain), keys.quarantine(LOG, 1, (1, 1))]:
        assert len(key) <= KEY_BYTES_MAX
