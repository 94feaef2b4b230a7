"""The errors that the explorer must catch: each with the configuration in which it shows, and what it must break.

A mutant that nothing catches is a hole in the checks. `python -m model --mutants` prints the shortest trace of each.

Promises
- The configuration of a mutant is sound without it, unless an accident in it is the error. Most are those of
  `configurations.py`, some are made for it.
- A mutant is caught by the invariant that is named, not by whatever fails first.

When it fails: the result of `hunt` has no violation.
"""

from __future__ import annotations

from typing import NamedTuple

from grafctl.store.rules import RULES, Config, Rules
from model import broken_rules as rules
from model.configurations import (
    ABC,
    BEHIND,
    EXPIRER,
    HISTORY,
    REVOKER,
    SELF,
    X,
    Y,
    changer,
    repairer,
    shifter,
    three,
    two,
    witnessed,
    worker,
)
from model.elector import Elector
from model.explorer import Result, explore
from model.learning import Chunker, Learner
from model.others import Observer, Wiper
from model.setting import CORRECT, Behaviour, Setting
from model.state import Entry
from model.tables import START


class Mutant(NamedTuple):
    """One error."""

    name: str
    setting: Setting  # in which it is caught
    breaks: str  # how the violation begins
    rules: Rules = RULES
    behaviour: Behaviour = CORRECT


E1, E2, E3 = Elector(1), Elector(2), Elector(3)
ONE = three("x, election", X, E1)
RETRY = three("x, retry, election", X, X, E1)
PAIR = three("x, y, election", X, Y, E1)
DUEL = three("x, election, election", X, E1, E2)
WITNESS_1 = witnessed("witness, payload 1: x, election", 1, X, E1)
WITNESS_2 = witnessed("witness, payload 2: x", 2, X)
REMOVED = three("remove C, x, election", X, changer(1, "AB"), E2)
REPLACED = three("replace C by D, x", X, changer(1, "ABD"), others=("D",))
LEARN_ONE = three("C is behind the floor, x", X, Learner("C", "1"), **BEHIND)
LEARN_TWO = three("two learners of C, x", X, Learner("C", "1"), Learner("C", "2"), **BEHIND)
LEARN_D = three("D learns, x", X, Learner("D", "1"), others=("D",), history=HISTORY, floor=3)
LATE_CHUNK = three(
    "D learns, a late chunk, x, election", X, Chunker("D"), Learner("D", "1"), E1, others=("D",), floor=1
)
LATER = tuple(
    Entry((term, 0), START, config=Config(term - 1, (term, 0), "B", ABC, 2, 2)) for term in (2, 3)
)  # B led two terms of which A knows nothing
LATE_CHUNKS = three("two chunks to D, x", X, Chunker("D"), Chunker("D"), others=("D",), history=LATER, behind=("A",))
DUEL_PARTIAL = DUEL._replace(name="x, election, election, partial copies", partial_copies=True)
REPAIR_TWO = two("repair of B, x, election", X, Wiper("B", "2"), repairer(1, "AB", "B"), E2)
REPAIR_THREE = three("repair of C, x, election", X, Wiper("C", "2"), repairer(1, "ABC", "C"), E2)
LIVING = changer(1, "A")._replace(fenced=(("B", "1"),))
CHUNKS = three("chunks to C, x, election", Chunker("C"), X, E1, history=HISTORY[:1], behind=("C",))

MUTANTS = (
    Mutant("acknowledge after the primary alone", ONE, "I1", rules.CountsOneCopy()),
    Mutant("commit whatever the primary has", ONE, "I", rules.CommitsWithoutCounting()),
    Mutant("backup before primary", PAIR, "I2", behaviour=Behaviour(plans="unlocked")),
    Mutant("backup before primary, w = n", two("n2w2 x, y", X, Y), "I2", behaviour=Behaviour(plans="unlocked")),
    Mutant("backup before primary, locked, w = n", two("n2w2 x, y", X, Y), "I2", behaviour=Behaviour(plans="locked")),
    Mutant(
        "backup before primary, locked, w = n = 3",
        Setting("n3w3 x, y", ABC, 3, (X, Y)),
        "I2",
        behaviour=Behaviour(plans="locked"),
    ),
    Mutant("no fence at the primary", ONE, "I", rules.NoFenceAtPrimary()),
    Mutant("no fence at a backup", ONE, "I", rules.NoFenceAtBackup()),
    Mutant("no promise", ONE, "I", rules.NoPromise(), Behaviour(forgets_promises=True)),
    Mutant("longest log", PAIR, "I", rules.LongestLog()),
    Mutant("counting entries of an old term", DUEL_PARTIAL._replace(notes_commit=True), "I", rules.CountsOldTerm()),
    Mutant("terms not unique", two("n2 x, election, election", X, E1, E2), "I", rules.TermsNotUnique()),
    Mutant("no idempotency", RETRY, "I5", behaviour=Behaviour(ignores_keys=True)),
    Mutant(
        "certify too early",
        Setting("n3w3 x, election", ABC, 3, (X, E1)),
        "I",
        behaviour=Behaviour(certifies_early=True),
    ),
    Mutant("no joint quorum", REPLACED, "I", rules.NoJointQuorum()),
    Mutant("wiped voter keeps its vote", three("wipe A, x, election", X, Wiper("A", "1"), E1), "I"),
    Mutant("acknowledge what was found, at once", RETRY, "I1", behaviour=Behaviour(answers_found_early=True)),
    Mutant(
        "refuse from uncommitted state",
        three("s, revoke s, election", SELF, REVOKER, E1),
        "I1",
        behaviour=Behaviour(refuses_early=True),
    ),
    Mutant(
        "shift on a proof of an older generation",
        two("two shifts", shifter("a"), shifter("b")),
        "GATE",
        behaviour=Behaviour(ignores_proofs=True),
    ),
    Mutant(
        "revoked grant honoured late",
        two("s, revoke s", SELF, REVOKER),
        "GATE",
        behaviour=Behaviour(guards_before_append=True),
    ),
    Mutant(
        "finalise with an old token",
        two("two workers, expiry", worker("v"), worker("u"), EXPIRER),
        "GATE",
        behaviour=Behaviour(ignores_tokens=True),
    ),
    Mutant("witness counted as payload", WITNESS_2, "I1", rules.CountsWitnessAsPayload()),
    Mutant("election ignores the witness", WITNESS_1, "I", rules.IgnoresWitness()),
    Mutant(
        "witness asked of all sets",
        witnessed("witness, w 2 to 3", 1, X, changer(1, "ABW", write_size=3, payload_size=2)),
        "I",
        rules.AllSetsMayCommit(),
    ),
    Mutant(
        "learner counted before it has learnt",
        REPLACED,
        "I",
        behaviour=Behaviour(counts_learners=True),
    ),
    Mutant(
        "chunk of uncommitted entries",
        DUEL_PARTIAL,
        "I1",
        rules.StopsAnywhere(),
    ),
    Mutant("lost undo", PAIR, "TABLES", behaviour=Behaviour(loses_undo=True)),
    Mutant("pre-images dropped early", PAIR, "TABLES", behaviour=Behaviour(drops_images_early=True)),
    Mutant("late copy cuts", PAIR, "I", behaviour=Behaviour(late_copy_cuts=True)),
    Mutant(
        "promise of a non-member elected",
        three("wiped A gets a copy", Wiper("A", "2"), Chunker("A"), E1),
        "I7",
        rules.CountsEverybody(),
    ),
    Mutant("early stop of a copy that cuts", DUEL_PARTIAL, "FALSE ALARM", rules.CutsAtChunk()),
    Mutant(
        "learning promise counted as a log",
        three("C is behind the floor, election", Learner("C", "1"), E1, **BEHIND),
        "",
        rules.StartsWhileLearning(),
        Behaviour(counts_learning=True),
    ),
    Mutant("two learners without sessions", LEARN_TWO, "", behaviour=Behaviour(learns_without_session=True)),
    Mutant("a learner that does not look again", LEARN_TWO, "", behaviour=Behaviour(learns_without_check=True)),
    Mutant("a learner that goes on beyond its snapshot", LEARN_TWO, "", behaviour=Behaviour(learns_beyond=True)),
    Mutant("promise not raised after learning", LATE_CHUNK, "I3", behaviour=Behaviour(leaves_promise=True)),
    Mutant("promise not raised at a chunk", LATE_CHUNKS, "I3", behaviour=Behaviour(leaves_promise=True)),
    Mutant(
        "promise of a learner taken for granted",
        LEARN_D._replace(detection="carried"),
        "FALSE ALARM",
        behaviour=Behaviour(leaves_promise=True),
    ),
    Mutant("voter sets read before the promises", REMOVED, "I", behaviour=Behaviour(trusts_sights=True)),
    Mutant("a voter leads that is left out", REMOVED, "I7", behaviour=Behaviour(takes_any_primary=True)),
    Mutant(
        "learning taken for an old copy",
        LEARN_ONE._replace(detection="carried"),
        "FALSE ALARM",
        behaviour=Behaviour(judges_learning=True),
    ),
    Mutant(
        "memories newer than the head",
        two("x, y, observer", X, Y, Observer(), detection="carried"),
        "FALSE ALARM",
        behaviour=Behaviour(judges_first_sight=True),
    ),
    Mutant("fenced members counted as holders", REPAIR_THREE, "I3", rules.CountsFenced()),
    Mutant("a member declared fenced that is alive", two("B is left out, x, election", X, LIVING, E2), "I"),
    Mutant("a fenced primary's log copied", REPAIR_TWO, "I3", behaviour=Behaviour(reads_what_is_gone=True)),
)

# errors after which nobody can go on, though nothing is lost: (name, setting, options of `liveness.check`)
STUCK: tuple[tuple[str, Setting, dict[str, bool]], ...] = (
    ("a newer promise at a backup is ignored", DUEL, {"ignores_promises": True}),
    ("what replaced members know is forgotten", REPLACED._replace(behaviour=Behaviour(forgets_replaced=True)), {}),
)


def hunt(mutant: Mutant, limit: int = 1_000_000) -> Result:
    """Explores until the mutant is caught; the result has the violation, if there is one."""
    return explore(mutant.setting._replace(rules=mutant.rules, behaviour=mutant.behaviour), limit)
