"""The rules, against tables that are written out: who forms a quorum, what is committed, who may lead."""

from __future__ import annotations

import pytest

from grafctl.store.rules import EMPTY_HEAD, NO_TERM, RULES, Config, Head, Promise, Seen, Voter, ack_sizes

Sizes = tuple[int, int]

# rule, payload voters, witnesses, --min-payload -> (voters that must be durable, copies of the payload)
ACK: list[tuple[str, int, int, int | None, Sizes]] = [
    ("majority", 1, 0, None, (1, 1)),
    ("majority", 2, 0, None, (2, 2)),
    ("majority", 3, 0, None, (2, 2)),
    ("majority", 4, 0, None, (3, 3)),
    ("majority", 5, 0, None, (3, 3)),
    ("majority", 6, 0, None, (4, 4)),
    ("majority", 7, 0, None, (4, 4)),
    ("majority", 1, 1, None, (2, 1)),
    ("majority", 2, 1, None, (2, 2)),
    ("majority", 2, 1, 1, (2, 1)),
    ("majority", 2, 1, 2, (2, 2)),
    ("majority", 2, 2, 1, (3, 1)),
    ("majority", 3, 2, 1, (3, 1)),
    ("majority", 3, 2, None, (3, 3)),
    ("all", 1, 0, None, (1, 1)),
    ("all", 2, 0, None, (2, 2)),
    ("all", 3, 0, None, (3, 3)),
    ("all", 2, 1, None, (3, 2)),
    ("1", 1, 0, None, (1, 1)),
    ("2", 2, 0, None, (2, 2)),
    ("2", 3, 0, None, (2, 2)),
    ("3", 3, 0, None, (3, 3)),
    ("2", 5, 0, None, (2, 2)),
    ("2", 2, 1, 1, (2, 1)),
]
NO_ACK: list[tuple[str, int, int, int | None, str]] = [
    ("1", 2, 0, None, "cannot hold with 2 voters; take 2 to 2"),
    ("1", 5, 0, None, "cannot hold with 5 voters; take 2 to 5"),
    ("0", 3, 0, None, "take 2 to 3"),
    ("4", 3, 0, None, "take 2 to 3"),
    ("2", 1, 0, None, "with 1 voter; take 1 to 1"),
    ("majority", 0, 1, None, "at least one voter that keeps payloads"),
    ("majority", 0, 0, None, "at least one voter"),
    ("half", 3, 0, None, "'majority', 'all' or a number"),
    ("-1", 3, 0, None, "'majority', 'all' or a number"),
    ("", 3, 0, None, "'majority', 'all' or a number"),
    ("²", 3, 0, None, "'majority', 'all' or a number"),
    ("2222", 3, 0, None, "'majority', 'all' or a number"),
    ("majority", 3, 0, 1, "--min-payload takes 2 to 2 here"),
    ("majority", 2, 1, 0, "--min-payload takes 1 to 2 here"),
    ("majority", 2, 1, 3, "--min-payload takes 1 to 2 here"),
]


@pytest.mark.parametrize(("rule", "payload", "witnesses", "least", "sizes"), ACK)
def test_acknowledgement_rules(rule: str, payload: int, witnesses: int, least: int | None, sizes: Sizes) -> None:
    assert ack_sizes(rule, payload, witnesses, least) == sizes


@pytest.mark.parametrize(("rule", "payload", "witnesses", "least", "words"), NO_ACK)
def test_rules_that_cannot_hold(rule: str, payload: int, witnesses: int, least: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ack_sizes(rule, payload, witnesses, least)


# --- quorums: voters are single letters, capital for a witness


def config(voters: str, write: int, payload: int | None = None, at: int = 0, counter: int = 1) -> Config:
    members = tuple(Voter(letter.lower(), "i", letter.isupper()) for letter in voters)
    return Config(at, (counter, 0), voters[0].lower(), members, write, write if payload is None else payload)


def members(letters: str) -> set[tuple[str, str]]:
    return {(letter.lower(), "i") for letter in letters}


# voters, w, payload copies -> election size; sets that may write; sets that may not; sets that elect; that do not
QUORUMS: list[tuple[str, int, int, int, str, str, str, str]] = [
    ("a", 1, 1, 1, "a", "", "a", ""),
    ("ab", 2, 2, 1, "ab", "a b", "a b ab", ""),
    ("abc", 2, 2, 2, "ab ac bc abc", "a b c", "ab ac bc abc", "a b c"),
    ("abc", 3, 3, 1, "abc", "a ab bc", "a b c", ""),
    ("abcd", 3, 3, 2, "abc bcd abcd", "ab cd", "ab cd", "a d"),
    ("abcd", 2, 2, 3, "ab cd", "a", "abc bcd", "ab cd"),
    ("abcde", 3, 3, 3, "abc cde abcde", "ab de", "abc cde", "ab"),
    ("abcde", 2, 2, 4, "ab", "a", "abcd", "abc"),
    ("abW", 2, 1, 2, "ab aw bw abw", "a b w", "ab aw bw", "a b w"),
    ("abW", 2, 2, 2, "ab abw", "aw bw", "ab aw", "w"),
    ("aW", 2, 1, 1, "aw", "a w", "a w", ""),
    ("abcVW", 3, 1, 3, "avw abv abc", "vw ab", "abv vwa", "vw"),
    ("abcVW", 3, 2, 3, "abv abc acw", "avw", "avw abc", "ab"),
]


@pytest.mark.parametrize(("voters", "write", "payload", "size", "may", "may_not", "elect", "elect_not"), QUORUMS)
def test_quorums(
    voters: str, write: int, payload: int, size: int, may: str, may_not: str, elect: str, elect_not: str
) -> None:
    rule = config(voters, write, payload)
    assert rule.election_size == size
    for answers, is_quorum in [(item, True) for item in may.split()] + [(item, False) for item in may_not.split()]:
        assert RULES.is_write_quorum(rule, members(answers)) is is_quorum, answers
    for answers, is_quorum in [(item, True) for item in elect.split()] + [(item, False) for item in elect_not.split()]:
        assert RULES.is_election_quorum(rule, members(answers)) is is_quorum, answers


@pytest.mark.parametrize(("voters", "write", "payload"), [row[:3] for row in QUORUMS])
def test_every_election_quorum_meets_every_write_quorum(voters: str, write: int, payload: int) -> None:
    rule = config(voters, write, payload)
    everyone = [voter.member for voter in rule.voters]
    subsets = [{m for place, m in enumerate(everyone) if bits >> place & 1} for bits in range(1 << len(everyone))]
    for one in (item for item in subsets if RULES.is_write_quorum(rule, item)):
        for other in (item for item in subsets if RULES.is_election_quorum(rule, item)):
            assert one & other, (one, other)


def test_a_voter_of_another_incarnation_does_not_count() -> None:
    rule = config("abc", 2)
    assert not RULES.is_write_quorum(rule, {("a", "i"), ("b", "other")})
    assert not RULES.is_election_quorum(rule, {("a", "i"), ("b", "other")})


def test_strangers_do_not_count() -> None:
    assert not RULES.is_write_quorum(config("abc", 2), members("axyz"))


# --- what is committed


def tails(text: str) -> dict[tuple[str, str], int]:
    """Returns {member: tail} of a text like `a9 b7`."""
    return {(item[0], "i"): int(item[1:]) for item in text.split()}


START = 4
COMMITTED: list[tuple[str, list[Config], str, int, int]] = [
    ("one voter", [config("a", 1, at=START)], "a9", 0, 9),
    ("both of two", [config("ab", 2, at=START)], "a9 b7", 0, 7),
    ("two of three", [config("abc", 2, at=START)], "a9 b7 c5", 0, 7),
    ("two of three, one is away", [config("abc", 2, at=START)], "a9 b9", 0, 9),
    ("one of three", [config("abc", 2, at=START)], "a9", 0, 0),
    ("all of three", [config("abc", 3, at=START)], "a9 b7 c6", 0, 6),
    ("three of five", [config("abcde", 3, at=START)], "a9 b8 c7 d6 e5", 0, 7),
    ("only up to before the START", [config("abc", 2, at=START)], "a9 b4 c4", 0, 0),
    ("the START itself", [config("abc", 2, at=START)], "a9 b5", 0, 5),
    ("never less than is known", [config("abc", 2, at=START)], "a9", 8, 8),
    ("known and more", [config("abc", 2, at=START)], "a9 b9", 8, 9),
    ("a payload holder and the witness", [config("abW", 2, 1, at=START)], "a9 w9", 0, 9),
    ("no payload beside the witness", [config("abW", 2, 2, at=START)], "a9 w9 b6", 0, 6),
    ("joint: the old set too", [config("ab", 2), config("abc", 2, at=START)], "a9 c9", 0, 0),
    ("joint: both sets", [config("ab", 2), config("abc", 2, at=START)], "a9 b7 c9", 0, 7),
    ("joint no longer: START is known", [config("ab", 2), config("abc", 2, at=START)], "a9 c9", 5, 9),
    ("joint still: START is not known", [config("ab", 2), config("abc", 2, at=START)], "a9 c9", 4, 4),
    ("three sets", [config("a", 1), config("ab", 2, at=2), config("bc", 2, at=START)], "a9 b8 c7", 0, 7),
    (
        "three sets, the oldest is over",
        [config("a", 1), config("ab", 2, at=2), config("bc", 2, at=START)],
        "b8 c7",
        3,
        3,
    ),
]


@pytest.mark.parametrize(("configs", "held", "known", "expected"), [pytest.param(*r[1:], id=r[0]) for r in COMMITTED])
def test_committed_up_to(configs: list[Config], held: str, known: int, expected: int) -> None:
    assert RULES.committed_up_to(configs, tails(held), known) == expected


def test_sets_in_force() -> None:
    first, second, third = config("a", 1), config("ab", 2, at=3), config("abc", 2, at=6)
    everything = [first, second, third]
    assert RULES.in_force(everything, 0) == [third, second, first]
    assert RULES.in_force(everything, 3) == [third, second, first]
    assert RULES.in_force(everything, 4) == [third, second]
    assert RULES.in_force(everything, 6) == [third, second]
    assert RULES.in_force(everything, 7) == [third]


# --- elections


def promise(letter: str, counter: int, tail: int, commit: int = 0) -> Promise:
    return Promise(letter.lower(), "i", (counter, 0), tail, commit, letter.isupper())


CHOICES: list[tuple[str, list[Config], list[Promise], str | None, tuple[str, ...], str | None]] = [
    ("longest of one term", [config("abc", 2)], [promise("a", 1, 5), promise("b", 1, 7)], None, ("b",), None),
    ("newer term beats length", [config("abc", 2)], [promise("a", 2, 5), promise("b", 1, 9)], None, ("a",), None),
    ("equal logs", [config("abc", 2)], [promise("a", 1, 5), promise("b", 1, 5)], None, ("a", "b"), None),
    ("too few", [config("abc", 2)], [promise("a", 1, 5)], None, (), "no_quorum"),
    ("one is enough where all acknowledge", [config("abc", 3)], [promise("a", 1, 5)], None, ("a",), None),
    (
        "a witness alone knows the newest",
        [config("abW", 2, 1)],
        [promise("b", 1, 5), promise("W", 1, 7)],
        None,
        (),
        "payload",
    ),
    (
        "a witness is behind",
        [config("abW", 2, 1)],
        [promise("a", 1, 7), promise("W", 1, 5)],
        None,
        ("a",),
        None,
    ),
    (
        "what the witness alone knows cannot be committed: every payload holder answered",
        [config("abW", 2, 1)],
        [promise("a", 1, 5), promise("b", 1, 5), promise("W", 1, 7)],
        None,
        ("a", "b"),
        None,
    ),
    (
        "both sets of a joint rule must answer",
        [config("ab", 2), config("cd", 2, at=3)],
        [promise("a", 1, 5), promise("b", 1, 5)],
        None,
        (),
        "no_quorum",
    ),
    (
        "only the new set is eligible",
        [config("ab", 2)],
        [promise("a", 1, 5), promise("b", 1, 5)],
        "bc",
        ("b",),
        None,
    ),
    ("nobody eligible is level", [config("ab", 2)], [promise("a", 1, 5)], "b", (), "payload"),
]


@pytest.mark.parametrize(
    ("configs", "promises", "eligible", "candidates", "refusal"), [pytest.param(*r[1:], id=r[0]) for r in CHOICES]
)
def test_choice_of_a_primary(
    configs: list[Config],
    promises: list[Promise],
    eligible: str | None,
    candidates: tuple[str, ...],
    refusal: str | None,
) -> None:
    choice = RULES.choose_primary(configs, promises, None if eligible is None else members(eligible))
    assert (choice.candidates, choice.refusal) == (candidates, refusal)


def test_terms_go_up_and_carry_their_elector() -> None:
    assert RULES.next_term([], 7) == (1, 7)
    assert RULES.next_term([(3, 9), (2, 1), NO_TERM], 7) == (4, 7)
    assert RULES.next_term([(3, 9)], 7) > (3, (1 << 64) - 1)


def test_promises_of_strangers_are_left_out() -> None:
    promises = [promise("a", 1, 5), promise("x", 9, 9), Promise("b", "other", (9, 0), 9, 9)]
    assert RULES.of_members([config("ab", 2)], promises, None) == promises[:1]
    assert RULES.of_members([config("ab", 2)], promises, members("x")) == promises[:2]


# --- the guards inside a replica's transaction

HEAD = Head(promised=(5, 1), acc=(5, 1), floor=0, tail=10, commit=8, start=6)


@pytest.mark.parametrize(
    ("head", "me", "may"),
    [
        (HEAD, ("a", "i"), True),
        (HEAD, ("b", "i"), False),  # not the primary
        (HEAD, ("a", "j"), False),  # made anew since
        (HEAD._replace(promised=(6, 1)), ("a", "i"), False),  # promised somebody newer
        (HEAD._replace(acc=(4, 1)), ("a", "i"), False),  # of an older term
        (HEAD._replace(learning=True), ("a", "i"), False),
        (EMPTY_HEAD, ("a", "i"), False),
    ],
)
def test_who_may_append(head: Head, me: tuple[str, str], may: bool) -> None:
    assert RULES.may_append(head, config("abc", 2)._replace(term=(5, 1)), me) is may


@pytest.mark.parametrize(
    ("term", "copy", "promise_it"), [((4, 9), False, False), ((5, 1), True, False), ((5, 2), True, True)]
)
def test_a_promise_binds(term: tuple[int, int], copy: bool, promise_it: bool) -> None:
    assert RULES.may_copy(HEAD, term) is copy
    assert RULES.may_promise(HEAD, term) is promise_it


@pytest.mark.parametrize(
    ("head", "tail", "may"),
    [
        (HEAD, 10, True),
        (HEAD, 9, False),
        (HEAD._replace(promised=(5, 2)), 10, False),
        (HEAD._replace(learning=True), 10, False),
    ],
)
def test_who_may_start(head: Head, tail: int, may: bool) -> None:
    assert RULES.may_start(head, (5, 1), tail) is may


@pytest.mark.parametrize(
    ("term", "match", "may"),
    [((6, 1), 10, True), ((6, 1), 8, True), ((6, 1), 7, False), ((5, 1), 10, True), ((5, 1), 9, False)],
)
def test_nothing_committed_is_cut(term: tuple[int, int], match: int, may: bool) -> None:
    assert RULES.may_cut(HEAD, term, match) is may


@pytest.mark.parametrize(
    ("stop", "known", "cuts", "may"),
    [(7, 0, True, True), (7, 0, False, True), (6, 6, False, True), (6, 5, False, False), (6, 6, True, False)],
)
def test_where_a_copy_may_stop(stop: int, known: int, cuts: bool, may: bool) -> None:
    assert RULES.may_stop_copy_at(stop, config("abc", 2, at=6), known, cuts=cuts) is may


@pytest.mark.parametrize(
    ("head", "older"),
    [
        (HEAD, False),
        (HEAD._replace(tail=11, commit=9, promised=(7, 1)), False),
        (HEAD._replace(acc=(6, 0), tail=7), False),  # a newer term may be shorter
        (HEAD._replace(promised=(5, 0)), True),
        (HEAD._replace(commit=7), True),
        (HEAD._replace(acc=(4, 0)), True),
        (HEAD._replace(tail=9), True),
        (EMPTY_HEAD, True),
    ],
)
def test_an_old_copy_is_known(head: Head, older: bool) -> None:
    assert RULES.is_rolled_back(Seen("i", (5, 1), (5, 1), 10, 8), head) is older
