"""Python text to its tree, also while other threads do the same.

Python 3.11 and 3.12 count how deep a tree is for all threads together, so a parse that another one comes between may
end in a `SystemError`. The text is not to blame, and the next try counts anew.

When it fails: what `ast.parse` raises, and a `SystemError` only where that came `TRIES` times.
"""

from __future__ import annotations

import ast

TRIES = 1000


def parse(text: str | bytes, mode: str = "exec") -> ast.AST:
    """Returns the tree of a text."""
    for _ in range(TRIES - 1):
        try:
            return ast.parse(text, mode=mode)
        except SystemError:
            pass
    return ast.parse(text, mode=mode)
