"""The keys of one step of a stage, taken one by one and checked; what is wrong with one is said in a sentence.

Promises
- Whatever a step holds, it is read or refused with `Usage`: absent, unknown, empty, of another kind, too many.
- `digests` holds the SHA-256 of each file that the step reads, so that the fingerprint covers what it says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from grafctl.errors import Usage
from grafctl.expression.language import Expression, compile_expression
from grafctl.expression.paths import parse_path
from grafctl.expression.scope import is_about
from grafctl.names import shown
from grafctl.pipeline.transforms.drafts import Draft
from grafctl.pipeline.transforms.plans import Plan

FIELDS_MAX = 1000  # that one step names
FILE_BYTES_MAX = 64 << 20
_ABSENT = object()

Evaluate = Callable[[Draft], Any]


class Options:
    """What a step says, beside its `op`."""

    def __init__(self, step: Mapping[str, Any], outputs: tuple[str, ...], folder: Path) -> None:
        self.step, self.outputs, self.folder = step, outputs, folder
        self.digests: dict[str, str] = {}
        self.plan: Plan | None = None  # set by a step that may be fused with others
        self._taken = ["op"]

    def take(self, key: str, what: str, *kinds: type, default: Any = _ABSENT) -> Any:
        """Returns the value of a key, which is of one of the kinds."""
        self._taken.append(key)
        value = self.step.get(key, default)
        if value is _ABSENT:
            raise Usage(f"It has no {key}, which is {what}.")
        if key in self.step and type(value) not in kinds:
            raise Usage(f"Its {key} is {what}.")
        return value

    def paths(self, key: str = "fields") -> list[tuple[str, ...]]:
        """Returns the paths of a list of fields."""
        names = self.take(key, "a list of field names", list)
        if not names or not all(type(name) is str for name in names):
            raise Usage(f"Its {key} is a list of field names, and names at least one.")
        self._count(key, names)
        found = [parse_path(name) for name in names]
        if len(set(found)) < len(found):
            raise Usage(f"Its {key} names a field twice.")
        return found

    def path(self, key: str, default: Any = _ABSENT) -> tuple[str, ...] | None:
        """Returns the path of one field."""
        name = self.take(key, "a field name", str, default=default)
        return None if name is None else parse_path(name)

    def table(self, what: str, key: str = "fields") -> dict[tuple[str, ...], str]:
        """Returns the path and the text of each pair of a table, sorted: in TOML their order means nothing."""
        pairs = self.take(key, f"a table of {what}", dict)
        if not pairs or not all(type(text) is str for text in pairs.values()):
            raise Usage(f"Its {key} is a table of {what}, each a text, and has at least one.")
        self._count(key, pairs)
        return {parse_path(name): text for name, text in sorted(pairs.items())}

    def _count(self, key: str, names: Any) -> None:
        if len(names) > FIELDS_MAX:
            raise Usage(f"Its {key} has {len(names)} names; at most {FIELDS_MAX} are allowed.")

    def output(self, name: Any) -> str:
        """Returns the name of an output of the stage."""
        if type(name) is not str or name not in self.outputs:
            known = ", ".join(self.outputs) or "none"
            raise Usage(f"{shown(str(name))} is no output of the stage; it has {known}.")
        return name

    def file(self, key: str) -> bytes | None:
        """Returns what a file beside the pipeline holds, or None where the step names none."""
        name = self.take(key, "the name of a file", str, default=None)
        if name is None:
            return None
        if not name or "\0" in name:
            raise Usage(f"Its {key} is the name of a file.")
        try:
            with (self.folder / name).open("rb") as handle:
                body = handle.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise Usage(f"The file {shown(name)} cannot be read: {error.strerror}.") from None
        if len(body) > FILE_BYTES_MAX:
            raise Usage(f"The file {shown(name)} is longer than {FILE_BYTES_MAX >> 20} MiB.")
        self.digests[key] = hashlib.sha256(body).hexdigest()
        return bytes(body)

    def close(self) -> None:
        """Refuses the keys that nobody took."""
        for key in self.step:
            if key not in self._taken:
                close = get_close_matches(str(key), self._taken, 1)
                guess = f"did you mean {close[0]}?" if close else f"it takes {', '.join(self._taken)}."
                raise Usage(f"It has no key {shown(str(key))}; {guess}")


def compiled(text: str, *kinds: str) -> tuple[Expression, Evaluate]:
    """Returns an expression, and the function that evaluates it for a draft; it may be of one of the kinds."""
    expression = compile_expression(text)
    if kinds and expression.kind and expression.kind not in kinds:
        words = {"bool": "true or false", "int": "an integer"}
        has = " or ".join(words.get(kind, kind) for kind in kinds)
        gives = words.get(expression.kind, expression.kind)
        raise Usage(f"The expression {shown(text)} has to give {has}, and gives {gives}.")
    evaluate = expression.evaluate
    if is_about(expression.names):
        return expression, lambda draft: evaluate(draft.scope())
    return expression, lambda draft: evaluate(draft.fields())
