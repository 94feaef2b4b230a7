"""A page of help that is drawn without the framework is the one that the framework draws."""

from __future__ import annotations

import pytest
import typer

from cli.tree import Leaf, groups, leaves
from grafctl import front, help_page

PAGES = [*groups(), *leaves()]
WIDTHS = [1, 51, 52, 53, 60, 66, 72, 79, 80, 81, 200]

every = pytest.mark.parametrize("leaf", PAGES, ids=lambda leaf: leaf.path)


def drawn_by_the_framework(leaf: Leaf, columns: int) -> str:
    width = max(min(columns, help_page.COLUMNS_MAX) - 2, 50)
    with typer.Context(leaf.command, info_name=leaf.path, terminal_width=width) as context:
        return str(leaf.command.get_help(context)) + "\n"


@every
def test_it_is_the_same_at_every_width(leaf: Leaf, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert help_page.page(list(leaf.words)) == drawn_by_the_framework(leaf, columns)


def test_a_text_of_several_paragraphs_and_a_word_too_long_are_wrapped_alike() -> None:
    def command() -> None:
        """Do it

        One paragraph that is long enough to be wrapped at any width, with at-most-once and a-very-long-word-that-does-
        not-fit-in-any-line-of-a-narrow-terminal-whatever-one-does-with-it-because-it-has-no-end in it.

        Another one.

        Example: grafctl do it
        """

    about, example = help_page.text_of(command)
    assert about.startswith("Do it\n\nOne paragraph") and about.endswith("\n\nAnother one.")
    assert example == "Example:\n  grafctl do it"
    page = help_page.command_page("grafctl do", command, 50)
    assert max(map(len, page.splitlines())) <= 50


@pytest.mark.parametrize("words", [("nonsense",), ("queue", "nonsense"), ("publish", "q"), ("queue", "create", "q")])
def test_what_is_no_page_is_left_to_the_framework(words: tuple[str, ...]) -> None:
    assert help_page.page(list(words)) is None


@pytest.mark.parametrize("words", [["--help"], ["publish", "--help"], ["queue", "create", "--help"], ["--version"]])
def test_it_is_printed_on_stdout(words: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert front.run(words) == 0
    shown, errors = capfdbinary.readouterr()
    assert shown.startswith(b"grafctl " if words == ["--version"] else b"Usage: grafctl ") and not errors
