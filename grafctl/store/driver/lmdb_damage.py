"""The mark of damage: a domain in which a wrong byte was found is out until somebody has looked after it.

Promises
- The mark is durable before the error leaves the block that met the damage, and every process sees it at its next
  transaction: the domain is neither read nor counted until it is made anew, or the mark is taken back after a check.
- It says what was found, when, and in which incarnation; the first finding stays.
- Only what a domain's own bytes say counts: away, full, foreign, or older than a peer remembers is none of it.

When it fails
    A mark that cannot be written, or was written by half, is as good as the damage that every reader meets again; a
    file by half counts as a mark.
"""

from __future__ import annotations

import os

from grafctl import clock
from grafctl.errors import Corrupt, Damaged
from grafctl.json_text import decode
from grafctl.store.driver.lmdb_files import Files, driver_error
from grafctl.store.driver.private import open_file, sync_path
from grafctl.typed import Any

MARK_BYTES_MAX = 64 << 10


def mark(files: Files, what: str, incarnation: str) -> None:
    """Marks a domain as damaged, where nobody has yet."""
    import json

    body = json.dumps({"what": what, "when_ms": clock.now_ms(), "incarnation": incarnation}, ensure_ascii=False)
    try:
        fd = open_file(files.damaged, os.O_WRONLY | os.O_EXCL)
        try:
            os.write(fd, body.encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_path(files.env)
    except OSError:
        pass  # there already, or on a disk that takes nothing: the damage itself is still there to be met


def marked(files: Files) -> dict[str, Any] | None:
    """Returns what the mark says, or None where there is none."""
    try:
        with open(os.open(files.damaged, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            body = decode(str(file.read(MARK_BYTES_MAX), "utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        body = None
    return body if isinstance(body, dict) and isinstance(body.get("what"), str) else {"what": "damage was found in it"}


def unmark(domain: str, files: Files) -> None:
    """Takes the mark back; where there is none, nothing happens."""
    try:
        os.unlink(files.damaged)
        sync_path(files.env)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise driver_error(domain, error) from error


def refuse(domain: str, files: Files) -> None:
    """Raises `Damaged` where the domain is marked."""
    if os.access(files.damaged, os.F_OK):
        raise Damaged(domain, (marked(files) or {"what": "damage was found in it"})["what"])


def note(domain: str, files: Files, incarnation: str, error: BaseException | None) -> None:
    """Marks a domain where an error that ends a block says that its own bytes are wrong."""
    if isinstance(error, Damaged) and error.domain == domain:
        mark(files, error.why.removeprefix(f"{domain}: ").rstrip("."), incarnation)
    elif isinstance(error, Corrupt) and _is_of(domain, error):
        error.fields["domain"] = domain
        mark(files, error.message.removeprefix(f"{domain}: ").rstrip("."), incarnation)


def _is_of(domain: str, error: Corrupt) -> bool:
    """Returns whether a wrong byte was read in this domain: it is named, or begins the name of what was read."""
    if "domain" in error.fields:
        return bool(error.fields["domain"] == domain)
    return str(error.fields.get("what", "")).startswith(f"{domain}: ")
