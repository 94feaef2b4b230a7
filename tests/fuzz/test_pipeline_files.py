"""Declared pipelines, fuzzed: a file gives a pipeline, or all problems, each with its line, whatever it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from pipeline.declared import GOOD
from pipeline.linked import EDGES

from fuzz.effort import examples
from fuzz.running import check, run
from fuzz.test_toml import VALUES, problems_of, spoilt
from grafctl.errors import InvalidConfig
from grafctl.pipeline import declaring

FILE = Path("file")
TEXTS = [GOOD.encode(), EDGES.encode(), (ROOT / "examples" / "pipeline.toml").read_bytes()]
PIECES = [
    b"[pipeline]", b"[[pipeline]]", b"[stage]", b"[[stage.step]]", b"[[sink]]", b"[[source]]", b"[[test]]",
    b'kind = "ingest"', b'kind = "sink"', b'kind = "exec"', b'op = "route"', b'op = "keep"', b"cases = [{}]",
    b'fields = ["a", 1]', b'fields = { a = "x.y" }', b'when = "(((((("', b'when = ""', b'outputs = ["raw", "raw"]',
    b'input = "clean"', b'allow = ["**"]', b'deny = ["**"]', b"batch = 1e9", b'password = "x"', b"input = [1]",
    b'expect = [{ value = nan }]', b'url = "p://a:hunter22@b"', b'columns = { "" = "" }', b'step = "filter"',
    b'dead_letter = "raw"', b'key = "' + b"(" * 3000 + b'"', b'key = "' + b"a+" * 2000 + b'a"',
]  # fmt: skip


@st.composite
def mixed(draw: Any) -> bytes:
    """Returns a good file in which lines were put, doubled and spoilt."""
    lines = draw(st.sampled_from(TEXTS)).split(b"\n")
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines)))
        lines[at : at + draw(st.integers(0, 2))] = [draw(st.sampled_from(PIECES))]
    text = b"\n".join(lines)
    return text if draw(st.booleans()) else bytes(draw(spoilt(text)))


def read(text: bytes) -> None:
    try:
        declaring.parse(text, FILE, ROOT)
    except InvalidConfig as error:
        problems_of(error, text)
        shown = str(error.as_json())
        assert "hunter22" not in shown or b"://a:hunter22@" not in text, shown


@given(mixed())
@examples(300)
def test_any_text_is_a_pipeline_or_has_problems(text: bytes) -> None:
    read(text)


NAMES = ["pipeline", "source", "sink", "stage", "test", "step", "domain", "queue", "log"]
KEYS = [
    *NAMES, "name", "kind", "path", "paths", "command", "id", "key", "headers", "table", "columns", "types", "variable",
    "resource", "source", "input", "group", "filter", "output", "outputs", "effects", "sink", "allow", "deny",
    "on_error", "dead_letter", "batch", "call", "exec", "op", "fields", "when", "cases", "to", "default", "field",
    "into", "file", "index", "salt_file", "value", "json", "expect", "refuse",
]  # fmt: skip
WORDS = [
    "ingest",
    "transform",
    "sink",
    "jsonl",
    "sqlite",
    "resource",
    "route",
    "set",
    "lookup",
    "a",
    "aws",
    "1 +",
    "a.b",
]
ITEMS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(WORDS) | VALUES, max_size=8)
TABLES = st.lists(ITEMS | st.fixed_dictionaries({"step": st.lists(ITEMS, max_size=3)}), max_size=3) | VALUES


@given(st.dictionaries(st.sampled_from(NAMES), TABLES, max_size=6))
@examples(300)
def test_any_document_is_a_pipeline_or_has_problems(body: dict[str, Any]) -> None:
    read(tomli_w.dumps(body).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("command", ["validate", "plan", "graph --format dot", "graph --format mermaid"])
def test_a_wrong_file_ends_with_its_problems_one_a_line(tmp_path: Path, command: str) -> None:
    file = tmp_path / "flow.toml"

    @given(mixed())
    @examples(20)
    def try_one(text: bytes) -> None:
        file.write_bytes(text)
        said = run(["pipeline", *command.split(), str(file)])
        check(said)
        assert said.code in (0, 78), str(said)
        if said.code == 78:
            lines = said.err.splitlines()
            assert lines[-2].startswith(f"error: {file} has {len(lines) - 2} problem"), str(said)
            assert all(line.startswith(f"{file}:") and line.split(":")[1].isdigit() for line in lines[:-2]), str(said)
            assert not said.out

    try_one()
