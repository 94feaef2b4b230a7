"""What the failure modes begin with: a small feed, and a store in which the first stage has already taken it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import order_feeds
import pytest
from conftest import Runner

from running.plant import AWS, FILE, GCP, SCHEMA, Plant, make_plant

SCALE = 0.001  # 1,500 orders
BATCH = 100  # so that there is a middle to die in


@pytest.fixture(scope="session")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Both files of orders, and what is expected of them."""
    folder = tmp_path_factory.mktemp("feeds")
    return folder, order_feeds.write(folder, SCALE)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """A plant whose store holds nothing."""
    plant = make_plant(tmp_path_factory.mktemp("empty"), FILE, SCHEMA)
    file = plant.folder / FILE
    file.write_text(re.sub(r"^batch = \d+", f"batch = {BATCH}", file.read_text(), flags=re.MULTILINE))
    return plant


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory, empty: Plant, feeds: tuple[Path, dict[str, Any]]) -> Plant:
    """A plant that has taken both files, and done nothing with them."""
    plant = copied(empty, tmp_path_factory.mktemp("ingested") / "plant")
    for name, domain in zip(order_feeds.FILES, (AWS, GCP), strict=True):
        plant.finish("ingest", domain, source=feeds[0] / name)
    return plant


@pytest.fixture(scope="session")
def normalised(tmp_path_factory: pytest.TempPathFactory, ingested: Plant) -> Plant:
    """A plant that has done all but fill the warehouse."""
    plant = copied(ingested, tmp_path_factory.mktemp("normalised") / "plant")
    plant.finish("normalise", GCP)
    return plant


def copied(plant: Plant, target: Path) -> Plant:
    """Returns a copy of a plant whose processes have ended."""
    shutil.copytree(plant.folder, target)
    return Plant(Runner(target), plant.file)


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[Plant], Plant]:
    """Returns what makes a copy for one test, with a number at its end where it makes several."""
    made: list[Plant] = []

    def make(plant: Plant) -> Plant:
        made.append(copied(plant, tmp_path / f"plant-{len(made)}"))
        return made[-1]

    return make
