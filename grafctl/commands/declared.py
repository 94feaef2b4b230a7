"""How a command declares its arguments and options, without the framework that draws help and errors from them.

A command is a function whose annotations hold these. `quick.py` reads a plain command line from them by itself, because
importing the framework costs more than a publish; `cli.py` hands them to Typer for everything else.
"""

from __future__ import annotations

from grafctl.errors import Usage
from grafctl.typed import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from typing import Annotated as Annotated
    from typing import Literal as Literal
else:

    class Annotated:
        """`Annotated[type, parameter]`, as `typing` has it."""

        def __init__(self, origin, *metadata):
            self.__origin__, self.__metadata__ = origin, metadata

        def __class_getitem__(cls, parts):
            return cls(*parts)

    class Literal:
        """`Literal["one", "two"]`, as `typing` has it."""

        def __init__(self, *choices):
            self.choices = choices

        def __class_getitem__(cls, parts):
            return cls(*parts) if isinstance(parts, tuple) else cls(parts)


class BadValue(Usage):
    """Raised by a reader of text; the sentence says what is wrong with it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(f"Invalid value: {sentence}")
        self.sentence = sentence


class Exit(Exception):
    """Ends the command with this code and nothing more to say."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Parameter:
    """An argument or an option; `parser` reads its text, `envvar` stands in where it is not given."""

    def __init__(
        self,
        *flags: str,
        help: str,
        metavar: str | None = None,
        parser: Callable[[Any], Any] | None = None,
        envvar: str | None = None,
        autocompletion: Callable[..., Any] | None = None,
        show_default: bool | str = True,
    ) -> None:
        self.flags, self.help, self.metavar, self.parser = flags, help, metavar, parser
        self.envvar, self.autocompletion, self.show_default = envvar, autocompletion, show_default


class Argument(Parameter):
    """A word that stands by itself."""


class Option(Parameter):
    """A word that begins with a dash, with a value or, where the annotation is `bool`, without."""
