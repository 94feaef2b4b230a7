"""A stage's transform, made of what is declared, with a fingerprint of its whole definition.

Promises
- `make_transform` returns a transform, or raises `Usage` with a sentence for a definition that is none. No child
  process is started before the first record.
- Two transforms have one fingerprint where their definitions are the same byte for byte: the steps with the files that
  they look into and the salts; the source of the module of a `call`; the command of an `exec` and the files it names.
  The same definition has the same fingerprint in every domain and in every version of Python.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from grafctl.errors import Usage
from grafctl.expression import values
from grafctl.names import shown
from grafctl.pipeline.message import Transform
from grafctl.pipeline.model import DeclaredStage
from grafctl.pipeline.transforms.calling import Call, make_call, source_of
from grafctl.pipeline.transforms.executing import Exec
from grafctl.pipeline.transforms.steps import STEPS_MAX, Steps, compile_step

SEMANTICS = 1  # grows when a step or an expression comes to mean something else


def make_transform(stage: DeclaredStage, folder: Path) -> Transform:
    """Returns what a stage does with each record; `folder` is that of the pipeline's file."""
    if bool(stage.steps) + (stage.call is not None) + bool(stage.exec) > 1:
        raise Usage(f"The stage {stage.name} has more than one of step, call and exec.")
    if stage.call is not None:
        function, module = make_call(stage.call, folder)
        return Call(stage.call, function, module, fingerprint_of(call=stage.call, source=_digest(source_of(module))))
    if stage.exec:
        return Exec(stage.exec, folder, fingerprint_of(exec=list(stage.exec), files=_files(stage.exec, folder)))
    return _make_steps(stage, folder)


def _make_steps(stage: DeclaredStage, folder: Path) -> Steps:
    if len(stage.steps) > STEPS_MAX:
        raise Usage(f"The stage {stage.name} has {len(stage.steps)} steps; at most {STEPS_MAX} are allowed.")
    made = []
    for number, step in enumerate(stage.steps, 1):
        try:
            made.append(compile_step(step, stage.outputs, folder))
        except Usage as error:
            raise Usage(f"Step {number} of the stage {stage.name}: {error.message}", hint=error.hint) from None
    files = [dict(step.digests) for step in made]
    return Steps(made, fingerprint_of(steps=[dict(step) for step in stage.steps], files=files))


def fingerprint_of(**definition: Any) -> str:
    """Returns the fingerprint of a definition."""
    return f"sha256:{_digest(values.canonical({'semantics': SEMANTICS, **definition}))}"


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _files(command: tuple[str, ...], folder: Path) -> list[str | None]:
    """Returns the digest of the file that each word of a command names, or None for a word that names none."""
    return [_file(word, folder, is_program=not at) for at, word in enumerate(command)]


def _file(word: str, folder: Path, *, is_program: bool) -> str | None:
    # A program without a slash is looked for in PATH, and what is there is of each machine.
    if not word or "\0" in word or (is_program and "/" not in word):
        return None
    try:
        path = folder / word
        if not path.is_file():
            return None
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise Usage(f"The file {shown(word)} cannot be read: {error.strerror}.") from None
