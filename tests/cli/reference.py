"""Writes `docs/commands.md` from the tree of commands: run `python -m cli.reference` in `tests/` after a change."""

from __future__ import annotations

import sys
from pathlib import Path

from cli.tree import Leaf, groups, leaves

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
HEAD = """# Commands

Made from the program itself by `cd tests && python -m cli.reference`; a test compares this page with it.
What exit codes mean is in [exit-codes.md](exit-codes.md).

"""


def reference() -> str:
    """Returns the whole page."""
    nouns = {group.words: group for group in groups()}
    parts = [HEAD]
    seen: set[tuple[str, ...]] = set()
    for leaf in leaves():
        noun = leaf.words[:-1]
        if noun and noun not in seen:
            seen.add(noun)
            parts.append(f"## `{nouns[noun].path}`\n\n{nouns[noun].command.help}.\n\n")
        parts.append(_section(leaf))
    return "".join(parts).rstrip() + "\n"


def _section(leaf: Leaf) -> str:
    mark = "###" if len(leaf.words) > 1 else "##"
    return f"{mark} `{leaf.path}`\n\n```text\n{leaf.help(100).strip()}\n```\n\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    sys.stderr.write(f"wrote {PAGE}\n")
