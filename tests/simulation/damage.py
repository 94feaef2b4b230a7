"""Bytes that change behind the product's back, in one domain of a history.

Kinds: a value with a flipped bit, a torn value, an older state of the whole domain put back, and all of it gone.
An older state counts as damage that must be noticed only where a peer remembers the domain further than that; for
everything newer, nobody promises to notice it.
"""

from __future__ import annotations

from random import Random

from grafctl.store.driver import faults
from simulation.stores import Ground


class Damage:
    """At most one domain of a store, and what happens to it."""

    def __init__(self, random: Random, ground: Ground, domains: tuple[str, ...]) -> None:
        self._random = random
        self._ground = ground
        self._domains = domains
        self._was: str | None = None
        self._at_first = {path: domain.snapshot for path, domain in ground.driver.domains.items()}

    @property
    def domains(self) -> frozenset[str]:
        return frozenset() if self._was is None else frozenset({self._was})

    def put_back(self) -> tuple[str, str]:
        """Takes a domain out; an older state of it comes back later, or an empty one. Returns which, and kind."""
        self._was = self._random.choice(self._domains)
        path = self._ground.path(self._was)
        self._ground.driver.fail(path)
        return self._was, self._random.choice(("older copy", "older copy", "emptied"))

    def come_back(self, kind: str) -> None:
        """Brings the domain back as it was when the history began, or with nothing in it."""
        path = self._ground.path(self._was or "")
        domain = self._ground.driver.domains[str(path)]
        old = domain.snapshot
        domain.snapshot = type(old)([], {}) if kind == "emptied" else self._at_first[str(path)]
        self._ground.driver.restore(path)

    def strike(self) -> str | None:
        """Damages something, and returns what kind of damage it is; None where nothing is left to damage."""
        self._was = self._was or self._random.choice(self._domains)
        return self._bytes()

    def _bytes(self) -> str | None:
        """Changes one value of the domain as it is now; whoever has a snapshot open keeps that."""
        path = self._ground.path(self._was or "")
        domain = self._ground.driver.domains[str(path)]
        old = domain.snapshot
        keys = [key for key in old.keys if key[0] != 1 and old.values[key]]
        if not keys:
            return None
        key = self._random.choice(keys)
        value = old.values[key]
        is_torn = self._random.random() < 0.3
        if is_torn:
            changed = value[: self._random.randrange(len(value))]
        else:
            changed = faults.flip(value, self._random.randrange(8 * len(value)))
        domain.snapshot = type(old)(old.keys, {**old.values, key: changed})
        return "torn" if is_torn else "flipped"
