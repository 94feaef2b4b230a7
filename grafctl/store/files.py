"""`store.toml`: what a store is and where its domains are; written whole or not at all.

Promises
- The file is replaced by rename after an fsync, under the store's own lock: a reader sees the old one or the new one.
- What this program writes is read without tomllib, which takes longer to import than a publish; a file that looks
  different, because somebody edited it or it is broken, is read by tomllib. Where both can read it they agree.
- A file of a newer format, or written by another driver, is refused with a sentence, and nothing else is touched.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager

from grafctl import clock
from grafctl.errors import Busy, DomainUnavailable, GrafctlError, InvalidConfig, NotFound, StoreFull, Usage
from grafctl.names import check_domain
from grafctl.store.cluster import Place
from grafctl.store.driver.private import open_file, sync_path
from grafctl.typed import TYPE_CHECKING, Any, Iterator, NamedTuple

FORMAT = 1
FILE_NAME = "store.toml"
LOCK_NAME = "store.lock"
DOMAINS_FOLDER = "domains"
LOCK_WAIT_S = 10.0
FILE_BYTES_MAX = 16 << 20

if TYPE_CHECKING:
    from pathlib import Path

    StrPath = str | os.PathLike[str]


class StoreFile(NamedTuple):
    """The content of `store.toml`; paths are relative to the store's directory unless they are absolute."""

    identity: str
    driver: str
    domains: dict[str, dict[str, str]]  # name -> {"path", "incarnation"}
    format: int = FORMAT

    def places(self, directory: StrPath) -> dict[str, Place]:
        """Returns where each domain's environment is."""
        return {
            name: Place(absolute(os.path.join(directory, row["path"])), row["incarnation"])
            for name, row in self.domains.items()
        }

    def with_domain(self, name: str, path: str) -> StoreFile:
        row = {"path": path, "incarnation": clock.random_token("inc")}
        return self._replace(domains={**self.domains, name: row})

    def without_domain(self, name: str) -> StoreFile:
        return self._replace(domains={key: row for key, row in self.domains.items() if key != name})


def default_path(domain: str) -> str:
    """Returns where a domain lives when the operator names no path; `~` cannot stand in a domain's name."""
    return f"{DOMAINS_FOLDER}/{domain.replace('/', '~')}"


def absolute(path: StrPath) -> str:
    """Returns what `Path(path).absolute()` is, as text; `pathlib` takes as long to import as a publish takes."""
    text = os.fspath(path)
    if not os.path.isabs(text):
        text = os.path.join(os.getcwd(), text)
    if "//" in text or "/./" in text or text.endswith(("/", "/.")):
        from pathlib import Path

        text = str(Path(text))
    return text


def read(directory: StrPath) -> StoreFile:
    """Returns the store's file; raises `NotFound`, or `InvalidConfig` with every problem of it."""
    path = os.path.join(directory, FILE_NAME)
    try:
        text = _read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            f"There is no store in {directory}.",
            hint="Run `grafctl init DIR --domain D --domain E`, or name another with --store.",
        ) from None
    except OSError as error:
        import errno

        message = f"{path} cannot be read: {error.strerror}."
        raise (_sick(message) if error.errno == errno.EIO else NotFound(message)) from None
    return _parse(path, text)


def _read_file(path: str) -> bytes:
    """Returns what a regular file holds; a store from elsewhere may have a pipe or a device there."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise InvalidConfig(path, [(1, "this is not a file")])
        if state.st_size > FILE_BYTES_MAX:
            raise InvalidConfig(path, [(1, f"the file is longer than {FILE_BYTES_MAX >> 20} MiB")])
        return os.read(handle, FILE_BYTES_MAX)
    finally:
        os.close(handle)


def _parse(path: str, text: bytes) -> StoreFile:
    try:
        body = parse_toml(text.decode())
    except RecursionError:
        raise InvalidConfig(path, [(1, "this is nested too deeply")]) from None
    except ValueError as error:
        why, _, where = str(error).partition(" (at line ")
        raise InvalidConfig(path, [(int(where.partition(",")[0] or 1), f"this is not TOML: {why}")]) from None
    if type(body.get("format")) is int and body["format"] > FORMAT:
        raise InvalidConfig(
            path, [(1, f"the store has format {body['format']}; this grafctl reads up to {FORMAT}, upgrade it")]
        )
    problems = _problems(body, text.decode())
    if problems:
        raise InvalidConfig(path, problems)
    rows = {row["name"]: {"path": row["path"], "incarnation": row["incarnation"]} for row in body["domain"]}
    return StoreFile(body["identity"], body["driver"], rows, body["format"])


def parse_toml(text: str) -> dict[str, Any]:
    """Returns what TOML says; raises ValueError."""
    body = parse_plain_toml(text)
    if body is None:
        import tomllib

        body = tomllib.loads(text)
    return body


def parse_plain_toml(text: str) -> dict[str, Any] | None:
    """Returns what TOML says that looks as `write` makes it, or None for any other text, right or wrong."""
    body: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for line in text.split("\n"):
        table = rows[-1] if rows else body
        key, equals, value = line.partition(" = ")
        if not line.isprintable() or key in table or (key == "domain" and table is body):
            return None
        if line == "[[domain]]":
            rows.append({})
        elif equals and key.isascii() and key.isidentifier():
            if len(value) > 1 and value[0] == value[-1] == '"' and value.count('"') == 2 and "\\" not in value:
                table[key] = value[1:-1]
            elif value.isascii() and value.isdigit() and value[0] != "0":
                table[key] = int(value)
            else:
                return None
        elif line and line[0] != "#":
            return None
    return body | {"domain": rows} if rows else body


def _problems(body: dict[str, Any], text: str) -> list[tuple[int, str]]:
    problems = []
    for name, kind in (("format", int), ("identity", str), ("driver", str)):
        if type(body.get(name)) is not kind:
            problems.append((1, f"{name} is missing or not {'a number' if kind is int else 'text'}"))
    rows = body.get("domain")
    if not isinstance(rows, list) or not rows:
        return [*problems, (1, "there is no [[domain]]")]
    headers = [number for number, line in enumerate(text.split("\n"), 1) if line.strip().startswith("[[domain]]")]
    seen = set[str]()
    for at, row in enumerate(rows):
        line = headers[at] if len(headers) == len(rows) else 1
        if not isinstance(row, dict) or any(not isinstance(row.get(k), str) for k in ("name", "path", "incarnation")):
            problems.append((line, "a [[domain]] needs name, path and incarnation"))
            continue
        if why := _problem(row, seen):
            problems.append((line, why))
        seen.add(row["name"])
    return problems


def _problem(row: dict[str, str], seen: set[str]) -> str | None:
    """Returns what is wrong with the texts of one domain; a file that was edited may hold anything."""
    try:
        check_domain(row["name"])
    except Usage as error:
        return error.message
    if row["name"] in seen:
        return f"there is another [[domain]] {row['name']} before this one"
    if not row["path"] or "\0" in row["path"]:
        return f"the path of {row['name']} is no path"
    return None


def write(directory: Path, file: StoreFile) -> None:
    """Replaces the file durably; the caller holds `locked`."""
    import tomli_w

    text = "# Written by grafctl; change it with `grafctl domain add` and `grafctl domain remove`.\n"
    text += tomli_w.dumps({"format": file.format, "identity": file.identity, "driver": file.driver})
    for name, row in file.domains.items():
        text += "\n[[domain]]\n" + tomli_w.dumps({"name": name, **row})
    replace(directory / FILE_NAME, text.encode())


def replace(path: Path, data: bytes) -> None:
    """Gives a small file this content durably: the old one is there, or the new one."""
    temporary = path.with_name(path.name + ".new")
    try:
        handle = open_file(temporary, os.O_WRONLY | os.O_TRUNC)
        try:
            write_whole(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        temporary.rename(path)
        sync_path(path.parent)
    except OSError as error:
        raise unwritable(path.parent, error) from None


def write_whole(handle: int, text: bytes) -> None:
    """Writes all of `text`: on a disk that has just filled up, one call may write a part of it and say no error."""
    while text:
        text = text[os.write(handle, text) :]


def flush_names(directory: Path) -> None:
    """Makes durable that a folder is there and what it names: an earlier run may have died before its own flush."""
    sync_path(directory)
    try:
        sync_path(directory.parent)
    except PermissionError:
        pass  # where this program may not look it has made nothing


def make_folders(path: Path) -> None:
    """Makes a folder and those above it, each durable before the next."""
    if not path.is_dir():
        make_folders(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_path(path.parent)


def unwritable(path: Path, error: OSError) -> GrafctlError:
    """Returns the refusal for a path that cannot be written: a full disk, a sick one, or one that may not be."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"There is no room for {path}.")
    if error.errno == errno.EIO:
        return _sick(f"{path} cannot be written: {error.strerror}.")
    return Usage(f"{path} cannot be written: {error.strerror}.")


def _sick(message: str) -> DomainUnavailable:
    hint = "Run the same command again when the disk is well; `grafctl doctor` looks at it."
    return DomainUnavailable(message, reason="unreachable", hint=hint)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the store's lock, for changes of `store.toml`; raises `Busy` after `LOCK_WAIT_S`."""
    try:
        make_folders(directory)
        handle = open_file(directory / LOCK_NAME, os.O_RDWR)
    except OSError as error:
        raise unwritable(directory, error) from None
    try:
        _lock(handle, directory)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, directory: Path) -> None:
    until = clock.monotonic_s() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if clock.monotonic_s() > until:
                raise Busy(f"Another grafctl is changing the store in {directory}.", hint="Try again.") from None
            clock.sleep(0.02)
