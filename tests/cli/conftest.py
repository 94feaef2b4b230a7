"""What the tests of interrupted commands share: a store whose every copy must acknowledge."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Runner


@pytest.fixture
def store(run: Runner) -> Path:
    run("init", "store", "--domain", "aws", "--domain", "gcp")
    replicas = ("--replica", "a=aws", "--replica", "g=gcp")
    run("queue", "create", "q", "--schema", "s", "--ack", "all", *replicas, "--allow", "aws", store="store")
    return run.cwd / "store"
