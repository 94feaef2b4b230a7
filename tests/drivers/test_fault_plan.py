"""What the fault driver does to its callers: each fault at each step, and what is there afterwards."""

from pathlib import Path

import pytest

from drivers.contract import IDENTITY, get, put
from grafctl.errors import Damaged, Full, OutcomeUnknown, Unreachable
from grafctl.store.driver.faults import (
    COMMIT_AFTER,
    COMMIT_BEFORE,
    GET,
    READ_BEGIN,
    SCAN,
    WRITE_BEGIN,
    Fault,
    FaultDriver,
    FaultEnvironment,
    Kind,
    Plan,
    SimulatedCrash,
    flip,
)
from grafctl.store.driver.memory import MemoryDriver

PATH = Path("domain")


def faulty(plan: Plan) -> tuple[FaultEnvironment, FaultEnvironment]:
    """Returns the environment seen through the plan, and the same one seen without."""
    memory = MemoryDriver()
    memory.create(PATH, IDENTITY)
    return FaultDriver(memory, plan).open(PATH, IDENTITY), FaultDriver(memory, lambda *step: None).open(PATH, IDENTITY)


def once(step: str, fault: Fault, at: int = 1) -> Plan:
    return lambda domain, now, count: fault if (now, count) == (step, at) else None


@pytest.mark.parametrize(
    ("step", "fault", "error", "is_there"),
    [
        (WRITE_BEGIN, Fault(Kind.UNREACHABLE), Unreachable, False),
        (WRITE_BEGIN, Fault(Kind.FULL), Full, False),
        (WRITE_BEGIN, Fault(Kind.DAMAGED), Damaged, False),
        (WRITE_BEGIN, Fault(Kind.CRASH), SimulatedCrash, False),
        (COMMIT_BEFORE, Fault(Kind.UNREACHABLE), Unreachable, False),
        (COMMIT_BEFORE, Fault(Kind.FULL), Full, False),
        (COMMIT_BEFORE, Fault(Kind.CRASH), SimulatedCrash, False),
        (COMMIT_BEFORE, Fault(Kind.OUTCOME_UNKNOWN), OutcomeUnknown, False),
        (COMMIT_BEFORE, Fault(Kind.OUTCOME_UNKNOWN, applied=True), OutcomeUnknown, True),
        (COMMIT_AFTER, Fault(Kind.OUTCOME_UNKNOWN, applied=True), OutcomeUnknown, True),
        (COMMIT_AFTER, Fault(Kind.CRASH), SimulatedCrash, True),
    ],
)
def test_a_write_meets_its_fault_and_the_next_one_works(
    step: str, fault: Fault, error: type[BaseException], is_there: bool
) -> None:
    env, truth = faulty(once(step, fault))
    with pytest.raises(error):
        put(env, b"a", b"1")
    assert get(truth, b"a") == (b"1" if is_there else None)
    put(env, b"a", b"2")
    assert get(truth, b"a") == b"2"


@pytest.mark.parametrize(
    ("kind", "error"),
    [(Kind.UNREACHABLE, Unreachable), (Kind.DAMAGED, Damaged), (Kind.CRASH, SimulatedCrash)],
)
@pytest.mark.parametrize("step", [READ_BEGIN, GET])
def test_a_read_meets_its_fault(step: str, kind: Kind, error: type[BaseException]) -> None:
    env, _ = faulty(once(step, Fault(kind)))
    with pytest.raises(error):
        get(env, b"a")
    assert get(env, b"a") is None


def test_one_bit_of_one_value_is_flipped() -> None:
    env, truth = faulty(lambda domain, step, count: Fault(Kind.FLIP, bit=9) if (step, count) == (SCAN, 2) else None)
    put(truth, b"a", b"\0\0")
    put(truth, b"b", b"\0\0")
    with env.read() as view:
        assert list(view.scan(b"", b"c")) == [(b"a", b"\0\0"), (b"b", b"\0\2")]
    env, truth = faulty(once(GET, Fault(Kind.FLIP, bit=0)))
    put(truth, b"a", b"\0")
    assert (get(env, b"a"), get(env, b"a")) == (b"\1", b"\0")
    assert flip(b"", 3) == b""
    assert flip(b"\0", 17) == b"\2"


def test_counts_are_of_one_step_in_one_domain() -> None:
    asked: list[tuple[str, str, int]] = []
    env, _ = faulty(lambda *step: asked.append(step))
    put(env, b"a", b"1")
    put(env, b"a", b"2")
    get(env, b"a")
    steps = [(step, count) for _, step, count in asked]
    once_each = [WRITE_BEGIN, COMMIT_BEFORE, COMMIT_AFTER]
    assert steps == [*((s, 1) for s in once_each), *((s, 2) for s in once_each), (READ_BEGIN, 1), (GET, 1)]
    assert {domain for domain, _, _ in asked} == {IDENTITY.domain}


def test_a_delay_calls_back_and_goes_on() -> None:
    called: list[str] = []
    env, _ = faulty(once(WRITE_BEGIN, Fault(Kind.DELAY, delay=lambda: called.append("delay"))))
    put(env, b"a", b"1")
    assert (called, get(env, b"a")) == (["delay"], b"1")


def test_the_schedule_is_called_at_each_boundary() -> None:
    memory = MemoryDriver()
    memory.create(PATH, IDENTITY)
    seen: list[str] = []
    driver = FaultDriver(memory, lambda *step: None, schedule=lambda domain, step: seen.append(step))
    env = driver.open(PATH, IDENTITY)
    put(env, b"a", b"1")
    get(env, b"a")
    assert seen == [WRITE_BEGIN, COMMIT_BEFORE, COMMIT_AFTER, READ_BEGIN]


def test_a_plan_that_cannot_happen_is_refused() -> None:
    for step, kind in ((READ_BEGIN, Kind.FULL), (COMMIT_AFTER, Kind.UNREACHABLE), (WRITE_BEGIN, Kind.FLIP)):
        env, _ = faulty(once(step, Fault(kind)))
        with pytest.raises(AssertionError):
            put(env, b"a", b"1")
            get(env, b"a")
