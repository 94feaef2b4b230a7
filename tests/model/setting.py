"""What one exploration is about: the rules, the behaviour of the clients, the processes and the state they start from.

Promises
- `CORRECT` is how the product's clients behave; every other `Behaviour` is an error that the explorer must catch.
- A `Setting` never changes during an exploration.

When it fails: nothing here can.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from grafctl.store.rules import RULES, Config, Rules, Voter
from model.state import Entry, Log, Replica, State, empty_replica
from model.tables import START

FIRST_TERM = (1, 0)


class Behaviour(NamedTuple):
    """What the clients do; each field that is set is one error in the order of their actions."""

    forgets_promises: bool = False  # goes on to START without the promise being durable
    ignores_keys: bool = False  # appends although the operation key is in the log
    certifies_early: bool = False  # writes a commit point that no quorum has reached yet
    answers_found_early: bool = False  # acknowledges an operation that it found at the primary, at once
    refuses_early: bool = False  # answers "denied" from tables that are not committed
    guards_before_append: bool = False  # evaluates the gate in a transaction of its own, before the append
    ignores_proofs: bool = False  # shifts without comparing the generation of the proof
    ignores_tokens: bool = False  # finalises without comparing the token
    plans: str = ""  # writes primary and backups at the same time: "unlocked", or "locked" (holding the primary's lock)
    counts_learners: bool = False  # counts a learner that holds some of the log as if it held the START
    loses_undo: bool = False  # cuts a log without undoing the tables
    drops_images_early: bool = False  # keeps no pre-image for entries that are not committed
    late_copy_cuts: bool = False  # a late copy of a shorter log cuts what the replica got since
    learns_without_session: bool = False  # a late learner goes on although another one took over
    learns_without_check: bool = False  # a learner begins without looking again at what the replica holds by then
    learns_beyond: bool = False  # a learner goes on from more entries than its own snapshot has
    leaves_promise: bool = False  # a chunk, or the end of learning, does not raise the promise of the replica
    counts_learning: bool = False  # takes the promise of a learning replica for the log that it claims
    forgets_replaced: bool = False  # drops the promises of replaced members with the commit points in them
    trusts_sights: bool = False  # takes the voter sets from what was read before the promises were given
    takes_any_primary: bool = False  # lets a voter lead that the newest voter set leaves out
    judges_learning: bool = False  # compares a learning replica with what peers have seen of it
    reads_what_is_gone: bool = False  # copies a primary's log from memory after the primary was wiped or fenced
    judges_first_sight: bool = False  # compares a head with memories that were read after it, without reading it again


CORRECT = Behaviour()


class Setting(NamedTuple):
    """One configuration to explore."""

    name: str
    voters: tuple[Voter, ...]
    write_size: int
    processes: tuple[Any, ...]
    payload_size: int = 0  # 0: as many as write_size
    others: tuple[str, ...] = ()  # domains that hold nothing at first
    history: tuple[Entry, ...] = ()  # entries after the first START, known to be committed at every voter but `behind`
    behind: tuple[str, ...] = ()  # voters that hold the first START only
    floor: int = 0  # where the logs of the voters begin, `behind` excepted
    partial_copies: bool = False  # copies may end before the end of the primary's log
    notes_commit: bool = False  # a client that answered may write the commit point at the primary
    counts_heads: bool = True  # check in every state what a reader of all heads would expose
    keeps_payloads: bool = False  # check the number of payload copies (no wiping in this configuration)
    detection: str = ""  # of old copies: "" none, "ideal" (by the newest head), "carried" (by what transactions wrote)
    rules: Rules = RULES
    behaviour: Behaviour = CORRECT

    @property
    def domains(self) -> tuple[str, ...]:
        return (*(voter.domain for voter in self.voters), *self.others)

    def is_witness(self, domain: str) -> bool:
        """Returns whether this domain keeps no payload; its name says so."""
        return domain.startswith("W")


def voters_of(domains: str, incarnations: dict[str, str] | None = None) -> tuple[Voter, ...]:
    """Returns one voter for each letter; W is a witness, and every incarnation is `1` unless given."""
    given = incarnations or {}
    return tuple(Voter(domain, given.get(domain, "1"), domain == "W") for domain in domains)


def initial_state(setting: Setting) -> State:
    """Returns the state before anything happened: one START by the first voter, and the history, durable and known."""
    root = Log()
    payload = setting.payload_size or setting.write_size
    config = Config(0, FIRST_TERM, setting.voters[0].domain, setting.voters, setting.write_size, payload)
    first = root.extended(Entry(FIRST_TERM, START, config=config))
    log = first
    for entry in setting.history:
        log = log.extended(entry)
    replicas = []
    for voter in setting.voters:
        if voter.domain in setting.behind:
            replicas.append(Replica(voter.domain, voter.incarnation, FIRST_TERM, first, 1, first.tables, ()))
        else:
            replicas.append(
                Replica(voter.domain, voter.incarnation, log.acc, log, log.length, log.tables, (), setting.floor)
            )
    replicas += [empty_replica(domain, "1", root) for domain in setting.others]
    if setting.detection == "carried":
        nothing = (None,) * len(replicas)
        replicas = [replica._replace(seen=nothing) for replica in replicas]
    return State(tuple(replicas), setting.processes)
