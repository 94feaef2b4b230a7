"""Stages for the tests of transforms, without a file that declares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grafctl.pipeline.message import Message, Output, Transform
from grafctl.pipeline.model import DeclaredStage
from grafctl.pipeline.transforms.making import make_transform
from grafctl.store.authority import Placement

HERE = Path(__file__).parent


def stage(
    *steps: Mapping[str, Any], call: str | None = None, exec: Sequence[str] = (), outputs: tuple[str, ...] = ("a", "b")
) -> DeclaredStage:
    return DeclaredStage(
        name="normalise",
        kind="transform",
        source=None,
        input="raw",
        group="normalise",
        filter="all",
        outputs=outputs,
        effects=None,
        sink=None,
        placement=Placement((), ()),
        on_error="dead-letter",
        dead_letter=None,
        batch=500,
        steps=tuple(steps),
        call=call,
        exec=tuple(exec),
        line=1,
    )


def transform(*steps: Mapping[str, Any], folder: Path = HERE, **more: Any) -> Transform:
    return make_transform(stage(*steps, **more), folder)


def outputs(value: Any, *steps: Mapping[str, Any], folder: Path = HERE, **about: Any) -> list[Output]:
    """Returns what steps make of a value."""
    return list(transform(*steps, folder=folder)(Message(value, **about)))


def values(value: Any, *steps: Mapping[str, Any], **more: Any) -> list[Any]:
    return [output.value for output in outputs(value, *steps, **more)]
