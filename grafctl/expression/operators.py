"""What the operators of an expression do with the values of a record, where the quick way does not settle it.

Promises
- Integers are exact, and a result of more than `INTEGER_BITS_MAX` bits is refused. An integer meets a fraction only
  where the integer is exactly a double; no result is NaN or infinite.
- A boolean is no number: `true == 1` is false, also inside lists and objects, and `true + 1` is refused.
- Order is between two numbers, or between two texts by code point; anything else is refused.
- Each function takes, last, the piece of the expression that it works for, and raises `EvaluationError` and nothing
  else. What it does takes time and memory in proportion to its operands.
"""

from __future__ import annotations

import operator

from grafctl.expression.failing import EvaluationError, kind_of
from grafctl.expression.paths import MISSING
from grafctl.typed import Any, Callable, Mapping, NoReturn

INTEGER_BITS_MAX = 4096
INTEGER_MAX = (1 << INTEGER_BITS_MAX) - 1
SIZE_MAX = 1 << 22  # characters of a text that an expression makes; characters and items of a list or an object
_SCALARS = frozenset((type(None), bool, int, str))


def fail(piece: str, why: str) -> NoReturn:
    """Raises what a piece of an expression comes to where it gives nothing; an empty piece is not spoken of."""
    raise EvaluationError(f"In `{piece}`: {why}." if piece else f"{why}.")


# Arithmetic


def add(left: Any, right: Any, piece: str) -> Any:
    if type(left) is int and type(right) is int:
        return number(left + right, "+", piece)
    if type(left) is str and type(right) is str:
        return bounded(left, len(left) + len(right), piece) + right
    return _numbers(operator.add, "+", left, right, piece, "two numbers or two texts")


def subtract(left: Any, right: Any, piece: str) -> Any:
    return _numbers(operator.sub, "-", left, right, piece)


def multiply(left: Any, right: Any, piece: str) -> Any:
    return _numbers(operator.mul, "*", left, right, piece)


def divide(left: Any, right: Any, piece: str) -> Any:
    """Returns the quotient: of integers the integer that it is, or nothing where something is left over."""
    if type(left) is int and type(right) is int and right:
        quotient, rest = divmod(left, right)
        if rest:
            fail(piece, "/ leaves a remainder; write // for whole parts, or float() for a fraction")
        return number(quotient, "/", piece)
    return _numbers(operator.truediv, "/", left, right, piece)


def whole(left: Any, right: Any, piece: str) -> Any:
    return _numbers(operator.floordiv, "//", *_integers("//", left, right, piece), piece)


def rest(left: Any, right: Any, piece: str) -> Any:
    return _numbers(operator.mod, "%", *_integers("%", left, right, piece), piece)


def negative(value: Any, piece: str) -> Any:
    return -number(value, "-", piece)


def positive(value: Any, piece: str) -> Any:
    return number(value, "+", piece)


def number(value: Any, sign: str, piece: str) -> Any:
    """Returns a number that is one and within bounds."""
    if type(value) is int:
        return value if -INTEGER_MAX <= value <= INTEGER_MAX else _too_large(piece)
    if type(value) is float:
        return value
    fail(piece, f"{sign} takes a number, not {kind_of(value)}")


def _integers(sign: str, left: Any, right: Any, piece: str) -> tuple[int, int]:
    if type(left) is not int or type(right) is not int:
        fail(piece, f"{sign} takes two integers, not {kind_of(left)} and {kind_of(right)}")
    return left, right


def _numbers(work: Callable[[Any, Any], Any], sign: str, left: Any, right: Any, piece: str, what: str = "") -> Any:
    kinds = type(left), type(right)
    if not all(kind is int or kind is float for kind in kinds):
        fail(piece, f"{sign} takes {what or 'two numbers'}, not {kind_of(left)} and {kind_of(right)}")
    if float in kinds:
        left, right = as_fraction(left, piece), as_fraction(right, piece)
    try:
        made = work(left, right)
    except ZeroDivisionError:
        fail(piece, "this divides by zero")
    except OverflowError:
        _too_large(piece)
    return finite(made, piece)


def finite(made: Any, piece: str) -> Any:
    """Returns a number that is not larger than it may be."""
    if made - made != 0 if type(made) is float else not -INTEGER_MAX <= made <= INTEGER_MAX:
        _too_large(piece)
    return made


def as_fraction(value: Any, piece: str) -> float:
    """Returns the double that a number is exactly."""
    try:
        made = float(value)
    except OverflowError:
        _too_large(piece)
    if made != value:
        fail(piece, "an integer would lose digits as a fraction")
    return made


def _too_large(piece: str) -> NoReturn:
    fail(piece, "the number is too large")


def bounded(value: Any, size: int, piece: str) -> Any:
    """Returns the value where `size` is within the bounds of what an expression may make."""
    if size > SIZE_MAX:
        fail(piece, f"the result would be longer than {SIZE_MAX} characters")
    return value


# Comparison


def less(left: Any, right: Any, piece: str) -> bool:
    return _ordered("<", left, right, piece) and bool(left < right)


def at_most(left: Any, right: Any, piece: str) -> bool:
    return _ordered("<=", left, right, piece) and bool(left <= right)


def more(left: Any, right: Any, piece: str) -> bool:
    return _ordered(">", left, right, piece) and bool(left > right)


def at_least(left: Any, right: Any, piece: str) -> bool:
    return _ordered(">=", left, right, piece) and bool(left >= right)


def _ordered(sign: str, left: Any, right: Any, piece: str) -> bool:
    kinds = {type(left), type(right)}
    if kinds <= {int, float} or kinds == {str}:
        return True
    fail(piece, f"{sign} takes two numbers or two texts, not {kind_of(left)} and {kind_of(right)}")


def equal(left: Any, right: Any, piece: str = "") -> bool:
    """Returns whether two values are one; numbers by what they are worth, booleans never as numbers."""
    if left != right:
        return False
    kind = type(left)
    if kind is type(right) and kind in _SCALARS:
        return True
    if kind is bool or type(right) is bool:
        return kind is type(right)
    if kind is list:
        return all(map(equal, left, right))
    if kind is dict:
        return all(equal(item, right[key]) for key, item in left.items())
    return True


def unequal(left: Any, right: Any, piece: str = "") -> bool:
    return not equal(left, right)


def within(item: Any, whole: Any, piece: str) -> bool:
    """Returns whether a text is part of a text, a text is a key of an object, or a value is an item of a list."""
    kind = type(whole)
    if kind is list or kind is tuple:
        if type(item) is str:
            return item in whole
        return any(equal(item, other) for other in whole)
    if kind is not str and kind is not dict:
        fail(piece, f"in looks into text, a list or an object, not into {kind_of(whole)}")
    if type(item) is not str:
        fail(piece, f"in looks for text in {kind_of(whole)}, not for {kind_of(item)}")
    return item in whole


def outside(item: Any, whole: Any, piece: str) -> bool:
    return not within(item, whole, piece)


def truth(value: Any, piece: str) -> bool:
    """Returns a boolean that is one: nothing else passes for true or false."""
    if value is True or value is False:
        return bool(value)
    fail(piece, f"this has to be true or false, and is {kind_of(value)}")


# Access


def item_at(whole: Any, key: Any, piece: str) -> Any:
    """Returns the field of an object or the item of a list; one from the end where the number is negative."""
    if type(whole) is dict and type(key) is str:
        if key in whole:
            return whole[key]
        fail(piece, "the object has no such field")
    if type(whole) is list and type(key) is int:
        if -len(whole) <= key < len(whole):
            return whole[key]
        fail(piece, "the list has no item of this number")
    fail(piece, f"an object takes text and a list an integer in [ ], and this is {kind_of(whole)}[{kind_of(key)}]")


def item_if(whole: Any, key: Any) -> Any:
    """Returns what `item_at` does, and `MISSING` where it finds nothing."""
    if type(whole) is dict and type(key) is str:
        return whole.get(key, MISSING)
    if type(whole) is list and type(key) is int:
        return whole[key] if -len(whole) <= key < len(whole) else MISSING
    return MISSING


def field_if(scope: Mapping[str, Any], name: str) -> Any:
    """Returns a field of the record, or `MISSING`."""
    return scope.get(name, MISSING)


def measured(value: Any, piece: str) -> Any:
    """Returns a value made of others where all that it holds, each time that it holds it, is within bounds."""
    size, left = 0, [value]
    while left:
        one = left.pop()
        kind = type(one)
        if kind is str:
            size += len(one)
        elif kind is list:
            left += one
        elif kind is dict:
            left += one.values()
            size += sum(map(len, one))
        size += 1
        bounded(None, size + len(left), piece)
    return value
