"""`python -m bench [NAME …]`: runs the measurements of these names, or the usual ones, and prints what they found.

`--markdown` prints the rows that have a target as the table of docs/performance.md as well; `--docs` puts them there,
in the place of those of the same measurements.
`python -m bench plot` draws the pictures of docs/performance.md anew.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from importlib import import_module

from bench.report import describe, put_in_docs
from bench.rows import Row, markdown, table

# Modules of this package, each with NAME and `run() -> list[Row]`.
MEASUREMENTS = (
    "single",
    "publishers",
    "batched",
    "ids",
    "peers",
    "polling",
    "pipes",
    "catching_up",
    "startup",
    "flatness",
    "disk",
    "flushes",
    "where",
    "preallocation",
    "tables",
    "edges",
    "switching",
    "transforms",
    "pipeline",
)
ASKED_FOR = ("pipeline_memory", "migration", "chains")  # take minutes and many gigabytes, so they run only when named
KNOWN = (*MEASUREMENTS, *ASKED_FOR)
PLOT = "plot"


def main(words: list[str]) -> int:
    """Runs and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Speed, as ratios to what is below or beside.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(KNOWN)}, or {PLOT}")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/performance.md at the end")
    parser.add_argument("--docs", action="store_true", help="put the rows into docs/performance.md at the end")
    asked = parser.parse_args(words)
    unknown = set(asked.names) - {*KNOWN, PLOT}
    if unknown:
        known = ", ".join((*KNOWN, PLOT))
        print(f"There is no measurement {', '.join(sorted(unknown))}; take of {known}.", file=sys.stderr)
        return 2
    if PLOT in asked.names:
        import_module("bench.plot").run()
    found, failed = _measured(asked.names or MEASUREMENTS)
    if asked.markdown:
        print("\n".join(("", describe(), "", *markdown(found))))
    if asked.docs:
        put_in_docs(found, KNOWN)
    if failed:
        print(f"These failed, see above: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def _measured(names: list[str] | tuple[str, ...]) -> tuple[list[tuple[str, Row]], list[str]]:
    """Returns the rows with the name of their measurement, each printed as it was found, and the names that failed."""
    found: list[tuple[str, Row]] = []
    failed: list[str] = []
    print(describe(), flush=True)
    for name in names:
        if name != PLOT:
            module = import_module(f"bench.{name}")
            print(f"\n{module.NAME}   [python -m bench {name}]", flush=True)
            try:
                rows = module.run()
            except Exception:  # the others are worth having
                traceback.print_exc()
                failed.append(name)
                continue
            found += [(name, row) for row in rows]
            for line in table(rows):
                print(f"  {line}", flush=True)
    return found, failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
