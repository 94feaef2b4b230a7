"""The expression language of pipelines and filters: a small part of Python's, safe for text from anybody.

    total > 100 and status in ["paid", "sent"]
    coalesce(customer["name"], "nobody") + "/" + text(_offset)

Promises
- `compile_expression` raises `Usage`, with the character where it went wrong, or returns an expression. `evaluate`
  gives a JSON value or raises `EvaluationError`, for any scope of JSON values; the same scope gives the same, and is
  not changed.
- The work is bounded: by the length and the depth of the text, the size of integers, and the size of what is made
  (`CHARACTERS_MAX`, `code.DEPTH_MAX`, `operators.INTEGER_BITS_MAX`, `operators.SIZE_MAX`). There are no loops.
- An expression reads its scope and nothing else; it reaches no attribute, no module, no file, no clock.
- A field that is not there is an error that names it, but in `exists`, `coalesce` and `get`. null is a value like any
  other: it equals itself, and every operator but `==`, `!=`, `is` and `in` refuses it.

`docs/pipelines.md` says what every operator and function does.
"""

from __future__ import annotations

import ast
import warnings

from grafctl import threads
from grafctl.errors import Usage
from grafctl.expression import operators
from grafctl.expression.code import NAMESPACE, Coder
from grafctl.expression.failing import EvaluationError
from grafctl.expression.parsing import parse
from grafctl.names import shown
from grafctl.typed import Any, Callable, Mapping

__all__ = ["CHARACTERS_MAX", "EvaluationError", "Expression", "compile_expression"]

CHARACTERS_MAX = 4096


class Expression:
    """A compiled expression; `names` are the fields it reads, `kind` is "bool", "text", "int" or "" for not known."""

    __slots__ = ("evaluate", "kind", "names", "source")

    def __init__(self, source: str, names: frozenset[str], kind: str, run: Callable[[Mapping[str, Any]], Any]) -> None:
        self.source = source
        self.names = names
        self.kind = kind
        # An attribute and not a method, because it runs for every record and a method would be one more call.
        self.evaluate = run

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (compile_expression, (self.source,))


# One at a time: CPython 3.11 counts the depth of syntax trees for all threads together, and warnings are everybody's.
_compiling = threads.lock()


def compile_expression(text: str) -> Expression:
    """Returns the expression that a text says; raises `Usage`."""
    with _compiling:
        return _compile(text)


def _compile(text: str) -> Expression:
    tree = _parse(text)
    coder = Coder(text)
    code = coder.strict(tree)
    result = code.tree
    if coder.builds:
        result = ast.Call(ast.Name(operators.measured.__name__, ast.Load()), [result, ast.Constant("the result")], [])
    return Expression(text, frozenset(coder.names), code.kind, _function(result))


def _parse(text: str) -> ast.expr:
    if not isinstance(text, str) or not text.strip():
        raise Usage("The expression is empty.")
    if len(text) > CHARACTERS_MAX:
        raise Usage(f"The expression has {len(text)} characters; at most {CHARACTERS_MAX} are allowed.")
    if text[0] in " \t\n\r\f":
        raise Usage("Character 1 of the expression: it begins with a space.", hint="Take the space away.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "\d", which Python takes for now and warns of
            tree = parse(text, "eval")
            assert isinstance(tree, ast.Expression), "as it was asked for"
            return tree.body
    except SyntaxError as error:
        if error.lineno and error.offset and error.offset > 0:
            before = sum(len(line) + 1 for line in text.split("\n")[: error.lineno - 1])
            raise Usage(f"Character {before + error.offset} of the expression: this is no expression.") from None
        raise Usage(f"{shown(text)} is no expression.") from None
    except (ValueError, RecursionError, MemoryError, OverflowError, Warning):
        raise Usage(f"{shown(text)} is no expression.") from None


# The frame of every compiled expression, whose `return` gets the code. Asking for forgiveness costs nothing per record.
_FRAME = """
def evaluate(scope):
    try:
        return 0
    except KeyError as error:
        raise missing(error) from None
    except RecursionError:
        raise too_deep() from None
"""


def _missing(error: KeyError) -> EvaluationError:
    return EvaluationError(f"There is no field {shown(str(error.args[0]))}.")


def _too_deep() -> EvaluationError:
    return EvaluationError("A value is nested too deeply.")


_NAMES = NAMESPACE | {
    "KeyError": KeyError, "RecursionError": RecursionError, "missing": _missing, "too_deep": _too_deep,
}  # fmt: skip


def _function(result: ast.expr) -> Callable[[Mapping[str, Any]], Any]:
    frame = parse(_FRAME)
    assert isinstance(frame, ast.Module), "as it was asked for"
    define = frame.body[0]
    assert isinstance(define, ast.FunctionDef) and isinstance(define.body[0], ast.Try)
    define.body[0].body = [ast.Return(result)]
    names = dict(_NAMES)
    exec(compile(ast.fix_missing_locations(frame), "<expression>", "exec"), names)
    made: Callable[[Mapping[str, Any]], Any] = names["evaluate"]
    return made
