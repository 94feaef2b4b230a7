"""A Python function as a transform: `call = "module:function"`.

The function takes the value of a record, or the whole `Message` where its first parameter is named `message` or is
annotated so. It returns an object, a list of objects, or None for no output; instead of an object it may return an
`Output`, which also says where it goes. It has to give the same for the same record, or a replay is another one.

Promises
- The module is looked for in the folder of the pipeline's file first, and then as Python looks for any.
- `Refused` goes on with its words, which are the author's. Any other exception refuses the record too, with its name
  and the line of the module in which it was raised, and with its words only where they stand in a `raise` of the module
  as they are: what else an exception says may hold what the record holds. An `OSError` or `MemoryError` says nothing of
  the record, and ends the stage.
- What it returns is checked to be JSON values, in time in proportion to it, before it goes on.
- The fingerprint covers the source of the module, and not that of what it imports.

When it fails: a function that does not return holds its stage up until the stage is ended; what it was given is
delivered again.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from grafctl.errors import ExternalFailed, Usage
from grafctl.expression import values
from grafctl.expression.failing import KINDS
from grafctl.expression.parsing import parse
from grafctl.names import shown
from grafctl.pipeline.message import Message, Output, Refused, reason_of

OUTPUTS_MAX = 10_000
_SCALARS = (str, int, float, bool, type(None))


class Call:
    """A transform that calls a function."""

    def __init__(self, name: str, function: Callable[..., Any], module: ModuleType, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.name = name
        self._function = function
        self._file = module.__file__ or ""
        self._words = _words_of(source_of(module))
        self._takes_message = _takes_message(function)

    def __call__(self, message: Message) -> Sequence[Output]:
        made = self.ask(message)
        if made is None:
            return ()
        items = made if type(made) is list else [made]
        if len(items) > OUTPUTS_MAX:
            raise Refused(f"{self.name}: the record becomes more than {OUTPUTS_MAX}.")
        return [self._output(item, message) for item in items]

    def ask(self, message: Message) -> Any:
        """Returns what the function returns; raises `Refused`, or `ExternalFailed`."""
        try:
            return self._function(message if self._takes_message else message.value)
        except Refused as error:
            raise Refused(f"{self.name}: {reason_of(str(error))}") from None
        except (OSError, MemoryError) as error:
            raise ExternalFailed(
                f"The function {self.name} failed: {type(error).__name__}.", hint="Run the same command again."
            ) from error
        except (Exception, SystemExit) as error:  # nothing that a record makes a function do ends the stage
            raise Refused(f"{self.name}: {self._what(error)}.") from None

    def _what(self, error: BaseException) -> str:
        """Returns what an exception says without a value of the record."""
        line, at = "", error.__traceback__
        while at is not None:
            if at.tb_frame.f_code.co_filename == self._file:
                line = f" in line {at.tb_lineno}"
            at = at.tb_next
        words = error.args[0] if len(error.args) == 1 and type(error.args[0]) is str else None
        said = f": {words.rstrip('.')}" if words in self._words else ""
        return f"{type(error).__name__}{line}{said}"

    def _output(self, item: Any, message: Message) -> Output:
        if type(item) is not dict and not isinstance(item, Output):
            raise Refused(f"{self.name}: it returned {_kind(item)}, and no object.")
        made = item if isinstance(item, Output) else Output(item, None, message.key, None, message.headers)
        self._check_texts(made)
        why = not_json(made.value)
        if why:
            raise Refused(f"{self.name}: it returned {why}.")
        return made

    def _check_texts(self, item: Output) -> None:
        texts = [item.to, item.key, item.id]
        try:
            texts += [text for pair in (item.headers or {}).items() for text in pair]
        except (AttributeError, TypeError):
            texts.append(0)  # type: ignore[arg-type]
        if not all(text is None or type(text) is str for text in texts):
            raise Refused(f"{self.name}: to, key, id and headers of an Output are texts.")

    def close(self) -> None:
        """Nothing is held."""


def make_call(name: str, folder: Path) -> tuple[Callable[..., Any], ModuleType]:
    """Returns the function that `module:function` names; raises `Usage`."""
    where, colon, what = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*where.split("."), what)):
        raise Usage(f"{shown(name)} is no function; write module:function.")
    module = _module(where, folder)
    function = getattr(module, what, None)
    if not callable(function):
        raise Usage(f"The module {where} has no function {what}.")
    check_takes_one(function, name)
    return function, module


def check_takes_one(function: Callable[..., Any], name: str) -> None:
    """Raises `Usage` for a function that cannot be called with a record."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise Usage(f"The function {name} has to take one argument.") from None
    except Exception:  # one that is not written in Python may not say what it takes
        pass


def _module(name: str, folder: Path) -> ModuleType:
    folder = folder.resolve()
    # The last of all, because what lies there may have the name of a module that grafctl imports later; it stays there,
    # because the module may import what lies beside it at any time.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    own, package = folder / f"{name}.py", folder / name.partition(".")[0]
    try:
        if own.is_file():
            return _from_file(name, own)
        importlib.invalidate_caches()
        module = importlib.import_module(name)
    except ImportError as error:
        raise Usage(f"The module {name} cannot be imported: {error}.") from None
    except (Exception, SystemExit) as error:  # a module may do anything while it is imported
        raise Usage(f"The module {name} cannot be imported: {type(error).__name__}: {error}") from None
    if package.is_dir() and folder not in Path(getattr(module, "__file__", None) or "").resolve().parents:
        raise Usage(f"There is another module {name}, which Python finds before that of the pipeline; rename it.")
    return module


def _from_file(name: str, file: Path) -> ModuleType:
    """Returns the module of a file, under a name of its own: another pipeline may have one of the same name."""
    own = f"grafctl_call_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}_{name}"
    module = ModuleType(own)
    module.__file__ = str(file)
    sys.modules[own] = module
    try:
        # Not by a loader, which may take a compiled file of an older source of the same second and size.
        exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[own]
        raise
    return module


def source_of(module: ModuleType) -> bytes:
    """Returns the source of a module; raises `Usage` where there is none to take a fingerprint of."""
    try:
        return Path(getattr(module, "__file__", None) or "").read_bytes()
    except OSError:
        raise Usage(f"The module {module.__name__} has no file of which a fingerprint could be taken.") from None


def _words_of(source: bytes) -> frozenset[str]:
    """Returns what a module raises exceptions with, where it is written out and so holds nothing of any record."""
    try:
        tree = parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a compiled one
        return frozenset()
    raised = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise))
    words = (call.args[0] for call in raised if isinstance(call, ast.Call) and len(call.args) == 1)
    return frozenset(word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str))


def _takes_message(function: Callable[..., Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters.values()))
    except Exception:  # an annotation may be anything, and since Python 3.14 it is evaluated only here
        return function.__code__.co_varnames[:1] == ("message",) if inspect.isfunction(function) else False
    said = first.annotation
    return first.name == "message" or said is Message or (type(said) is str and said.split(".")[-1] == "Message")


def _kind(value: Any) -> str:
    return KINDS.get(type(value)) or f"a {type(value).__name__}"


def not_json(value: Any) -> str:
    """Returns what is no JSON in a value, or an empty text."""
    left = [(value, 0)]
    while left:
        one, depth = left.pop()
        kind = type(one)
        if kind is dict or kind is list:
            if depth >= values.DEPTH_MAX:
                return f"a value that is nested more than {values.DEPTH_MAX} levels deep"
            if kind is dict and not all(type(key) is str for key in one):
                return "an object with a key that is no text"
            left += [(below, depth + 1) for below in (one.values() if kind is dict else one)]
        elif kind is float:
            if one - one != 0.0:
                return "NaN or Infinity"
        elif kind not in _SCALARS:
            return f"a {kind.__name__}, which is no JSON"
    return ""
