"""LMDB without the driver: its own library on its own files, for as long as nobody in this process has them open."""

import struct
from pathlib import Path

import lmdb

from grafctl.store.driver.journal import JOURNAL_KEY, Journal
from grafctl.store.driver.lmdb_files import IDENTITY_KEY


def engine(path: Path, *, create: bool = False) -> lmdb.Environment:
    """Opens the environment with LMDB alone."""
    return lmdb.open(str(path / "env"), map_size=1 << 40, create=create, lib_version=0)


def rows(path: Path) -> dict[bytes, bytes]:
    """Returns every row but the driver's own, as LMDB and the journal over it have them."""
    with engine(path) as env, env.begin() as txn:
        found = {bytes(key): bytes(value) for key, value in txn.cursor()}
    with (path / "env" / "journal").open("rb") as journal, (path / "writer.lock").open("rb") as mark:
        over = Journal("", journal.fileno(), mark.fileno()).snapshot(0, lambda: found[JOURNAL_KEY], None)
        assert over is not None
        for key, value in over.newest():
            found.pop(key, None)
            found |= {} if value is None else {key: value}
    return {key: value for key, value in sorted(found.items()) if key not in (IDENTITY_KEY, JOURNAL_KEY)}


def put(path: Path, key: bytes, value: bytes, *, create: bool = False) -> None:
    """Writes one row."""
    with engine(path, create=create) as env, env.begin(write=True) as txn:
        txn.put(key, value)


def leave_short(path: Path) -> None:
    """Makes commits that take pages and give them back, until the file is shorter than its meta page says."""
    with engine(path) as env:
        for turn in range(1000):
            with env.begin(write=True) as txn:
                txn.put(b"kept", b"%d" % turn)
            with env.begin(write=True) as txn:
                txn.put(b"kept %d" % turn, b"1")
                txn.put(b"given back", b"x" * 1_000_000)
                txn.delete(b"given back")
            if bytes_missing(path):
                return


def bytes_missing(path: Path) -> int:
    """Returns how many bytes the file is shorter than its newer meta page says."""
    raw = (path / "env" / "data.mdb").read_bytes()
    (page_size,) = struct.unpack_from("=I", raw, 40)
    metas = [struct.unpack_from("=QQ", raw, place + 136) for place in (0, page_size)]
    last_page, _ = max(metas, key=lambda meta: meta[1])
    return max(0, int((last_page + 1) * page_size) - len(raw))
