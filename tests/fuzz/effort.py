"""How many examples a fuzz test tries: a share that makes the normal run short, or `EXAMPLES=…` for a long one.

With EXAMPLES the examples are new in each run (hypothesis prints how to repeat a failure); without, under CI, they are
the same every time, so that a red run is about the change.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import hypothesis

GIVEN = int(os.environ.get("EXAMPLES", "0"))


def examples(normal: int) -> Callable[[Any], Any]:
    """Returns the settings of a test that tries `normal` examples, or as many as EXAMPLES says for each 100 of them."""
    often = max(1, GIVEN * normal // 100) if GIVEN else normal
    slow = [
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.data_too_large,
        hypothesis.HealthCheck.large_base_example,
    ]
    more: dict[str, Any] = {"derandomize": False, "print_blob": True} if GIVEN else {}
    return hypothesis.settings(max_examples=often, deadline=None, suppress_health_check=slow, **more)
