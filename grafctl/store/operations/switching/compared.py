"""What the comparison of two outputs comes to, and how it is kept, whatever the outputs are.

Promises
- How far a comparison is is kept under the generation of the switch, so whoever was overtaken by a flip keeps nothing.
- What was not read up to the ends of both outputs is no proof, and never has zero mismatches; nor is it a proof that
  nothing differs where nothing has its counterpart yet, or where nobody knows since when something differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from grafctl import clock
from grafctl.errors import Usage
from grafctl.names import check_domain, shown
from grafctl.store.driver.kill import point
from grafctl.store.resources.switches import NoteShadow
from grafctl.store.session import Session
from grafctl.store.switch_compare import MATCHED, WAITING, mismatches
from grafctl.typed import Any, Callable, Mapping, NamedTuple, Protocol

SAVE_S = 3.0  # between two times that a long comparison is kept
GRACE_MS = 60_000
NOTE_MS = 30_000  # a comparison that finds nothing new is kept again after so long, to say when it was
NOW, START = "now", "start"

Tell = Callable[[str, int, int], None]


class Compared(NamedTuple):
    """What a comparison came to: how many mismatches stand in the way of a switch, and what the row keeps of it.

    There are none only where both outputs were read up to their ends; else the number is None where none was found yet.
    """

    mismatches: int | None
    shadow: dict[str, Any]

    @property
    def full(self) -> str | None:
        """Returns the side that is too far ahead of the other one, or None."""
        return self.shadow.get("full")


class Found(Protocol):
    """What is known of two outputs; of records it is a `Comparison`, of tables a `RowComparison`."""

    def judge(self, now_ms: int, grace_ms: int) -> dict[str, int]: ...

    def named(self, now_ms: int, grace_ms: int) -> list[dict[str, Any]]: ...

    def not_compared(self) -> int: ...

    def undated(self, now_ms: int, grace_ms: int) -> int: ...

    def as_row(self) -> dict[str, Any]: ...


def check_from(text: str | None) -> str | None:
    """Returns where a comparison begins; raises `Usage`."""
    if text not in (None, NOW, START):
        raise Usage(f"{shown(text)} is not where a comparison can begin.", hint="Take --compare-from now or start.")
    return text


class Comparer(ABC):
    """The comparison of one switch, by one operator: `run` as often as one likes, and it goes on each time."""

    def __init__(
        self,
        session: Session,
        name: str,
        row: Mapping[str, Any],
        domain: str,
        *,
        begins: bool = False,
        grace_ms: int | None = None,
        tell: Tell | None = None,
        dry_run: bool = False,
    ) -> None:
        self.session, self.name, self.row, self.domain = session, name, row, check_domain(domain)
        self.grace_ms = grace_ms if grace_ms is not None else int(row["shadow"].get("grace_ms", GRACE_MS))
        self._begins, self._tell, self._dry_run = begins, tell, dry_run
        self._made: Any = None  # what is known so far; None: what the row keeps
        self._forgiven_ms: int | None = row["shadow"].get("forgiven_ms")
        self._since = self._forgiven_ms  # as the row has it, for all that this comparer knows
        self._last: dict[str, Any] = {}  # what was kept by this comparer
        self._noted_ms = 0

    def run(self, since: str | None = None) -> Compared:
        """Compares what there is now, and keeps how far it is."""
        check_from(since)
        while True:
            made, full = self._compared(since)
            found = self._kept(made, full=full, is_complete=full is None)
            if self._made is not None:
                return found

    @abstractmethod
    def _compared(self, since: str | None) -> tuple[Found, str | None]:
        """Compares what there is now; returns what is known, and the side that is too far ahead of the other one."""

    def _kept(self, made: Found, *, full: str | None = None, is_complete: bool) -> Compared:
        """Keeps how far it is."""
        now_ms = clock.now_ms()
        counts = made.judge(now_ms, self.grace_ms)
        found = mismatches(counts)
        shadow = made.as_row() | {"samples": made.named(now_ms, self.grace_ms), "counts": counts}
        undated = made.undated(now_ms, self.grace_ms)
        is_proof = is_complete and not undated and (counts[MATCHED] > 0 or counts[WAITING] == 0)
        shadow |= {"mismatches": found if found or is_proof else None, "without": made.not_compared()}
        shadow |= {"grace_ms": self.grace_ms, "generation": self.row["generation"]}
        shadow |= {"undated": undated} if undated else {}
        shadow |= {"full": full} if full is not None else {}
        shadow |= {"forgiven_ms": self._forgiven_ms} if self._forgiven_ms is not None else {}
        is_known = self._dry_run or self._made is None  # or another operator's is taken up next
        if not is_known and (shadow != self._last or now_ms - self._noted_ms >= NOTE_MS):
            self._note(shadow | {"judged_ms": now_ms})
            self._last, self._noted_ms = shadow, now_ms
            point("comparing.kept")
        return Compared(shadow["mismatches"], shadow | {"judged_ms": now_ms})

    def _note(self, shadow: dict[str, Any]) -> None:
        """Keeps a comparison; where another operator has forgiven something meanwhile, his is taken up instead."""
        note = NoteShadow(self.name, self.row["generation"], shadow, self._begins, self._since)
        row = self.session.control.append(note).answer.row
        forgiven_ms = row["shadow"].get("forgiven_ms")
        if forgiven_ms != self._forgiven_ms:
            self.row, self._made, self._forgiven_ms, self._noted_ms = row, None, forgiven_ms, 0
        self._since = forgiven_ms
