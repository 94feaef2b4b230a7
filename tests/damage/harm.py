"""The ways in which a domain's files are damaged, each at a place that a seed chooses.

Each takes the store, the domain and a `Random`, and returns a sentence of what it did. `silent` puts the times of
data.mdb back as far as a program can; the kernel's own time of the last change still tells.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from damage.stores import DOMAINS, Store, place
from grafctl.store import keys

PAGE = 4096
BRANCH, LEAF, OVERFLOW = 1, 2, 4
Way = Callable[[Store, Path, random.Random], str]


def pages(path: Path, flag: int) -> list[int]:
    """Returns the pages with this flag of the tree that is in force."""
    raw = (path / "env" / "data.mdb").read_bytes()
    root = max(
        (struct.unpack_from("=Q", raw, at + 144)[0], struct.unpack_from("=Q", raw, at + 128)[0]) for at in (0, PAGE)
    )[1]
    found, waiting = [], [root]
    while waiting:
        page = waiting.pop()
        flags, lower = struct.unpack_from("=HH", raw, page * PAGE + 10)
        if flags & flag:
            found.append(page)
        if flags & BRANCH:
            for place in range((lower - 16) // 2):
                (at,) = struct.unpack_from("=H", raw, page * PAGE + 16 + 2 * place)
                waiting.append(int.from_bytes(raw[page * PAGE + at : page * PAGE + at + 6], "little"))
    return sorted(found)


def _flip(file: Path, bits: list[int]) -> str:
    with file.open("r+b") as opened:
        for bit in bits:
            opened.seek(bit // 8)
            (byte,) = opened.read(1)
            opened.seek(bit // 8)
            opened.write(bytes([byte ^ 1 << bit % 8]))
    return f"{file.name}: bits {bits} flipped"


def _write(file: Path, at: int, data: bytes) -> str:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)
    return f"{file.name}: {len(data)} bytes written at {at}"


def flip_anywhere(store: Store, path: Path, rng: random.Random) -> str:
    file = path / "env" / "data.mdb"
    return _flip(file, [rng.randrange(file.stat().st_size * 8) for _ in range(rng.choice((1, 1, 2, 8)))])


def _flip_in(flag: int, path: Path, rng: random.Random, first: int, last: int) -> str:
    found = pages(path, flag) or pages(path, LEAF)
    page = rng.choice(found)
    bits = [rng.randrange((page * PAGE + first) * 8, (page * PAGE + last) * 8) for _ in range(rng.choice((1, 3)))]
    return _flip(path / "env" / "data.mdb", bits)


def flip_branch(store: Store, path: Path, rng: random.Random) -> str:
    return _flip_in(BRANCH, path, rng, 0, rng.choice((64, PAGE)))


def flip_leaf_header(store: Store, path: Path, rng: random.Random) -> str:
    return _flip_in(LEAF, path, rng, 0, 64)


def flip_leaf(store: Store, path: Path, rng: random.Random) -> str:
    return _flip_in(LEAF, path, rng, 0, PAGE)


def flip_meta(store: Store, path: Path, rng: random.Random) -> str:
    page = rng.randrange(2) * PAGE
    return _flip(path / "env" / "data.mdb", [rng.randrange(page * 8, (page + 152) * 8)])


def flip_row(store: Store, path: Path, rng: random.Random) -> str:
    """Aims at a head, a row of the id index, or an entry, where LMDB has one; else at the journal's record of it."""
    tags = [b"\x10", keys.PAYLOAD + b"IR", keys.PAYLOAD + b"IF", keys.PAYLOAD + b"ID", keys.PAYLOAD + b"Q", b"\x20"]
    for file in (path / "env" / "data.mdb", path / "env" / "journal"):
        raw, tag = file.read_bytes(), rng.choice(tags)
        found: list[int] = []
        at = raw.find(tag, 2 * PAGE)
        while at >= 0 and len(found) < 2000:
            found.append(at)
            at = raw.find(tag, at + 1)
        if found:
            at = rng.choice(found)
            return _flip(file, [rng.randrange(at * 8, min(len(raw), at + 48) * 8)])
    return flip_anywhere(store, path, rng)


def zero_page(store: Store, path: Path, rng: random.Random) -> str:
    count = (path / "env" / "data.mdb").stat().st_size // PAGE
    return _write(path / "env" / "data.mdb", rng.randrange(count) * PAGE, bytes(PAGE))


def zero_branch(store: Store, path: Path, rng: random.Random) -> str:
    return _write(path / "env" / "data.mdb", rng.choice(pages(path, BRANCH) or pages(path, LEAF)) * PAGE, bytes(PAGE))


def garbage_page(store: Store, path: Path, rng: random.Random) -> str:
    count = (path / "env" / "data.mdb").stat().st_size // PAGE
    return _write(path / "env" / "data.mdb", rng.randrange(count) * PAGE, rng.randbytes(PAGE))


def page_over_page(store: Store, path: Path, rng: random.Random) -> str:
    """One page stands where another belongs, as after a write that went astray; its number may be made to fit."""
    raw = (path / "env" / "data.mdb").read_bytes()
    here, there = (rng.randrange(2, len(raw) // PAGE) for _ in range(2))
    page = raw[there * PAGE : (there + 1) * PAGE]
    if rng.random() < 0.5:
        page = struct.pack("=Q", here) + page[8:]
    return _write(path / "env" / "data.mdb", here * PAGE, page)


def shorten_branch(store: Store, path: Path, rng: random.Random) -> str:
    """An inner page that forgets its last children hides rows without a trace in the pages below."""
    found = pages(path, BRANCH) or pages(path, LEAF)
    page = rng.choice(found)
    raw = (path / "env" / "data.mdb").read_bytes()[page * PAGE : (page + 1) * PAGE]
    (lower,) = struct.unpack_from("=H", raw, 12)
    fewer = max(20, lower - 2 * rng.choice((1, 1, 2, 5)))
    return _write(path / "env" / "data.mdb", page * PAGE + 12, struct.pack("=H", fewer))


def truncate(store: Store, path: Path, rng: random.Random) -> str:
    file = path / "env" / "data.mdb"
    size = file.stat().st_size
    left = rng.choice((0, PAGE, size - 1, size - PAGE, rng.randrange(size)))
    os.truncate(file, left)
    return f"data.mdb cut to {left} of {size} bytes"


def lengthen(store: Store, path: Path, rng: random.Random) -> str:
    with (path / "env" / "data.mdb").open("ab") as file:
        file.write(rng.randbytes(rng.choice((1, PAGE, 100_000))))
    return "data.mdb: bytes added at its end"


def _put(source: Path, path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (path / name).unlink()
        shutil.copy2(source / name, path / name)


FILES = ("env/data.mdb", "env/journal", "writer.lock")
SOME = [("env/data.mdb",), ("env/journal",), ("env/data.mdb", "env/journal"), FILES]


def old_copy(store: Store, path: Path, rng: random.Random) -> str:
    names = rng.choice(SOME)
    _put(place(store.earlier, path.name), path, names)
    return f"an older {', '.join(names)} put back"


def other_store(store: Store, path: Path, rng: random.Random) -> str:
    names = rng.choice(SOME)
    _put(place(store.other, path.name), path, names)
    return f"{', '.join(names)} of another store"


def other_domain(store: Store, path: Path, rng: random.Random) -> str:
    names = rng.choice(SOME)
    domain = rng.choice([name for name in DOMAINS if name != path.name])
    _put(place(store.path, domain), path, names)
    return f"{', '.join(names)} of domain {domain}"


def no_file(store: Store, path: Path, rng: random.Random) -> str:
    name = rng.choice((*FILES, "env/lock.mdb"))
    (path / name).unlink()
    return f"{name} deleted"


def empty_file(store: Store, path: Path, rng: random.Random) -> str:
    name = rng.choice((*FILES, "env/lock.mdb"))
    os.truncate(path / name, 0)
    return f"{name} emptied"


def no_directory(store: Store, path: Path, rng: random.Random) -> str:
    gone = rng.choice((path, path / "env"))
    shutil.rmtree(gone)
    return f"{gone.name} deleted"


def garbage_beside(store: Store, path: Path, rng: random.Random) -> str:
    name = rng.choice(("env/lock.mdb", "writer.lock"))
    size = (path / name).stat().st_size
    at = rng.randrange(max(1, size))
    return _write(path / name, at, rng.randbytes(rng.choice((1, 8, 64, 8192))))


def _journal_end(path: Path) -> int:
    """Returns about how many bytes of the journal records were ever written to."""
    raw = (path / "env" / "journal").read_bytes().rstrip(b"\0")
    return max(1, len(raw))


def journal_flip(store: Store, path: Path, rng: random.Random) -> str:
    return _flip(path / "env" / "journal", [rng.randrange(_journal_end(path) * 8) for _ in range(rng.choice((1, 4)))])


def journal_garbage(store: Store, path: Path, rng: random.Random) -> str:
    at = rng.randrange(_journal_end(path)) // 512 * 512
    data = rng.choice((bytes(512), rng.randbytes(512), bytes(PAGE), rng.randbytes(64 << 10)))
    return _write(path / "env" / "journal", at, data)


def journal_cut(store: Store, path: Path, rng: random.Random) -> str:
    left = rng.randrange(_journal_end(path))
    os.truncate(path / "env" / "journal", left)
    return f"journal cut to {left} bytes"


WAYS: dict[str, Way] = {
    way.__name__: way
    for way in (
        flip_anywhere, flip_branch, flip_leaf_header, flip_leaf, flip_meta, flip_row, zero_page, zero_branch,
        garbage_page, page_over_page, shorten_branch, truncate, lengthen, old_copy, other_store, other_domain, no_file,
        empty_file, no_directory, garbage_beside, journal_flip, journal_garbage, journal_cut,
    )
}  # fmt: skip
ROT = (
    "flip_anywhere", "flip_branch", "flip_leaf_header", "flip_leaf", "flip_meta", "flip_row", "zero_page",
    "zero_branch", "garbage_page", "page_over_page", "shorten_branch",
)  # fmt: skip


def harm(way: str, store: Store, domain: str, rng: random.Random) -> str:
    """Damages a domain; half of the time the file's own time is put back."""
    path = place(store.path, domain)
    file = path / "env" / "data.mdb"
    state = file.stat()
    done = WAYS[way](store, path, rng)
    if rng.random() < 0.5 and file.exists():
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
        done += ", and its time put back"
    return f"{domain}: {done}"
