"""The front door: the tree of commands, and the only place where an error becomes an exit code.

Promises
- A command's module is imported when the command runs, or when its help is asked for; `grafctl --help` imports them
  all.
- Every refusal is one sentence and one hint on standard error, or one JSON object there when JSON was asked for;
  usage errors too, and never in a box.
- A signal keeps its code (130, 143) and a reader that went away is silent (141). A traceback is printed only with
  GRAFCTL_DEBUG.

When it fails: whatever a command had begun is left as the library leaves it, which is always something it can resume.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from grafctl import render_output
from grafctl.errors import GrafctlError, Internal, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

# Each command and the module that holds it, in the order of the help.
COMMANDS = {
    "init": "init",
    "publish": "publish",
    "poll": "poll",
    "peek": "poll",
    "ack": "ack",
    "nack": "ack",
    "fence": "fence",
    "catch-up": "catch_up",
    "can": "can",
    "status": "status",
    "verify": "status",
    "doctor": "status",
    "apply": "apply",
    "explain": "explain",
}

# Each group, its help and its commands; they are functions of the module with the group's name.
GROUPS = {
    "domain": ("Manage the failure domains of a store", "add list show fail restore remove"),
    "authority": ("Manage who may sign health observations", "keygen add list revoke"),
    "health": ("State and list the health of domains", "observe list"),
    "queue": ("Manage queues", "create list show"),
    "consumer": ("Manage the groups that read a resource", "create list show pause resume seek shift"),
    "dead": ("Inspect and redeliver failed work", "list redrive"),
    "placement": ("Manage which domains may use a resource or group", "show set"),
    "policy": ("Manage how many copies an answer needs", "show set"),
    "locator": ("Manage which domains hold a resource", "show history set"),
    "audit": ("Read the chained record of changes and refusals", "tail verify explain"),
    "completion": ("Complete commands and names with the tab key", "show install"),
}

PROGRAM = "grafctl"
COMPLETE_VARIABLE = "_GRAFCTL_COMPLETE"
MESSAGE_MAX = 250  # because a parser repeats what was typed, and that may be anything
INTERRUPTED, OUTPUT_CLOSED, TERMINATED = 130, 141, 143


class Terminated(BaseException):
    """Raised in the main thread by SIGTERM."""


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
        code = self._outcome(list(sys.argv[1:] if args is None else args))
        if standalone_mode:
            sys.exit(code)
        return code

    def _outcome(self, words: list[str]) -> int:
        """Runs one command line and returns its exit code, everything that may go wrong included."""
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        try:
            _on_signals(before[0], _terminate)
            render_output.prepare()
            if os.environ.get(COMPLETE_VARIABLE):
                self._complete()
            with self.make_context(PROGRAM, words) as ctx:
                self.invoke(ctx)
            render_output.write(b"")
            return 0
        except BaseException as error:
            # Because a second Ctrl-C must end the telling of the first, not tear it into a traceback.
            _on_signals(signal.SIG_DFL, signal.SIG_DFL)
            return _report(error, as_json=wants_json(words))
        finally:
            _on_signals(*before)

    def _complete(self) -> NoReturn:
        from typer.completion import completion_init

        completion_init()
        super().main([], prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE)
        raise AssertionError("completion ends the process")


def _command(module: str, name: str) -> Any:
    """Builds one command from the function of that name; its docstring is the help, from `Example:` on the epilogue."""
    source = import_module(f"grafctl.commands.{module}")
    attribute = name.replace("-", "_")
    function = getattr(source, attribute, None) or getattr(source, attribute + "_")
    text, _, example = inspect.cleandoc(function.__doc__).partition("\n\nExample: ")
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(name, cls=Command, help=text, epilog=f"Example:\n  {example}")(function)
    return get_command(single)


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


def run(words: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    code = get_command(app).main(words, standalone_mode=False)
    assert isinstance(code, int)
    return code


# --- what went wrong


def wants_json(words: list[str]) -> bool:
    """Returns whether a command line asks for JSON, also one that cannot be parsed."""
    options = words[: words.index("--")] if "--" in words else words
    formats = ("json", "jsonl")
    return any(
        word == "--json"
        or word in ("-ojson", "-ojsonl", "--output=json", "--output=jsonl")
        or (word in formats and before in ("-o", "--output"))
        for before, word in zip(["", *options], options, strict=False)
    )


def _report(error: BaseException, *, as_json: bool) -> int:
    """Tells what ended the command, and returns its exit code."""
    from grafctl import render

    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, (BrokenPipeError, render_output.OutputLost)) and getattr(error, "closed", True):
        render_output.abandon_output()
        return OUTPUT_CLOSED
    if os.environ.get("GRAFCTL_DEBUG"):
        import traceback

        render_output.note("".join(traceback.format_exception(error)))
    if isinstance(error, (KeyboardInterrupt, Terminated)):
        return _report_signal(error, as_json=as_json)
    if hasattr(error, "format_message"):  # because Typer exports no root of its errors before 0.28
        error = _usage_of(error)
    elif isinstance(error, render_output.OutputLost):
        error = Internal(str(error), hint="Free the disk or mend the pipe; what was not written is not acknowledged.")
    elif not isinstance(error, GrafctlError):
        error = Internal(
            f"A bug in grafctl: {type(error).__name__}: {error}",
            hint="Run it again with GRAFCTL_DEBUG=1 and report the traceback.",
        )
    render.failure(error.as_json(), as_json=as_json)
    return error.exit_code


def _usage_of(error: Any) -> Usage:
    """Returns a parser's complaint as a sentence of ours: what is wrong, and the command that shows how it is right."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    command = _path_of(context) if context else PROGRAM
    hint = f"Run '{command} --help' for an example."
    variable = getattr(parameter, "envvar", None)
    message = error.format_message()
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


def _report_signal(error: BaseException, *, as_json: bool) -> int:
    """Tells what a signal left behind; the library says so in `outcome` and in the notes of the exception."""
    from grafctl import render

    stopped = isinstance(error, Terminated)
    code, word = (TERMINATED, "terminated") if stopped else (INTERRUPTED, "interrupted")
    body: dict[str, Any] = {"v": 1, "ok": False, "code": word, "exit": code, "retryable": True}
    body["message"] = "Stopped by SIGTERM." if stopped else "Interrupted."
    if outcome := getattr(error, "outcome", None):
        body["outcome"] = outcome
    render.failure(body, as_json=as_json, notes=getattr(error, "__notes__", ()))
    return code


# --- signals


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _on_signals(interrupt: Any, terminate: Any) -> None:
    """Sets what SIGINT and SIGTERM do; only the main thread can, and what is ignored from outside stays ignored."""
    for number, handler in ((signal.SIGINT, interrupt), (signal.SIGTERM, terminate)):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            try:
                signal.signal(number, handler)
            except ValueError:
                return
