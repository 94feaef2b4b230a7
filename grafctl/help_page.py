"""A page of help, drawn from the same declarations that read the command line, without the framework.

Promises
- A page is the one that the framework would draw, letter for letter and at any width
  (`tests/cli/test_help_page.py` compares them).
- Nothing is imported to wrap a text that fits on its line.
"""

from __future__ import annotations

import os

from grafctl.commands.declared import Argument
from grafctl.commands.tree import COMMANDS, GROUPS, function_of
from grafctl.quick import Word, words_of
from grafctl.typed import Any, Callable, Iterator

PROGRAM = "grafctl"
SUMMARY = "Keep durable work in several failure domains, and move it between them"
COLUMNS_MAX, COLUMNS_MIN = 80, 52
_FIRST_COLUMN_MAX = 30
_HELP = ("--help", "Show this message and exit.")

Rows = list[tuple[str, str]]


def page(words: list[str]) -> str | None:
    """Returns the page of the program, of a group or of a command, or None where there is no such thing."""
    path, width = " ".join((PROGRAM, *words)), _columns() - 2
    if not words or (len(words) == 1 and words[0] in GROUPS):
        return group_page(path, words[0] if words else "", width)
    if len(words) == 1 and words[0] in COMMANDS:
        return command_page(path, function_of(COMMANDS[words[0]], words[0]), width)
    if len(words) == 2 and words[0] in GROUPS and words[1] in GROUPS[words[0]][1].split():
        return command_page(path, function_of(*words), width)
    return None


def _columns() -> int:
    """Returns how wide a page may be, as `shutil` finds it."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(1).columns
        except OSError:
            columns = 0
    return max(min(columns or COLUMNS_MAX, COLUMNS_MAX), COLUMNS_MIN)


def text_of(function: Callable[..., None]) -> tuple[str, str]:
    """Returns what the docstring of a command says: the help, and the example with its heading."""
    first, *rest = (function.__doc__ or "").expandtabs().split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in rest if line.strip()), default=0)
    text = "\n".join([first.strip(), *(line[margin:].rstrip() for line in rest)]).strip()
    about, _, example = text.partition("\n\nExample: ")
    return about, f"Example:\n  {example}"


def command_page(path: str, function: Callable[..., None], width: int) -> str:
    """Returns the page of one command."""
    about, example = text_of(function)
    words = list(words_of(function))
    arguments = [word for word in words if isinstance(word.declared, Argument)]
    options = [word for word in words if not isinstance(word.declared, Argument)]
    optional = [word.name for word in words if not word.is_required]
    defaults = dict(zip(optional, function.__defaults__ or (), strict=True))
    parts = [_usage(path, " ".join(["[OPTIONS]", *map(_piece, arguments)]), width), _paragraphs(about, width, "  ")]
    for heading, found in (("Arguments", arguments), ("Options", options)):
        rows = [(_name_of(word), _meaning_of(word, defaults.get(word.name))) for word in found]
        rows += [_HELP] if heading == "Options" else []
        parts += [_table(heading, rows, width)] if rows else []
    return "\n".join([*parts, f"{example}\n"])


def group_page(path: str, group: str, width: int) -> str:
    """Returns the page of a group, or of the program itself."""
    if group:
        about, options = GROUPS[group][0], [_HELP]
        commands = [(name, text_of(function_of(group, name))[0]) for name in GROUPS[group][1].split()]
    else:
        about, options = SUMMARY, [("--version", "Print the version"), _HELP]
        commands = [(name, text_of(function_of(module, name))[0]) for name, module in COMMANDS.items()]
        commands += [(name, GROUPS[name][0]) for name in GROUPS]
    most = width - 6 - max(len(name) for name, _ in commands)
    rows = [(name, _shortened(text.partition("\n\n")[0], most)) for name, text in commands]
    usage = _usage(path, "[OPTIONS] COMMAND [ARGS]...", width)
    tables = (_table("Options", options, width), _table("Commands", rows, width))
    return "\n".join((usage, _paragraphs(about, width, "  "), *tables))


def _piece(word: Word) -> str:
    name = word.declared.metavar or ""
    return name if word.is_required or name.startswith("[") else f"[{name}]"


def _name_of(word: Word) -> str:
    flags = ", ".join(sorted(word.declared.flags, key=lambda flag: len(flag) - len(flag.lstrip("-"))))
    return " ".join(filter(None, (flags, None if word.is_flag else word.declared.metavar)))


def _meaning_of(word: Word, default: Any) -> str:
    says = [f"env var: {word.declared.envvar}"] if word.declared.envvar else []
    shown = word.declared.show_default
    if isinstance(shown, str):
        says.append(f"default: ({shown})")
    elif shown and not word.is_required and default not in (None, False):
        says.append(f"default: {default}")
    says += ["required"] if word.is_required else []
    return word.declared.help + (f"  [{'; '.join(says)}]" if says else "")


def _shortened(text: str, most: int) -> str:
    """Returns as many words of a line as fit."""
    if len(text) <= most:
        return text
    words = text.split()
    while len(" ".join(words)) + 3 > most:
        words.pop()
    return " ".join(words) + "..."


def _usage(path: str, pieces: str, width: int) -> str:
    start = f"Usage: {path} "
    if width >= len(start) + 20:
        return _filled(pieces, width, start, " " * len(start)) + "\n"
    return f"{start}\n{_filled(pieces, width, ' ' * 11, ' ' * 11)}\n"


def _paragraphs(text: str, width: int, indent: str) -> str:
    return "\n\n".join(_filled(" ".join(part.split("\n")), width, indent, indent) for part in text.split("\n\n")) + "\n"


def _table(heading: str, rows: Rows, width: int) -> str:
    return f"{heading}:\n" + "".join(f"{line}\n" for line in _table_lines(rows, width))


def _table_lines(rows: Rows, width: int) -> Iterator[str]:
    first = min(max(len(name) for name, _ in rows), _FIRST_COLUMN_MAX) + 2
    for name, meaning in rows:
        lines = _filled(meaning, max(width - first - 2, 10), "", "").split("\n")
        if len(name) <= first - 2:
            yield f"  {name:<{first}}{lines.pop(0)}"
        else:
            yield f"  {name}"
        for line in lines:
            yield " " * (first + 2) + line


def _filled(text: str, width: int, first: str, others: str) -> str:
    """Returns a text wrapped to a width, its lines indented."""
    if len(first) + len(text) <= width:
        return first + text
    from textwrap import TextWrapper

    class Wrapper(TextWrapper):
        def _handle_long_word(self, rest: list[str], line: list[str], used: int, width: int) -> None:
            # Unlike `textwrap`, which looks for a hyphen first.
            place = max(width - used, 1)
            line.append(rest[-1][:place])
            rest[-1] = rest[-1][place:]

    return Wrapper(width, initial_indent=first, subsequent_indent=others, replace_whitespace=False).fill(text)
