"""Damage in the normal run: some hundred trials of every kind; the long run is `make damage TRIALS=10000`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.forks import Forks

from damage.harm import WAYS
from damage.stores import Stores
from damage.trials import run, settle

OF_EACH = 6


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    return Stores(tmp_path_factory.mktemp("stores"), settle)


@pytest.mark.parametrize("way", WAYS)
def test_no_damage_to_a_domain_shows_a_wrong_byte_or_stops_the_others(way: str, stores: Stores, forks: Forks) -> None:
    done = [run(seed, stores, forks, way=way) for seed in range(OF_EACH)]
    wrong = [f"seed {trial.seed}: {trial.what}: {trial.wrong}" for trial in done if trial.outcome == "wrong"]
    assert not wrong, "\n".join(["", *wrong])
    assert not any(trial.signals for trial in done)


@pytest.mark.parametrize("way", ["page_over_page", "shorten_branch", "flip_leaf"])
def test_rot_that_leaves_no_trace_in_the_file_system_shows_no_wrong_byte(
    way: str, stores: Stores, forks: Forks
) -> None:
    done = [run(seed, stores, forks, way=way, rot=True) for seed in range(OF_EACH)]
    wrong = [f"seed {trial.seed}: {trial.what}: {trial.wrong}" for trial in done if trial.outcome == "wrong"]
    assert not wrong, "\n".join(["", *wrong])
