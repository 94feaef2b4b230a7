"""The picture of a pipeline: what is in it, and that no text of a file breaks out of its form."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Usage
from grafctl.pipeline import declaring
from grafctl.pipeline.graph import DOT, MERMAID, TEXT, draw
from grafctl.results import Drawing
from pipeline.declared import FILE, FOLDER, GOOD, spoilt

QUOTED = r'"(?:[^"\\\n]|\\.)*"'
DOT_LINES = (
    rf"digraph {QUOTED} \{{", r"  rankdir=LR;", r'  subgraph "cluster_log\d+" \{', rf"    label={QUOTED};", r" *\}",
    rf" +n\d+ \[shape=\w+, label={QUOTED}\];", rf"  n\d+ -> n\d+(?: \[label={QUOTED}\])?;",
)  # fmt: skip
PLAIN = r"(?:[^\"#<>&\[\]{}|`\\\n]|#\d+;|<br/>)*"
MERMAID_LINES = (
    r"flowchart LR", rf"  %% pipeline {PLAIN}", rf'  subgraph log\d+\["{PLAIN}"\]', r"  end",
    rf' +n\d+(?:\(\[|\[\(|\[/|\[)"{PLAIN}"(?:\]\)|\)\]|/\]|\])', rf'  n\d+ -->(?:\|"{PLAIN}"\|)? n\d+',
)  # fmt: skip


def drawn(text: str, form: str) -> Drawing:
    return draw(declaring.examine(text.encode("utf-8"), FILE, FOLDER), form)


def test_the_text_says_what_feeds_what_and_where() -> None:
    assert drawn(GOOD, TEXT).text == (
        "pipeline flow\n"
        "source file (jsonl in.jsonl)\n"
        "  -> stage take\n"
        "stage take (ingest; aws/a, gcp)\n"
        "  -> queue raw\n"
        "  -> queue bad (dead letters)\n"
        "stage tidy (transform, 1 step; aws/a, gcp)\n"
        "  -> topic clean\n"
        "  -> queue bad\n"
        "  -> idem seen (effects)\n"
        "stage keep (sink; aws/a)\n"
        "  -> sink rows\n"
        "queue raw (aws/a, gcp, azure (witness); log main)\n"
        "  -> stage tidy\n"
        "queue bad (aws/a, gcp, azure (witness); log main)\n"
        "topic clean (aws/a, gcp, azure (witness); log main)\n"
        "  -> stage keep (key:acme/)\n"
        "idem seen (aws/a, gcp, azure (witness); log main)\n"
        "sink rows (sqlite rows.db rows)"
    )


def test_the_document_has_every_node_and_edge() -> None:
    found = drawn(GOOD, MERMAID)
    assert (found.pipeline, found.format) == ("flow", MERMAID)
    assert [f"{node['kind']} {node['name']}" for node in found.nodes] == [
        *("source file", "stage take", "stage tidy", "stage keep"),
        *("queue raw", "queue bad", "topic clean", "idem seen", "sink rows"),
    ]
    ends = [(edge["from"], edge["to"], edge.get("label")) for edge in found.edges]
    assert ("stage take", "queue bad", "dead letters") in ends and ("topic clean", "stage keep", "key:acme/") in ends
    assert len(ends) == len(set(ends)) == 9


def test_a_sink_that_publishes_leads_to_its_resource() -> None:
    table = 'kind = "sqlite"\npath = "rows.db"\ntable = "rows"\nkey = "_id"\ncolumns = { id = "_id" }'
    text = spoilt(table, 'kind = "resource"\nresource = "bad"\nkey = "_id"')
    assert "sink rows (resource bad)\n  -> queue bad" in drawn(text, TEXT).text


def test_a_form_that_there_is_not() -> None:
    with pytest.raises(Usage, match="no form of a graph"):
        drawn(GOOD, "svg")


def is_of(lines: tuple[str, ...], text: str) -> bool:
    return all(any(re.fullmatch(form, line) for form in lines) for line in text.split("\n"))


def test_what_is_drawn_is_of_its_form() -> None:
    assert is_of(DOT_LINES, drawn(GOOD, DOT).text) and is_of(MERMAID_LINES, drawn(GOOD, MERMAID).text)
    assert not is_of(DOT_LINES, 'digraph "a" {\n  n0 [shape=box, label="a"b"];')
    assert not is_of(MERMAID_LINES, 'flowchart LR\n  n0["a"b"]') and not is_of(MERMAID_LINES, '  n0["<b>"]')


LETTERS = st.sampled_from(
    [*"\"'\\[]{}()<>|#;&`%\n\r\t\x1b\u2028\u202e", "-->", "]]", '"]', "<br/>", "\\n", "#quot;", "end"]
)
HOSTILE = st.lists(LETTERS | st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).map("".join)


@given(HOSTILE)
def test_no_text_of_a_file_breaks_out_of_its_form(text: str) -> None:
    escaped = "".join(f"\\U{ord(letter):08X}" for letter in text)
    file = spoilt('path = "in.jsonl"', f'path = "{escaped}"').replace('"key:acme/"', f'"key:x{escaped}"')
    assert is_of(DOT_LINES, drawn(file, DOT).text), text
    assert is_of(MERMAID_LINES, drawn(file, MERMAID).text), text
