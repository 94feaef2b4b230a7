"""Every pipeline in `examples/` holds in itself, says what it shows, and keeps to its own comments."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from bench import orders_by_hand as by_hand
from grafctl.pipeline import declaring, model

EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.toml") if "\n[pipeline]\n" in path.read_text())


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"mirrored-etl.toml", "webhooks.toml"}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_declares_a_pipeline_with_tests(file: Path) -> None:
    pipeline = declaring.read(file)
    assert pipeline.tests, "an example shows how a transform is tested"
    tried = {test.stage for test in pipeline.tests}
    assert tried == {stage.name for stage in pipeline.stages if stage.kind == model.TRANSFORM}
    assert max(map(len, file.read_text().splitlines())) <= 120


def test_what_is_measured_by_hand_has_the_columns_of_the_example() -> None:
    (sink,) = declaring.read(ROOT / "examples" / "mirrored-etl.toml").sinks
    assert tuple(sink.columns) == by_hand.COLUMNS
