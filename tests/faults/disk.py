"""What a disk may hold after a power loss: the files of a store as a log of system calls left them, flushed or not.

The model promises no more than POSIX does. What was written and not flushed is there or not, sector by sector, in any
order; a name that was made, moved or removed is there or not until its directory is flushed; a flush that failed has
flushed nothing, and what was written before it is never made durable by a later one, unless it is written again.

    cache    what programs see; everything that was carried out
    base     what is durable
    pending  what has changed since, in its order: any part of it may have reached the disk
    limbo    what a failed flush left behind
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from faults.tracing import Event, domain_of

SECTOR = 512


@dataclass(frozen=True)
class Change:
    """One thing that may have reached the disk or not; of a file a sector or a new size, of a directory a name."""

    domain: str
    sector: int = -1  # -1: no sector
    data: bytes = b""
    size: int = -1  # -1: no size
    name: str = ""
    node: File | Folder | None = None  # None: the name is removed
    former: str = ""  # of a rename


Keep = Callable[[Change], bool]


@dataclass(eq=False)
class File:
    """One file."""

    domain: str
    cache: bytearray = field(default_factory=bytearray)
    base: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    limbo: list[Change] = field(default_factory=list)

    def write(self, offset: int, data: bytes, *, sync: bool) -> None:
        """Writes as a program does; with `sync`, through a descriptor that flushes what it writes."""
        if len(self.cache) < offset:
            self.cache.extend(bytes(offset - len(self.cache)))
        self.cache[offset : offset + len(data)] = data
        sectors = range(offset // SECTOR, (offset + len(data) + SECTOR - 1) // SECTOR)
        changes = [Change(self.domain, n, bytes(self.cache[n * SECTOR : (n + 1) * SECTOR])) for n in sectors]
        if sync:
            self._settle(changes)
            self.pending = [change for change in self.pending if change.sector not in sectors]
        else:
            self.pending += changes

    def resize(self, size: int) -> None:
        """Cuts the file or makes it longer."""
        _resize(self.cache, size)
        self.pending.append(Change(self.domain, size=size))

    def flush(self, *, ok: bool) -> None:
        """Makes durable what is pending; or, where the flush failed, nothing, now and later."""
        if ok:
            self._settle(self.pending)
        else:
            self.limbo += self.pending
        self.pending = []

    def _settle(self, changes: list[Change]) -> None:
        for change in changes:
            _apply(self.base, change)
        written = {change.sector for change in changes}
        self.limbo = [change for change in self.limbo if change.sector not in written]

    def image(self, keep: Keep) -> bytes:
        """Returns what the disk may hold."""
        found = bytearray(self.base)
        for change in (*self.limbo, *self.pending):
            if keep(change):
                _apply(found, change)
        return bytes(found)


def _apply(content: bytearray, change: Change) -> None:
    if change.size >= 0:
        _resize(content, change.size)
        return
    start = change.sector * SECTOR
    if len(content) < start:
        content.extend(bytes(start - len(content)))
    content[start : start + len(change.data)] = change.data


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


@dataclass(eq=False)
class Folder:
    """One directory."""

    domain: str
    cache: dict[str, File | Folder] = field(default_factory=dict)
    base: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        """Makes, moves or removes a name."""
        _rename(self.cache, change)
        self.pending.append(change)

    def flush(self, *, ok: bool) -> None:
        """Makes the names durable; a flush that failed may be done again."""
        if ok:
            self.base, self.pending = dict(self.cache), []

    def image(self, keep: Keep) -> dict[str, File | Folder]:
        """Returns the names that the disk may hold."""
        found = dict(self.base)
        for change in self.pending:
            if keep(change):
                _rename(found, change)
        return found


def _rename(names: dict[str, File | Folder], change: Change) -> None:
    if change.former and names.get(change.former) is change.node:
        del names[change.former]
    if change.node is None:
        names.pop(change.name, None)
    else:
        names[change.name] = change.node


class Disk:
    """The files under one folder: read from a real one, then changed by a log."""

    def __init__(self, folder: Path, name: str) -> None:
        """Begins with what is in `folder/name`, all of it durable."""
        self._changes = 0
        self.root = Folder("")
        if (folder / name).exists():
            self.root.cache[name] = self.root.base[name] = _load(folder / name, name)

    def take(self, event: Event) -> bool:
        """Carries out what a line of the log says; returns whether that changed what a disk may hold."""
        before = self._changes
        self._take(event)
        return self._changes != before

    def _take(self, event: Event) -> None:
        node = self.find(event.path)
        self._changes += event.what not in ("open", "create", "said")
        if event.what == "flush" and node is not None:
            node.flush(ok=event.ok)
        elif not event.ok:
            return
        elif event.what in ("create", "cut"):
            if node is None:
                self._name(event.path, File(domain_of(event.path)))
            elif event.what == "cut" and isinstance(node, File) and node.cache:
                node.resize(0)
        elif event.what == "mkdir":
            self._name(event.path, Folder(domain_of(event.path)))
        elif event.what == "unlink":
            self._name(event.path, None)
        elif event.what == "rename":
            self._move(event.path, os.fsdecode(event.data))
        elif isinstance(node, File):
            self._change(node, event)

    def _change(self, file: File, event: Event) -> None:
        if event.what == "write":
            file.write(event.offset, event.data, sync=event.sync)
        elif event.what == "resize" or (event.what == "grow" and event.offset > len(file.cache)):
            file.resize(event.offset)

    def find(self, path: str) -> File | Folder | None:
        """Returns what programs see under a path."""
        node: File | Folder | None = self.root
        for part in filter(None, path.split("/")):
            node = node.cache.get(part) if isinstance(node, Folder) else None
        return node

    def _name(self, path: str, node: File | Folder | None) -> None:
        folder, name = os.path.split(path)
        holder = self.find(folder)
        assert isinstance(holder, Folder), path
        holder.change(Change(domain_of(path), name=name, node=node))
        self._changes += 1

    def _move(self, path: str, target: str) -> None:
        (folder, former), (other, name) = os.path.split(path), os.path.split(target)
        holder, node = self.find(folder), self.find(path)
        assert folder == other and isinstance(holder, Folder) and node is not None, f"{path} to {target}"
        holder.change(Change(domain_of(target), name=name, node=node, former=former))

    def pending(self) -> Iterator[Change]:
        """Yields everything that may be on the disk or not."""
        for node in _walk(self.root):
            yield from node.pending
            if isinstance(node, File):
                yield from node.limbo

    def write(self, target: Path, keep: Keep) -> None:
        """Writes an image of the disk; its top folder stands in place of the root."""
        _write(self.root, target, keep)


def _load(path: Path, name: str) -> File | Folder:
    if path.is_dir():
        folder = Folder(domain_of(name))
        for child in path.iterdir():
            folder.cache[child.name] = _load(child, f"{name}/{child.name}")
        folder.base = dict(folder.cache)
        return folder
    content = path.read_bytes()
    return File(domain_of(name), bytearray(content), bytearray(content))


def _walk(folder: Folder) -> Iterator[File | Folder]:
    """Yields every file and folder that is there, in the cache or by a name that may come back."""
    seen: set[int] = set()
    waiting: list[File | Folder] = [folder]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, Folder):
            waiting += node.cache.values()
            waiting += node.base.values()


def _write(folder: Folder, target: Path, keep: Keep) -> None:
    target.mkdir(exist_ok=True)
    for name, node in folder.image(keep).items():
        if isinstance(node, Folder):
            _write(node, target / name, keep)
        else:
            (target / name).write_bytes(node.image(keep))
