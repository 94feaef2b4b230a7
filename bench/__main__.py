"""`python -m bench [NAME …]`: runs the measurements of these names, or all of them, and prints what they found."""

from __future__ import annotations

import sys
from importlib import import_module

from bench.rows import table

# Modules of this package, each with NAME and `run() -> list[Row]`.
MEASUREMENTS = ("startup", "publishing", "preallocation")


def main(names: list[str]) -> int:
    """Runs and prints; returns the exit code."""
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        print(
            f"There is no measurement {', '.join(sorted(unknown))}; take of {', '.join(MEASUREMENTS)}.", file=sys.stderr
        )
        return 2
    for name in names or MEASUREMENTS:
        module = import_module(f"bench.{name}")
        print(f"\n{module.NAME}", flush=True)
        for line in table(module.run()):
            print(f"  {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
