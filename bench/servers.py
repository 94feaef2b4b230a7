"""What the servers that we are compared with have in common."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from bench.turns import Action
from grafctl import Outgoing

START_S = 60.0


class Missing(Exception):
    """The peer cannot be measured here; the text says why."""


class Peer(Protocol):
    """A session with a server of our own."""

    def plain(self, records: Sequence[bytes]) -> Action:
        """Returns what publishes the records together, ready made, and returns when they are durable."""
        ...

    def keyed(self, records: Sequence[Outgoing]) -> Action:
        """Returns what does it with records whose ids may be there only once."""
        ...

    def preload(self, count: int) -> None:
        """Stores so many random ids."""
        ...


def wait_for(server: subprocess.Popen[bytes], is_up: Callable[[], bool]) -> None:
    """Waits until a server that was started answers; raises `Missing` when it does not."""
    until_s = time.monotonic() + START_S
    while not is_up():
        if server.poll() is not None or time.monotonic() > until_s:
            raise Missing("the server does not start")
        time.sleep(0.05)
