"""Declared pipelines: what a good file means, and every problem of a bad one with the line that has to be mended."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from grafctl.declare.document import read_text
from grafctl.declare.store import Declaration
from grafctl.errors import InvalidConfig, NotFound
from grafctl.pipeline import declaring
from grafctl.pipeline.declaring_store import parse_store
from grafctl.store.authority import Placement
from pipeline.declared import FILE, FOLDER, GOOD, MARK, marked, parse, problems, spoilt

# --- good files


def read_store(file: Path) -> Declaration:
    return parse_store(read_text(file), file, file.parent)


def test_what_a_file_says_is_what_the_model_holds() -> None:
    found = parse(GOOD)
    (source,), (sink,) = found.sources, found.sinks
    take, tidy, keep = found.stages
    assert (found.name, found.file) == ("flow", FILE)
    assert (source.kind, source.paths, source.command, source.headers) == ("jsonl", (FOLDER / "in.jsonl",), (), {})
    assert (sink.path, sink.table, sink.key, sink.columns, sink.types) == (
        *(FOLDER / "rows.db", "rows", "_id", {"id": "_id"}, {}),
    )
    assert (take.source, take.input, take.outputs, take.effects) == ("file", None, ("raw",), None)
    assert (take.on_error, take.dead_letter, take.batch) == ("dead-letter", "bad", 500)
    assert (tidy.input, tidy.group, tidy.outputs, tidy.effects) == ("raw", "tidy", ("clean", "bad"), "seen")
    assert (tidy.steps, tidy.call, tidy.exec) == (({"op": "filter", "when": "total > 0"},), None, ())
    assert (keep.sink, keep.filter, keep.placement) == ("rows", "key:acme/", Placement(("aws",), ()))
    assert keep.line == GOOD[: GOOD.index('name = "keep"')].count("\n")
    (test,) = found.tests
    assert (test.stage, test.input) == ("tidy", ({"value": {"total": 1}, "id": "1"},))
    assert (test.expect, test.refuse) == (({"value": {"total": 1}, "to": "clean"},), None)


def test_a_stage_brings_its_group_and_its_placement_is_the_group_s() -> None:
    raw = parse(GOOD).declaration.resource("raw")
    clean = parse(GOOD).declaration.resource("clean")
    assert raw is not None and clean is not None
    (group,) = raw.groups
    assert (group.name, group.placement) == ("tidy", Placement(("aws", "gcp"), ()))
    assert (group.semantics, group.start, group.max_deliveries) == ("effectively-once", "earliest", None)
    assert [(group.name, group.filter) for group in clean.groups] == [("keep", "key:acme/")]


def test_a_declared_group_gives_a_stage_its_placement() -> None:
    text = spoilt(
        '[[topic]]\nname = "clean"', '[[queue.group]]\nname = "t"\nallow = ["gcp"]\n[[topic]]\nname = "clean"'
    )
    text = text.replace('effects = "seen"\nallow = ["aws", "gcp"]', 'effects = "seen"\ngroup = "t"')
    examined = declaring.examine(text.encode(), FILE, FOLDER)
    runs = [spot.domain for spot in examined.spots if spot.stage == "tidy" and spot.runs]
    raw = examined.pipeline.declaration.resource("raw")
    assert runs == ["gcp"] and raw is not None
    assert examined.pipeline.stages[1].placement == Placement(("gcp",), ())
    assert [group.name for group in raw.groups] == ["t"]


def test_an_ingest_without_a_place_for_bad_records_stops() -> None:
    assert parse(spoilt('dead_letter = "bad"\n', "")).stages[0].on_error == "stop"


def test_a_record_of_a_test_may_be_json_for_what_toml_cannot_say() -> None:
    text = spoilt('input = [{ value = { total = 1 }, id = "1" }]', """input = [{ json = '{"total": null}' }]""")
    assert parse(text).tests[0].input == ({"value": {"total": None}},)


def test_standard_input_is_no_file_of_the_folder() -> None:
    assert parse(spoilt('path = "in.jsonl"', 'path = "-"')).sources[0].paths == (Path("-"),)


def test_the_example_has_no_problem_and_nothing_to_note() -> None:
    examined = declaring.examine_file(ROOT / "examples" / "pipeline.toml")
    assert not examined.notes
    assert [stage.name for stage in examined.pipeline.stages] == ["take", "clean", "load"]


def test_a_store_file_without_a_pipeline_is_read_as_it_was() -> None:
    file = ROOT / "examples" / "provider-migration.toml"
    assert [resource.name for resource in read_store(file).resources] == ["migration-orders"]
    with pytest.raises(InvalidConfig, match="problem"):
        declaring.read(file)


def test_what_is_declared_for_a_pipeline_is_what_apply_makes() -> None:
    found = read_store(ROOT / "examples" / "pipeline.toml").resource("raw-orders")
    assert found is not None and [group.name for group in found.groups] == ["clean"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot be read"):
        declaring.read(tmp_path / "none.toml")


# --- one problem, told once, with its line


def check(old: str, new: str, sentence: str) -> None:
    text = spoilt(old, new)
    found = problems(text)
    assert len(found) == 1 and sentence in found[0][1], found
    assert [line for line, _ in found] == marked(text), found


def test_the_good_file_has_no_mark() -> None:
    assert MARK not in GOOD and parse(GOOD)


TABLES = [
    ('[pipeline]\nname = "flow"\n', "#!\n", "has no [pipeline]"),
    ('name = "flow"', 'name = "../x" #!', "is no name for a pipeline"),
    ('name = "flow"', 'name = "flow"\nnmae = 1 #!', "did you mean name?"),
    ("[[test]]", "[[tset]] #!", "did you mean test?"),
    ("[[test]]", "[[stagee]] #!", "did you mean stage?"),
    ("[pipeline]", "[[pipeline]] #!", "written as [pipeline]"),
    ('kind = "jsonl"', "kind = 7 #!", "kind of source 'file' is text, not a number"),
    ('kind = "jsonl"', 'kind = "kafka" #!', "'kafka' is no kind of a source; take jsonl, csv or exec."),
    ('[[source]]\nname = "file"\nkind = "jsonl"\npath = "in.jsonl"',
     '[[source]] #!\nname = "file"\nkind = "csv"', "has no path"),
    ('path = "in.jsonl"', 'paths = [] #!', "paths of source 'file' is empty"),
    ('path = "in.jsonl"', 'path = "a"\npaths = ["b"] #!', "has path and paths"),
    ('path = "in.jsonl"', 'paths = ["-", "-"] #!', "reads standard input twice"),
    ('path = "in.jsonl"', 'path = "a\\u0000" #!', "is not a path"),
    ('path = "in.jsonl"', 'path = "a"\ncommand = ["cat"] #!', "command, which means nothing"),
    ('[[source]]\nname = "file"\nkind = "jsonl"\npath = "in.jsonl"',
     '[[source]] #!\nname = "file"\nkind = "exec"', "has no command, which a source of the kind exec needs"),
    ('path = "in.jsonl"', 'path = "a"\nkey = "1 +" #!', "is no expression"),
    ('path = "in.jsonl"', 'path = "a"\nheaders = { type = "type(" } #!', "Character 5 of the expression"),
    ('path = "in.jsonl"', 'path = "a"\nheaders = { type = 3 } #!', "is text, not a number"),
    ('path = "in.jsonl"', 'path = "a"\n[[source]]\nname = "file" #!\nkind = "jsonl"\npath = "b"',
     "another source 'file'"),
    ('kind = "sqlite"', 'kind = "oracle" #!', "is no kind of a sink"),
    ('table = "rows"', 'table = "rows; drop" #!', "is not the name of a table"),
    ('[[sink]]\nname = "rows"\nkind = "sqlite"\npath = "rows.db"\ntable = "rows"\nkey = "_id"',
     '[[sink]] #!\nname = "rows"\nkind = "sqlite"\npath = "rows.db"\ntable = "rows"', "has no key"),
    ('columns = { id = "_id" }', "columns = {} #!", "has no columns"),
    ('columns = { id = "_id" }', 'columns = { "a b" = "_id" } #!', "is not the name of a column"),
    ('columns = { id = "_id" }', 'columns = { id = "_id", n = "_id +" } #!', "is no expression"),
    ('columns = { id = "_id" }', 'columns = { id = "_id" }\ntypes = { id = "blob" } #!', "is no type of a column"),
    ('columns = { id = "_id" }', 'columns = { id = "_id" }\ntypes = { ids = "real" } #!', "none of its columns"),
    ('path = "rows.db"', 'path = "-" #!', "not standard output"),
    ('kind = "sqlite"\npath = "rows.db"\ntable = "rows"', 'kind = "jsonl"\npath = "-" #!', "not standard output"),
    ('table = "rows"', 'table = "main.grafctl_effects" #!', "holds the effect keys"),
    ('columns = { id = "_id" }', 'columns = { id = "_id", ID = "_id" } #!', "are one to a warehouse"),
    ('kind = "sqlite"\npath = "rows.db"\ntable = "rows"\nkey = "_id"\ncolumns = { id = "_id" }',
     'kind = "jsonl"\npath = "x"\nkey = "_id"\ncolumns = { _effect = "_id" } #!', "holds the effect key;"),
    ('path = "rows.db"', 'path = "a.db"\nvariable = "X" #!', "variable, which means nothing"),
]  # fmt: skip

STAGES = [
    ('name = "keep"', 'name = "" #!', "The name of a stage is empty"),
    ('kind = "transform"', 'kind = "filter" #!', "is no kind of a stage"),
    ('source = "file"', 'source = "flie" #!', "names the source 'flie'; did you mean file?"),
    ('input = "raw"', 'input = "rwa" #!', "names the queue or topic 'rwa'; did you mean raw?"),
    ('input = "raw"', 'input = "seen" #!', "names the queue or topic 'seen'"),
    ('output = "raw"', 'output = "zzz" #!', "names the queue or topic 'zzz', which this file does not declare."),
    ('outputs = ["clean", "bad"]', 'outputs = [\n"clean",\n"bed"] #!', "did you mean bad?"),
    ('outputs = ["clean", "bad"]', 'outputs = ["clean", "bad", "bad"] #!', "names 'bad' twice"),
    ('effects = "seen"', 'effects = "raw" #!', "names the idempotency store 'raw'"),
    ('dead_letter = "bad"', 'dead_letter = "bda" #!', "did you mean bad?"),
    ('sink = "rows"', 'sink = "row" #!', "did you mean rows?"),
    ('source = "file"', 'source = "file"\ninput = "raw" #!',
     "input, which means nothing to a stage of the kind ingest"),
    ('source = "file"', 'source = "file"\noutputs = ["raw"] #!', "outputs, which means nothing"),
    ('source = "file"', 'source = "file"\ncall = "a:b" #!', "call, which means nothing to a stage of the kind ingest"),
    ('sink = "rows"', 'sink = "rows"\nstep = [{ op = "drop", fields = ["a"] }] #!', "step, which means nothing"),
    ('sink = "rows"', 'sink = "rows"\noutput = "bad" #!', "output, which means nothing to a stage of the kind sink"),
    ('kind = "sink"\ninput = "clean"\nfilter', 'kind = "sink"\ninput = "clean"\ndead_letter = "bad" #!\nfilter',
     "dead_letter, which means nothing"),
    ('[[stage]]\nname = "take"\nkind = "ingest"\nsource = "file"\noutput = "raw"',
     '[[stage]] #!\nname = "take"\nkind = "ingest"\nsource = "file"', "has no output"),
    ('[[stage]]\nname = "keep"\nkind = "sink"\ninput = "clean"\nfilter = "key:acme/"\nsink = "rows"',
     '[[stage]] #!\nname = "keep"\nkind = "sink"\ninput = "clean"\nfilter = "key:acme/"', "has no sink"),
    ('filter = "key:acme/"', 'filter = "name:x" #!', "is no filter"),
    ('filter = "key:acme/"', 'filter = "expr:(1" #!', ""),
    ('input = "raw"', 'input = "raw"\nfilter = "key:x" #!', "only the subscription of a topic"),
    ('input = "raw"', 'input = "raw"\nbatch = 0 #!', "size of a batch"),
    ('input = "raw"', 'input = "raw"\nbatch = true #!', "batch of stage 'tidy' is a whole number"),
    ('input = "raw"', 'input = "raw"\non_error = "drop" #!', "is no rule for errors; take dead-letter or stop."),
    ('dead_letter = "bad"', 'on_error = "dead-letter" #!', "has no dead_letter to put refused records in"),
    ('dead_letter = "bad"', 'on_error = "stop"\ndead_letter = "bad" #!', "nothing ever goes to its dead_letter"),
    ('input = "raw"', 'input = "raw"\ncall = "os:system" #!', "has step and call"),
    ('[[stage.step]]\nop = "filter"\nwhen = "total > 0"', 'call = "os.system" #!', "is not module:function"),
    ('[[stage.step]]\nop = "filter"\nwhen = "total > 0"', "exec = [] #!", "exec of stage 'tidy' is empty"),
    ('[[stage.step]]\nop = "filter"\nwhen = "total > 0"', 'exec = ["a", 2] #!',
     "is a list of texts, and holds a number"),
    ('name = "keep"\nkind = "sink"', 'name = "tidy" #!\nkind = "sink"',
     "There is another stage 'tidy' before this one."),
    ('kind = "sink"', 'kind = "sink"\nparallel = 3 #!', "has no key 'parallel'"),
]  # fmt: skip

STEP = 'op = "filter"\nwhen = "total > 0"'
STEPS = [
    (STEP, 'op = "fliter" #!\nwhen = "total > 0"', "'fliter' is no operation; did you mean filter?"),
    ('[[stage.step]]\nop = "filter"\nwhen = "total > 0"', '[[stage.step]] #!\nop = "filter"', "(filter) has no when"),
    (STEP, 'op = "filter"\nwhen = "total >" #!', "is no expression"),
    (STEP, 'op = "filter"\nwhen = "text(total)" #!', "The expression gives text, and this has to be true or false."),
    (STEP, 'op = "route"\nto = "total > 1" #!', "The expression gives true or false, and this has to be text."),
    (STEP, 'op = "filter"\nwhen = "true"\nwhere = "x" #!',
     "step 1 of stage 'tidy' (filter) has no key 'where'; did you mean when?"),
    (STEP, 'op = "keep"\nfields = [] #!', "is empty"),
    (STEP, 'op = "keep"\nfields = "a" #!', "is a list of fields, not text"),
    (STEP, 'op = "drop"\nfields = ["a..b"] #!', "'a..b' is no path"),
    (STEP, 'op = "drop"\nfields = [\n"a",\n3] #!', "holds a number"),
    (STEP, 'op = "rename"\nfields = { a = "" } #!', "is no path"),
    (STEP, 'op = "set"\nfields = { a = 3 } #!', "is text, not a number"),
    (STEP, 'op = "set"\n[stage.step.fields]\na = "1"\nb = "1 1" #!', ""),
    (STEP, 'op = "cast"\nfields = { a = "decimal" } #!', "is not a type"),
    (STEP, 'op = "cast"\nfields = { a = "decimal:19" } #!', "is not a type"),
    (STEP, 'op = "lookup" \nfield = "a"\ninto = "b"\ntable = {} #!',
     "table of step 1 of stage 'tidy' (lookup) is empty"),
    (STEP, 'op = "lookup"\nfield = "a"\ninto = "b"\ntable = { x = 1979-05-27 } #!', "no dates"),
    (STEP, 'op = "lookup"\nfield = "a"\ninto = "b"\ntable = { x = 1 } #!\nfile = "t.json"', "takes table or file"),
    (STEP, 'op = "lookup"\nfield = "a"\ninto = "b"\ntable = { x = 1 }\ndefault = nan #!', "no nan"),
    (STEP, 'op = "explode"\nfield = "a"\nindex = 3 #!', "is text, not a number"),
    (STEP, 'op = "hash"\nfields = ["a"]\nsalt = "x" #!', "did you mean salt_file?"),
    (STEP, 'op = "route"\nto = "1 +" #!', ""),
    (STEP, 'op = "route"\nto = "kind"\ndefault = "raw" #!',
     "'raw' is no output of this stage, which has only 'clean', 'bad'."),
    (STEP, 'op = "route"\ncases = [] #!', "is empty"),
    (STEP, 'op = "route"\ncases = [{ when = "true", to = "raw" }] #!', "'raw' is no output of this stage"),
    (STEP, 'op = "route"\ncases = [{ when = "true", to = "bad", else = 1 }] #!',
     "case 1 of step 1 of stage 'tidy' (route) has no key 'else'"),
]  # fmt: skip

TESTS = [
    ('stage = "tidy"', 'stage = "tdy" #!', "names the stage 'tdy'; did you mean tidy?"),
    ('input = [{ value = { total = 1 }, id = "1" }]', "input = [] #!", "input of test 'positive' is empty"),
    ('[[test]]\nname = "positive"\nstage = "tidy"\ninput = [{ value = { total = 1 }, id = "1" }]',
     '[[test]] #!\nname = "positive"\nstage = "tidy"', "has no input"),
    ('input = [{ value = { total = 1 }, id = "1" }]', "input = [{ value = 1, payload = 2 }] #!",
     "input 1 of test 'positive' has no key"),
    ('input = [{ value = { total = 1 }, id = "1" }]', 'input = [{ id = "1" }] #!', "takes value or json"),
    ('input = [{ value = { total = 1 }, id = "1" }]', "input = [{ json = '{' }] #!", "This is no record."),
    ('input = [{ value = { total = 1 }, id = "1" }]', "input = [{ value = [07:32:00] }] #!", "no dates and times"),
    ('to = "clean" }]', 'to = "raw" }] #!', "expect 1 of test 'positive' goes to 'raw', which is no output"),
    ('to = "clean" }]', 'to = "clean" }]\nrefuse = "x" #!', "takes expect"),
    ('expect = [{ value = { total = 1 }, to = "clean" }]', 'refuse = "" #!', "refuse is a part of the reason"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), [*TABLES, *STAGES, *STEPS, *TESTS])
def test_a_problem_is_told_with_its_line(old: str, new: str, sentence: str) -> None:
    check(old, new, sentence)
