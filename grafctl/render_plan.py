"""Plans and drift as people read them: a sign, a thing, and its lines; the sum; and what to type next.

Promises
- `+` is made by `apply`, `~` is there and different and is not changed by `apply`, `?` is there and nobody declared it.
- The command that leads from what is to what is declared stands below each difference, where there is one.
"""

from __future__ import annotations

from grafctl import render
from grafctl.nouns.planning import in_words
from grafctl.results import Drift, Plan
from grafctl.typed import Any


def plan_lines(plan: Plan) -> list[str]:
    """Returns the lines of a plan."""
    lines = [
        f"{plan.file} beside {plan.store}" + (f" ({plan.identity})" if plan.identity else ", which is not there yet")
    ]
    for item in plan.actions:
        lines += [f"  + {_subject(item)}{_place(plan.file, item)}"]
        lines += [f"      {name}: {in_words(value)}" for name, value in (item.get("after") or {}).items()]
    for item in plan.differences:
        lines += [f"  ~ {_subject(item)}{_place(plan.file, item)}"]
        lines += [f"      {item['field']}: {in_words(item.get('before'))} -> {in_words(item.get('after'))}"]
        lines += [f"      {item.get('command') or 'no command changes it'}"]
    lines += [f"  ? {_subject(item)}, not declared" for item in plan.undeclared]
    counts = (
        (len(plan.actions), "to create"),
        (len(plan.differences), "different"),
        (len(plan.undeclared), "undeclared"),
    )
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    lines += [f"{told}. Nothing that is there is changed or deleted." if told else "Nothing would change."]
    if plan.refused:
        lines += [f"apply would be refused: {plan.refused}"]
    if plan.out:
        lines += [f"Saved to {plan.out} as {plan.plan}: grafctl apply {plan.out}"]
    return [render.clean(line) for line in lines]


def drift_lines(drift: Drift) -> list[str]:
    """Returns a line a finding."""
    lines = [f"{drift.file}:{item['line']}: " if "line" in item else f"{drift.file}: " for item in drift.findings]
    found = [place + item["message"] for place, item in zip(lines, drift.findings, strict=True)]
    return [render.clean(line) for line in found or ["No differences found."]]


def _subject(item: dict[str, Any]) -> str:
    return f"{item['kind']} {item['name']}" + (f" of {item['resource']}" if "resource" in item else "")


def _place(file: str, item: dict[str, Any]) -> str:
    return f"  ({file}:{item['line']})" if "line" in item else ""
