"""Waves as people and scripts see them; a room of `render.py`."""

from __future__ import annotations

from grafctl import render, render_output, render_text
from grafctl.results import Shown
from grafctl.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grafctl.render import Form

COLUMNS = ("place", "consumer", "shape", "state", "reason", "note")


def plan(answer: Shown, output: Form, json: bool) -> None:
    """Prints a wave in its order."""
    if json or output != "table":
        render_output.write(render.document(answer.as_json()))
        return
    body = answer.fields()
    rows: list[dict[str, Any]] = body["consumers"]
    shown = [{name: row[name] for name in COLUMNS if any(name in other for other in rows)} for row in rows]
    head = f"Wave {body['wave']}: {len(rows)} consumer{'s' if len(rows) != 1 else ''}, {body['at_once']} at once"
    render_text.draw([render.clean(head), render_text.table_of(shown)])
