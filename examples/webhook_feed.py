"""What `webhooks.toml` takes: events as a code host's webhooks send them, large, nested and of many types.

    python examples/webhook_feed.py feeds --events 4000

Writes `feeds/webhooks.jsonl`, one delivery a line, and `feeds/webhooks.expected.json`. A line holds the `type`, the
`delivery` id and the `body`. Bodies have the shape of GitHub's, 1 to 27 kB of it, but everything in them is made up
here: accounts are numbers, addresses end in `example.com`. Of each hundred deliveries two come again, the same bytes,
and of each five hundred lines one was cut off on its way and is no JSON. The same seed always gives the same bytes.

What is expected is counted while the events are made, by who makes them: types, routes, commits and addresses.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from webhook_bodies import Bodies

NAME, EXPECTED = "webhooks.jsonl", "webhooks.expected.json"
EVENTS, SEED = 4_000, 1
AGAIN_SHARE, CUT_OF_EACH = 0.02, 500
LATER_MAX = 300  # lines between a delivery and its second one

# type -> how many of a hundred events, and where an event of that type is to go
TYPES: dict[str, tuple[int, str]] = {
    "push": (30, "code"),
    "pull_request": (18, "review"),
    "pull_request_review": (8, "review"),
    "issues": (12, "planning"),
    "issue_comment": (8, "planning"),
    "workflow_run": (12, "builds"),
    "check_run": (6, "builds"),
    "release": (3, "code"),
    "star": (2, "other"),
    "ping": (1, "other"),
}


class Feed:
    """Makes the lines and counts what is in them."""

    def __init__(self, events: int = EVENTS, seed: int = SEED) -> None:
        self._events, self._dice = events, random.Random(seed)
        self._bodies = Bodies(self._dice)
        self.types: Counter[str] = Counter()
        self.routes: Counter[str] = Counter()
        self.pushes = self.commits = self.merged = self.failed_builds = self.again = self.cut = 0
        self.emails: set[str] = set()

    def lines(self) -> Iterator[bytes]:
        """Yields the lines in the order in which they come."""
        later: dict[int, list[bytes]] = {}
        for number in range(self._events):
            line = self._line()
            yield line
            if self._dice.random() < AGAIN_SHARE:
                later.setdefault(number + self._dice.randrange(1, LATER_MAX), []).append(line)
                self.again += 1
            if number % CUT_OF_EACH == CUT_OF_EACH // 2:
                self.cut += 1
                yield line[: self._dice.randrange(20, len(line) - 20)]
            yield from later.pop(number, ())
        for when in sorted(later):
            yield from later[when]

    def _line(self) -> bytes:
        (kind,) = self._dice.choices([*TYPES], [share for share, _ in TYPES.values()])
        body = getattr(self._bodies, kind)()
        self._count(kind, body)
        delivery = f"{self._dice.getrandbits(128):032x}"
        shaped = "-".join(delivery[start:stop] for start, stop in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        return json.dumps({"type": kind, "delivery": shaped, "body": body}, separators=(",", ":")).encode()

    def _count(self, kind: str, body: dict[str, Any]) -> None:
        self.types[kind] += 1
        self.routes[TYPES[kind][1]] += 1
        if kind == "push" and body["ref"].startswith("refs/heads/"):
            self.pushes += 1
            self.commits += len(body["commits"])
            self.emails |= {commit["author"]["email"] for commit in body["commits"]}
        if kind == "pull_request":
            self.merged += body["action"] == "closed" and body["pull_request"]["merged"]
        if kind == "workflow_run":
            self.failed_builds += body["workflow_run"]["conclusion"] == "failure"

    def expected(self) -> dict[str, Any]:
        """Returns what was counted; all lines must have been taken."""
        return {
            "lines": self._events + self.again + self.cut,
            "deliveries": self._events,
            "again": self.again,
            "cut": self.cut,
            "types": dict(sorted(self.types.items())),
            "routes": dict(sorted(self.routes.items())),
            "branch_pushes": self.pushes,
            "branch_commits": self.commits,
            "merged": self.merged,
            "failed_builds": self.failed_builds,
            "branch_emails": len(self.emails),
        }


def write(folder: Path, events: int = EVENTS, seed: int = SEED) -> dict[str, Any]:
    """Writes the file and what is expected, and returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    feed = Feed(events, seed)
    with (folder / NAME).open("wb") as file:
        file.writelines(line + b"\n" for line in feed.lines())
    told = feed.expected()
    (folder / EXPECTED).write_text(json.dumps(told, indent=1) + "\n")
    return told


def main() -> int:
    """Writes the files and says what is in them."""
    parser = argparse.ArgumentParser(description="Webhook deliveries, some of them twice and some cut off.")
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"how many deliveries (default: {EVENTS:,})")
    parser.add_argument("--seed", type=int, default=SEED, help="says what is in them")
    options = parser.parse_args()
    told = write(options.folder, options.events, options.seed)
    size = (options.folder / NAME).stat().st_size / 1e6
    sys.stdout.write(
        f"{told['deliveries']:,} deliveries of {len(told['types'])} types, {size:.0f} MB;"
        f" {told['again']:,} come twice and {told['cut']:,} are cut off\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
