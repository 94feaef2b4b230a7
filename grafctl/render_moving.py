"""Vshards on their way, as people and scripts see them; a room of `render.py`.

Promises
- Each answer is printed when its vshard is done: as a sentence, or as a line of `-o jsonl` between the changes of
  state. `--json` prints one document at the end: the vshard where one was named, else all of them.
- On a terminal standard error shows a line for each vshard on its way; elsewhere a plain line every few seconds; with
  `--quiet`, and in the first second, nothing.
- While a vshard is paused nothing is drawn and nothing is written: a terminal or a pipe that is slow must not make its
  writers wait.

When it fails: only standard output can, with `OutputLost`; a migration is then stopped like by Ctrl-C.
"""

from __future__ import annotations

from grafctl import clock, render, render_moving_text, render_output, render_progress, threads
from grafctl.errors import GrafctlError, Timeout
from grafctl.render_moving_text import OnItsWay
from grafctl.results import Listed, Migrated, Shown
from grafctl.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from grafctl.render import Form

TOLD = ("begun", "state", "proof", "throttle")  # what `-o jsonl` prints
CUTOVER = "cutover"


class Moving:
    """Takes what the library tells of migrations, from any of its threads; prints answers and shows progress."""

    def __init__(
        self, verb: str, table: str, is_many: bool, output: Form, json: bool = False, *, quiet: bool = False
    ) -> None:
        self._verb, self._table, self._is_many = verb, table, is_many
        self._form: Form = "json" if json else output
        self._quiet = quiet
        self._lock = threads.lock()
        self._done: list[Migrated] = []
        self._failed: list[dict[str, Any]] = []
        self._under_way: dict[int, OnItsWay] = {}
        self._unwritten: list[bytes] = []
        self._next_s = clock.monotonic_s() + render_progress.QUIET_S
        self._live: Any = None

    def __enter__(self) -> Moving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
        if isinstance(error, (render_output.OutputLost, BrokenPipeError)):
            return
        self._flush()
        if self._form == "json":
            self._print_document(is_whole=error is None)
        elif self._form == "table" and (error is None or self._done or self._failed):
            lines = render_moving_text.end_lines(self._table, self._done, self._failed, is_many=self._is_many)
            render_output.write("".join(f"{line}\n" for line in lines).encode())

    def _print_document(self, *, is_whole: bool) -> None:
        if self._is_many and (is_whole or self._done or self._failed):
            done = sorted(self._done, key=lambda answer: answer.vshard)
            body = {"v": 1, "ok": True, "migrations": [answer.fields() for answer in done]}
            render_output.write(render.document(body | ({"failed": self._failed} if self._failed else {})))
        elif not self._is_many:
            for answer in self._done:
                render_output.write(render.document(answer.as_json()))

    def __call__(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        what = event["event"]
        if what == "done":
            self._take_done(event["answer"])
        elif what == "failed":
            self._take_failed(event["vshard"], event["error"])
        elif what == "stopping":
            self._say("stopping between two steps; a second signal ends at once.")
        else:
            now_s = clock.monotonic_s()
            under_way = self._under_way.setdefault(event["vshard"], OnItsWay(event["vshard"], now_s))
            under_way.take(event, now_s)
            if what == "throttle" and self._form != "jsonl":
                self._say(f"vshard {event['vshard']}: {event['sentence']}")
            if self._form == "jsonl" and what in TOLD:
                self._unwritten.append(render.document({"v": 1, "ok": True, **event}))
        if not any(item.state == CUTOVER for item in self._under_way.values()):
            self._flush()
            self._show(clock.monotonic_s())

    def _take_done(self, answer: Migrated) -> None:
        self._under_way.pop(answer.vshard, None)
        self._done.append(answer)
        if self._form == "jsonl":
            self._unwritten.append(render.document(answer.as_json()))
        elif self._form == "table":
            lines = render_moving_text.answer_lines(self._verb, answer)
            self._unwritten.append("".join(f"{render.clean(line)}\n" for line in lines).encode())

    def _take_failed(self, vshard: int, error: GrafctlError) -> None:
        self._under_way.pop(vshard, None)
        if not self._is_many or (isinstance(error, Timeout) and error.fields.get("outcome") == "kept"):
            return  # it is told by itself, or was stopped with the others
        body = error.as_json()
        failed = {"vshard": vshard, **{name: body[name] for name in ("code", "exit", "message")}}
        self._failed.append(failed)
        if self._form == "jsonl":
            event = {"event": "failed", "table": self._table, **failed}
            self._unwritten.append(render.document({"v": 1, "ok": True, **event}))
        elif self._form == "table":
            self._say(error.message)

    def _flush(self) -> None:
        """Writes what waits for it."""
        if self._unwritten:
            self._clear()
            written, self._unwritten = b"".join(self._unwritten), []
            render_output.write(written)

    def _say(self, text: str) -> None:
        self._clear()
        render_output.note(f"{render.clean(f'vshard {self._verb} {self._table}: {text}')}\n")

    # --- progress

    def _show(self, now_s: float) -> None:
        if self._quiet or now_s < self._next_s or not self._under_way:
            return
        counts = (len(self._done), len(self._failed)) if self._is_many else None
        if render.draws_progress():
            self._draw(counts)
            self._next_s = now_s + render_progress.DRAW_S
            return
        for line in render_moving_text.plain_lines(self._table, self._under_way, counts):
            render_output.note(f"{render.clean(line)}\n")
        self._next_s = now_s + render_progress.LINE_S

    def _draw(self, counts: tuple[int, int] | None) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            console = Console(stderr=True)
            self._live = Live(console=console, transient=True, auto_refresh=False)
            self._live.start()
        size = self._live.console.size
        lines = render_moving_text.screen_lines(self._under_way, counts, size.width, size.height - 1)
        self._live.update(Text("\n".join(map(render.clean, lines)), no_wrap=True, overflow="ellipsis"), refresh=True)

    def _clear(self) -> None:
        """Takes the lines from the terminal, so that others may write there."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def listed(answer: Listed, output: Form, json: bool, *, is_chosen: bool) -> None:
    """Prints the vshards of a table; for people those that hold nothing and never moved are one line."""
    _print(answer, render_moving_text.list_blocks(answer.items, is_chosen=is_chosen), output, json)


def standing(answer: Listed, table: str, output: Form, json: bool) -> None:
    """Prints how far vshards are."""
    _print(answer, render_moving_text.status_blocks(table, answer.items), output, json)


def shown(answer: Shown, output: Form, json: bool) -> None:
    """Prints one vshard."""
    _print(answer, render_moving_text.show_blocks(answer.fields()), output, json)


def _print(answer: Listed | Shown, blocks: list[Any], output: Form, json: bool) -> None:
    if json or output != "table":
        render_output.write(render.document(answer.as_json()))
    else:
        from grafctl import render_text

        render_text.draw(blocks)
