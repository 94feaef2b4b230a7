"""From the tree of an expression to the code that evaluates it: only what stands in the tables here gets through.

Promises
- The tree that Python's parser makes is only read. The code is a tree of its own: names of fields are constants in it,
  what it calls are the functions of `operators.py` and `functions.py`, and it has no builtins and no attributes.
- A node, an operator or a function that no table names raises `Usage` with the character where it stands.
- The code holds no loop, and each function that it calls is bounded; so the work for a record is bounded by the
  characters of the expression times the size of the record (or of the texts that an expression may make).
"""

from __future__ import annotations

import ast

from grafctl.errors import Usage
from grafctl.expression import functions, operators
from grafctl.expression.functions import LENIENT, PATHS, TABLE
from grafctl.expression.paths import MISSING, parse_path
from grafctl.names import shown
from grafctl.typed import Any, Callable, NamedTuple, Sequence

DEPTH_MAX = 50
_PIECE_SHOWN = 60
WORDS = {"true": True, "false": False, "null": None}

ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operators.add, ast.Sub: operators.subtract, ast.Mult: operators.multiply, ast.Div: operators.divide,
    ast.FloorDiv: operators.whole, ast.Mod: operators.rest,
}  # fmt: skip
ORDER: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: operators.less, ast.LtE: operators.at_most, ast.Gt: operators.more, ast.GtE: operators.at_least,
}  # fmt: skip
EQUALITY: dict[type[ast.cmpop], Callable[..., Any]] = {ast.Eq: operators.equal, ast.NotEq: operators.unequal}
MEMBERSHIP: dict[type[ast.cmpop], Callable[..., Any]] = {ast.In: operators.within, ast.NotIn: operators.outside}
IDENTITY: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Is: ast.Is, ast.IsNot: ast.IsNot}

_OTHERS: tuple[Callable[..., Any], ...] = (
    operators.negative, operators.positive, operators.truth, operators.item_at, operators.item_if, operators.field_if,
    operators.measured, functions.get_if,
)  # fmt: skip
_CALLED = [*ARITHMETIC.values(), *ORDER.values(), *EQUALITY.values(), *MEMBERSHIP.values(), *_OTHERS]

# Everything that the code may name. The functions of the table are under their own name, which no operator has.
NAMESPACE: dict[str, Any] = {
    "__builtins__": {}, "MISSING": MISSING, "type": type, "int": int, "float": float, "str": str,
    **{work.__name__: work for work in _CALLED}, **{f"call_{name}": entry.work for name, entry in TABLE.items()},
}  # fmt: skip

BOOL, TEXT, INT, UNKNOWN = "bool", "text", "int", ""
_KINDS = {bool: BOOL, str: TEXT, int: INT}

# What is refused with a better word than "not part of the language".
_INSTEAD = {
    ast.Attribute: 'there is no access by a dot; write a["b"] or get(a, "b.c")',
    ast.Tuple: "write a list in [ ]; ( ) around several values stands only right of in",
    ast.Slice: "there are no slices; write substring(text, start, end)",
    ast.Set: "there are no sets; write a list in [ ]",
    ast.Lambda: "there are no functions of one's own",
    ast.JoinedStr: "there are no texts with { } in them; write text(a) + b",
    ast.NamedExpr: "nothing can be assigned",
    ast.Starred: "there is no *",
    ast.Pow: "there is no **",
}
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Code(NamedTuple):
    """A piece of code, and the kind of what it gives where that is always one."""

    tree: ast.expr
    kind: str = UNKNOWN


class Coder:
    """Makes the code of one expression; `names` are the fields that it reads, `builds` says whether it makes lists."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names = set[str]()
        self.builds = False
        self._lines = [line.encode() for line in text.split("\n")]
        self._temporary = 0
        self._depth = 0

    # Places and refusals

    def refuse(self, node: ast.AST, why: str, hint: str | None = None) -> Usage:
        """Returns the error that says what is wrong where."""
        line, column = getattr(node, "lineno", 1) - 1, getattr(node, "col_offset", 0)
        before = sum(len(above.decode()) + 1 for above in self._lines[:line])
        place = before + len(self._lines[line][:column].decode(errors="replace")) + 1
        return Usage(f"Character {place} of the expression: {why}.", hint=hint)

    def _piece(self, node: ast.expr) -> ast.Constant:
        """Returns what errors say of a node: how it is written."""
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        end = node.end_col_offset if first == last else None
        # Not all of it, because each node above writes it too; of characters none takes more than four bytes.
        piece = self._lines[first][node.col_offset : end][: 4 * _PIECE_SHOWN + 4].decode(errors="ignore")
        written = " ".join(piece.split())
        is_whole = first == last and len(written) <= _PIECE_SHOWN
        cut = written if is_whole else written[:_PIECE_SHOWN] + "…"
        return ast.Constant("".join(letter if letter.isprintable() else "?" for letter in cut))

    # One node

    def strict(self, node: ast.expr) -> Code:
        """Returns the code of a node; a field that is not there is an error when the code runs."""
        make = _MAKERS.get(type(node))
        if make is None:
            raise self._unknown(node)
        self._deeper(node)
        made = make(self, node)
        self._depth -= 1
        return made

    def _deeper(self, node: ast.expr) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self.refuse(node, f"this is nested more than {DEPTH_MAX} levels deep")

    def _unknown(self, node: ast.AST, what: str = "this") -> Usage:
        if isinstance(node, _COMPREHENSIONS):
            return self.refuse(node, "there are no loops; pluck(list, path) takes a field of each item")
        return self.refuse(node, _INSTEAD.get(type(node), f"{what} is not part of the language"))

    def lenient(self, node: ast.expr) -> ast.expr:
        """Returns the code of an argument that may be missing, where it is a path; of anything else the strict code."""
        if isinstance(node, ast.Name) and node.id not in WORDS:
            self.strict(node)
            return _call(operators.field_if, ast.Name("scope", ast.Load()), ast.Constant(node.id))
        if isinstance(node, ast.Subscript):
            self._no_slice(node)
            self._deeper(node)
            whole = self.lenient(node.value)
            self._depth -= 1
            return _call(operators.item_if, whole, self.strict(node.slice).tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "get":
            made = self.strict(node).tree
            assert isinstance(made, ast.Call)
            return ast.Call(ast.Name("get_if", ast.Load()), made.args, [])
        return self.strict(node).tree

    def constant(self, node: ast.Constant) -> Code:
        value: Any = node.value
        if value is not None and type(value) not in (bool, int, float, str):
            raise self.refuse(node, "this is no JSON value")
        if (type(value) is int and value > operators.INTEGER_MAX) or (type(value) is float and value - value != 0):
            raise self.refuse(node, "this number is too large")
        if type(value) is str and not _is_whole(value):
            raise self.refuse(node, "this text holds half a surrogate pair")
        return Code(ast.Constant(value), _KINDS.get(type(value), UNKNOWN))

    def name(self, node: ast.Name) -> Code:
        if node.id in WORDS:
            value = WORDS[node.id]
            return Code(ast.Constant(value), _KINDS.get(type(value), UNKNOWN))
        written = self._lines[node.lineno - 1][node.col_offset : node.end_col_offset]
        if written != node.id.encode():
            hint = 'Write get(_value, "name") for a name in letters that Python takes for others.'
            raise self.refuse(node, "this name is spelt in letters that stand for others", hint)
        self.names.add(node.id)
        return Code(ast.Subscript(ast.Name("scope", ast.Load()), ast.Constant(node.id), ast.Load()))

    def unary(self, node: ast.UnaryOp) -> Code:
        if isinstance(node.op, ast.Not):
            return Code(ast.UnaryOp(ast.Not(), self._truth(node.operand)), BOOL)
        if not isinstance(node.op, (ast.USub, ast.UAdd)):
            raise self._unknown(node)
        inner = self.strict(node.operand)
        if isinstance(inner.tree, ast.Constant) and type(inner.tree.value) in (int, float):
            value: Any = inner.tree.value
            return Code(ast.Constant(-value if isinstance(node.op, ast.USub) else value), inner.kind)
        work = operators.negative if isinstance(node.op, ast.USub) else operators.positive
        return Code(_call(work, inner.tree, self._piece(node)), INT if inner.kind == INT else UNKNOWN)

    def binary(self, node: ast.BinOp) -> Code:
        work = ARITHMETIC.get(type(node.op))
        if work is None:
            found = self._unknown(node.op, "this operator")
            raise self.refuse(node, found.message.partition(": ")[2].rstrip("."))
        left, right = self.strict(node.left), self.strict(node.right)
        kind = left.kind if left.kind == right.kind and left.kind in (INT, TEXT) else UNKNOWN
        return Code(_call(work, left.tree, right.tree, self._piece(node)), kind)

    def both(self, node: ast.BoolOp) -> Code:
        return Code(ast.BoolOp(node.op, [self._truth(part) for part in node.values]), BOOL)

    def choice(self, node: ast.IfExp) -> Code:
        test, then, other = self._truth(node.test), self.strict(node.body), self.strict(node.orelse)
        kind = then.kind if then.kind == other.kind else UNKNOWN
        return Code(ast.IfExp(test, then.tree, other.tree), kind)

    def _truth(self, node: ast.expr) -> ast.expr:
        made = self.strict(node)
        return made.tree if made.kind == BOOL else _call(operators.truth, made.tree, self._piece(node))

    def listed(self, node: ast.List | ast.Tuple) -> Code:
        """Returns the code of a list, made anew each time, because a step may put it into a record."""
        items = [self.strict(item).tree for item in node.elts]
        self.builds |= not all(isinstance(item, ast.Constant) for item in items)
        return Code(ast.List(items, ast.Load()))

    def object(self, node: ast.Dict) -> Code:
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise self.refuse(node, "the keys of an object are texts, written out")
        if len(set(keys)) < len(keys):
            raise self.refuse(node, "the object has a key twice")
        made = [self.strict(key).tree for key in node.keys if key is not None]
        items = [self.strict(item).tree for item in node.values]
        self.builds |= not all(isinstance(item, ast.Constant) for item in items)
        return Code(ast.Dict([*made], items))

    def item(self, node: ast.Subscript) -> Code:
        self._no_slice(node)
        whole, key = self.strict(node.value), self.strict(node.slice)
        return Code(_call(operators.item_at, whole.tree, key.tree, self._piece(node)))

    def _no_slice(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, (ast.Slice, ast.Tuple)):
            raise self.refuse(node, _INSTEAD[ast.Slice])

    # Comparisons

    def compare(self, node: ast.Compare) -> Code:
        """Returns the code of `a < b < c`: each is evaluated once, and no more of them than it takes."""
        looks_into = len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn))
        parts = [self.strict(node.left), *(self._side(one, looks_into) for one in node.comparators)]
        made = list[ast.expr]()
        for at, op in enumerate(node.ops):
            left, right = parts[at], parts[at + 1]
            if at + 1 < len(node.ops):
                name, right = self._kept(right)
                parts[at + 1] = Code(name, right.kind)
            made.append(self._pair(op, left, right, node))
        return Code(made[0] if len(made) == 1 else ast.BoolOp(ast.And(), made), BOOL)

    def _side(self, node: ast.expr, is_looked_into: bool) -> Code:
        """Returns the code of a right side; a list of constants that is only looked into is not made anew each time."""
        made = self.listed(node) if is_looked_into and isinstance(node, ast.Tuple) else self.strict(node)
        if is_looked_into and isinstance(made.tree, ast.List):
            items = [item.value for item in made.tree.elts if isinstance(item, ast.Constant)]
            if len(items) == len(made.tree.elts):
                return Code(_constants(items))
        return made

    def _kept(self, code: Code) -> tuple[ast.expr, Code]:
        """Returns a name that has what the code gives once it has run, and the code that also sets it."""
        self._temporary += 1
        name = f"kept_{self._temporary}"
        keep = ast.NamedExpr(ast.Name(name, ast.Store()), code.tree)
        return ast.Name(name, ast.Load()), Code(keep, code.kind)

    def _pair(self, op: ast.cmpop, left: Code, right: Code, node: ast.Compare) -> ast.expr:
        kind, piece = type(op), self._piece(node)
        if kind in IDENTITY:
            if not isinstance(right.tree, ast.Constant) or right.tree.value is not None:
                raise self.refuse(node, "is and is not are for null alone; write == or !=")
            return _compare(left.tree, op, right.tree)
        if kind in MEMBERSHIP:
            if isinstance(right.tree, ast.Constant) and _all_texts(right.tree.value):
                return _compare(left.tree, op, right.tree)
            return _call(MEMBERSHIP[kind], left.tree, right.tree, piece)
        if kind in EQUALITY:
            if _is_plain(left) or _is_plain(right):
                return _compare(left.tree, op, right.tree)
            return _call(EQUALITY[kind], left.tree, right.tree)
        work = ORDER[kind]
        if left.kind == right.kind == TEXT or left.kind == right.kind == INT:
            return _compare(left.tree, op, right.tree)
        if not isinstance(right.tree, ast.Constant) or type(right.tree.value) not in (int, float, str):
            return _call(work, left.tree, right.tree, piece)
        # Most filters compare a field with a constant: that takes no call where the kind is the expected one.
        name, left = self._kept(left)
        expected = ("str",) if type(right.tree.value) is str else ("int", "float")
        asked: ast.expr = _call(type, left.tree)
        if len(expected) > 1:
            asked_name, asked_code = self._kept(Code(asked))
            tests: list[ast.expr] = [_is_one(asked_code.tree, expected[0]), _is_one(asked_name, expected[1])]
            test: ast.expr = ast.BoolOp(ast.Or(), tests)
        else:
            test = _is_one(asked, expected[0])
        return ast.IfExp(test, _compare(name, op, right.tree), _call(work, name, right.tree, piece))

    # Calls

    def call(self, node: ast.Call) -> Code:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        entry = TABLE.get(name)
        if entry is None:
            if not name:
                raise self.refuse(node, "only a function by its name can be called")
            raise self.refuse(node, f"there is no function {shown(name)}", _guess(name))
        count = len(node.args)
        if node.keywords or not entry.least <= count <= entry.most:
            takes = f"{entry.least}" if entry.least == entry.most else f"{entry.least} to {entry.most}"
            many = "" if entry.most == 1 else "s"
            raise self.refuse(node, f"{name}() takes {takes} argument{many}, without names")
        if name == "exists" and not _is_path(node.args[0]):
            raise self.refuse(node.args[0], 'exists() takes a field, such as a, a["b"] or get(a, "b.c")')
        given = [self._argument(name, at, one) for at, one in enumerate(node.args)]
        return Code(ast.Call(ast.Name(f"call_{name}", ast.Load()), [self._piece(node), *given], []), entry.kind)

    def _argument(self, name: str, at: int, node: ast.expr) -> ast.expr:
        if name in PATHS and at == 1:
            if not isinstance(node, ast.Constant) or type(node.value) is not str:
                raise self.refuse(node, f'the path of {name}() is written out, such as "customer.city"')
            try:
                return _constants(parse_path(node.value))
            except Usage as error:
                raise self.refuse(node, error.message.rstrip("."), error.hint) from None
        if name in LENIENT and (name != "get" or at == 0):
            return self.lenient(node)
        return self.strict(node).tree


def _constants(items: Sequence[Any]) -> ast.Constant:
    made: Any = tuple(items)
    return ast.Constant(made)


def _call(work: Callable[..., Any], *given: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(work.__name__, ast.Load()), [*given], [])


def _compare(left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.Compare:
    return ast.Compare(left, [op], [right])


def _is_one(kind: ast.expr, name: str) -> ast.Compare:
    return _compare(kind, ast.Is(), ast.Name(name, ast.Load()))


def _is_plain(code: Code) -> bool:
    """Says whether Python's own `==` is right beside a constant: only 0 and 1 equal what is no number, a boolean."""
    if not isinstance(code.tree, ast.Constant):
        return code.kind == TEXT
    value: Any = code.tree.value
    return type(value) in (str, type(None)) or (type(value) is not bool and value not in (0, 1))


def _all_texts(value: Any) -> bool:
    return type(value) is tuple and all(type(item) is str for item in value)


def _is_path(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "get"
    return isinstance(node, ast.Subscript) or (isinstance(node, ast.Name) and node.id not in WORDS)


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _guess(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, TABLE, 1)
    return f"Did you mean {close[0]}()?" if close else f"There are {', '.join(sorted(TABLE))}."


_MAKERS: dict[type[ast.expr], Callable[[Coder, Any], Code]] = {
    ast.Constant: Coder.constant, ast.Name: Coder.name, ast.UnaryOp: Coder.unary, ast.BinOp: Coder.binary,
    ast.BoolOp: Coder.both, ast.IfExp: Coder.choice, ast.List: Coder.listed,
    ast.Dict: Coder.object, ast.Subscript: Coder.item, ast.Compare: Coder.compare, ast.Call: Coder.call,
}  # fmt: skip
