"""The tree of commands as the framework sees it: help, completion, and what is wrong with a command line.

Promises
- A command's module is imported when the command runs, or when its help is asked for; `grafctl --help` imports them
  all.
- The declarations are those of `grafctl.commands`; nothing about an option is said here.
"""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from grafctl import render_output
from grafctl.commands.declared import Argument, BadValue, Exit, Parameter
from grafctl.commands.tree import COMMANDS, GROUPS, function_of
from grafctl.errors import Usage
from grafctl.front import COMPLETE_VARIABLE, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "grafctl"
MESSAGE_MAX = 250  # because a parser repeats what was typed, and that may be anything


class Command(TyperCommand):
    """A command whose examples are printed as they are typed, not wrapped."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        # Typer 0.28 puts required arguments in braces, and earlier ones do not.
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write_paragraph()
        formatter.write("".join(f"{line}\n" for line in (self.epilog or "").splitlines()))


class LazyGroup(TyperGroup):
    """A group that knows the names of its commands and imports one when it is wanted."""

    def list_commands(self, ctx: Any) -> list[str]:
        return GROUPS[self.name or ""][1].split()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        return _command(self.name or "", cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            render_output.note(ctx.get_help() + "\n")
            raise typer.Exit(Usage.exit_code)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # NB Typer looks for similar names among `commands`, which a lazy group leaves empty.
        self.commands = cast(Any, dict.fromkeys(self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


class Root(LazyGroup):
    """The whole program; `main` is what both a process and a test runner call."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, *GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS:
            return _command(COMMANDS[cmd_name], cmd_name)
        if cmd_name in GROUPS:
            return LazyGroup(name=cmd_name, help=GROUPS[cmd_name][0], rich_markup_mode=None)
        return None

    def main(self, args: Sequence[str] | None = None, *rest: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        code = outcome(words, lambda: self._run(words))
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, words: list[str]) -> None:
        """Runs one command line; raises what `front.report` tells."""
        if os.environ.get(COMPLETE_VARIABLE):
            self._complete()
        try:
            with self.make_context(PROGRAM, words) as ctx:
                self.invoke(ctx)
        except typer.Exit as error:
            raise Exit(error.exit_code) from None
        except Exception as error:
            if not hasattr(error, "format_message"):  # because Typer exports no root of its errors before 0.28
                raise
            raise _usage_of(error) from None

    def _complete(self) -> NoReturn:
        from typer.completion import completion_init

        completion_init()
        super().main([], prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE)
        raise AssertionError("completion ends the process")


def _command(module: str, name: str) -> Any:
    """Builds one command from the function of that name; its docstring is the help, from `Example:` on the epilogue."""
    function = function_of(module, name)
    text, _, example = inspect.cleandoc(function.__doc__ or "").partition("\n\nExample: ")
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(name, cls=Command, help=text, epilog=f"Example:\n  {example}")(_for_typer(function))
    return get_command(single)


def _for_typer(function: Callable[..., None]) -> Callable[..., None]:
    """Returns the function with Typer's words in its annotations in place of ours."""

    def call(**given: Any) -> None:
        function(**given)

    hints = {name: _hint(hint) for name, hint in function.__annotations__.items() if name != "return"}
    signature = inspect.signature(function)
    changed = [signature.parameters[name].replace(annotation=hint) for name, hint in hints.items()]
    call.__signature__ = signature.replace(parameters=changed)  # type: ignore[attr-defined]
    call.__annotations__ = hints
    call.__name__ = function.__name__
    return call


def _hint(hint: Any) -> Any:
    ours: Parameter = hint.__metadata__[0]
    more: dict[str, Any] = {"help": ours.help, "metavar": ours.metavar, "show_default": ours.show_default}
    more |= {"envvar": ours.envvar} if ours.envvar else {}
    more |= {"parser": _reader(ours.parser)} if ours.parser else {}
    more |= {"autocompletion": _completer(ours.autocompletion)} if ours.autocompletion else {}
    theirs: Any = typer.Argument(**more) if isinstance(ours, Argument) else typer.Option(*ours.flags, **more)
    choices = getattr(hint.__origin__, "choices", ())
    return Annotated[Literal[choices] if choices else hint.__origin__, theirs]


def _reader(parser: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(text: Any) -> Any:
        try:
            return parser(text)
        except BadValue as error:
            raise typer.BadParameter(error.sentence) from None

    return read


def _completer(complete: Callable[..., list[str]]) -> Callable[[typer.Context], list[str]]:
    # NB Typer looks at the annotation to know what to give.
    def names(ctx: typer.Context) -> list[str]:
        return complete(ctx)

    return names


def _show_version(wanted: bool) -> None:
    if wanted:
        from grafctl import __version__

        render_output.write(f"{PROGRAM} {__version__}\n".encode())
        raise typer.Exit()


app = typer.Typer(
    name=PROGRAM, cls=Root, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Keep durable work in several failure domains, and move it between them",
)  # fmt: skip


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", help="Print the version", callback=_show_version, is_eager=True),
) -> None:
    """Typer wants a function here; the commands do the work."""


def run(words: list[str]) -> None:
    """Runs one command line through the framework; raises what `front.report` tells."""
    cast(Root, get_command(app))._run(words)


def _usage_of(error: Any) -> Usage:
    """Returns a parser's complaint as a sentence of ours: what is wrong, and the command that shows how it is right."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    command = _path_of(context) if context else PROGRAM
    hint = f"Run '{command} --help' for an example."
    variable = getattr(parameter, "envvar", None)
    message = error.format_message().replace("\n\t", " ")  # choices come one a line
    message = message if len(message) <= MESSAGE_MAX else message[:MESSAGE_MAX] + "…"
    if variable and message.startswith("Missing"):
        hint = f"Give {parameter.opts[-1]} or set {variable}; '{command} --help' shows an example."  # type: ignore[union-attr]
    return Usage(message, hint=hint)


def _path_of(context: typer.Context) -> str:
    names: list[str] = []
    step: Any = context
    while step is not None:
        names.insert(0, step.info_name)
        step = step.parent
    return " ".join(names)
