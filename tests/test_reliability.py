"""The page on reliability names tests and targets that there are, and every fault of the matrix."""

from __future__ import annotations

import re

from conftest import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text()
FAULTS = 26


def test_what_it_names_is_there() -> None:
    paths = set(re.findall(r"`(tests/[\w/.]+)`", PAGE))
    assert paths and not [path for path in paths if not (ROOT / path).exists()]
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`make (\w+)", PAGE))
    assert targets and not [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


def test_every_fault_of_the_matrix_has_a_row() -> None:
    rows = re.findall(r"^\| (F\d+(?:, F\d+)*) \|", PAGE, re.MULTILINE)
    named = [int(number) for row in rows for number in re.findall(r"\d+", row)]
    assert named == list(range(1, FAULTS + 1))
