"""A private PostgreSQL with its own defaults, in a directory that goes away, spoken to through `psql`."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.servers import Missing, wait_for
from bench.turns import Action
from grafctl import Outgoing

NAME = "PostgreSQL COPY, one copy"
DEBIAN = Path("/usr/lib/postgresql")
USERS = ("postgres", "nobody")  # one of these runs the server where we are root, as which it refuses to run
USER, DATABASE = "bench", "postgres"
TABLES = """
CREATE TABLE records (n bigserial PRIMARY KEY, payload text NOT NULL);
CREATE TABLE keyed (n bigserial, id text NOT NULL, payload text NOT NULL);
"""


class Postgres:
    """One session."""

    def __init__(self, command: Sequence[str]) -> None:
        self._psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        """Ends the session."""
        with self._psql:  # closes the pipes, and the end of its input ends it
            pass

    def plain(self, records: Sequence[bytes]) -> Action:
        """Returns what publishes the records in one transaction."""
        return self._copy("records (payload)", records)

    def keyed(self, records: Sequence[Outgoing]) -> Action:
        """Returns what publishes records with ids, each of which may be there once, in one transaction."""
        return self._copy("keyed (id, payload)", [f"{one.id}\t".encode() + one.payload for one in records])

    def preload(self, count: int) -> None:
        """Stores so many random ids, and from then on refuses one that is there."""
        rows = f"SELECT md5(random()::text || n), '-' FROM generate_series(1, {count}) n"
        self._ask(f"INSERT INTO keyed (id, payload) {rows};\n".encode(), b"INSERT")
        self._ask(b"ALTER TABLE keyed ADD PRIMARY KEY (id);\n", b"ALTER")

    def _copy(self, into: str, rows: Sequence[bytes]) -> Action:
        text = f"COPY {into} FROM STDIN;\n".encode() + b"\n".join(rows) + b"\n\\.\n"
        return lambda: self._ask(text, b"COPY %d" % len(rows))

    def _ask(self, text: bytes, answer: bytes) -> None:
        """Sends a statement and waits until it is committed, which is when its answer comes."""
        assert self._psql.stdin is not None and self._psql.stdout is not None
        self._psql.stdin.write(text)
        self._psql.stdin.flush()
        line = self._psql.stdout.readline()
        if not line.startswith(answer):
            raise RuntimeError(f"psql answered {line!r}, not {answer!r}")


@contextmanager
def started(directory: Path) -> Iterator[Postgres]:
    """Runs a server in this directory; raises `Missing`."""
    with serving(directory) as sockets:
        psql = [_find("psql"), "-X", "-h", str(sockets), "-U", USER, "-d", DATABASE, "-v", "ON_ERROR_STOP=1"]
        subprocess.run([*psql, "-q", "-c", TABLES], check=True, capture_output=True)
        session = Postgres(psql)
        try:
            yield session
        finally:
            session.close()


@contextmanager
def serving(directory: Path, *settings: str) -> Iterator[Path]:
    """Runs a server in this directory; yields that of its socket, where `USER` may enter; raises `Missing`."""
    tools = {name: _find(name) for name in ("initdb", "postgres", "psql")}
    as_user, name = _user()
    data, sockets = directory / "data", directory / "sockets"
    for place in (directory, data, sockets):
        place.mkdir(exist_ok=True)
        if as_user:
            os.chown(place, as_user["user"], as_user["group"])
    directory.parent.chmod(0o711)
    setup = [tools["initdb"], "-D", str(data), "-A", "trust", "-U", USER, "--no-sync", "-E", "UTF8", "--locale=C"]
    made = subprocess.run(setup, capture_output=True, text=True, cwd=directory, **as_user)
    if made.returncode:
        raise Missing(f"initdb as {name} fails: {(made.stderr.strip() or 'no reason given').splitlines()[-1]}")
    command = [tools["postgres"], "-D", str(data), "-k", str(sockets), "-c", "listen_addresses=", *settings]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, **as_user) as server,
    ):
        try:
            ask = [tools["psql"], "-X", "-h", str(sockets), "-U", USER, "-d", DATABASE, "-q", "-c", "SELECT 1"]
            wait_for(server, lambda: not subprocess.run(ask, capture_output=True).returncode)
            yield sockets
        finally:
            server.send_signal(signal.SIGINT)  # its fast shutdown


def _user() -> tuple[dict[str, Any], str]:
    """Returns as whom to start the server: as who we are, or where that is root, as somebody else."""
    if os.geteuid() != 0:
        return {}, getpass.getuser()
    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}, name
    raise Missing(f"it refuses to run as root, and there is no user {' or '.join(USERS)}")


def _find(name: str) -> str:
    found = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]), reverse=True)
    path = shutil.which(name) or (str(found[0]) if found else None)
    if path is None:
        raise Missing(f"{name} is not installed")
    return path
