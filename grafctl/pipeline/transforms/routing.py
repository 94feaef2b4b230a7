"""Steps that say where a record goes: `filter`, `route`.

Promises, of each step
- `filter` lets a record pass where `when` is true, and drops it where it is false; anything else is refused.
- `route` names the output that a record goes to: by an expression (`to`), or by the first of `cases` whose `when` is
  true. Where `to` gives null or no case is true the `default` is taken, and without one the record is refused; so is a
  record that `to` sends to what is no output of the stage.
"""

from __future__ import annotations

from typing import Any

from grafctl.errors import Usage
from grafctl.expression.failing import EvaluationError, kind_of
from grafctl.pipeline.message import Refused
from grafctl.pipeline.transforms.drafts import DROP, Draft, Work
from grafctl.pipeline.transforms.options import Evaluate, Options, compiled
from grafctl.pipeline.transforms.plans import Filter

CASES_MAX = 1000


def make_filter(options: Options) -> Work:
    expression, evaluate = compiled(options.take("when", "an expression", str), "bool")
    options.plan = Filter(expression)

    def choose(draft: Draft) -> Any:
        return None if _is_true(evaluate, draft) else DROP

    return choose


def _is_true(evaluate: Evaluate, draft: Draft) -> bool:
    answer = evaluate(draft)
    if answer is True or answer is False:
        return bool(answer)
    raise EvaluationError(f"when has to be true or false, and is {kind_of(answer)}.")


def make_route(options: Options) -> Work:
    to = options.take("to", "an expression", str, default=None)
    cases = options.take("cases", "a list of {when, to}", list, default=None)
    default = options.take("default", "an output of the stage", str, default=None)
    if default is not None:
        options.output(default)
    if (to is None) == (cases is None):
        raise Usage("It takes an expression (to) or cases, and one of the two.")
    return _by_cases(options, cases, default) if to is None else _by_expression(options, to, default)


def _by_expression(options: Options, to: str, default: str | None) -> Work:
    _, evaluate = compiled(to, "text")
    outputs = frozenset(options.outputs)

    def route(draft: Draft) -> None:
        name = evaluate(draft)
        if name is None:
            name = default
        if type(name) is not str or name not in outputs:
            what = "a text that is none" if type(name) is str else kind_of(name)
            raise Refused(f"to has to give an output of the stage, and gives {what}")
        draft.to = name

    return route


def _by_cases(options: Options, cases: list[Any], default: str | None) -> Work:
    if not 1 <= len(cases) <= CASES_MAX:
        raise Usage(f"It has {len(cases)} cases; 1 to {CASES_MAX} are allowed.")
    choices = list[tuple[Evaluate, str]]()
    for case in cases:
        if type(case) is not dict or case.keys() != {"when", "to"} or type(case["when"]) is not str:
            raise Usage("Each of its cases has a when, which is an expression, and a to, which is an output.")
        choices.append((compiled(case["when"], "bool")[1], options.output(case["to"])))

    def route(draft: Draft) -> None:
        for evaluate, name in choices:
            if _is_true(evaluate, draft):
                draft.to = name
                return
        if default is None:
            raise Refused("no case is true, and there is no default")
        draft.to = default

    return route
