"""The tree of commands as the program itself builds it, for tests and for `docs/commands.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import typer
from typer.main import get_command

from grafctl.cli import app


class Leaf(NamedTuple):
    """One command: its words after `grafctl`, and the object that parses and runs it."""

    words: tuple[str, ...]
    command: Any

    @property
    def path(self) -> str:
        return " ".join(("grafctl", *self.words))

    @property
    def examples(self) -> str:
        """What stands below `Example:`, as one would type it."""
        _, _, text = self.command.epilog.partition("Example:\n")
        return "\n".join(line.strip() for line in str(text).strip().splitlines())

    def options(self) -> set[str]:
        return {flag for parameter in self.command.params for flag in parameter.opts if flag.startswith("-")}

    def help(self, width: int = 80) -> str:
        with typer.Context(self.command, info_name=self.path, terminal_width=width) as context:
            return str(self.command.get_help(context))


def groups() -> Iterator[Leaf]:
    """Yields every group, the root first."""
    root: Any = get_command(app)
    yield Leaf((), root)
    with typer.Context(root, info_name="grafctl") as context:
        for name in root.list_commands(context):
            found = root.get_command(context, name)
            if hasattr(found, "list_commands"):
                yield Leaf((name,), found)


def leaves() -> Iterator[Leaf]:
    """Yields every command in the order of the help."""
    for group in groups():
        with typer.Context(group.command, info_name=group.path) as context:
            for name in group.command.list_commands(context):
                found = group.command.get_command(context, name)
                if not hasattr(found, "list_commands"):
                    yield Leaf((*group.words, name), found)
