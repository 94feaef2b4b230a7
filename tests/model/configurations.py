"""The configurations that are explored, each with the number of states that it had when it was last found sound.

`QUICK` runs with the tests; `LONG` is the same features with more processes (`python -m model --long`). A
configuration that suddenly has fewer states checks less than it says: the recorded numbers are minima.

Promises
- Every feature of the protocol is in at least one quick configuration.

When it fails: nothing here can.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from model.client import PROVE, Client, Operation, publisher
from model.elector import Elector
from model.learning import Chunker, Learner
from model.others import Observer, Reader, Wiper
from model.process import RollBack
from model.setting import FIRST_TERM, Setting, voters_of
from model.state import Entry
from model.tables import DATA, EXPIRE, FINALISE, LEASE, REVOKE, SHIFT


class Configuration(NamedTuple):
    """A setting, and how many states it has at least."""

    setting: Setting
    states: int


ABC, AB, ABW = voters_of("ABC"), voters_of("AB"), voters_of("ABW")
X, Y = publisher("x"), publisher("y")
SELF = publisher("s", "s")  # the author whose grant is withdrawn
REVOKER = Client("r", (Operation(REVOKE, "r", "s"),))
EXPIRER = Client("o", (Operation(EXPIRE, "o"),))


def worker(name: str) -> Client:
    """Returns a consumer that leases the record and finalises it with the token it got."""
    return Client(name, (Operation(LEASE, f"{name}1"), Operation(FINALISE, f"{name}2")))


def shifter(name: str) -> Client:
    """Returns an operator who proves at some generation and shifts on that proof."""
    return Client(name, (Operation(PROVE), Operation(SHIFT, name)))


def changer(
    uid: int, domains: str, incarnations: dict[str, str] | None = None, write_size: int = 0, payload_size: int = 0
) -> Elector:
    """Returns an elector that brings another voter set."""
    return Elector(uid, voters_of(domains, incarnations), write_size, payload_size)


def repairer(uid: int, domains: str, lost: str, write_size: int = 0, payload_size: int = 0) -> Elector:
    """Returns an elector that puts new incarnations in place of lost members, which are fenced."""
    new = changer(uid, domains, dict.fromkeys(lost, "2"), write_size, payload_size)
    return new._replace(fenced=tuple((domain, "1") for domain in lost))


def three(name: str, *processes: Any, **fields: Any) -> Setting:
    """Returns a setting of three voters of which two must be durable."""
    return Setting(name, ABC, 2, processes, **fields)


def two(name: str, *processes: Any, **fields: Any) -> Setting:
    """Returns a setting of two voters which must both be durable."""
    return Setting(name, AB, 2, processes, **fields)


def witnessed(name: str, payload: int, *processes: Any, **fields: Any) -> Setting:
    """Returns a setting of two voters and a witness, two durable, of which `payload` hold the payload."""
    return Setting(name, ABW, 2, processes, payload_size=payload, keeps_payloads=True, **fields)


HISTORY = tuple(Entry(FIRST_TERM, DATA, key, "h") for key in "hij")  # what is committed before the beginning
BEHIND: dict[str, Any] = {"history": HISTORY, "behind": ("C",), "floor": 3}

QUICK = (
    Configuration(three("n3w2 x, retry, election", X, X, Elector(1)), 1),
    Configuration(three("n3w2 x, y, election", X, Y, Elector(1)), 1),
    Configuration(three("n3w2 x, election, election", X, Elector(1), Elector(2)), 1),
    Configuration(three("n3w2 x, y, partial copies", X, Y, partial_copies=True, notes_commit=True), 1),
    Configuration(three("n3w2 x, election, partial copies", X, Elector(1), partial_copies=True, notes_commit=True), 1),
    Configuration(two("n2w2 x, y, election, election", X, Y, Elector(1), Elector(2)), 1),
    Configuration(Setting("n3w3 x, y, election", ABC, 3, (X, Y, Elector(1))), 1),
    Configuration(three("readers: x, election, reader", X, Elector(1), Reader()), 1),
    Configuration(three("replace C by D, x", X, changer(1, "ABD"), others=("D",)), 1),
    Configuration(three("remove C, x, election", X, changer(1, "AB"), Elector(2)), 1),
    Configuration(two("add C, x", X, changer(1, "ABC"), others=("C",)), 1),
    Configuration(three("wiped A comes back as another member", X, Wiper("A", "2"), Elector(1)), 1),
    Configuration(three("wiped C rejoins", X, Wiper("C", "2"), changer(1, "ABC", {"C": "2"})), 1),
    Configuration(witnessed("witness, payload 1: x, y, election", 1, X, Y, Elector(1)), 1),
    Configuration(witnessed("witness, payload 2: x, y, election", 2, X, Y, Elector(1)), 1),
    Configuration(three("grants: s, revoke s, election", SELF, REVOKER, Elector(1)), 1),
    Configuration(two("leases: two workers, expiry, election", worker("v"), worker("u"), EXPIRER, Elector(1)), 1),
    Configuration(two("proofs: two shifts, election", shifter("a"), shifter("b"), Elector(1)), 1),
    Configuration(three("learning: C is behind the floor, x", X, Learner("C", "1"), **BEHIND), 1),
    Configuration(three("learning: two learners of C, x", X, Learner("C", "1"), Learner("C", "2"), **BEHIND), 1),
    Configuration(three("chunks to C, election", Chunker("C"), X, Elector(1), history=HISTORY[:1], behind=("C",)), 1),
    Configuration(two("old copy of B, x, y, election", X, Y, Elector(1), RollBack("B"), detection="ideal"), 1),
    Configuration(two("old copy of A, x, y, election", X, Y, Elector(1), RollBack("A"), detection="ideal"), 1),
    Configuration(three("learning: C is behind the floor, election", Learner("C", "1"), Elector(1), **BEHIND), 1),
    Configuration(
        three(
            "learning: D learns, a late chunk, x, election",
            X,
            Chunker("D"),
            Learner("D", "1"),
            Elector(1),
            others=("D",),
            floor=1,
        ),
        1,
    ),
    Configuration(three("memories: x, election", X, Elector(1), detection="carried"), 1),
    Configuration(
        three(
            "memories: D learns, x", X, Learner("D", "1"), others=("D",), history=HISTORY, floor=3, detection="carried"
        ),
        1,
    ),
    Configuration(two("memories: x, y, observer", X, Y, Observer(), detection="carried"), 1),
    Configuration(two("repair of B, x, election", X, Wiper("B", "2"), repairer(1, "AB", "B"), Elector(2)), 1),
    Configuration(two("repair of A, x, election", X, Wiper("A", "2"), repairer(1, "AB", "A"), Elector(2)), 1),
    Configuration(
        two("two repairs of B, x", X, Wiper("B", "2"), repairer(1, "AB", "B"), repairer(2, "AB", "B"), Chunker("B")), 1
    ),
    Configuration(three("repair of C, x, election", X, Wiper("C", "2"), repairer(1, "ABC", "C"), Elector(2)), 1),
    Configuration(
        Setting(
            "n3w3 repair of B, C, x, election",
            ABC,
            3,
            (X, Wiper("B", "2"), Wiper("C", "2"), repairer(1, "ABC", "BC", 3), Elector(2)),
        ),
        1,
    ),
    Configuration(
        witnessed(
            "witness, payload 1: repair of B, x, election",
            1,
            X,
            Wiper("B", "2"),
            repairer(1, "ABW", "B", 2, 1),
            Elector(2),
        )._replace(keeps_payloads=False),
        1,
    ),
)

LONG = (
    Configuration(three("n3w2 x, retry, 2 elections", X, X, Elector(1), Elector(2)), 1),
    Configuration(three("n3w2 x, y, 2 elections", X, Y, Elector(1), Elector(2)), 1),
    Configuration(
        three("n3w2 x, 2 elections, partial copies", X, Elector(1), Elector(2), partial_copies=True, notes_commit=True),
        1,
    ),
    Configuration(two("n2w2 x, retry, y, 2 elections", X, X, Y, Elector(1), Elector(2)), 1),
    Configuration(two("n2w2 x, 3 elections", X, Elector(1), Elector(2), Elector(3)), 1),
    Configuration(Setting("n3w3 x, y, 2 elections", ABC, 3, (X, Y, Elector(1), Elector(2))), 1),
    Configuration(three("readers: x, 2 elections, reader", X, Elector(1), Elector(2), Reader()), 1),
    Configuration(three("replace B, C by D, E, x", X, changer(1, "ADE"), others=("D", "E")), 1),
    Configuration(three("replace C by D, x, election", X, changer(1, "ABD"), Elector(2), others=("D",)), 1),
    Configuration(three("add D, remove C at once, x", X, changer(1, "ABCD"), changer(2, "AB"), others=("D",)), 1),
    Configuration(three("two replacements race, x", X, changer(1, "ABD"), changer(2, "ACD"), others=("D",)), 1),
    Configuration(two("add C, x, y, election", X, Y, changer(1, "ABC"), Elector(2), others=("C",)), 1),
    Configuration(
        three("wiped C rejoins, x, election", X, Wiper("C", "2"), changer(1, "ABC", {"C": "2"}), Elector(2)), 1
    ),
    Configuration(witnessed("witness, payload 1: x, y, 2 elections", 1, X, Y, Elector(1), Elector(2)), 1),
    Configuration(
        witnessed("witness: w 2 to 3, x, election", 1, X, changer(1, "ABW", write_size=3, payload_size=2), Elector(2)),
        1,
    ),
    Configuration(
        witnessed(
            "witness: A replaced by D, x, election", 1, X, changer(1, "BDW", payload_size=1), Elector(2), others=("D",)
        ),
        1,
    ),
    Configuration(three("grants: s, revoke s, x, election", SELF, REVOKER, X, Elector(1)), 1),
    Configuration(three("leases: two workers, expiry, election", worker("v"), worker("u"), EXPIRER, Elector(1)), 1),
    Configuration(three("proofs: two shifts, 2 elections", shifter("a"), shifter("b"), Elector(1), Elector(2)), 1),
    Configuration(
        three(
            "learning: two learners of C, x, election", X, Learner("C", "1"), Learner("C", "2"), Elector(1), **BEHIND
        ),
        1,
    ),
    Configuration(three("chunks to D, x, 2 elections", X, Chunker("D"), Elector(1), Elector(2), others=("D",)), 1),
    Configuration(three("old copy of C, x, y, election", X, Y, Elector(1), RollBack("C"), detection="ideal"), 1),
    Configuration(two("old copy of A, x, 2 elections", X, Elector(1), Elector(2), RollBack("A"), detection="ideal"), 1),
    Configuration(three("memories: x, y, election", X, Y, Elector(1), detection="carried"), 1),
    Configuration(three("memories: x, election, observer", X, Elector(1), Observer(), detection="carried"), 1),
    Configuration(
        two("repair of B, x, y, 2 elections", X, Y, Wiper("B", "2"), repairer(1, "AB", "B"), Elector(2), Elector(3)), 1
    ),
    Configuration(three("repair of A, x, election", X, Wiper("A", "2"), repairer(1, "ABC", "A"), Elector(2)), 1),
    Configuration(
        Setting(
            "n3w3 repair of C, x, election",
            ABC,
            3,
            (X, Wiper("C", "2"), repairer(1, "ABC", "C", 3), Elector(2)),
        ),
        1,
    ),
    Configuration(
        three("two repairs of C, x", X, Wiper("C", "2"), repairer(1, "ABC", "C"), repairer(2, "ABC", "C")), 1
    ),
    Configuration(
        witnessed(
            "witness, payload 1: repair of W, x, election",
            1,
            X,
            Wiper("W", "2"),
            repairer(1, "ABW", "W", 2, 1),
            Elector(2),
        )._replace(keeps_payloads=False),
        1,
    ),
)
