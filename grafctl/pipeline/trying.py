"""`pipeline test`: the `[[test]]` cases of a file, each through what its stage does with records.

A `transform` stage runs its transform. An `ingest` stage gives each record the id and the key that its source makes of
it; a `sink` stage makes rows, with the columns as the value and the effect key as the key.

Promises
- A case passes when the stage gives exactly the expected records, in their order, or refuses each record of the input
  for a reason that holds the text of `refuse`. Of an expected record `to`, `key` and `id` count where they are
  written; numbers, booleans and texts are told apart.
- Values go through the encoder and the decoder of records, so a case sees what a stage will see.
- No store is opened; what a transform holds (a child process) is let go of, whatever happens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches, unified_diff
from itertools import islice
from typing import Any

from grafctl.errors import InvalidConfig, NotFound, Usage
from grafctl.names import shown
from grafctl.pipeline.message import Message, Output, Refused, Transform, decode_value, encode_value
from grafctl.pipeline.model import INGEST, SINK, DeclaredSink, DeclaredSource, DeclaredStage, DeclaredTest, Pipeline
from grafctl.pipeline.sinks.rows import RowMaker
from grafctl.pipeline.sources.naming import Naming
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
    cases = [_case(pipeline, test) for test in tests]
    passed = sum(case["passed"] for case in cases)
    return Tried(pipeline.name, passed, len(cases) - passed, cases)


def _case(pipeline: Pipeline, test: DeclaredTest) -> dict[str, Any]:
    stage = next(stage for stage in pipeline.stages if stage.name == test.stage)
    try:
        transform = _transform(pipeline, stage)
    except Usage as error:
        why = f"{error.message} {error.hint or ''}".rstrip()
        raise InvalidConfig(str(pipeline.file), [(stage.line, why)]) from None
    try:
        difference = list(islice(_difference(transform, stage, test), DIFFERENCE_LINES_MAX))
    finally:
        transform.close()
    where = {"file": str(pipeline.file), "line": test.line}
    body: dict[str, Any] = {"test": test.name, "stage": stage.name, "passed": not difference, **where}
    return body | ({"difference": difference} if difference else {})


def _transform(pipeline: Pipeline, stage: DeclaredStage) -> Transform:
    """Returns what a stage does with records."""
    if stage.kind == INGEST:
        return _Naming(next(source for source in pipeline.sources if source.name == stage.source))
    if stage.kind == SINK:
        return _Rows(next(sink for sink in pipeline.sinks if sink.name == stage.sink))
    return make_transform(stage, pipeline.file.absolute().parent)


class _Naming:
    """Records with the names that a source gives them."""

    fingerprint = ""

    def __init__(self, source: DeclaredSource) -> None:
        self._naming = Naming(source)

    def __call__(self, message: Message) -> Sequence[Output]:
        try:
            names = self._naming.of(message.value)
        except ValueError as error:
            raise Refused(str(error)) from None
        return [Output(message.value, None, names.key, names.id, names.headers)]

    def close(self) -> None:
        """Holds nothing."""


class _Rows(_Naming):
    """Records as rows of a sink."""

    def __init__(self, sink: DeclaredSink) -> None:
        self._make, self._columns = RowMaker(sink), list(sink.columns)

    def __call__(self, message: Message) -> Sequence[Output]:
        row = self._make(message)
        values = [value.isoformat() if isinstance(value, datetime) else value for value in row.values]
        return [Output(dict(zip(self._columns, values, strict=True)) if self._columns else values[0], key=row.effect)]


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
