"""The table of mutants stays true, and some of them are tried in each run; `make mutants` tries them all."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest
from model.mutants import MUTANTS as MODELLED

from mutants.mutant import Mutant
from mutants.protocol import LISTED, NOT_BUILT
from mutants.running import ROOT, Copy
from mutants.table import MUTANTS

NAMES = [mutant.name for mutant in MUTANTS]
# Those that one quick test file catches; the others are for the long run.
QUICK = [
    mutant for mutant in MUTANTS if len(mutant.tests) == 1 and mutant.tests[0].startswith(("tests/unit/", "tests/st"))
]
TRIED = 2


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_old_text_of_a_mutant_is_there_once(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, "the code has changed: change the mutant with it"
    assert mutant.old != mutant.new and mutant.why.endswith(".") and mutant.tests
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
    assert all((ROOT / test.partition("::")[0]).exists() for test in mutant.tests)


def test_each_error_of_the_protocol_is_caught_by_a_mutant_that_exists() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 25
    modelled = {mutant.name for mutant in MODELLED}
    for name, caught_by in LISTED.items():
        for item in caught_by:
            kind, _, what = item.partition(":")
            if kind == "test":
                path, _, function = what.partition("::")
                assert f"def {function}(" in (ROOT / "tests" / path).read_text(encoding="utf-8"), name
            else:
                assert what in {"model": modelled, "product": set(NAMES)}[kind], name
    assert not LISTED.keys() & NOT_BUILT.keys()


def test_some_mutants_are_caught(tmp_path: Path, seed: int) -> None:
    # Others with each change of the product, so that in time all of the quick ones are tried, also in CI.
    seed ^= zlib.crc32(b"".join(file.read_bytes() for file in sorted((ROOT / "grafctl").rglob("*.py"))))
    copy = Copy(tmp_path)
    for mutant in random.Random(seed).sample(QUICK, TRIED):
        caught = copy.hunt(mutant)
        assert caught.by is not None, f"{mutant.name} survives: {mutant.why}"
