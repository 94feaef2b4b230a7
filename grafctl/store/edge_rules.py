"""The rules of who has an end of an edge open: which handoff is followed, and what is done about the state of a lease.

A handle keeps the handoff that it knows. When it looks again:

| what is published now               | what it does                          |
|---------------------------------------|---------------------------------------|
| the same                            | nothing                               |
| a newer generation                  | a reader takes it; a writer is fenced |
| an older generation                 | refuses (13): somebody went back      |
| this generation, and something else | refuses (13)                          |

And then, by the state of the lease that the handoff names:

| state                                 | the writer                  | the reader                    |
|---------------------------------------|-----------------------------|-------------------------------|
| `held`, `revoking`                    | goes on                     | goes on                       |
| `expired`, `disconnected`, `released` | relocates, and refuses (13) | refuses (13), and looks again |
| `fenced`                              | refuses (14), it is over    | refuses (13), and looks again |
| `revoked`                             | refuses (14), it is over    | refuses (14), it is over      |

A reader has no lease that could be fenced: a newer one only means that its segment is not published yet. The same goes
for a writer where the newer lease replaced its own: somebody died in the middle of a relocation, and it is finished.

Promises
- Nobody goes back: an older generation is never used, also where it is all that can be read.
- A refusal says in `recoverable` whether the same call helps later.

When it fails: nothing here can; there is no I/O and no clock.
"""

from __future__ import annotations

from grafctl.errors import GenerationConflict
from grafctl.store.segment_rules import DISCONNECTED, EXPIRED, FENCED, HELD, RELEASED, REVOKED, REVOKING
from grafctl.typed import Any, Mapping

WRITER, READER = "writer", "reader"
GO, RELOCATE, WAIT, STOP = "go", "relocate", "wait", "stop"

STEPS: Mapping[str, Mapping[str, str]] = {
    WRITER: {
        HELD: GO,
        REVOKING: GO,
        EXPIRED: RELOCATE,
        DISCONNECTED: RELOCATE,
        RELEASED: RELOCATE,
        FENCED: STOP,
        REVOKED: STOP,
    },
    READER: {
        HELD: GO,
        REVOKING: GO,
        EXPIRED: WAIT,
        DISCONNECTED: WAIT,
        RELEASED: WAIT,
        FENCED: WAIT,
        REVOKED: STOP,
    },
}


def is_newer(name: str, known: Any, found: Any) -> bool:
    """Returns whether the handoff that was found is to be taken, and not the one that is known; raises the refusal.

    Both have a `generation`; the same generation must be the same in every field.
    """
    if known is None or found.generation > known.generation:
        return True
    if found == known:
        return False
    what = f"at generation {found.generation}"
    if found.generation == known.generation:
        what = f"elsewhere at the same generation {found.generation}"
    raise GenerationConflict(
        f"The edge {name} was at generation {known.generation}, and is {what} now.",
        hint="Nothing goes back by itself: run `grafctl edge status` and `grafctl verify`.",
        edge=name,
        generation=found.generation,
        known=known.generation,
        recoverable=False,
    )


def usable_until_ms(lease: Mapping[str, Any]) -> int:
    """Returns when a lease ends that is not renewed."""
    until_ms, gone_ms = int(lease["until_ms"]), lease["gone_ms"]
    return until_ms if gone_ms is None else min(until_ms, int(gone_ms))
