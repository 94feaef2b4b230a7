"""`docs/exit-codes.md` and the classes in `grafctl.errors` say the same: number, word, meaning, retry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from grafctl.errors import (
    ERRORS,
    LATER_REASONS,
    NEVER_REASONS,
    DomainUnavailable,
    GrafctlError,
    InvalidConfig,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "exit-codes.md"
HEADER = "| exit | code | meaning | retry |"
RETRYABLE = {"yes": True, "later": True, "no": False, "never": False, "look again": False, "after catch-up": False}


class Row(NamedTuple):
    exit_code: int
    code: str
    meaning: str
    retry: str


def parse_table(text: str) -> list[Row]:
    """Returns the rows below HEADER; code marks are dropped, because the classes hold plain text."""
    lines = text.splitlines()
    start = lines.index(HEADER) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        exit_code, code, meaning, retry = (cell.strip().replace("`", "") for cell in line.strip("|").split("|"))
        rows.append(Row(int(exit_code), code, meaning, retry))
    return rows


def instances(error: type[GrafctlError]) -> list[GrafctlError]:
    """Returns one error of the class for each exit code it may have."""
    if issubclass(error, DomainUnavailable):
        return [error("No.", reason=reason) for reason in ("not_in_placement", "unreachable")]
    if issubclass(error, InvalidConfig):
        return [error("store.toml", [(3, "The domain is named twice.")])]
    return [error("No.")]


def subclasses(error: type[GrafctlError]) -> set[type[GrafctlError]]:
    return {error}.union(*(subclasses(child) for child in error.__subclasses__()))


ROWS = parse_table(PAGE.read_text(encoding="utf-8"))
BY_NUMBER = {row.exit_code: row for row in ROWS}


def test_the_table_has_each_number_once_in_order() -> None:
    numbers = [row.exit_code for row in ROWS]
    assert numbers == sorted(set(numbers))
    assert ROWS[0] == Row(0, "ok", "done, or nothing to do, or an idempotent replay", "")


def test_the_table_has_exactly_the_codes_of_the_classes() -> None:
    raised = {(one.exit_code, one.code) for error in ERRORS for one in instances(error)}
    assert {(row.exit_code, row.code) for row in ROWS[1:]} == raised


def test_errors_lists_every_class_of_the_module() -> None:
    declared = {error for error in subclasses(GrafctlError) - {GrafctlError} if error.__module__ == "grafctl.errors"}
    assert set(ERRORS) == declared
    assert len(ERRORS) == len(declared)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_a_class_is_named_like_its_code(error: type[GrafctlError]) -> None:
    assert re.sub(r"(?<!^)([A-Z])", r"_\1", error.__name__).lower() == error.code


@pytest.mark.parametrize("error", [error for error in ERRORS if error is not DomainUnavailable], ids=lambda e: e.code)
def test_meaning_and_retry_are_those_of_the_table(error: type[GrafctlError]) -> None:
    row = BY_NUMBER[error.exit_code]
    assert (error.code, error.meaning, error.retryable) == (row.code, row.meaning, row.retry)


def test_domain_unavailable_has_a_row_for_never_and_a_row_for_later() -> None:
    never, later = BY_NUMBER[11], BY_NUMBER[12]
    parts = []
    for row, reasons in ((never, NEVER_REASONS), (later, LATER_REASONS)):
        words, _, listed = row.meaning.partition(": ")
        assert set(listed.split(", ")) == reasons
        assert {DomainUnavailable("No.", reason=reason).exit_code for reason in reasons} == {row.exit_code}
        parts.append(f"{words} ({row.exit_code}: {listed})")
    assert DomainUnavailable.meaning == " or ".join(parts)
    assert (DomainUnavailable.exit_code, DomainUnavailable.retryable) == (never.exit_code, never.retry)
    assert (never.retry, later.retry) == ("never", "later")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_json_says_what_the_table_says(error: type[GrafctlError]) -> None:
    for one in instances(error):
        row, body = BY_NUMBER[one.exit_code], one.as_json()
        assert (body["v"], body["ok"], body["code"], body["exit"]) == (1, False, row.code, row.exit_code)
        assert body["retryable"] is RETRYABLE[row.retry]
        assert body["message"]


def test_the_page_explains_every_word_of_the_retry_column() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {row.retry for row in ROWS[1:]} == set(RETRYABLE)
    assert all(f"**{word}**" in text for word in RETRYABLE)


def test_the_parser_reads_a_table_and_stops_at_its_end() -> None:
    text = f"# Page\n\n{HEADER}\n|---|---|---|---|\n| 14 | `fenced` | stale `--epoch` | no |\n\n| 1 | 2 | 3 | 4 |\n"
    assert parse_table(text) == [Row(14, "fenced", "stale --epoch", "no")]
