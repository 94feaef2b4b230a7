"""The rules of a lease on a segment: which state may follow which, when it ends, when it is renewed, who is refused.

A segment is a file in one domain, and its lease says who may use it until when. A row keeps what somebody decided
(`STORED`); the other states are judged, by the stored deadlines and a clock, by the token in force, and by whether the
file is there. So a lease runs out also where nobody is there to write that down.

| state          | means                                             | does a new lease help? |
|----------------|---------------------------------------------------|------------------------|
| `held`         | its holder may use the segment                    | |
| `released`     | its holder gave it back                           | yes, anybody may take it anew |
| `expired`      | its deadline has passed                           | yes, anybody may take it anew |
| `disconnected` | it is held, but its file is not there             | yes, its holder replaces it |
| `revoking`     | an operator took it away; it may be used up to the end of the grace | no |
| `revoked`      | the grace is over                                 | no, the name is not leased again |
| `fenced`       | another token is in force                         | no, somebody else has the segment |

Promises
- A state changes as `NEXT` says or not at all, and whoever is refused is told whether relocation helps.
- A renewal never brings an end nearer, and never goes beyond the end of a grace.

When it fails: nothing here can; there is no I/O, no clock and no randomness.
"""

from __future__ import annotations

from grafctl.errors import Fenced, GenerationConflict, GrafctlError, Internal, Usage
from grafctl.names import shown
from grafctl.store.records import digest
from grafctl.typed import Any, Mapping

HELD = "held"
RELEASED = "released"
EXPIRED = "expired"
DISCONNECTED = "disconnected"
REVOKING = "revoking"
REVOKED = "revoked"
FENCED = "fenced"
STATES = (HELD, RELEASED, EXPIRED, DISCONNECTED, REVOKING, REVOKED, FENCED)
STORED = frozenset({HELD, RELEASED, REVOKING, REVOKED})
USABLE = frozenset({HELD, REVOKING})
RECOVERABLE = frozenset({RELEASED, EXPIRED, DISCONNECTED})

# A file that cannot be seen may be seen again. Taking a name anew fences the token that it had.
NEXT: Mapping[str, frozenset[str]] = {
    HELD: frozenset({RELEASED, EXPIRED, DISCONNECTED, REVOKING, FENCED}),
    DISCONNECTED: frozenset({HELD, RELEASED, EXPIRED, REVOKING, FENCED}),
    EXPIRED: frozenset({RELEASED, REVOKED, FENCED}),
    RELEASED: frozenset({REVOKED, FENCED}),
    REVOKING: frozenset({REVOKED}),
    REVOKED: frozenset(),
    FENCED: frozenset(),
}

MEMORY, BLOCK = "memory", "block"
KINDS = (MEMORY, BLOCK)
BYTES_MIN, BYTES_MAX = 4096, 1 << 36
TERM_MS_MIN, TERM_MS_MAX = 100, 7 * 86_400_000
GRACE_MS_MAX = 7 * 86_400_000
OWNER_CHARACTERS_MAX = 256
RENEW_PERCENT = 75
JITTER_PERCENT = 5  # so many holders who began together do not all renew in the same moment


def check_move(before: str, after: str, *, what: str) -> None:
    """Raises `Internal` for a change of state that the table does not have."""
    if after not in NEXT.get(before, frozenset()):
        raise Internal(f"The lease {what} cannot go from {before} to {after}.")


def judged(row: Mapping[str, Any], now_ms: int, *, token: int | None = None, is_there: bool = True) -> str:
    """Returns the state of a lease now, as the holder of `token` finds it."""
    if token is not None and token != row["token"]:
        return FENCED
    state = str(row["state"])
    if state == REVOKING:
        return REVOKING if is_there and now_ms < min(row["until_ms"], row["gone_ms"]) else REVOKED
    if state == HELD and now_ms >= row["until_ms"]:
        return EXPIRED
    return DISCONNECTED if state == HELD and not is_there else state


def renewed_until_ms(row: Mapping[str, Any], now_ms: int) -> int:
    """Returns the deadline of a lease that is renewed now."""
    until_ms = now_ms + int(row["term_ms"])
    if row["gone_ms"] is not None:
        until_ms = min(until_ms, row["gone_ms"])
    return max(until_ms, int(row["until_ms"]))


def due_ms(row: Mapping[str, Any]) -> int:
    """Returns when a lease should be renewed: at three quarters of its term or a little earlier, the same each time."""
    term_ms = int(row["term_ms"])
    spread = int.from_bytes(digest(int(row["token"]).to_bytes(8, "big"))[:2], "big")
    jitter_ms = term_ms * JITTER_PERCENT * spread // (100 * 65536)
    return int(row["until_ms"]) - term_ms + term_ms * RENEW_PERCENT // 100 - jitter_ms


def refusal(
    name: str, state: str, *, token: int | None = None, current: int | None = None, why: str | None = None
) -> GrafctlError:
    """Returns why a lease in this state cannot be used, and whether relocation helps."""
    fields: dict[str, Any] = {"lease": name, "state": state, "token": token, "recoverable": state in RECOVERABLE}
    anew = f"A new lease helps: run `grafctl lease acquire {name}`, which gives the next generation."
    if state == FENCED:
        return Fenced(
            f"Token {token} of the lease {name} is fenced; {current} is in force.",
            hint="Stop using its segment. A new lease does not help: run `grafctl lease list` to see who took over.",
            **fields,
            current=current,
        )
    if state in (REVOKING, REVOKED):
        what = "is being revoked" if state == REVOKING else "was revoked"
        return Fenced(
            f"The lease {name} {what}.",
            hint="A new lease does not help, its name is given no more; `grafctl audit tail` tells when that was.",
            **fields,
        )
    if state == DISCONNECTED:
        anew = f"A new lease helps: run `grafctl lease acquire {name} --replace {token}`, which fences this one."
    what = {RELEASED: "was released", EXPIRED: "has expired", DISCONNECTED: "has lost its segment"}[state]
    told = f"The lease {name} {what}: {why}." if why else f"The lease {name} {what}."
    return GenerationConflict(told, hint=anew, **fields, why=why)


# --- what an operator may ask for


def check_kind(kind: str) -> str:
    """Returns the kind of a segment; raises `Usage`."""
    if kind not in KINDS:
        raise Usage(f"{shown(kind)} is no kind of segment.", hint=f"Take {' or '.join(KINDS)}.")
    return kind


def check_bytes(size: int) -> int:
    """Returns the size of a segment; raises `Usage`."""
    if type(size) is not int or not BYTES_MIN <= size <= BYTES_MAX:
        raise Usage(f"A segment has 4 KiB to 64 GiB, not {size:,} bytes.")
    return size


def check_term(term_ms: int) -> int:
    """Returns the term of a lease; raises `Usage`."""
    if type(term_ms) is not int or not TERM_MS_MIN <= term_ms <= TERM_MS_MAX:
        raise Usage(f"The term of a lease is 100ms to 7d, not {term_ms:,} ms.")
    return term_ms


def check_grace(grace_ms: int) -> int:
    """Returns how long a revoked lease may still be used; raises `Usage`."""
    if type(grace_ms) is not int or not 0 <= grace_ms <= GRACE_MS_MAX:
        raise Usage(f"The grace of a lease is 0 to 7d, not {grace_ms:,} ms.")
    return grace_ms


def check_owner(owner: str) -> str:
    """Returns who is to hold a lease; raises `Usage`."""
    if not 0 < len(owner) <= OWNER_CHARACTERS_MAX or not owner.isprintable():
        raise Usage(
            f"{shown(owner)} is no owner of a lease.",
            hint=f"Write 1 to {OWNER_CHARACTERS_MAX} characters that can be printed, such as parser@host-1.",
        )
    return owner
