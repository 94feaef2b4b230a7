"""Declared stores: what a good file means, every problem of a bad one with its line, and any text at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from declared_store import parse, problems
from hypothesis import given
from hypothesis import strategies as st

from grafctl.declare import store as declare
from grafctl.declare.document import FILE_BYTES_MAX
from grafctl.declare.table import Table
from grafctl.errors import InvalidConfig, NotFound, Usage
from grafctl.store import signing

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("/folder")

HEAD = """\
[[domain]]
name = "aws"

[[domain]]
name = "gcp"

[[queue]]
name = "orders"
replicas = { a = "aws", g = "gcp" }
"""


# --- good files


def test_the_example_is_what_the_runbook_types() -> None:
    found = declare.read(ROOT / "examples" / "provider-migration.toml")
    assert found.domains == {"aws/us-east-1/us-east-1a": None, "gcp/us-central1": None}
    assert not found.authorities
    (queue,) = found.resources
    assert (queue.name, queue.schema, queue.ack) == ("migration-orders", "migration-work.v1", "majority")
    assert [(item["id"], item["domain"], item["role"]) for item in queue.replicas] == [
        ("orders-aws-a", "aws/us-east-1/us-east-1a", "voter"),
        ("orders-gcp-central", "gcp/us-central1", "voter"),
    ]
    assert (queue.placement.allow, queue.placement.deny) == (("aws", "gcp"), ())
    (group,) = queue.groups
    assert (group.name, group.semantics, group.start) == ("active-workers", "effectively-once", "earliest")
    assert (group.placement.allow, group.max_deliveries) == (("aws", "gcp"), None)


def test_what_the_example_leaves_out_is_good_too() -> None:
    """The lines that wait in comments of the example are read once their # is taken away."""
    keys = ("[[", "name =", "path =", "public_key =", "retain_", "max_deliveries =")
    lines = (ROOT / "examples" / "provider-migration.toml").read_text().splitlines()
    bare = [line[2:] if line.startswith("# ") and line[2:].startswith(keys) else line for line in lines]
    found = parse("\n".join(bare))
    assert list(found.domains) == ["aws/us-east-1/us-east-1a", "gcp/us-central1", "azure/eastus"]
    assert found.domains["aws/us-east-1/us-east-1a"] == Path("/mnt/disk-a/aws")
    assert found.authorities == {"scheduler-a": FOLDER / "scheduler-a.pub"}
    assert found.resources[0].retain_age_ms == 7 * 86_400_000
    assert found.resources[0].retain_bytes == 10 * 10**9
    assert found.resources[0].groups[0].max_deliveries == 5


def test_what_is_left_out_has_the_defaults_of_the_commands() -> None:
    (queue,) = parse(HEAD + '[[queue.group]]\nname = "g"\nallow = ["aws"]\n').resources
    assert (queue.schema, queue.ack, queue.min_payload, queue.retain_age_ms, queue.retain_bytes) == (
        *(None, "majority", None, None, None),
    )
    assert queue.groups[0].semantics == "at-least-once" and queue.groups[0].start == "earliest"
    assert parse("[store]\n" + HEAD).resources == parse(HEAD).resources


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ('ack = "all"', "ack", "all"),
        ("ack = 2", "ack", "2"),
        ('ack = "2"', "ack", "2"),
        ("min_payload = 2", "min_payload", 2),
        ('retain_age = "1.5h"', "retain_age_ms", 5_400_000),
        ('retain_age = "500ms"', "retain_age_ms", 500),
        ("retain_bytes = 4096", "retain_bytes", 4096),
        ('retain_bytes = "64MiB"', "retain_bytes", 64 << 20),
        ('retain_bytes = "1.5kB"', "retain_bytes", 1500),
        ('compression = "zstd"', "compression", "zstd"),
        ('schema = "order.v1"', "schema", "order.v1"),
    ],
)
def test_values_of_a_queue(line: str, field: str, value: object) -> None:
    assert getattr(parse(HEAD + line).resources[0], field) == value


@pytest.mark.parametrize("start", ['"latest"', '"17"', "17", "0", '"2h"', '"2026-01-31T12:00:00Z"'])
def test_values_of_start(start: str) -> None:
    (queue,) = parse(HEAD + f'[[queue.group]]\nname = "g"\nallow = ["aws"]\nstart = {start}\n').resources
    assert queue.groups[0].start == start.strip('"')


def test_roles_and_ids_with_dots() -> None:
    text = HEAD.replace("{ a =", '{ w = "aws/w:witness", "a.1" =').replace(
        "[[queue]]", '[[domain]]\nname = "aws/w"\n[[queue]]'
    )
    assert [(item["id"], item["role"]) for item in parse(text).resources[0].replicas] == [
        *(("w", "witness"), ("a.1", "voter"), ("g", "voter")),
    ]


def test_a_file_with_a_missing_key_and_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "store.toml"
    file.write_text('[[domain]]\nname = "aws"\n[[authority]]\nname = "s"\npublic_key = "keys/s.pub"\n')
    with pytest.raises(InvalidConfig) as caught:
        declare.read(file)
    assert caught.value.problems[0][0] == 5 and "There is no file" in caught.value.problems[0][1]
    (tmp_path / "keys").mkdir()
    signing.generate("s", tmp_path / "keys")
    assert declare.read(file).authorities == {"s": tmp_path / "keys" / "s.pub"}
    file.write_text(file.read_text().replace("s.pub", "s.key"))
    with pytest.raises(InvalidConfig, match="1 problem") as caught:
        declare.read(file)
    assert "other half" in caught.value.problems[0][1]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(NotFound, match="cannot be read"):
            declare.read(path)


# --- bad files

BAD: list[tuple[str | bytes, int, str]] = [
    ("", 1, "declares no [[domain]]"),
    ("domain = []", 1, "declares no [[domain]]"),
    ("\n\n[[domain]\nname = 1", 3, "This is not TOML"),
    ('[[domain]]\nname = "aws', 2, "This is not TOML"),
    (b'[[domain]]\nname = "a\xff"', 2, "not UTF-8"),
    ("a = " + "[" * 5000, 1, ""),
    ("a = " + "9" * 5000, 1, "This is not TOML"),
    (b"#" * (FILE_BYTES_MAX + 1), 1, "longer than 1 MiB"),
    ('domain = "aws"', 1, "domain of The file is written as [[domain]], not text"),
    ('domain = ["aws"]', 1, "written as [[domain]], and holds text"),
    ('[domain]\nname = "aws"', 1, "written as [[domain]], not a table"),
    ("[[domain]]\n\n# no name", 1, "[[domain]] has no name"),
    ("[[domain]]\nname = 3", 2, "name of [[domain]] is text, not a number"),
    ("[[domain]]\nname = true", 2, "not true or false"),
    ("[[domain]]\nname = 1979-05-27", 2, "not a date or time"),
    ('[[domain]]\nname = ""', 2, "no failure domain"),
    ('[[domain]]\nname = "aws/"', 2, "no failure domain"),
    ('[[domain]]\nname = "AWS"', 2, "Write provider"),
    ('[[domain]]\nname = "aws"\npath = ""', 3, "is not a path"),
    ('[[domain]]\nname = "aws"\npath = "a\\u0000b"', 3, "is not a path"),
    ('[[domain]]\nname = "aws"\nptah = "x"', 3, "domain 'aws' has no key 'ptah'; did you mean path?"),
    ('[[domain]]\nname = "aws"\n[[domain]]\nname = "aws"', 4, "another domain 'aws' before this one"),
    ('[[domain]]\nname = "a"\npath = "x"\n[[domain]]\nname = "b"\npath = "x"', 1, "Two domains have one path"),
    ("[[authority]]\nname = 'a'\n" + HEAD, 1, "authority 'a' has no public_key"),
    ("[[authority]]\nname = 'a/b'\npublic_key = 'x'\n" + HEAD, 2, "no name for an authority"),
    ("[store]\npath = 'x'\n" + HEAD, 2, "[store] has no key 'path'; it takes no key"),
    ("store = 3\n" + HEAD, 1, "store of The file is a table"),
    ("queues = 3\n" + HEAD, 1, "The file has no key 'queues'; did you mean queue?"),
    (HEAD + "colour = 'red'\n", 10, "no key 'colour'; it takes name"),
    (HEAD + "schema = 'a b'\n", 10, "no name for a schema"),
    (HEAD + "allow = 'aws'\n", 10, "allow of queue 'orders' is a list of texts, not text"),
    (HEAD + "allow = [\n  'aws',\n  3,\n]\n", 12, "a list of texts, and holds a number"),
    (HEAD + "allow = [\n  'aws',\n\n  'a//b', # no\n]\n", 13, "no placement pattern"),
    (HEAD + "allow = ['azure']\n", 10, "No declared domain may publish"),
    (HEAD + "allow = ['aws']\ndeny = ['aws']\n", 10, "No declared domain may publish"),
    (HEAD + "ack = 1\n", 10, "ack 1 cannot hold with 2 voters"),
    (HEAD + "ack = 3\n", 10, "ack 3 cannot hold with 2 voters"),
    (HEAD + "ack = 'most'\n", 10, "ack is 'majority', 'all' or a number"),
    (HEAD + "ack = true\n", 10, "majority, all or a number, not true or false"),
    (HEAD + "ack = 0x" + "f" * 5000 + "\n", 10, "too large"),
    (HEAD + "min_payload = 3\n", 10, "min_payload takes"),
    (HEAD + "min_payload = 0\n", 10, "not a whole number from 1 on"),
    (HEAD + "min_payload = 2.0\n", 10, "a whole number, not a fraction"),
    (HEAD + "retain_age = '7'\n", 10, "no time; write"),
    (HEAD + "retain_age = '7w'\n", 10, "no time; write"),
    (HEAD + "retain_age = 7\n", 10, "text, such as 7d, not a number"),
    (HEAD + "retain_bytes = -1\n", 10, "no size"),
    (HEAD + "retain_bytes = '10 GB'\n", 10, "no size"),
    (HEAD + "compression = 'gzip'\n", 10, "'gzip' is no compression"),
    (HEAD + "compression = true\n", 10, "text, not true or false"),
    (HEAD.replace('g = "gcp"', 'g = "aws"'), 9, "Two replicas of queue 'orders' are in aws"),
    (HEAD.replace('g = "gcp"', 'g = "azure"'), 9, "Replica g is in azure, which no [[domain]] declares"),
    (HEAD.replace('g = "gcp"', 'g = "gcp:learner"'), 9, "'learner' is not voter or witness"),
    (HEAD.replace('g = "gcp"', 'g = "gcp:voter:x"'), 9, "'voter:x' is not voter or witness"),
    (HEAD.replace('g = "gcp"', "g = 3"), 9, "Replica 'g' is text"),
    (HEAD.replace('g = "gcp"', 'g.x = "gcp"'), 9, "not a table"),
    (HEAD.replace('g = "gcp"', '"g=x" = "gcp"'), 9, "no name for a replica"),
    (HEAD.replace('{ a = "aws", g = "gcp" }', '{ a = "aws:witness" }'), 9, "at least one voter that keeps payloads"),
    (HEAD.replace('{ a = "aws", g = "gcp" }', "{}"), 9, "has no replicas"),
    (HEAD.replace('{ a = "aws", g = "gcp" }', '["a=aws"]'), 9, "a table of id"),
    (HEAD.replace("replicas", "replica"), 9, "did you mean replicas?"),
    (HEAD + "[[queue]]\nname = 'orders'\nreplicas = {a = 'aws'}\n", 11, "another queue 'orders' before this one"),
    (HEAD + "[[queue.group]]\nname = 'g'\n", 10, "may poll nowhere"),
    (HEAD + "[[queue.group]]\nname = 'g'\nallow = ['azure']\n", 12, "may poll nowhere"),
    (HEAD + "[[queue.group]]\nname = 'g'\nallow = ['aws']\ndeny = ['**']\n", 12, "may poll nowhere"),
    (HEAD + "[[queue.group]]\nname = 'g'\nallow = ['aws']\nsemantics = 'exactly-once'\n", 13, "'exactly-once' is not"),
    (HEAD + "[[queue.group]]\nname = 'g'\nallow = ['aws']\nstart = 'now'\n", 13, "'now' is no start"),
    (HEAD + "[[queue.group]]\nname = 'g'\nallow = ['aws']\nstart = -1\n", 13, "'-1' is no start"),
    (HEAD + "[[queue.group]]\nname = 'g'\nallow = ['aws']\nmax_deliveries = 0\n", 13, "from 1 on"),
    (HEAD + "[[queue.grop]]\nname = 'g'\n", 10, "no key 'grop'; did you mean group?"),
    (HEAD + "[queue.group]\nname = 'g'\n", 10, "written as [[queue.group]], not a table"),
    (
        HEAD + "[[queue.group]]\nname='g'\nallow=['aws']\n[[queue.group]]\nname='g'\nallow=['aws']\n",
        *(14, "another queue.group 'g' before this one"),
    ),
]


@pytest.mark.parametrize(("text", "line", "sentence"), BAD, ids=range(len(BAD)))
def test_a_bad_file(text: str | bytes, line: int, sentence: str) -> None:
    found = problems(text)
    assert any(number == line and sentence in told for number, told in found), found
    assert all(told.endswith((".", "?")) for _, told in found), found
    assert all(told.isprintable() for _, told in found), found


def test_a_problem_is_told_once() -> None:
    for text, line, sentence in BAD:
        found = problems(text)
        extra = [note for note in found if sentence not in note[1]]
        # beside a file that is empty, or a replica that is gone, other things cannot hold either
        assert len(extra) <= 3, (text, line, extra)
        assert len(set(found)) == len(found)


def test_all_problems_come_at_once_and_in_order() -> None:
    found = problems(
        """
[[domain]]
nmae = "aws"

[[domain]]
name = "gcp"
path = 3

[[authority]]
name = "s"
public_key = 1

[[queue]]
name = "-"
replicas.g = "gcp"
replicas.a = "azure"
ack = 7
allow = [
    "gcp",
    "GCP",  # capital letters
]

    [[queue.group]]
    name = "g"
    allow = ["azure"]
    smeantics = "at-most-once"
    start = "middle"
"""
    )
    assert [line for line, _ in found] == [2, 3, 7, 11, 14, 16, 17, 20, 25, 26, 27]


def test_a_duplicate_is_of_the_whole_name() -> None:
    long = "a" * 60
    text = HEAD + "".join(f"[[queue.group]]\nname = '{long}{end}'\nallow = ['aws']\n" for end in ("1", "2"))
    assert len(parse(text).resources[0].groups) == 2


def test_many_mistakes_take_little_time() -> None:
    text = HEAD + "".join(f"key{number} = {number}\n" for number in range(20_000))
    assert len(problems(text)) == 20_000


# --- any text

WORDS = st.text(alphabet="ab[]{}#=,.'\"\\\n \té", max_size=12)
KEYS = st.one_of(st.sampled_from(["domain", "name", "queue", "group", "replicas", "allow"]), WORDS)
SCALARS: st.SearchStrategy[Any] = st.one_of(st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(), WORDS)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@given(text=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_are_a_declaration_or_a_list_of_problems(text: bytes) -> None:
    reads_or_tells(text)


@given(body=st.dictionaries(st.sampled_from(["store", "domain", "authority", "queue", "x"]), VALUES, max_size=5))
def test_any_document_is_a_declaration_or_a_list_of_problems(body: dict[str, Any]) -> None:
    import tomli_w

    reads_or_tells(tomli_w.dumps(body).encode())


NAMES = st.sampled_from(["aws", "gcp", "aws/x", "orders", "a", "", "A B", "\0", "x" * 200])
LOOSE = st.one_of(NAMES, SCALARS)
DOMAINS = st.lists(st.fixed_dictionaries({}, optional={"name": LOOSE, "path": LOOSE, "nmae": LOOSE}), max_size=3)
GROUPS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "name": LOOSE,
            "allow": st.lists(LOOSE, max_size=3),
            "deny": st.lists(LOOSE, max_size=2),
            "semantics": st.one_of(st.sampled_from(["at-least-once", "at-most-once"]), LOOSE),
            "start": st.one_of(st.sampled_from(["earliest", "latest", "9"]), LOOSE),
            "max_deliveries": LOOSE,
        },
    ),
    max_size=2,
)
QUEUES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "name": LOOSE,
            "schema": LOOSE,
            "replicas": st.one_of(LOOSE, st.dictionaries(NAMES, LOOSE, max_size=3)),
            "ack": st.one_of(st.sampled_from(["majority", "all", "2", 2]), LOOSE),
            "min_payload": LOOSE,
            "allow": st.lists(LOOSE, max_size=3),
            "retain_age": st.one_of(st.sampled_from(["7d", "1.5h"]), LOOSE),
            "retain_bytes": LOOSE,
            "compression": st.one_of(st.sampled_from(["none", "zstd"]), LOOSE),
            "group": GROUPS,
        },
    ),
    max_size=3,
)


@given(domains=DOMAINS, queues=QUEUES)
def test_any_near_miss_is_a_declaration_or_a_list_of_problems(domains: list[Any], queues: list[Any]) -> None:
    import tomli_w

    reads_or_tells(tomli_w.dumps({"domain": domains, "queue": queues}).encode())


def reads_or_tells(text: bytes) -> None:
    try:
        found = declare.parse(text, "store.toml", FOLDER)
    except InvalidConfig as error:
        rows = text.count(b"\n") + 1
        assert error.problems == sorted(error.problems, key=lambda note: note[0])
        assert all(1 <= line <= rows for line, _ in error.problems)
        assert all(len(told) < 1000 and told.isprintable() for _, told in error.problems)
    else:
        assert found.domains and all(queue.replicas for queue in found.resources)


def test_a_check_of_keys_that_refuses_is_a_problem() -> None:
    def refuse(path: Path) -> None:
        raise Usage(f"{path} is no key.", hint="Make one.")

    text = '[[authority]]\nname = "s"\npublic_key = "/k/s.pub"\n' + HEAD
    with pytest.raises(InvalidConfig) as caught:
        declare.parse(text.encode(), "store.toml", FOLDER, refuse)
    assert caught.value.problems == [(3, "/k/s.pub is no key. Make one.")]


def test_what_a_pipeline_is_made_of_is_left_to_its_reader() -> None:
    text = HEAD + "[pipeline]\nname = 3\n[[stage]]\n[[source]]\nx = 1\n[[sink]]\n[[test]]\n"
    assert parse(text).resources == parse(HEAD).resources
    root = Table.of_file(text.encode(), "store.toml")
    declare.parse_tables(root, FOLDER)
    root.close()
    assert [told.split(";")[0] for _, told in root.notes] == [
        f"The file has no key '{key}'" for key in ("pipeline", "sink", "source", "stage", "test")
    ]
