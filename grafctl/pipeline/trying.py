"""`pipeline test`: the `[[test]]` cases of a file, each through the real transform of its stage.

Promises
- A case passes when the transform gives exactly the expected records, in their order, or refuses each record of the
  input for a reason that holds the text of `refuse`. Of an expected record `to`, `key` and `id` count where they are
  written; numbers, booleans and texts are told apart.
- Values go through the encoder and the decoder of records, so a case sees what a stage will see.
- No store is opened; what a transform holds (a child process) is let go of, whatever happens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches, unified_diff
from itertools import islice
from pathlib import Path
from typing import Any

from grafctl.errors import InvalidConfig, NotFound, Usage
from grafctl.names import shown
from grafctl.pipeline.message import Message, Output, Refused, Transform, decode_value, encode_value
from grafctl.pipeline.model import DeclaredStage, DeclaredTest, Pipeline
from grafctl.pipeline.transforms.making import make_transform
from grafctl.results import Tried

DIFFERENCE_LINES_MAX = 200  # of one case
COMPARED_LINES_MAX = 5000  # longer records are not compared line by line, which takes a time that grows with the square


def try_cases(pipeline: Pipeline, name: str | None = None) -> Tried:
    """Returns what each case, or the one of that name, came to; raises `NotFound`, or `InvalidConfig` for a transform
    that cannot be made."""
    tests = [test for test in pipeline.tests if name in (None, test.name)]
    if name is not None and not tests:
        close = get_close_matches(name, [test.name for test in pipeline.tests], 1)
        hint = f"Did you mean {close[0]}?" if close else "Run `grafctl pipeline test FILE` to see its cases."
        raise NotFound(f"{pipeline.file} has no test {shown(name)}.", hint=hint, test=name)
    stages = {stage.name: stage for stage in pipeline.stages}
    cases = [_case(pipeline.file, stages[test.stage], test) for test in tests]
    passed = sum(case["passed"] for case in cases)
    return Tried(pipeline.name, passed, len(cases) - passed, cases)


def _case(file: Path, stage: DeclaredStage, test: DeclaredTest) -> dict[str, Any]:
    try:
        transform = make_transform(stage, file.absolute().parent)
    except Usage as error:
        raise InvalidConfig(str(file), [(stage.line, f"{error.message} {error.hint or ''}".rstrip())]) from None
    try:
        difference = list(islice(_difference(transform, stage, test), DIFFERENCE_LINES_MAX))
    finally:
        transform.close()
    body = {"test": test.name, "stage": stage.name, "passed": not difference, "file": str(file), "line": test.line}
    return body | ({"difference": difference} if difference else {})


def _difference(transform: Transform, stage: DeclaredStage, test: DeclaredTest) -> Iterator[str]:
    """Yields, line by line, what was expected and is not so; nothing where all is."""
    found: list[Output] = []
    for number, record in enumerate(test.input, 1):
        try:
            outputs = transform(_message(record, number))
        except Refused as refused:
            if test.refuse is None:
                yield f"input {number} was refused: {refused}"
            elif test.refuse not in str(refused):
                yield f"input {number} was refused, but not for {shown(test.refuse)}: {refused}"
        else:
            found += outputs
            if test.refuse is not None:
                yield f"input {number} was not refused, and became {_count(len(outputs))}"
    if test.refuse is None:
        yield from _of_records(stage, test.expect, found)


def _message(record: Mapping[str, Any], number: int) -> Message:
    value = decode_value(encode_value(record["value"]))
    return Message(value, record.get("id"), record.get("key"), record.get("headers"), number - 1)


def _of_records(stage: DeclaredStage, expected: Sequence[Mapping[str, Any]], found: Sequence[Output]) -> Iterator[str]:
    if len(expected) != len(found):
        yield f"{_count(len(expected))} expected, {len(found)} found"
    for number in range(max(len(expected), len(found))):
        wanted = _wanted(expected[number]) if number < len(expected) else None
        # Of what was found only that which the case speaks of.
        made = _made(stage, found[number], wanted or {}) if number < len(found) else None
        if _text(wanted) != _text(made):
            yield f"record {number + 1}: - expected, + found"
            yield from _lines(_text(wanted), _text(made))


def _wanted(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "value": decode_value(encode_value(record["value"]))}


def _made(stage: DeclaredStage, output: Output, wanted: Mapping[str, Any]) -> dict[str, Any]:
    all_of_it = {
        "value": decode_value(encode_value(output.value)),
        "to": output.to or next(iter(stage.outputs), None),
        "key": output.key,
        "id": output.id,
    }
    return {name: all_of_it[name] for name in wanted or ("value", "to")}


def _text(record: Mapping[str, Any] | None) -> list[str]:
    """Returns a record line by line, so that two records can be compared and shown beside each other."""
    return [] if record is None else json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False).split("\n")


def _lines(expected: list[str], found: list[str]) -> Iterator[str]:
    if len(expected) + len(found) > COMPARED_LINES_MAX:
        at = next((at for at, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), 0)
        yield from (f"- {line}" for line in expected[at : at + 1])
        yield from (f"+ {line}" for line in found[at : at + 1])
        return
    lines = unified_diff(expected, found, n=2, lineterm="")
    yield from (line[0] + " " + line[1:] for line in lines if not line.startswith(("---", "+++", "@@")))


def _count(number: int) -> str:
    return f"{number} record{'s' if number != 1 else ''}"
