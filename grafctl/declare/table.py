"""One table of a declared file: its keys are taken one by one, and what is wrong with each is noted with its line.

All tables of one file share a list of notes, so several readers (the store's, the pipeline's) can each take their keys
of one document, and every problem is told at once.

Promises
- No value of a file makes a method raise: what is wrong is a note, and the default stands in for the value.
- `close` notes each key that nobody took, so a mistyped key is never silently ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from grafctl.declare.document import Lines, Place, load
from grafctl.errors import GrafctlError, InvalidConfig, Usage
from grafctl.names import check_pattern, shown
from grafctl.store.authority import Placement

PATTERNS_MAX = 1000  # of one list of allow or deny
GUESSES_MAX = 100  # because each guess at a mistyped key costs a fraction of a millisecond

Check = Callable[[Any], Any]  # returns what a value means; raises a `GrafctlError` with a sentence
Note = tuple[int, str]  # a line and a sentence


class Table:
    """One table of the file: its keys are taken one by one, and what is wrong with each is noted."""

    def __init__(self, title: str, place: Place, body: Mapping[str, Any], lines: Lines, notes: list[Note]) -> None:
        self.title, self.place, self.body, self.lines, self.notes = title, place, body, lines, notes
        self.known: list[str] = []

    @classmethod
    def of_file(cls, text: bytes, file: str) -> Table:
        """Returns the whole of a file as one table; raises `InvalidConfig` where it is no TOML."""
        body, document = load(text, file)
        return cls("The file", (), body, Lines(document), [])

    def finish(self, file: str) -> None:
        """Notes the keys that nobody took; raises `InvalidConfig` with all notes, by line, if there is one."""
        self.close()
        if self.notes:
            raise InvalidConfig(file, sorted(self.notes, key=lambda note: note[0]))

    def line(self, *below: str | int) -> int:
        """Returns where the table, or something in it, stands."""
        return self.lines.of((*self.place, *below))

    def key_lines(self) -> dict[str, int]:
        """Returns the line of the table under "", and of each of its keys."""
        return {"": self.line(), **{key: self.line(key) for key in self.body}}

    def note(self, sentence: str, *below: str | int) -> None:
        self.notes.append((self.line(*below), sentence))

    def take(self, key: str, what: str, check: Check, default: Any = None, *kinds: type) -> Any:
        """Returns the checked value of a key (text, unless `kinds` are named), or the default where there is none."""
        self.known.append(key)
        if key not in self.body:
            return default
        value = self.body[key]
        if type(value) in (kinds or (str,)):
            return self.attempt(check, value, default, key)
        self.note(f"{key} of {self.title} is {what}, not {kind_of(value)}.", key)
        return default

    def require(self, key: str, check: Check) -> Any:
        """Returns the checked text of a key that must be there, or an empty one."""
        if key not in self.body:
            self.note(f"{self.title} has no {key}.")
        return self.take(key, "text", check, "")

    def attempt(self, check: Check, value: Any, default: Any, *below: str | int) -> Any:
        """Returns what `check` makes of a value, or notes why it makes nothing of it."""
        try:
            return check(value)
        except GrafctlError as error:
            self.note(f"{error.message} {error.hint or ''}".rstrip(), *below)
        except ValueError:  # Python does not write out a number of so many digits
            self.note("This number is too large.", *below)
        return default

    def placement(self) -> Placement:
        """Returns the patterns of allow and deny, without those that are none."""
        return Placement(tuple(self._patterns("allow")), tuple(self._patterns("deny")))

    def _patterns(self, key: str) -> Iterator[str]:
        items = self.take(key, "a list of texts", list, (), list)
        if len(items) > PATTERNS_MAX:
            self.note(f"{key} of {self.title} holds {len(items)} patterns; at most {PATTERNS_MAX} are allowed.", key)
        for at, item in enumerate(items[:PATTERNS_MAX]):
            if not isinstance(item, str):
                self.note(f"{key} of {self.title} is a list of texts, and holds {kind_of(item)}.", key, at)
            elif self.attempt(check_pattern, item, None, key, at) is not None:
                yield item

    def tables(self, key: str, header: str, naming: str = "name") -> list[Table]:
        """Returns the tables of `[[header]]`, each with its name in its title; a name that comes twice is noted."""
        found, seen = list[Table](), set[str]()
        for at, item in enumerate(self.take(key, f"written as [[{header}]]", list, (), list)):
            if not isinstance(item, dict):
                self.note(f"{key} of {self.title} is written as [[{header}]], and holds {kind_of(item)}.", key, at)
                continue
            name = item.get(naming)
            title = f"{header} {shown(name)}" if isinstance(name, str) else f"[[{header}]]"
            found.append(Table(title, (*self.place, key, at), item, self.lines, self.notes))
            if isinstance(name, str) and name in seen:
                found[-1].note(f"There is another {title} before this one.", naming)
            seen.add(str(name))
        return found

    def pass_over(self, *keys: str) -> None:
        """Leaves keys to another reader of the file."""
        self.known += keys

    def close(self) -> None:
        """Notes the keys that nobody took."""
        from difflib import get_close_matches

        for key in sorted(self.body.keys() - set(self.known)):
            close = get_close_matches(key, self.known, 1) if len(self.notes) < GUESSES_MAX else None
            guess = f"did you mean {close[0]}?" if close else f"it takes {', '.join(self.known) or 'no key'}."
            self.note(f"{self.title} has no key {shown(key)}; {guess}", key)


def kind_of(value: Any) -> str:
    kinds = {bool: "true or false", str: "text", int: "a number", float: "a fraction", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or time")


def like(pattern: str, what: str, mean: Callable[[re.Match[str]], Any] = lambda found: found[0]) -> Check:
    """Returns the check of a text or a number by its form."""
    form = re.compile(pattern)

    def check(value: str | int) -> Any:
        found = form.fullmatch(str(value))
        if found is None:
            raise Usage(f"{shown(str(value))} is not {what}.")
        return mean(found)

    return check


NUMBER = like("[1-9][0-9]{0,17}", "a whole number from 1 on", lambda found: int(found[0]))
FILE_NAME = like("[^\0]+", "a path")
