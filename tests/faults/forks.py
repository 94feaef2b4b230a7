"""A fork server: real processes that die really, without paying for an interpreter's start each time.

`python forks.py` imports all of grafctl, opens nothing, and forks a child for each request that comes on its standard
input. A child opens the store, runs one deed of `deeds.py`, says what it did line by line, and is gone: by itself, or
by the signal that its kill plan asks for.

A run may be traced (`tracing.py`): a process in between stops the child at its system calls, and may make one fail.

Promises
- No environment is ever open in the server, so a fork carries none over.
- What a child said before it died is kept: an acknowledgement that was given counts.
- The server ends when its input ends; no child outlives `LIFE_S`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from faults.tracing import Fault

TESTS = Path(__file__).resolve().parent.parent
LIFE_S = 120
STOP, KILL = "stop", "kill"

Plan = Mapping[str, int]  # point -> at which of its hits


class Trace(NamedTuple):
    """How a run is traced: calls on files under `folder` count, one may fail, and a log of all may go to a file."""

    folder: str
    fault: Fault | None = None
    log: str | None = None
    deadline_s: float | None = None  # how long an operation tries, in place of what it does without being told


@dataclass
class Ran:
    """What became of a child: the signal that ended it (0 for none), and what it said."""

    signal: int
    said: list[dict[str, Any]] = field(default_factory=list)
    reached: dict[str, int] = field(default_factory=dict)  # kind of system call -> how many, where it was traced
    injected: list[str] = field(default_factory=list)

    @property
    def killed(self) -> bool:
        return self.signal == signal.SIGKILL

    @property
    def error(self) -> dict[str, Any] | None:
        return next((item["error"] for item in self.said if "error" in item), None)

    @property
    def exit(self) -> int:
        """The exit code that the command would have had; -1 where it died or broke."""
        if self.signal or not self.said or "crash" in self.said[-1]:
            return -1
        return int(self.error["exit"]) if self.error else 0

    @property
    def hits(self) -> dict[str, int]:
        return next((item["hits"] for item in self.said if "hits" in item), {})

    def of(self, word: str) -> list[Any]:
        """Returns everything that was said under one word."""
        return [item[word] for item in self.said if word in item]


class Forks:
    """The server as its client sees it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
            text=True,
        )

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the fork server has died; its traceback is on stderr"
        reply: dict[str, Any] = json.loads(line)
        return reply

    def run(
        self,
        deed: str,
        store: Path,
        *,
        kill: Plan | None = None,
        count: bool = False,
        patch: Mapping[str, Any] | None = None,
        trace: Trace | None = None,
        **about: Any,
    ) -> Ran:
        """Runs a deed to its end; `count` makes it say how often it passed each point."""
        request = _request("run", deed, store, kill, None, count, patch, about)
        reply = self._ask(request if trace is None else {**request, "op": "trace", "trace": trace})
        said = [json.loads(line) for line in reply["said"].splitlines()]
        return Ran(reply["signal"], said, reply.get("reached", {}), reply.get("injected", []))

    def start(
        self,
        deed: str,
        store: Path,
        log: Path,
        *,
        kill: Plan | None = None,
        stop: Plan | None = None,
        patch: Mapping[str, Any] | None = None,
        **about: Any,
    ) -> int:
        """Starts a deed whose words are appended to `log`; returns its process id, its own until `ended`."""
        request = _request("start", deed, store, kill, stop, False, patch, about)
        return int(self._ask({**request, "log": str(log)})["pid"])

    def ended(self, pid: int, *, wait: bool) -> int | None:
        """Returns the signal that ended a started child, 0 for none; None where it still runs."""
        status: int | None = self._ask({"op": "wait", "pid": pid, "block": wait})["signal"]
        return status

    def stopped(self, pid: int) -> None:
        """Waits until a started child has stopped itself."""
        ended = self.stopped_or_ended(pid)
        assert ended is None, f"it ended with signal {ended} and did not stop"

    def stopped_or_ended(self, pid: int) -> int | None:
        """Waits until a started child has stopped itself (None), or has ended: by which signal, 0 for none."""
        reply = self._ask({"op": "stopped", "pid": pid})
        return None if reply["stopped"] else int(reply["signal"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _request(
    op: str,
    deed: str,
    store: Path,
    kill: Plan | None,
    stop: Plan | None,
    count: bool,
    patch: Mapping[str, Any] | None,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    plans = {KILL: dict(kill or {}), STOP: dict(stop or {})}
    return {
        "op": op,
        "deed": deed,
        "store": str(store),
        "count": count,
        "patch": dict(patch or {}),
        **plans,
        "about": about,
    }


def heard(log: Path) -> list[dict[str, Any]]:
    """Returns what started children said so far; a last line that its writer did not finish is left out."""
    text = log.read_bytes() if log.exists() else b""
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def clean_environment() -> dict[str, str]:
    """Returns the environment of the server: nothing of grafctl's in it, and both import roots."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GRAFCTL_")}
    return env | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}


# --- the server's side


def serve() -> None:
    """Answers one request a line until the input ends."""
    _import_everything()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answers = {"run": _run, "trace": _run_traced, "start": _start, "wait": _wait, "stopped": _stopped}
        reply = answers[request["op"]](request)
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def _import_everything() -> None:
    import grafctl

    for module in pkgutil.walk_packages(grafctl.__path__, "grafctl."):
        if not module.name.startswith(("grafctl.commands", "grafctl.cli", "grafctl.__main__", "grafctl.render")):
            importlib.import_module(module.name)
    for name in ("faults.deeds", "faults.tracing"):
        importlib.import_module(name)
    points()
    gc.collect()
    gc.freeze()  # what is here lives as long as each child, which need not look through it


def _run(request: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(request, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    return {"signal": _signal_of(os.waitpid(pid, 0)[1]), "said": said.decode()}


def _run_traced(request: dict[str, Any]) -> dict[str, Any]:
    """Runs with a process in between, which traces: whoever forked the child must be the one that waits for it."""
    from faults.tracing import Fault, run_traced

    (reader, writer), (told, tell) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            folder, fault, log, deadline_s = request["trace"]
            if deadline_s is not None:
                importlib.import_module("faults.deeds").hurry(deadline_s)
            act = partial(_child, request, writer)
            status, seen = run_traced(act, folder, Fault(*fault) if fault else None, writer, log)
            os.write(tell, json.dumps({"signal": _signal_of(status), **seen}).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    os.close(tell)
    with open(reader, "rb") as pipe, open(told, "rb") as other:
        said, seen = pipe.read(), other.read()
    os.waitpid(pid, 0)
    assert seen, "the tracer has died; its traceback is on stderr"
    return {"said": said.decode(), **json.loads(seen)}


def _start(request: dict[str, Any]) -> dict[str, Any]:
    pid = os.fork()
    if pid == 0:
        _child(request, os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
    return {"pid": pid}


def _wait(request: dict[str, Any]) -> dict[str, Any]:
    pid, status = os.waitpid(request["pid"], 0 if request["block"] else os.WNOHANG)
    return {"signal": _signal_of(status) if pid else None}


def _stopped(request: dict[str, Any]) -> dict[str, Any]:
    _, status = os.waitpid(request["pid"], os.WUNTRACED)
    return {"stopped": os.WIFSTOPPED(status), "signal": None if os.WIFSTOPPED(status) else _signal_of(status)}


def _signal_of(status: int) -> int:
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _child(request: dict[str, Any], out: int) -> None:
    """Never returns."""
    signal.alarm(LIFE_S)

    def say(**words: Any) -> None:
        os.write(out, json.dumps(words).encode() + b"\n")

    try:
        _plan(request)
        for name, value in request["patch"].items():
            module, _, attribute = name.rpartition(".")
            setattr(importlib.import_module(module), attribute, value)
        with _told(say):
            _deed(request["deed"])(Path(request["store"]), say, **request["about"])
        if request["count"]:
            from grafctl.store.driver import kill

            say(hits=kill._hits)
        say(done=True)
    finally:
        os._exit(0)


def _deed(name: str) -> Any:
    """Returns a deed of `deeds.py`, or a function that is named `module:function`."""
    module, _, function = name.rpartition(":")
    return (
        getattr(importlib.import_module(module), function)
        if module
        else importlib.import_module("faults.deeds").DEEDS[name]
    )


@contextlib.contextmanager
def _told(say: Any) -> Iterator[None]:
    from grafctl.errors import GrafctlError

    try:
        yield
    except GrafctlError as error:
        say(error=error.as_json())
    except BaseException:
        say(crash=traceback.format_exc())
        os._exit(0)


def _plan(request: dict[str, Any]) -> None:
    """Hands the plan to the product the way its environment variables do; counting is a plan that never comes true."""
    from grafctl.store.driver import kill

    kill._hits.clear()
    plan = {name: (at, signal.SIGKILL) for name, at in request[KILL].items()}
    plan |= {name: (at, signal.SIGSTOP) for name, at in request[STOP].items()}
    if request["count"]:
        plan |= dict.fromkeys(points(), (0, signal.SIGKILL))
    kill._plan = {name: (at, int(signum)) for name, (at, signum) in plan.items()}


@cache
def points() -> list[str]:
    """Returns the names of all kill points in the source."""
    import re

    found: set[str] = set()
    for path in (TESTS.parent / "grafctl").rglob("*.py"):
        found |= set(re.findall(r'\bpoint\("([^"]+)"\)', path.read_text()))
    return sorted(found)


if __name__ == "__main__":
    serve()
