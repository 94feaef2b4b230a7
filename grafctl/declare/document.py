"""The text of a declared file: what TOML says, and the line of each of its tables, keys and list items.

Promises
- `load` returns what a text says, or raises `InvalidConfig` with the line where it is no TOML, and nothing else.
- `Lines.of` knows a line for every place, be it the nearest one around it: a problem without a line is of no use.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafctl.errors import InvalidConfig, NotFound

FILE_BYTES_MAX = 1 << 20
DEPTH_MAX = 100  # tables and lists in each other
KEY_PARTS_MAX = 200  # because tomllib and `Lines` take a time that grows with their square

Place = tuple[str | int, ...]  # keys and indices from the top of the file

_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'", re.DOTALL)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]+")
_DOTTED = re.compile(
    r"""(?:[A-Za-z0-9_-]++|"[^"\n]*"|'[^'\n]*')(?:[ \t]*+\.[ \t]*+(?:[A-Za-z0-9_-]++|"[^"\n]*"|'[^'\n]*'))*+"""
)
_QUOTED = re.compile(r""""[^"\n]*"|'[^'\n]*'""")
_TOO_DEEP = "This is nested too deeply."
_BETWEEN = re.compile(r"(?:[ \t\n]|#[^\n]*)*")


def read_text(file: Path, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """Returns what a file holds, and not much more than it may; raises `NotFound` where it cannot be read.

    A pipe cannot either, because it could make the reader wait.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                with open(handle, "rb", closefd=False) as opened:
                    return opened.read(bytes_max + 1)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise NotFound(f"{file} cannot be read: {why}.", hint="Name a file that is there.") from None
    raise NotFound(f"{file} cannot be read: it is not a file.", hint="Name a file that is there.")


def load(text: bytes, file: str) -> tuple[dict[str, Any], str]:
    """Returns what TOML says and the text itself; raises `InvalidConfig` with the line where it is none."""
    if len(text) > FILE_BYTES_MAX:
        raise InvalidConfig(file, [(1, f"The file is longer than {FILE_BYTES_MAX >> 20} MiB.")])
    try:
        document = text.decode().replace("\r\n", "\n")
        _check_keys(document, file)
        body = tomllib.loads(document)
    except UnicodeDecodeError as error:
        raise InvalidConfig(file, [(text.count(b"\n", 0, error.start) + 1, "This is not UTF-8.")]) from None
    except RecursionError:
        raise InvalidConfig(file, [(1, _TOO_DEEP)]) from None
    except ValueError as error:  # not only TOMLDecodeError: a number of 5,000 digits gives a plain one
        why, _, where = str(error).partition(" (at line ")
        line = int(where.partition(",")[0]) if where else text.count(b"\n") + 1
        raise InvalidConfig(file, [(line, f"This is not TOML: {why}.")]) from None
    if _is_deep(body):
        raise InvalidConfig(file, [(1, _TOO_DEEP)])
    return body, document


def _check_keys(document: str, file: str) -> None:
    """Raises `InvalidConfig` for a dotted key of very many parts, before anything takes it apart."""
    if document.count(".") < KEY_PARTS_MAX:
        return
    for found in _DOTTED.finditer(document):
        if _QUOTED.sub("", found[0]).count(".") >= KEY_PARTS_MAX:
            raise InvalidConfig(file, [(document.count("\n", 0, found.start()) + 1, _TOO_DEEP)])


def _is_deep(body: Any) -> bool:
    """Returns whether tables and lists are deeper in each other than whoever reads them wants to go."""
    level: list[Any] = [body]
    for _ in range(DEPTH_MAX):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


class Lines:
    """The line of every table, key and list item of a text that tomllib has read."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._line = text, 0, 1
        self._found: dict[Place, int] = {(): 1}
        self._counts: dict[Place, int] = {}  # how many [[tables]] there were so far
        table: Place = ()
        try:
            while True:
                table = self._statement(table)
        except (LookupError, RecursionError):
            pass  # the end of the text; one that this does not understand costs exact lines, not the problems

    def of(self, place: Place) -> int:
        """Returns the line of a place, or of the nearest one around it."""
        while place not in self._found:
            place = place[:-1]
        return self._found[place]

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise LookupError(self._at)
        self._line += found[0].count("\n")
        self._at = found.end()
        return found[0]

    def _skip(self, mark: str = "") -> bool:
        """Passes white space, comments and then the mark; returns whether that was there."""
        self._take(_BETWEEN)
        is_there = self._text.startswith(mark, self._at)
        self._at += len(mark) if is_there else 0
        return is_there

    def _key(self, place: Place) -> Iterator[Place]:
        """Passes a dotted key; yields the place after each of its parts, and marks it with its line."""
        line, goes_on = self._line, True
        while goes_on:
            self._skip()
            is_quoted = self._text[self._at] in "\"'"
            part = tomllib.loads(f"key = {self._take(_STRING)}")["key"] if is_quoted else self._take(_BARE_KEY)
            goes_on = self._skip(".")
            place = (*place, part)
            self._found.setdefault(place, line)
            yield place

    def _statement(self, table: Place) -> Place:
        """Passes a header or a pair; returns the table that the next pair is in."""
        if not self._skip("["):
            self._pair(table)
            return table
        line, is_list = self._line, self._skip("[")
        table = ()
        for *_, part in self._key(()):
            table = (*table, part)
            if is_list and self._text.startswith("]", self._at):
                self._counts[table] = self._counts.get(table, 0) + 1
            self._found.setdefault(table, line)
            if table in self._counts:
                table = (*table, self._counts[table] - 1)
                self._found.setdefault(table, line)
        return table if self._skip("]]" if is_list else "]") else ()

    def _pair(self, table: Place) -> None:
        *_, place = self._key(table)
        self._skip("=")
        self._value(place)

    def _value(self, place: Place) -> None:
        self._skip()
        self._found.setdefault(place, self._line)
        if self._text[self._at] in "\"'":
            self._take(_STRING)
        elif self._skip("["):
            for at in itertools.takewhile(lambda _: not self._skip("]"), itertools.count()):
                self._value((*place, at))
                self._skip(",")
        elif self._skip("{"):
            while not self._skip("}"):
                self._pair(place)
                self._skip(",")
        else:
            self._take(_SCALAR)
