"""Histories of the production code under all faults that memory can have, each from one seed.

A failure names its seed; `make simulate SEED=…` plays exactly that history again and prints every step.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from simulation.accidents import RATES
from simulation.history import play

CHUNKS, SEEDS_EACH = 8, 160
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_histories(chunk: int) -> None:
    counts = Counter[str]()
    for seed in range(chunk * SEEDS_EACH, (chunk + 1) * SEEDS_EACH):
        report = play(seed)
        counts += report.counts
        assert report.failure is None, f"make simulate SEED={seed}\n{report.failure}"
    missing = [kind for kind in RATES if not counts[kind]]
    assert not missing, f"nothing of this ever happened: {missing}"


def digests(hash_seed: str) -> str:
    """Returns the digests of some histories as another process finds them."""
    code = "from simulation.history import play\nfor seed in range(12): print(play(seed).digest)"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout


def test_one_seed_is_one_history_step_for_step() -> None:
    first, second = digests("1"), digests("2")  # sets of text have another order in each
    assert first == second
    assert first.split() == [play(seed).digest for seed in range(12)]
    assert len(set(first.split())) == 12
