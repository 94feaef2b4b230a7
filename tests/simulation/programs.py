"""What a seed lets its clients do: small programs, so that thousands of histories fit into a minute."""

from __future__ import annotations

from random import Random

from faults.stores import DOMAINS

from simulation.clients import Step
from simulation.steps import CatchUp, Consume, Draft, Fence, Locate, Place, Publish, Stream
from simulation.stores import GROUPS

COMMON_IDS = ("id-1", "id-2", "id-3")  # of all clients
PLACEMENTS = (["a", "b", "c", "d"], ["a", "b"], ["b", "c"], ["a"])


def programs(random: Random, shape: str, *, may_remove: bool) -> list[list[Step]]:
    """Returns the programs of two or three clients; one of them may be an operator."""
    count = random.randint(2, 3)
    made = [_program(random, name) for name in "xyz"[:count]]
    for program in made[: random.choice((0, 0, 1, 1, 2))]:
        program[:] = _operator(random, shape, may_remove) + program[:1]
    return made


def _program(random: Random, name: str) -> list[Step]:
    return [_step(random, f"{name}{number}") for number in range(random.randint(2, 5))]


def _step(random: Random, name: str) -> Step:
    chance = random.random()
    if chance < 0.5:
        count = random.choice((1, 1, 1, 2, 3))
        records = [_draft(random, f"{name}.{place}") for place in range(count)]
        epoch = random.choice((None, None, None, 1, 2, 3))
        return Publish(records, random.choice(DOMAINS), epoch, random.choice((1, count)))
    if chance < 0.9:
        visibility_ms = random.choice((300, 3_000, 30_000))
        return Consume(random.choice(GROUPS), random.randint(1, 3), visibility_ms, random.randint(1, 3))
    if chance < 0.95:
        batches = [
            [Draft(f"{name}.{batch}.{item}", f"{name}.{batch}.{item}") for item in range(2)] for batch in range(4)
        ]
        return Stream(batches, random.choice(DOMAINS))
    return _command(random)


def _draft(random: Random, name: str) -> Draft:
    record_id = random.choice((None, None, *COMMON_IDS))
    if record_id is None:
        return Draft(name)
    return Draft(f"{random.choice('ab')} of {record_id}", record_id)  # two payloads: one of them is refused


def _command(random: Random) -> Step:
    if random.random() < 0.5:
        return Fence(random.choice((None, None, *GROUPS)), random.randint(1, 4))
    return Place(random.choice(GROUPS), random.choice(PLACEMENTS))


def _operator(random: Random, shape: str, may_remove: bool) -> list[Step]:
    """A migration, or some commands."""
    if shape == "witness1" or random.random() < 0.3:
        return [_command(random) for _ in range(random.randint(1, 3))]
    group = random.choice((None, *GROUPS))
    steps: list[Step] = [Locate(2, [random.choice(("rd=d", "rd=d", "re=d"))], []), CatchUp(group)]
    if may_remove and random.random() < 0.7:
        steps.append(Locate(3, [], [random.choice(("ra", "rb"))]))
    if random.random() < 0.3:
        steps.insert(random.randrange(len(steps) + 1), _command(random))
    if group is not None and random.random() < 0.5:
        steps.append(Consume(f"{group}-d", 3, 3_000, 2))
    return steps
