"""Reads a plain command line from the same declarations as the framework, without importing it.

Importing the framework takes longer than a durable publish. Most command lines need nothing of it: words with their
values, all there, all of the right form. Those are read here; everything else is left to `cli.py`.

Promises
- What is read here means what the framework would have read (`tests/cli/test_quick.py` compares them).
- It never complains: where a word is unknown, doubtful, missing or of the wrong form, the answer is None, and the
  framework says what is wrong. So there is one help and one wording of each mistake.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, get_args, get_origin

from grafctl.commands.declared import Argument, Parameter
from grafctl.commands.tree import COMMANDS, GROUPS, function_of
from grafctl.errors import Usage


class _Doubt(Exception):
    """This command line is for the framework."""


class _Word:
    """One parameter of a command, as its annotation declares it."""

    def __init__(self, name: str, hint: Any, is_required: bool) -> None:
        self.name, self.is_required = name, is_required
        self.declared: Parameter = hint.__metadata__[0]
        kinds = [hint.__origin__, *get_args(hint.__origin__)]
        self.is_flag = bool in kinds
        self.is_many = any(get_origin(kind) is list for kind in kinds)
        self.choices = get_args(hint.__origin__) if get_origin(hint.__origin__) is Literal else ()

    def read(self, text: str) -> Any:
        if self.choices and text not in self.choices:
            raise _Doubt
        if self.declared.parser is None:
            return text
        try:
            return self.declared.parser(text)
        except Usage as error:
            raise _Doubt from error


def parse(words: list[str]) -> Callable[[], None] | None:
    """Returns the call that a command line asks for, or None where the framework has to look at it."""
    try:
        function, rest = _function(words)
        return partial(function, **_values(list(_declared(function)), rest))
    except _Doubt:
        return None


def _function(words: list[str]) -> tuple[Callable[..., None], list[str]]:
    if words and words[0] in COMMANDS:
        return function_of(COMMANDS[words[0]], words[0]), words[1:]
    if len(words) > 1 and words[0] in GROUPS and words[1] in GROUPS[words[0]][1].split():
        return function_of(words[0], words[1]), words[2:]
    raise _Doubt


def _declared(function: Callable[..., None]) -> Iterator[_Word]:
    code = function.__code__  # not `inspect`, which takes as long as the rest of a small command
    names = code.co_varnames[: code.co_argcount]
    required = len(names) - len(function.__defaults__ or ())
    for place, name in enumerate(names):
        yield _Word(name, function.__annotations__[name], place < required)


def _values(declared: list[_Word], words: list[str]) -> dict[str, Any]:
    options = {flag: word for word in declared for flag in word.declared.flags}
    given: dict[str, list[str]] = {}
    alone: list[str] = []
    queue = iter(words)
    for text in queue:
        if not text.startswith("-") or text == "-":
            alone.append(text)
            continue
        flag, equals, value = text.partition("=") if text.startswith("--") else (text, "", "")
        word = options.get(flag)
        if word is None or (word.is_flag and equals) or (word.name in given and not word.is_many):
            raise _Doubt
        if not word.is_flag and not equals:
            value = next(queue, "--")
            if value.startswith("-") and value != "-":
                raise _Doubt
        given.setdefault(word.name, []).append(value)
    _place(declared, alone, given)
    return {word.name: value for word in declared for value in _value_of(word, given)}


def _place(declared: list[_Word], alone: list[str], given: dict[str, list[str]]) -> None:
    """Gives the words that stand alone to the arguments, in their order; only the last one may take several."""
    arguments = [word for word in declared if isinstance(word.declared, Argument)]
    for word in arguments:
        if word.is_many:
            if word is not arguments[-1]:
                raise _Doubt
            taken, alone = alone, []
        else:
            taken, alone = alone[:1], alone[1:]
        if taken:
            given[word.name] = taken
    if alone:
        raise _Doubt


def _value_of(word: _Word, given: dict[str, list[str]]) -> Iterator[Any]:
    """Yields the value of a parameter, or nothing where the function's own default holds."""
    texts = given.get(word.name)
    if texts is None and word.declared.envvar is not None and word.declared.envvar in os.environ:
        texts = [os.environ[word.declared.envvar]]
        if not texts[0]:
            raise _Doubt
    if texts is None:
        if word.is_required:
            raise _Doubt
    elif word.is_flag:
        yield True
    else:
        values = [word.read(text) for text in texts]
        yield values if word.is_many else values[0]
