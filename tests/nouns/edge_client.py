"""A process that has one end of the edge `e` open and does what its stdin says, one line an answer.

`python -m nouns.edge_client STORE writer|reader`; then `push BODY`, `keep`, `pop MAX` and `take MAX`. An answer is the
JSON of what came back, or of the error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grafctl
from grafctl.errors import GrafctlError

ROOT = Path(__file__).resolve().parents[2]


def serve(store: Path, side: str) -> None:
    with grafctl.open(store) as opened:
        end: Any = getattr(opened.edges, side)("e", domain="aws")
        tell({"open": end.generation})
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            try:
                found = getattr(end, word)(
                    *([int(rest) if rest.isdigit() and word != "push" else rest] if rest else [])
                )
            except GrafctlError as error:
                tell(error.as_json())
                continue
            if side == "reader":
                tell(
                    {"payloads": [record.payload.decode() for record in found.records], "generation": found.generation}
                )
            else:
                tell({} if found is None else found._asdict())


def tell(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


class Client:
    """The process, as a test talks to it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, line: str) -> dict[str, Any] | None:
        """Returns the answer, or None where the process died before one."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return self.answer()

    def answer(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found


@contextmanager
def client(store: Path, side: str, **env: str) -> Iterator[Client]:
    """Starts one; it is ended with the block, also where it hangs."""
    words = [sys.executable, "-m", "nouns.edge_client", str(store), side]
    surroundings = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **env}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings)
    try:
        yield Client(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
