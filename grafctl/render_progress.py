"""Long work, told on standard error: a bar on a terminal, a plain line every few seconds elsewhere, nothing with
`--quiet`.

Promises
- Nothing is imported, drawn or written in the first second, so short work stays silent and fast.
- With `-o jsonl` each change of phase is one line on standard output, because scripts read states there.

When it fails: progress is never a reason for the work to stop; only `jsonl` lines can raise `OutputLost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grafctl import clock, render, render_output

if TYPE_CHECKING:
    from types import TracebackType

QUIET_S = 1.0
LINE_S = 5.0
DRAW_S = 0.1


class Progress:
    """A callable `(phase, done, total)` for the library; `total` 0 means unknown."""

    def __init__(self, name: str, *, quiet: bool = False, events: dict[str, Any] | None = None) -> None:
        self.name = name
        self.quiet = quiet
        self.events = events  # fields of the jsonl lines, or None for none
        self._phase = ""
        self._started_s = clock.monotonic_s()
        self._next_s = self._started_s + QUIET_S
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        if self.events is not None and phase != self._phase:
            state = {"v": 1, "ok": True, **self.events, "phase": phase, "done": done, "total": total}
            render_output.write(render.document(state))
        changed, self._phase = phase != self._phase, phase
        now_s = clock.monotonic_s()
        if self.quiet or now_s < self._next_s:
            return
        if render.draws_progress():
            self._draw(phase, done, total, changed)
            self._next_s = now_s + DRAW_S
        else:
            self._say(phase, done, total, now_s)
            self._next_s = now_s + LINE_S

    def _say(self, phase: str, done: int, total: int, now_s: float) -> None:
        rate = round(done / max(now_s - self._started_s, 1e-9))
        goal = f" of {total}" if total else ""
        render_output.note(f"{self.name}: {phase} {done}{goal} ({rate} a second)\n")

    def _draw(self, phase: str, done: int, total: int, changed: bool) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("")
        elif changed:
            self._bar.reset(self._task)
        self._bar.update(self._task, description=f"{self.name}: {phase}", completed=done, total=total or None)
