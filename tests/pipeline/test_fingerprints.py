"""The fingerprint of a transform covers all that its definition says, and nothing that differs between two machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import Usage
from grafctl.pipeline.message import Message
from pipeline.transforming import transform

STEPS: list[dict[str, Any]] = [
    {"op": "keep", "fields": ["b", "a"]},
    {"op": "set", "fields": {"x": "a + 1", "y": "2"}},
    {"op": "lookup", "field": "a", "into": "z", "file": "table.json", "default": 1},
    {"op": "hash", "fields": ["b"], "salt_file": "salt"},
    {"op": "route", "cases": [{"when": "a > 1", "to": "a"}], "default": "b"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "table.json").write_text('{"1": "one"}')
    (tmp_path / "salt").write_text("pepper\n")
    (tmp_path / "shop.py").write_text("def work(value): return value\ndef other(value): return value\n")
    (tmp_path / "program.sh").write_text("#!/bin/sh\ncat\n")
    return tmp_path


def test_it_is_the_same_for_the_same_definition(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    there = tmp_path_factory.mktemp("there")
    for name in ("table.json", "salt", "shop.py", "program.sh"):
        (there / name).write_bytes((folder / name).read_bytes())
    reordered = [dict(reversed(step.items())) for step in STEPS]
    reordered[1]["fields"] = {"y": "2", "x": "a + 1"}  # in TOML the order of keys means nothing
    message = Message({"a": 1, "b": "x"})
    ones, others = transform(*STEPS, folder=folder), transform(*reordered, folder=there)
    assert repr(ones(message)) == repr(others(message))
    for one, other in (
        (ones, others),
        (transform(folder=folder, call="shop:work"), transform(folder=there, call="shop:work")),
        (transform(folder=folder, exec=["sh", "program.sh"]), transform(folder=there, exec=["sh", "program.sh"])),
    ):
        assert one.fingerprint == other.fingerprint
        assert one.fingerprint.startswith("sha256:") and len(one.fingerprint) == 71


def test_it_never_changes_by_itself(folder: Path) -> None:
    # Replays are checked against fingerprints that rest in stores: this text changes only together with `SEMANTICS`.
    known = "sha256:4c568dd7c4cd6384e3be3ee9a68fe3b47a26340672f67f295ce6b9e4c41293d2"
    assert transform(*STEPS, folder=folder).fingerprint == known
    code = (
        "import pathlib, sys; from pipeline.transforming import transform; "
        "from pipeline.test_fingerprints import STEPS; "
        "print(transform(*STEPS, folder=pathlib.Path(sys.argv[1])).fingerprint)"
    )
    env = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)}
    other = subprocess.run([sys.executable, "-c", code, folder], env=env, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == known


@pytest.mark.parametrize(
    ("at", "key", "value"),
    [
        (0, "fields", ["a", "b"]),
        (0, "op", "drop"),
        (1, "fields", {"x": "a + 1", "y": "3"}),
        (1, "fields", {"x": "a  + 1", "y": "2"}),
        (2, "default", True),
        (2, "into", "zz"),
        (4, "default", "a"),
    ],
)
def test_it_covers_each_key_of_a_step(folder: Path, at: int, key: str, value: Any) -> None:
    changed = [dict(step) for step in STEPS]
    changed[at][key] = value
    assert transform(*changed, folder=folder).fingerprint != transform(*STEPS, folder=folder).fingerprint


def test_it_covers_the_order_and_the_number_of_steps(folder: Path) -> None:
    made = {transform(*steps, folder=folder).fingerprint for steps in (STEPS, STEPS[:-1], STEPS[::-1], [], STEPS * 2)}
    assert len(made) == 5


@pytest.mark.parametrize("name", ["table.json", "salt", "shop.py", "program.sh"])
def test_it_covers_the_bytes_of_files(folder: Path, name: str) -> None:
    def fingerprints() -> list[str]:
        return [
            transform(*STEPS, folder=folder).fingerprint,
            transform(folder=folder, call="shop:work").fingerprint,
            transform(folder=folder, exec=["sh", "program.sh"]).fingerprint,
            transform(folder=folder, exec=["./program.sh"]).fingerprint,
        ]

    before = fingerprints()
    assert len(set(before)) == 4
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    changed = [one != other for one, other in zip(before, fingerprints(), strict=True)]
    assert changed == [name in ("table.json", "salt"), name == "shop.py", *[name == "program.sh"] * 2]


def test_it_covers_the_name_of_a_function_and_the_words_of_a_command(folder: Path) -> None:
    calls = {transform(folder=folder, call=f"shop:{name}").fingerprint for name in ("work", "other")}
    commands = [["cat"], ["cat", "-"], ["cat", "-u"], ["sh"], ["cat -"], ["cat", "", "-"]]
    assert len(calls | {transform(folder=folder, exec=words).fingerprint for words in commands}) == 8


def test_a_stage_has_steps_or_a_function_or_a_program(folder: Path) -> None:
    for more in ({"call": "shop:work"}, {"exec": ["cat"]}):
        with pytest.raises(Usage, match="The stage normalise has more than one of step, call and exec"):
            transform(*STEPS, folder=folder, **more)
    with pytest.raises(Usage, match="has 201 steps; at most 200 are allowed"):
        transform(*[{"op": "filter", "when": "true"}] * 201)
    with pytest.raises(Usage, match="cannot be read"):
        transform({"op": "lookup", "field": "a", "into": "a", "file": "nothing"}, folder=folder)
