"""TOML files, fuzzed: a declared store, the replicas of `locator set --from`, and `store.toml`.

Whatever a file holds, what reads it gives a value, or all problems at once, each with its line; and the reader of plain
files agrees with tomllib wherever both can read one.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from store.test_store_file import WRITTEN

from fuzz.effort import examples
from fuzz.running import check, run
from grafctl.declare import store as declare
from grafctl.declare.document import FILE_BYTES_MAX
from grafctl.declare.replicas import read_replicas
from grafctl.errors import InvalidConfig
from grafctl.store import files

DECLARED = (
    (ROOT / "examples" / "provider-migration.toml").read_bytes()
    + b"""
[[log]]
name = "shared"
replicas = { a = "aws/us-east-1/us-east-1a", g = "gcp/us-central1" }
[[topic]]
name = "events"
log = "shared"
retain_count = 10
discard = "oldest"
[[topic.group]]
name = "some"
allow = ["gcp"]
filter = "key:eu-"
start = 2026-11-22T00:00:00Z
[[idem]]
name = "effects"
log = "shared"
allow = ["**"]
[[schema]]
id = "order.v1"
file = "order.json"
"""
)
REPLICAS = b'[[replica]]\nid = "a"\ndomain = "aws"\n\n[[replica]]\nid = "b"\ndomain = "gcp"\nrole = "witness"\n'
STORE = WRITTEN.encode()
PIECES = [
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r", b"\r\n", b'"', b'"""', b"'", b"[", b"]", b"[[", b"]]",
    b"{", b"}", b"=",
    b" = ", b",", b"#", b".", b"\\", b"\\u0000", b"\\ud800", b"\\U00110000", b"\x1b[31m", b"\x07", "\u202e".encode(),
    "\u2028".encode(),
    b"9" * 30, b"9" * 5000, b"-1", b"0x10", b"1_0", b"1e400", b"nan", b"-inf", b"true", b"1979-05-27T07:32:00Z",
    b"07:32:00", b"[[domain]]", b"[domain]", b"[[queue]]", b"[[queue.group]]", b"[store]", b'name = "aws"',
    b"name = 3", b"x = " + b"[" * 3000 + b"]" * 3000, b"x = " + b"{a=" * 2000, b"a." * 2000 + b"b = 1",
    b'allow = ["aws", 3]', b'replicas = { r = "aws" }', b'path = "../../etc"', b'path = "\\u0000"', b'name = "../x"',
    b'name = "\\u001b[31m"', b"format = 1", b"format = true", b"format = 99", b'domain = "aws"', b"domain = []",
    b'domain = ["aws"]', b'retain_age = "%s"', b'"{0}" = 1', b'"" = 1', b"max_deliveries = 0",
    b'public_key = "/dev/zero"',
]  # fmt: skip
LEAVES: Any = st.one_of(
    st.text(max_size=8),
    st.integers(),
    st.booleans(),
    st.floats(),
    st.dates(),
    st.times(),
    st.sampled_from(["aws", "q"]),
)
KEYS = st.one_of(
    st.sampled_from(
        [
            "domain",
            "queue",
            "topic",
            "idem",
            "table",
            "vshards",
            "log",
            "schema",
            "file",
            "filter",
            "discard",
            "retain_count",
            "authority",
            "store",
            "group",
            "name",
            "path",
            "replicas",
            "ack",
            "allow",
            "deny",
            "public_key",
            "start",
            "semantics",
            "retain_age",
            "retain_bytes",
            "compression",
            "min_payload",
            "max_deliveries",
            "replica",
            "id",
            "role",
            "format",
            "identity",
            "driver",
            "incarnation",
        ]
    ),
    st.text(max_size=6),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=5).map(
    lambda body: tomli_w.dumps(body).encode("utf-8", "surrogatepass")
)


@st.composite
def spoilt(draw: Any, text: bytes) -> bytes:
    """Returns a text in which pieces were put in, taken out, doubled or replaced."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        stop = draw(st.integers(at, min(len(text), at + 40)))
        what = draw(st.sampled_from(["put", "take", "double", "lines", "byte"]))
        if what == "put":
            text = text[:at] + draw(st.sampled_from(PIECES)) + text[at:]
        elif what == "take":
            text = text[:at] + text[stop:]
        elif what == "double":
            text = text[:stop] + text[at:]
        elif what == "lines":
            lines = text.split(b"\n")
            lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(PIECES)))
            text = b"\n".join(lines)
        elif at < len(text):
            text = text[:at] + bytes([draw(st.integers(0, 255))]) + text[at + 1 :]
    return text


def texts(whole: bytes) -> st.SearchStrategy[bytes]:
    others = [
        whole.decode().encode("utf-16"), whole.decode().encode("utf-32"), whole.replace(b"\n", b"\r\n"),
        whole.replace(b"\n", b"\r"), b"\xef\xbb\xbf" + whole, whole * 2, b"x" * (FILE_BYTES_MAX + 1),
        b"\0" * 100,
    ]  # fmt: skip
    return st.one_of(spoilt(whole), spoilt(whole), st.sampled_from(others), DOCUMENTS, st.binary(max_size=60))


def problems_of(error: InvalidConfig, text: bytes) -> None:
    """Asserts that each problem has a line of the file and a sentence."""
    assert error.problems, text
    lines = max(text.count(b"\n"), text.count(b"\r")) + 1
    assert all(1 <= line <= lines and sentence for line, sentence in error.problems), (error.problems, text)
    assert [line for line, _ in error.problems] == sorted(line for line, _ in error.problems), error.problems


@given(texts(DECLARED))
@examples(250)
def test_any_text_is_a_declaration_or_has_problems(text: bytes) -> None:
    try:
        declare.parse(text, "file", ROOT)
    except InvalidConfig as error:
        problems_of(error, text)


def test_any_file_of_replicas_is_one_or_has_problems(tmp_path: Path) -> None:
    file = tmp_path / "replicas.toml"

    @given(texts(REPLICAS))
    @examples(200)
    def try_one(text: bytes) -> None:
        file.write_bytes(text)
        try:
            assert all(isinstance(item, str) for item in read_replicas(file))
        except InvalidConfig as error:
            problems_of(error, text)

    try_one()


def test_any_store_file_is_one_or_has_problems(tmp_path: Path) -> None:
    @given(texts(STORE))
    @examples(250)
    def try_one(text: bytes) -> None:
        (tmp_path / files.FILE_NAME).write_bytes(text)
        try:
            file = files.read(tmp_path)
        except InvalidConfig as error:
            problems_of(error, text)
        else:
            assert file.domains and file.places(tmp_path).keys() == file.domains.keys()

    try_one()


@given(texts(STORE))
@examples(400)
def test_the_reader_of_plain_files_agrees_with_tomllib(text: bytes) -> None:
    try:
        document = text.decode()
    except UnicodeDecodeError:
        return
    plain = files.parse_plain_toml(document)
    if plain is not None:
        assert plain == tomllib.loads(document)


@pytest.mark.parametrize("command", ["apply FILE -s new", "locator set q -s store --generation 2 --from FILE"])
def test_a_wrong_file_ends_with_its_problems_one_a_line(tmp_path: Path, command: str) -> None:
    file = tmp_path / "wrong.toml"
    assert run(["init", str(tmp_path / "store"), "-d", "aws"]).code == 0
    assert run(f"queue create q -s {tmp_path}/store --schema s --replica r=aws --allow aws".split()).code == 0

    @given(texts(DECLARED if command.startswith("apply") else REPLICAS))
    @examples(25)
    def try_one(text: bytes) -> None:
        file.write_bytes(text)
        words = command.replace("FILE", str(file)).replace("-s ", f"-s {tmp_path}/").split()
        said = run([*words, "--dry-run"])
        check(said)
        assert said.code in (0, 2, 10, 11, 12, 13, 78), str(said)
        if said.code == 78:
            lines = said.err.splitlines()
            count = int(lines[-2].split(" has ")[1].split()[0])
            assert len(lines) == count + 2, str(said)
            assert all(line.startswith(f"{file}:") and line.split(":")[1].isdigit() for line in lines[:-2]), str(said)
        assert not (tmp_path / "new").exists()

    try_one()
