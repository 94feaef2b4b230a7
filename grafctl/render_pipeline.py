"""A running pipeline, told as it goes: a line every few seconds on standard error, or states on standard output.

Promises
- In the first second nothing is said, and afterwards only what has changed.
- With `-o jsonl` each line is a document with the counts of every stage so far; the last one is that of the whole run.
"""

from __future__ import annotations

from typing import Any

from grafctl import clock, render, render_output

FIRST_S, LINE_S, STATE_S = 1.0, 5.0, 1.0


class Told:
    """What to call with the counts of all stages, as often as one likes."""

    def __init__(self, name: str, *, quiet: bool, states: bool) -> None:
        self.name, self.quiet, self.states = name, quiet, states
        self._before: dict[str, int] = {}
        self._before_s = clock.monotonic_s()
        self._next_s = self._before_s + FIRST_S

    def __call__(self, stages: list[dict[str, Any]]) -> None:
        now_s = clock.monotonic_s()
        if now_s < self._next_s:
            return
        read = {row["stage"]: row.get("read", 0) for row in stages}
        self._next_s = now_s + (STATE_S if self.states else LINE_S)
        if read == self._before:
            return
        if self.states:
            render_output.write(render.document({"v": 1, "ok": True, "state": "running", "stages": stages}))
        if not self.quiet:
            took_s = max(now_s - self._before_s, 1e-9)
            parts = [f"{name} {count:,} ({self._rate(name, count, took_s)} a second)" for name, count in read.items()]
            render_output.note(render.clean(f"{self.name}: {', '.join(parts)}") + "\n")
        self._before, self._before_s = read, now_s

    def _rate(self, name: str, count: int, took_s: float) -> str:
        return f"{round((count - self._before.get(name, 0)) / took_s):,}"

    def say(self, sentence: str) -> None:
        """Says what a stage waits for."""
        if not self.quiet:
            render_output.note(render.clean(f"{self.name}: {sentence}") + "\n")
