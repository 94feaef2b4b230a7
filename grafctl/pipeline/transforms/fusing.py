"""Many steps made into one function, for steps of plain fields: the quick way, which most records of a stage go.

Up to the last `keep` no record is made: a field is a variable, whatever it was called before, and what `keep` names is
put together at its end. What follows works on that record, or on a copy of the whole one where there is no `keep`.

Promises
- What `fuse` returns gives for a record what the steps give one after another, to the order of its fields; or None,
  where they have to be asked: for all that they refuse, and for what stands here as left to them. It changes nothing.
- The code that it makes holds names and operators that stand here. What the steps say (names of fields, tables,
  expressions) is handed to it as values and never becomes code. It is at most `LINES_MAX` lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grafctl.expression.failing import EvaluationError
from grafctl.expression.language import Expression
from grafctl.expression.paths import MISSING
from grafctl.expression.scope import ABOUT, is_about
from grafctl.pipeline.message import Refused
from grafctl.pipeline.transforms.drafts import DROP
from grafctl.pipeline.transforms.plans import Change, Drop, Filter, Keep, Lookup, Path, Plan, Rename, Set

LINES_MAX = 2000

Fused = Callable[[dict[str, Any]], Any]  # gives an object, or DROP, or None where the steps have to be asked
_GONE = "MISSING"


class _NotPlain(Exception):
    """A step that is left to itself, and with it all of the stage."""


def fuse(plans: Sequence[Plan | None]) -> Fused | None:
    """Returns the quick way through all steps, or None where there is none."""
    if not plans:
        return None
    code = _Code()
    last = max((at for at, plan in enumerate(plans) if isinstance(plan, Keep)), default=-1)
    try:
        fields = _Fields(code)
        for plan in plans[: last + 1]:
            fields.take(plan)
        if last < 0:
            code.line("made = dict(record)")
        else:
            fields.put_together()
        for plan in plans[last + 1 :]:
            _in_place(code, plan)
    except _NotPlain:
        return None
    return code.function()


def _name(path: Path) -> str:
    """Returns the name of a field that is not inside another one."""
    if len(path) > 1 or path[0] == "*":
        raise _NotPlain
    return path[0]


class _Code:
    """The lines of the function, and the values that they name."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._given: dict[str, Any] = {
            "__builtins__": {}, "MISSING": MISSING, "DROP": DROP, "type": type, "dict": dict,
            "Failed": (Refused, EvaluationError),
        }  # fmt: skip
        self._variables = 0

    def line(self, text: str) -> None:
        self._lines.append(text)
        if len(self._lines) > LINES_MAX:
            raise _NotPlain

    def value(self, value: Any) -> str:
        """Returns the name by which the code finds a value."""
        name = f"given_{len(self._given)}"
        self._given[name] = value
        return name

    def variable(self, text: str) -> str:
        """Returns a new variable that has what an expression gives."""
        self._variables += 1
        name = f"field_{self._variables}"
        self.line(f"{name} = {text}")
        return name

    def pass_filter(self, answer: str) -> None:
        self.line(f"if {answer} is False: return DROP")
        self.line(f"if {answer} is not True: return None")

    def function(self) -> Fused:
        body = "".join(f"        {line}\n" for line in self._lines)
        text = f"def run(record):\n    try:\n        get = record.get\n{body}        return made\n"
        made = dict[str, Any]()
        exec(text + "    except Failed:\n        return None\n", self._given, made)
        run: Fused = made["run"]
        return run


class _Fields:
    """The fields of a record before the last `keep`: which variable has the value of each, or `MISSING`."""

    def __init__(self, code: _Code) -> None:
        self._code = code
        self._at: dict[str, str] = {}  # name -> variable
        self._sure: set[str] = set()  # variables that have a value, whatever the record
        self._torn: set[str] = set()  # fields of which a part is gone, so no variable has them
        self._is_closed = False  # there is nothing but what `_at` names

    def take(self, plan: Plan | None) -> None:
        """Does one step."""
        if isinstance(plan, Keep):
            self._at = {name: self._read(name) for name in map(_name, plan.paths)}
            self._torn, self._is_closed = set(), True
        elif isinstance(plan, Drop):
            for path in plan.paths:
                self._drop(path)
        elif isinstance(plan, Rename):
            self._rename(plan)
        elif isinstance(plan, Change):
            for path, change in plan.fields:
                self._change(_name(path), change)
        elif isinstance(plan, Set):
            made = [(_own(path), self._evaluated(expression)) for path, expression in plan.fields]
            for name, variable in made:
                self._write(name, variable)
        elif isinstance(plan, Lookup):
            found = self._code.variable(f"{self._code.value(plan.look)}({self._read(_name(plan.path))})")
            self._code.line(f"if {found} is MISSING: return None")
            self._write(_name(plan.into), found)
        elif isinstance(plan, Filter):
            self._code.pass_filter(self._evaluated(plan.when))
        else:
            raise _NotPlain

    def put_together(self) -> None:
        """Makes the record of the fields that are there, in their order."""
        code, pairs = self._code, [(name, at) for name, at in self._at.items() if at != _GONE]
        names = {name: code.value(name) for name, _ in pairs}
        code.line(f"made = {{{', '.join(f'{names[name]}: {variable}' for name, variable in pairs)}}}")
        for name, variable in pairs:
            if variable not in self._sure:
                code.line(f"if {variable} is MISSING: del made[{names[name]}]")

    def _read(self, name: str) -> str:
        if name in self._torn:
            raise _NotPlain
        if name not in self._at:
            if self._is_closed:
                return _GONE
            self._at[name] = self._code.variable(f"get({self._code.value(name)}, MISSING)")
        return self._at[name]

    def _write(self, name: str, variable: str) -> None:
        self._torn.discard(name)
        self._at[name] = variable
        self._sure.add(variable)

    def _drop(self, path: Path) -> None:
        if len(path) > 1:
            self._torn.add(path[0])
        else:
            self._torn.discard(_name(path))
            self._at[path[0]] = _GONE

    def _rename(self, plan: Rename) -> None:
        code = self._code
        found = [(_name(new), self._inside(old)) for old, new in plan.pairs]
        for old, _ in plan.pairs:
            self._drop(old)
        for name, variable in found:
            if name in self._torn:
                raise _NotPlain
            if name not in self._at:
                if not self._is_closed:
                    code.line(f"if {code.value(name)} in record: return None")
            elif self._at[name] != _GONE:
                code.line(f"if {self._at[name]} is not MISSING: return None")
            self._at[name] = variable

    def _inside(self, path: Path) -> str:
        """Returns the variable of a field that may be inside other objects."""
        variable = self._read(path[0])
        for key in path[1:]:
            below = f"{variable}.get({self._code.value(key)}, MISSING) if type({variable}) is dict else MISSING"
            variable = self._code.variable(below)
        return variable

    def _change(self, name: str, change: Callable[[Any], Any]) -> None:
        old, work = self._read(name), self._code.value(change)
        if old != _GONE:
            test = f"{old} is None" if old in self._sure else f"{old} is None or {old} is MISSING"
            self._at[name] = self._code.variable(f"{old} if {test} else {work}({old})")
            if old in self._sure:
                self._sure.add(self._at[name])

    def _evaluated(self, expression: Expression) -> str:
        """Returns the variable that has what an expression gives for the fields as they are now."""
        if is_about(expression.names):
            raise _NotPlain
        code = self._code
        pairs = [(code.value(name), self._read(name)) for name in sorted(expression.names)]
        scope = code.variable(f"{{{', '.join(f'{name}: {at}' for name, at in pairs if at != _GONE)}}}")
        for name, at in pairs:
            if at != _GONE and at not in self._sure:
                code.line(f"if {at} is MISSING: del {scope}[{name}]")
        return code.variable(f"{code.value(expression.evaluate)}({scope})")


def _own(path: Path) -> str:
    """Returns the name of a field that `set` sets, and not that of something about the record."""
    name = _name(path)
    if name in ABOUT:
        raise _NotPlain
    return name


def _in_place(code: _Code, plan: Plan | None) -> None:
    """Does one step on a record that is there."""
    if isinstance(plan, Drop):
        for path in plan.paths:
            code.line(f"made.pop({code.value(_name(path))}, None)")
    elif isinstance(plan, Rename):
        names = {_name(old): _name(new) for old, new in plan.pairs}
        made = code.variable(f"{code.value(_renaming(names))}(made)")
        code.line(f"if {made} is None: return None")
        code.line(f"made = {made}")
    elif isinstance(plan, Change):
        for path, change in plan.fields:
            name = code.value(_name(path))
            old = code.variable(f"made.get({name})")
            code.line(f"if {old} is not None: made[{name}] = {code.value(change)}({old})")
    elif isinstance(plan, Set):
        made_of = [(code.value(_own(path)), _asked(code, expression)) for path, expression in plan.fields]
        for name, variable in made_of:
            code.line(f"made[{name}] = {variable}")
    elif isinstance(plan, Lookup):
        found = code.variable(f"{code.value(plan.look)}(made.get({code.value(_name(plan.path))}, MISSING))")
        code.line(f"if {found} is MISSING: return None")
        code.line(f"made[{code.value(_name(plan.into))}] = {found}")
    elif isinstance(plan, Filter):
        code.pass_filter(_asked(code, plan.when))
    else:
        raise _NotPlain


def _asked(code: _Code, expression: Expression) -> str:
    if is_about(expression.names):
        raise _NotPlain
    return code.variable(f"{code.value(expression.evaluate)}(made)")


def _renaming(names: Mapping[str, str]) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    def rename(record: dict[str, Any]) -> dict[str, Any] | None:
        made = {names.get(name, name): value for name, value in record.items()}
        return made if len(made) == len(record) else None

    return rename
