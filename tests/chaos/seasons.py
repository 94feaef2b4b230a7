"""Storms one after the other, in a process of their own: what `python -m chaos` starts once for each job."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from faults.forks import Forks

from chaos.storm import Storm

Result = tuple[int, Counter[str], str | None]  # seed, counts, what went wrong


def season(until: float, storm_s: float) -> list[Result]:
    """Has storms until the time is over; `until` is a time of the monotonic clock, which all processes share."""
    results: list[Result] = []
    while not results or time.monotonic() < until:
        results.append(weather(random.SystemRandom().getrandbits(32), storm_s))
    return results


def weather(seed: int, seconds: float) -> Result:
    """Has one storm; returns its seed, its counts, and what went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="chaos."))
    storm, forks = Storm(folder, seed), Forks()
    wrong = None
    try:
        storm.launch()
        storm.rage(forks, seconds)
        storm.judge()
        shutil.rmtree(folder)
    except Exception:
        wrong = f"{traceback.format_exc()}\nits store is kept in {folder}"
    finally:
        forks.close()
    acked = storm.counts["records acknowledged"]
    print(f"storm {seed}: {wrong or 'holds'}, {acked} records acknowledged", flush=True)
    return seed, storm.counts, wrong
