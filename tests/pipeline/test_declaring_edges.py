"""`[[edge]]`: what a file may say of it and of the stages at its ends, with the line of everything that is wrong."""

from __future__ import annotations

import pytest

from grafctl.errors import InvalidConfig
from grafctl.pipeline import declaring
from grafctl.pipeline.graph import draw
from grafctl.pipeline.model import Chain
from grafctl.pipeline.planning import plan, told
from pipeline.declared import FILE, FOLDER, MARK, marked, parse, problems
from pipeline.linked import EDGES, changed

RAW = 'name = "raw"\nlog = "main"\nallow = ["aws"]\n'
CLEAN = 'name = "clean"\nlog = "main"\nallow = ["aws"]\n'
TAKE = 'source = "file"\noutput = "raw"\nallow = ["aws"]\n'
TIDY = 'input = "raw"\noutput = "clean"\nallow = ["aws"]\n'
KEEP = 'input = "clean"\nsink = "rows"\nallow = ["aws"]\n'


def test_edges_stand_where_topics_could() -> None:
    pipeline = parse(EDGES)
    raw, clean = pipeline.edges
    assert (raw.name, raw.kind, raw.slots, raw.bytes, raw.term_ms, raw.log) == (
        "raw", "memory", 1024, 4 << 20, 30_000, "main",
    )  # fmt: skip
    assert pipeline.chains() == [Chain("flow/take", ("take", "tidy", "keep"), ("raw", "clean"))]
    assert pipeline.chain_of("tidy") == pipeline.chains()[0] and pipeline.edge("clean") is clean
    assert pipeline.edge("bad") is None and [stage.on_error for stage in pipeline.stages] == ["stop"] * 3
    assert not [item for item in pipeline.declaration.resources if item.groups], "an edge has no group"


@pytest.mark.parametrize("names", [("raw",), ("clean",), ("raw", "clean")])
@pytest.mark.parametrize("kind", ["topic", "queue"])
def test_one_word_makes_a_topic_of_an_edge(names: tuple[str, ...], kind: str) -> None:
    text = EDGES
    for name in names:
        text = changed(f'[[edge]]\nname = "{name}"', f'[[{kind}]]\nname = "{name}"', text)
    pipeline = parse(text)
    assert {edge.name for edge in pipeline.edges} == {"raw", "clean"} - set(names)
    assert [len(chain.edges) for chain in pipeline.chains()] == [1] * (2 - len(names))
    assert {item.name for item in pipeline.declaration.resources} == {"bad", *names}


def test_the_only_topic_of_a_log_may_become_an_edge() -> None:
    text = changed('[[queue]]\nname = "bad"\nlog = "main"\nallow = ["aws", "gcp"]\n', "")
    assert not parse(text).declaration.resources


def test_everything_that_an_edge_says_is_kept() -> None:
    more = 'kind = "block"\nslots = 16\nbytes = "64KiB"\nterm = "5s"\n'
    raw = parse(changed(RAW, RAW + more)).edges[0]
    assert (raw.kind, raw.slots, raw.bytes, raw.term_ms) == ("block", 16, 65536, 5000)
    assert parse(changed(RAW, RAW + "bytes = 65536\nslots = 2\n")).edges[0].bytes == 65536


WRONG = [
    (RAW, RAW + 'kind = "disk" #!\n', "'disk' is no kind of segment. Take memory or block."),
    (RAW, RAW + "slots = 1 #!\n", "A ring has 2 to 1,048,576 slots, not 1."),
    (RAW, RAW + "slots = true #!\n", "slots of edge 'raw' is a whole number, not true or false."),
    (RAW, RAW + "slots = 10000000000000000000000000 #!\n", "A ring has 2 to 1,048,576 slots, not "),
    (RAW, RAW + 'bytes = "1KB" #!\n', "'1KB' is no size; write 64MiB, 10GB or a number of bytes."),
    (RAW, RAW + 'bytes = "1kB" #!\n', "A segment has 4 KiB to 64 GiB, not 1,000 bytes."),
    (RAW, RAW + 'bytes = "4KiB" #!\n', "1,024 slots do not fit into a segment of 4,096 bytes."),
    (RAW, RAW + 'slots = 4096 #!\nbytes = "4KiB"\n', "4,096 slots do not fit into a segment of 4,096 bytes."),
    (RAW, RAW + 'term = "99ms" #!\n', "The term of a lease is 100ms to 7d, not 99 ms."),
    (RAW, RAW + "term = 30 #!\n", "term of edge 'raw' is text, such as 30s, not a number."),
    (RAW, RAW + 'ack = "all" #!\n', "edge 'raw' has no key 'ack'; "),
    (RAW, RAW.replace('"main"', '"other" #!'), "edge 'raw' names the log 'other', which no [[log]] declares."),
    (RAW, RAW.replace('["aws"]', '["oci"] #!'), "edge 'raw' may be in no declared domain: "),
    (RAW, RAW.replace('["aws"]', '["gcp"] #!'), "edge 'raw' may not be in aws/a, where its stages run ("),
    (RAW, RAW + 'deny = ["aws/a"]\n', "edge 'raw' may be in no declared domain: allow covers none, or deny "),
    (RAW, 'name = "raw"\ndeny = ["aws"] #!\n', "edge 'raw' may not be in aws/a, where its stages run (deny aws)."),
    (RAW, 'name = "raw"\nallow = [] #!\n', "edge 'raw' may be in no declared domain: allow covers none, or deny "),
    ('name = "raw"\nlog', 'name = "bad" #!\nlog', "There is a queue of this name, and a stage could mean either."),
    ('name = "clean"\nlog', 'name = "raw" #!\nlog', "There is another edge 'raw' before this one."),
    ('name = "raw"\nlog', 'name = "a/b" #!\nlog', "'a/b' is no name for an edge. "),
    ('[[edge]]\nname = "raw"\n', "[[edge]] #!\n", "[[edge]] has no name."),
    (TAKE, TAKE.replace('"raw"', '"rew" #!'), "stage 'take' names the queue, topic or edge 'rew'; did you mean raw?"),
    (TAKE, TAKE.replace('["aws"]', '["aws", "gcp"] #!'), "stage 'take' may run in aws/a, gcp, and edge 'raw' is in "),
    (TIDY, TIDY.replace('["aws"]', '["gcp"] #!'), "stage 'tidy' runs in gcp and stage 'take' (line 39) in aws/a, and "),
    (TIDY, TIDY + 'group = "g" #!\n', "stage 'tidy' has group, which means nothing to a stage that reads an edge."),
    (TIDY, TIDY + 'filter = "key:a" #!\n', "stage 'tidy' has filter, which means nothing to a stage that reads "),
    (TIDY, TIDY + 'on_error = "dead-letter" #!\n', "stage 'tidy' has no dead_letter to put refused records in; "),
    (KEEP, KEEP + 'on_error = "stop"\ndead_letter = "bad" #!\n', "stage 'keep' stops at an error, so nothing ever "),
    (KEEP, KEEP + 'dead_letter = "clean" #!\n', "stage 'keep' names the queue or topic 'clean', which this file does "),
    (KEEP, KEEP.replace('"clean"', '"raw" #!'), "stage 'keep' and stage 'tidy' (line 40): one stage reads edge 'raw'"),
    ('output = "clean"', 'outputs = ["clean", "bad"] #!', "stage 'tidy' writes to edge 'clean', and so to "),
    (TIDY, TIDY.replace('"clean"', '"raw" #!'), "Stages feed each other in a circle: tidy -> tidy."),
    ('path = "in.jsonl"', 'path = "-"', "stage 'take' reads standard input and writes to edge 'raw': what is lost "),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), WRONG)
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, sentence: str) -> None:
    text = changed(old, new)
    found = problems(text)
    lines = [line for line, told in found if told.startswith(sentence)]
    assert lines, found
    assert not marked(text) or lines == marked(text)
    assert MARK not in EDGES


def test_an_edge_has_two_ends() -> None:
    alone = EDGES + '[[edge]]\nname = "nobody"\n'
    assert [told for _, told in problems(alone)] == [
        f"No stage {does} edge 'nobody', and an edge goes from one stage to one other."
        for does in ("reads", "writes to")
    ]
    text = EDGES.replace('output = "clean"', 'output = "bad"')
    assert [told for _, told in problems(text)] == [
        "No stage writes to edge 'clean', and an edge goes from one stage to one other."
    ]


def test_effects_are_of_one_commit() -> None:
    text = changed(TIDY, TIDY + 'effects = "seen" #!\n') + '[[idem]]\nname = "seen"\nlog = "main"\nallow = ["aws"]\n'
    sentence = "stage 'tidy' has effects beside edge 'raw'; what it does is no one commit with what it reads; the "
    assert [line for line, told in problems(text) if told.startswith(sentence)] == marked(text)


def test_a_file_is_called_after_pipeline_and_stage() -> None:
    long = "p" * 101
    assert not problems_of(changed('name = "flow"', f'name = "{long}"'))
    text = changed('name = "tidy"', f'name = "{"t" * 100}"', changed('name = "flow"', f'name = "{long}"'))
    assert [told.partition("have ")[2] for told in problems_of(text)] == [
        "201 characters together; beside an edge at most 200 are allowed."
    ]


def problems_of(text: str) -> list[str]:
    try:
        parse(text)
    except InvalidConfig as error:
        return [told for _, told in error.problems]
    return []


def test_a_program_is_not_read_again() -> None:
    text = changed('kind = "jsonl"\npath = "in.jsonl"', 'kind = "exec"\ncommand = ["cat"]')
    assert problems(text)[0][1].startswith("stage 'take' reads a program and writes to edge 'raw': ")


def test_plan_and_graph_show_edges() -> None:
    examined = declaring.examine(EDGES.encode(), FILE, FOLDER)
    rows = plan(examined).body["edges"]
    assert [(row["edge"], row["from"], row["to"], row["domain"], row["capacity"]) for row in rows] == [
        ("raw", "take", "tidy", "aws/a", 1023),
        ("clean", "tidy", "keep", "aws/a", 1023),
    ]
    assert not plan(examined, "gcp").body["edges"] and told(examined).body["edges"] == ["raw", "clean"]
    drawn = draw(examined)
    assert "edge raw (memory, 1,023 records; aws/a)\n  -> stage tidy" in drawn.text
    assert "stage take (ingest; aws/a)\n  -> edge raw" in drawn.text
    for form in ("mermaid", "dot"):
        assert "edge raw" in draw(examined, form).text
    assert [text for _, text in examined.notes if "edge" in text.lower()] == [
        f"Edge '{name}' is in no log; log counts where it is a topic or a queue." for name in ("raw", "clean")
    ]
