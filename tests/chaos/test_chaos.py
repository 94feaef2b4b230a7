"""A storm at every change; hours of them by `make chaos`."""

from __future__ import annotations

from pathlib import Path

from faults.forks import Forks

from chaos.storm import Storm

SECONDS = 40


def test_nothing_is_lost_or_finished_twice_in_a_storm(tmp_path: Path, seed: int) -> None:
    storm, forks = Storm(tmp_path / "storm", seed), Forks()
    try:
        storm.launch()
        storm.rage(forks, SECONDS)
        storm.judge()
    finally:
        forks.close()
    assert all(storm.counts[word] for word in ("kill", "stop", "drill", "caught_up", "acks", "records acknowledged"))
