"""What the tables of a pipeline say of each other: stages that could not work where they may run, groups, circles,
secrets, and all problems at once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.errors import InvalidConfig
from grafctl.nouns import declared
from grafctl.pipeline import declaring
from pipeline.declared import FILE, FOLDER, GOOD, marked, parse, problems, spoilt

# --- what the parts say of each other

RAW = 'name = "raw"\nlog = "main"\nallow = ["aws", "gcp"]'
CLEAN = 'name = "clean"\nlog = "main"\nallow = ["aws", "gcp"]'
BAD = 'name = "bad"\nlog = "main"\nallow = ["aws", "gcp"]'
SEEN = 'name = "seen"\nlog = "main"\nallow = ["aws", "gcp"]'
TIDY = 'outputs = ["clean", "bad"]\neffects = "seen"\nallow = ["aws", "gcp"]'
TAKE = 'dead_letter = "bad"\nallow = ["aws", "gcp"]'
KEEP = 'sink = "rows"\nallow = ["aws"]'

PLACES = [
    (CLEAN, CLEAN.replace('"gcp"]', '"gcp"]\ndeny = ["gcp"]'), 'allow = ["aws", "gcp"]\n[[stage.step]]',
     "stage 'tidy' may run in gcp (allow gcp), but it may not publish to topic 'clean' there (deny gcp, line 21)."),
    (CLEAN, CLEAN.replace(', "gcp"', ""), 'allow = ["aws", "gcp"]\n[[stage.step]]',
     "stage 'tidy' may run in gcp (allow gcp), but it may not publish to topic 'clean' there "
     "(no allow line covers it, line 20)."),
    (SEEN, SEEN.replace('"aws", ', ""), 'allow = ["aws", "gcp"]\n[[stage.step]]',
     "stage 'tidy' may run in aws/a (allow aws), but it may not reserve in idem 'seen' there "
     "(no allow line covers it, line 28)."),
    (TIDY, TIDY.replace("allow = [", 'allow = ["azure", '), 'allow = ["azure", "aws", "gcp"]',
     "stage 'tidy' may run in azure (allow azure), but no replica of its input queue 'raw' keeps payloads there "
     "(line 11)."),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "where", "sentence"), PLACES)
def test_a_stage_that_may_run_where_it_could_not_work(old: str, new: str, where: str, sentence: str) -> None:
    text = spoilt(old, new)
    line = text[: text.index(where)].count("\n") + 1
    assert (line, sentence) in problems(text)


def test_dead_letters_are_published_too() -> None:
    found = problems(spoilt(BAD, BAD.replace(', "gcp"', "")))
    assert [sentence.split(", but ")[1][:40] for _, sentence in found] == [
        "it may not put dead letters into queue '",
        "it may not publish to queue 'bad' there ",
    ]


def test_domains_that_are_refused_for_one_reason_are_told_in_one_sentence() -> None:
    text = spoilt(TIDY, TIDY.replace('["aws", "gcp"]', '["**"]')).replace(
        CLEAN, CLEAN.replace('["aws", "gcp"]', '["oci"]')
    )
    told = [sentence for _, sentence in problems(text) if "stage 'tidy'" in sentence and "topic" in sentence]
    assert told == [
        "stage 'tidy' may run in aws/a, gcp, azure (allow **), but it may not publish to topic 'clean' there (no allow "
        "line covers it, line 20)."
    ]


def test_each_refusal_of_each_domain_is_told() -> None:
    text = spoilt(SEEN, SEEN.replace('["aws", "gcp"]', '["azure"]')).replace(TIDY, TIDY.replace('"gcp"', '"azure"'))
    told = [sentence.split("may run in ")[1] for _, sentence in problems(text)]
    assert [sentence.split(" (")[0] for sentence in told] == ["aws/a", "azure", "azure", "azure"]


TEST = '[[test]]\nname = "positive"'
ALONE = [
    (KEEP, KEEP.replace('["aws"]', '["aws/b"] #!'), "may run in none of the declared domains"),
    (KEEP, KEEP.replace('["aws"]', '["aws"] #!\ndeny = ["aws/a"]'), "may run in none of the declared domains"),
    (KEEP, KEEP.replace('["aws"]', '["aws",\n"a w s" #!\n]'), "is no placement pattern"),
    (KEEP, 'sink = "rows"\nallow = [] #!', "may run nowhere"),
    ('[[stage]]\nname = "keep"\nkind = "sink"\ninput = "clean"\nfilter = "key:acme/"\nsink = "rows"\nallow = ["aws"]',
     '[[stage]] #!\nname = "keep"\nkind = "sink"\ninput = "clean"\nsink = "rows"', 'write allow = ["DOMAIN"]'),
    (TEST, '[[stage]]\nname = "x"\nkind = "transform"\ninput = "raw"\ngroup = "tidy" #!\noutput = "bad"\n'
     f'allow = ["aws"]\n{TEST}', "with one group, 'tidy', and would take records from each other"),
    (TIDY, 'outputs = ["clean", "bad", "raw"] #!\nallow = ["aws", "gcp"]', "in a circle: tidy -> tidy."),
    (RAW, f"{RAW}\nack = 2 #!", "is in a log, which says what ack is"),
    ('azure:witness" }', 'azure:witness" }\nack = 9 #!', "ack 9 cannot hold with 3 voters"),
    ("min_payload = 1", "min_payload = 3 #!", "min_payload takes 1 to 2 here"),
]  # fmt: skip


def test_a_group_that_finishes_what_it_delivers_is_no_input() -> None:
    group = '[[queue.group]]\nname = "tidy"\nallow = ["aws", "gcp"]\nsemantics = "at-most-once"'
    text = spoilt(RAW, f"{RAW}\n{group}").replace('input = "raw"', 'input = "raw" #!')
    ((line, told),) = problems(text)
    assert [line] == marked(text)
    assert "an at-most-once group, 'tidy' (line 17): a record whose work fails would be lost" in told


@pytest.mark.parametrize(("old", "new", "sentence"), [case for case in ALONE if case[2]])
def test_what_the_parts_say_of_each_other(old: str, new: str, sentence: str) -> None:
    text = spoilt(old, new)
    ((line, told),) = problems(text)
    assert sentence in told and [line] == marked(text)


def test_a_stage_and_its_declared_group_have_one_placement() -> None:
    group = '\n[[topic.group]]\nname = "keep"\nallow = ["gcp"]'
    text = spoilt(CLEAN, CLEAN + group)
    assert "reads with group 'keep' in line 21, which is placed otherwise" in problems(text)[0][1]
    assert parse(text.replace(group, group.replace("gcp", "aws")))


def test_a_long_circle_is_told_once_at_its_first_stage() -> None:
    stages = [("b", "clean", "bad"), ("c", "bad", "raw")]
    more = "".join(
        f'[[stage]]\nname = "{name}"\nkind = "transform"\ninput = "{origin}"\noutput = "{to}"\nallow = ["aws"]\n'
        for name, origin, to in stages
    )
    text = GOOD.replace('outputs = ["clean", "bad"]', 'outputs = ["clean"] #!').replace(TEST, more + TEST)
    ((line, told),) = problems(text)
    assert told == "Stages feed each other in a circle: tidy -> b -> c -> tidy." and [line] == marked(text)


def test_a_sink_that_publishes_is_a_part_of_the_circle_and_of_the_places() -> None:
    sink = 'kind = "resource"\nresource = "raw"\nkey = "_id"'
    table = 'kind = "sqlite"\npath = "rows.db"\ntable = "rows"\nkey = "_id"\ncolumns = { id = "_id" }'
    assert "in a circle: tidy -> keep -> tidy." in problems(spoilt(table, sink))[0][1]
    found = problems(spoilt(table, sink.replace("raw", "bad")).replace(BAD, BAD.replace('"aws", ', "")))
    assert "it may not publish to queue 'bad' there" in found[-1][1] and "stage 'keep' may run in aws/a" in found[-1][1]
    assert (
        "names the queue or topic 'rax'; did you mean raw?" in problems(spoilt(table, sink.replace("raw", "rax")))[0][1]
    )


def test_a_store_is_not_made_for_stages_that_cannot_run(tmp_path: Path) -> None:
    file = tmp_path / "flow.toml"
    file.write_text(spoilt(KEEP, KEEP.replace("aws", "azure")))
    with pytest.raises(InvalidConfig, match="1 problem") as caught:
        declared.apply_file(tmp_path / "store", file)
    assert "stage 'keep' may run in azure" in caught.value.problems[0][1]
    assert not (tmp_path / "store").exists()


# --- secrets

SECRETS = [
    ('kind = "sqlite"', 'kind = "postgres"\nurl = "postgresql://etl:hunter22@db/warehouse" #!'),
    ('key = "_id"', 'key = "_id"\nvariable = "postgresql://etl:hunter22@db/warehouse" #!'),
    ('key = "_id"', 'key = "_id"\nvariable = "host=db user=etl password=hunter22" #!'),
    ('key = "_id"', 'key = "_id"\npassword = "hunter22" #!'),
    ('key = "_id"', 'key = "_id"\ndsn = "hunter22" #!'),
    ('kind = "jsonl"', 'kind = "exec"\ncommand = ["curl", "https://me:hunter22@host/feed"] #!'),
    ('kind = "jsonl"', 'kind = "exec"\ncommand = ["export", "--password=hunter22"] #!'),
    (RAW, f'{RAW}\nschema = "postgresql://etl:hunter22@db/warehouse" #!'),
    ('name = "flow"', 'name = "postgresql://etl:hunter22@db/warehouse" #!'),
    ('stage = "tidy"', 'stage = "postgresql://etl:hunter22@db/warehouse" #!'),
]


@pytest.mark.parametrize(("old", "new"), SECRETS)
def test_a_secret_is_refused_and_not_shown(old: str, new: str) -> None:
    text = spoilt(old, new)
    found = problems(text)
    (line,) = marked(text)
    assert [told for at, told in found if at == line] == [
        "This holds a secret, which a declared file must not; put it into an environment variable and name that, "
        'such as variable = "WAREHOUSE_DSN".'
    ]
    assert "hunter22" not in str(found)


@pytest.mark.parametrize(
    "text",
    [
        spoilt("total > 0", "password == 'x'"),
        spoilt("value = { total = 1 }, id", 'value = { url = "https://me:hunter22@host/" }, id'),
        GOOD
        + '[[source]]\nname = "x"\nkind = "exec"\ncommand = ["feed", "--password=$PASSWORD", "--password-file", "p"]\n',
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert parse(text)


# --- all at once, notes, bounds


def test_all_problems_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = GOOD
    for old, new in (
        ('name = "flow"', 'name = "" #!'),
        ('kind = "jsonl"', 'kind = "json" #!'),
        ('columns = { id = "_id" }', 'columns = { id = "_id", n = 3 } #!'),
        ('output = "raw"', 'output = "row" #!'),
        ('op = "filter"', 'op = "fitler" #!'),
        ('input = "clean"', 'input = "claen" #!'),
        ('stage = "tidy"', 'stage = "toady" #!'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    assert [line for line, _ in problems(text)] == marked(text)


def notes(text: str) -> list[tuple[int, str]]:
    return list(declaring.examine(text.encode(), FILE, FOLDER).notes)


def test_what_is_worth_knowing_is_a_note_and_no_problem() -> None:
    keep = GOOD[: GOOD.index('name = "keep"')].count("\n")
    assert notes(GOOD) == [(keep, "Stage 'keep' may run in aws/a alone, and waits while that is away.")]
    one = GOOD.replace("min_payload = 1", "")
    two = one.replace(', z = "azure:witness"', "")
    assert notes(one)[0] == notes(two)[0] and len(notes(one.replace(":witness", ""))) == 1
    assert any(
        line == 11 and "while one of the 2 domains that keep its payloads is away" in told for line, told in notes(two)
    )
    more = '[[sink]]\nname = "x"\nkind = "jsonl"\npath = "x.jsonl"\nkey = "_id"\ncolumns = { a = "_id" }\n'
    unused = notes(GOOD + more + '[[source]]\nname = "y"\nkind = "csv"\npath = "y.csv"\n')
    assert {"No stage writes sink 'x'.", "No stage reads source 'y'."} <= {told for _, told in unused}
    apart = GOOD.replace(CLEAN, CLEAN.replace('log = "main"', 'replicas = { a = "aws/a", g = "gcp", z = "azure" }'))
    assert any("works in the logs clean, main" in told for _, told in notes(apart))


BOUNDS = [
    ("#" * (1 << 20) + "#", "longer than 1 MiB"),
    (GOOD + '[[source]]\nname = "a"\n' * 300, "at most 200 are allowed"),
    (GOOD + '[[test]]\nname = "a"\n' * 1100, "at most 1000 are allowed"),
    (GOOD + "".join(f'[[domain]]\nname = "d{at}"\n' for at in range(100)), "103 domains; at most 100 are allowed"),
    (spoilt('outputs = ["clean", "bad"]', f"outputs = {[f'o{at}' for at in range(101)]}"), "at most 100 are allowed"),
    (spoilt(TAKE, TAKE.replace('"aws"', ", ".join(['"aws"'] * 1000))), "1001 patterns; at most 1000 are allowed"),
    (
        spoilt(
            'when = "total > 0"', 'when = "total > 0"\n' + f'[[stage.step]]\nop = "drop"\nfields = {["a"] * 900}\n' * 6
        ),
        "5400 fields; at most 5000 are allowed",
    ),
    (
        spoilt('when = "total > 0"', 'when = "total > 0"\n' + '[[stage.step]]\nop = "drop"\n' * 300),
        "at most 200 are allowed",
    ),
    (spoilt('path = "in.jsonl"', f"paths = {['a'] * 1001}"), "at most 1000 are allowed"),
    (spoilt('input = [{ value = { total = 1 }, id = "1" }]', f"input = {['{}'] * 3}"), "holds text"),
]


@pytest.mark.parametrize(("text", "sentence"), BOUNDS)
def test_what_a_file_may_hold_is_bounded(text: str, sentence: str) -> None:
    assert any(sentence in told for _, told in problems(text))
