"""One process at a time for a stage at an edge: a lock beside the segments of its domain.

Promises
- Who has the turn of a name has it alone on this machine, and whoever dies has given it back.

When it fails: the file stays, empty; it is made once for a name and never removed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from grafctl.errors import Busy
from grafctl.store.driver.private import open_file
from grafctl.store.files import make_folders, unwritable

FOLDER = "stages"


class Turn:
    """The turn of a stage in a domain, until it is closed."""

    def __init__(self, place: str, name: str, who: str) -> None:
        path = Path(place, FOLDER, f"{name}.lock")
        try:
            make_folders(path.parent)
            self._handle = open_file(path, os.O_RDWR)
        except OSError as error:
            raise unwritable(path, error) from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise Busy(
                f"{who} is at work in another process of this domain, and an edge has one stage at each end.",
                hint="It takes over when that one ends.",
            ) from None

    def close(self) -> None:
        """Gives the turn back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
