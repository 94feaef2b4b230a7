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

from grafctl.commands.declared import Argument, Parameter
from grafctl.commands.tree import COMMANDS, GROUPS, function_of
from grafctl.errors import Usage
from grafctl.typed import Any, Callable, Iterator


class _Doubt(Exception):
    """This command line is for the framework."""


class Word:
    """One parameter of a command, as its annotation declares it."""

    def __init__(self, name: str, hint: Any, is_required: bool) -> None:
        self.name, self.is_required = name, is_required
        self.declared: Parameter = hint.__metadata__[0]
        kinds = [hint.__origin__, *getattr(hint.__origin__, "__args__", ())]
        self.is_flag = bool in kinds
        self.is_many = any(getattr(kind, "__origin__", None) is list for kind in kinds)
        self.choices = getattr(hint.__origin__, "choices", ())

    def read(self, text: str) -> Any:
        if self.choices and text not in self.choices:
            raise _Doubt
        if self.declared.parser is None:
            return text
        try:
            return self.declared.parser(text)
        except Usage as error:
            raise _Doubt from error


class Call:
    """The call that a command line asks for; `functools.partial` would do, but that takes 3 ms to import."""

    def __init__(self, func: Callable[..., None], keywords: dict[str, Any]) -> None:
        self.func, self.keywords = func, keywords

    def __call__(self) -> None:
        self.func(**self.keywords)


def parse(words: list[str]) -> Call | None:
    """Returns the call that a command line asks for, or None where the framework has to look at it."""
    try:
        function, rest = _function(words)
        return Call(function, _values(list(words_of(function)), rest))
    except _Doubt:
        return None


def _function(words: list[str]) -> tuple[Callable[..., None], list[str]]:
    if words and words[0] in COMMANDS:
        return function_of(COMMANDS[words[0]], words[0]), words[1:]
    if len(words) > 1 and words[0] in GROUPS and words[1] in GROUPS[words[0]][1].split():
        return function_of(words[0], words[1]), words[2:]
    raise _Doubt


def words_of(function: Callable[..., None]) -> Iterator[Word]:
    """Yields the parameters of a command, in their order."""
    code = function.__code__  # not `inspect`, which takes as long as the rest of a small command
    names = code.co_varnames[: code.co_argcount]
    required = len(names) - len(function.__defaults__ or ())
    for place, name in enumerate(names):
        yield Word(name, function.__annotations__[name], place < required)


def _values(declared: list[Word], words: list[str]) -> dict[str, Any]:
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


def _place(declared: list[Word], alone: list[str], given: dict[str, list[str]]) -> None:
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


def _value_of(word: Word, given: dict[str, list[str]]) -> Iterator[Any]:
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
