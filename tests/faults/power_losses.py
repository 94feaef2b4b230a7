"""`python -m faults.power_losses`, from `tests`: power lost at every moment of every command, with counts.

    --every K      only every K-th moment
    --only WORD    only commands with this in their name (may be given again)

Prints for each command how many losses were tried, how many different images they came to, and what does not hold.
Ends with 1 where something does not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from faults.failing_calls import COMMANDS_AND_FOLDING, home
from faults.power_loss import PowerLoss


def main() -> int:
    """Runs what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(description="Power lost at every moment of every command.")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", action="append", default=[])
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="grafctl-power-"))
    losses, began = PowerLoss(folder), time.monotonic()
    tried = images = wrong = 0
    try:
        for name in COMMANDS_AND_FOLDING:
            if asked.only and not any(word in name for word in asked.only):
                continue
            history = losses.record(name, home(name))
            count, judged, failed = losses.try_all(history, losses.losses(history, asked.every))
            print(f"{name}: {len(history.log)} calls; {count} losses; {judged} images; {len(failed)} wrong", flush=True)
            for text in failed:
                print(f"FAILED {text}", flush=True)
            tried, images, wrong = tried + count, images + judged, wrong + len(failed)
    finally:
        losses.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{tried} losses, {images} images, {wrong} wrong, {time.monotonic() - began:.0f} s")
    return 1 if wrong or not images else 0


if __name__ == "__main__":
    sys.exit(main())
