"""Waves as people and scripts see them; a room of `render.py`.

Promises
- What happens is printed when it is found: as a sentence, or as a line of `-o jsonl`. What came of each consumer comes
  at the end, also when a refusal ends the wave.

When it fails: only standard output can, with `OutputLost`; a wave is then stopped like by Ctrl-C.
"""

from __future__ import annotations

from grafctl import render, render_output, render_text
from grafctl.results import Shown
from grafctl.store.wave_rules import LOCKED, WENT_BACK
from grafctl.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grafctl.render import Form

NAMES_SHOWN = 20
COLUMNS = ("place", "consumer", "shape", "state", "standing", "reason", "note")
WORDS = {"went_back": "went back", "in_flight": "on its way", "soaked": "waits to be locked"}


def plan(answer: Shown, output: Form, json: bool) -> None:
    """Prints a wave in its order."""
    if json or output != "table":
        render_output.write(render.document(answer.as_json()))
        return
    body = answer.fields()
    rows: list[dict[str, Any]] = body["consumers"]
    head = f"Wave {body['wave']}: {len(rows)} consumer{'s' if len(rows) != 1 else ''}, {body['at_once']} at once"
    halted = [f"Halted: {body['halted']}."] if body.get("halted") else []
    actions = [f"  {step}. {action}" for step, action in enumerate(body.get("actions", ()), 1)]
    render_text.draw([*map(render.clean, [head, *halted, *actions]), _table(rows, COLUMNS)])


def confirm(planned: Shown) -> None:
    """Asks before a wave whose consumers are to be locked; raises `ConfirmationRequired` when the answer is not yes."""
    rows = planned.fields()["consumers"]
    names = [row["consumer"] for row in rows if row["standing"] not in (LOCKED, WENT_BACK)]
    if not names:
        return
    more = f" and {len(names) - NAMES_SHOWN:,} others" if len(names) > NAMES_SHOWN else ""
    told = ", ".join(names[:NAMES_SHOWN]) + more
    when = "at its target when its window is over" if len(names) == 1 else "at their targets as their windows end"
    render.confirm(f"Lock {told} {when}? There is no way back after it; --no-lock leaves it to you.", yes=False)


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> render_text.Table:
    shown = [name for name in columns if any(row.get(name) is not None for row in rows)]
    return render_text.Table(shown, [[render_text.cell_of(_word(row.get(name))) for name in shown] for row in rows])


def _word(value: Any) -> Any:
    return WORDS.get(value, value) if isinstance(value, str) else value


class Waving:
    """Takes what the library tells of a wave, and prints it."""

    def __init__(self, output: Form, json: bool = False) -> None:
        self._form: Form = "json" if json else output

    def __call__(self, event: dict[str, Any]) -> None:
        if self._form == "jsonl":
            told = {name: value for name, value in event.items() if value is not None}
            render_output.write(render.document({"v": 1, "ok": True, **told}))
        elif self._form == "table" and (sentence := _sentence(event)):
            render_output.write(f"{render.clean(sentence)}\n".encode())

    def end(self, answer: Shown) -> None:
        """Prints what came of each consumer."""
        if self._form != "table":
            render_output.write(render.document(answer.as_json()))
            return
        body = answer.fields()
        rows: list[dict[str, Any]] = body["consumers"]
        counts = {standing: sum(row["standing"] == standing for row in rows) for standing in _standings(rows)}
        told = ", ".join(f"{count} {_word(standing)}" for standing, count in counts.items())
        halted = [f"Halted: {body['halted']}."] if body.get("halted") else []
        lines = [*halted, f"Wave {body['wave']}: {told}"]
        render_text.draw([*map(render.clean, lines), _table(rows, ("consumer", "state", "standing", "note"))])


def _standings(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["standing"] for row in rows))


def _sentence(event: dict[str, Any]) -> str | None:
    """Returns what happened in words; what is as it was when the wave was begun needs none."""
    if event["event"] == "blocked":
        return f"{event['consumer']}: {event['message']}"
    if not event["changed"]:
        return None
    why = f": {event['why']}" if event["state"] == "rolled_back" and event.get("why") else ""
    state = f"{event['state']}, closing" if event["closing"] else event["state"]
    return f"{event['consumer']}: {state} (generation {event['generation']}){why}"
