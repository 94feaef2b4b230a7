"""A declared store: TOML text to frozen dataclasses, with every problem of the file at once, each with its line.

The file holds `[[domain]]` (name, path), `[[authority]]` (name, public_key), `[[queue]]` (name, schema, replicas, ack,
min_payload, allow, deny, retain_age, retain_bytes, compression) and, below its queue, `[[queue.group]]` (name, allow,
deny, semantics, start, max_deliveries). `replicas` is a table, `id = "domain[:role]"`. Paths are relative to the file.
`[store]` may stand there, empty: where the store is, the caller says. Shown in `examples/provider-migration.toml`.

Promises
- `parse` returns a declaration that holds in itself, or raises `InvalidConfig` with all problems, sorted by line, and
  nothing else, whatever the text is. It opens no file; `read` does, and looks at the public keys too.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from grafctl.errors import GrafctlError, InvalidConfig, NotFound, Usage
from grafctl.names import check_compression, check_domain, check_name, check_pattern, shown
from grafctl.store.authority import Placement
from grafctl.store.blocks import NONE
from grafctl.store.resources.group import SEMANTICS
from grafctl.store.resources.membership import VOTER, WITNESS
from grafctl.store.rules import ack_sizes
from grafctl.units import duration_ms, size_bytes

FILE_BYTES_MAX = 1 << 20
GUESSES_MAX = 100  # because each guess at a mistyped key costs a fraction of a millisecond

Place = tuple[str | int, ...]  # keys and indices from the top of the file
Check = Callable[[Any], Any]  # returns what a value means; raises a `GrafctlError` with a sentence


@dataclass(frozen=True, slots=True)
class DeclaredGroup:
    name: str
    placement: Placement
    semantics: str
    start: str
    max_deliveries: int | None


@dataclass(frozen=True, slots=True)
class DeclaredQueue:
    name: str
    schema: str | None
    replicas: tuple[dict[str, str], ...]  # {id, domain, role}
    ack: str
    min_payload: int | None
    placement: Placement
    retain_age_ms: int | None
    retain_bytes: int | None
    compression: str
    groups: tuple[DeclaredGroup, ...]


@dataclass(frozen=True, slots=True)
class Declaration:
    domains: dict[str, Path | None]  # name -> where, None where the store decides
    authorities: dict[str, Path]  # name -> file of the public key
    queues: tuple[DeclaredQueue, ...]


def read(file: Path) -> Declaration:
    """Returns what a file declares; raises `InvalidConfig`, or `NotFound` where it cannot be read."""
    from grafctl.store.signing import load_public

    return parse(read_text(file), str(file), file.absolute().parent, load_public)


def read_text(file: Path) -> bytes:
    """Returns what a file holds, and not much more than it may; raises `NotFound` where it cannot be read."""
    try:
        with file.open("rb") as handle:
            return handle.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}.", hint="Name a TOML file.") from None


def parse(text: bytes, file: str, folder: Path, check_key: Check = bool) -> Declaration:
    """Returns what a text declares; `check_key` raises a `GrafctlError` for a file that holds no public key."""
    body, document = load(text, file)
    notes: list[tuple[int, str]] = []
    declaration = _declaration(_Table("The file", (), body, Lines(document), notes), folder, check_key)
    if notes:
        raise InvalidConfig(file, sorted(notes, key=lambda note: note[0]))
    return declaration


def load(text: bytes, file: str) -> tuple[dict[str, Any], str]:
    """Returns what TOML says and the text itself; raises `InvalidConfig` with the line where it is none."""
    if len(text) > FILE_BYTES_MAX:
        raise InvalidConfig(file, [(1, f"The file is longer than {FILE_BYTES_MAX >> 20} MiB.")])
    try:
        document = text.decode().replace("\r\n", "\n")
        return tomllib.loads(document), document
    except UnicodeDecodeError as error:
        raise InvalidConfig(file, [(text.count(b"\n", 0, error.start) + 1, "This is not UTF-8.")]) from None
    except RecursionError:
        raise InvalidConfig(file, [(1, "This is nested too deeply.")]) from None
    except ValueError as error:  # not only TOMLDecodeError: a number of 5,000 digits gives a plain one
        why, _, where = str(error).partition(" (at line ")
        line = int(where.partition(",")[0]) if where else text.count(b"\n") + 1
        raise InvalidConfig(file, [(line, f"This is not TOML: {why}.")]) from None


class _Table:
    """One table of the file: its keys are taken one by one, and what is wrong with each is noted."""

    def __init__(self, title: str, place: Place, body: Mapping[str, Any], lines: Lines, notes: list[Any]) -> None:
        self.title, self.place, self.body, self.lines, self.notes = title, place, body, lines, notes
        self.known: list[str] = []

    def note(self, sentence: str, *below: str | int) -> None:
        self.notes.append((self.lines.of((*self.place, *below)), sentence))

    def take(self, key: str, what: str, check: Check, default: Any = None, *kinds: type) -> Any:
        """Returns the checked value of a key (text, unless `kinds` are named), or the default where there is none."""
        self.known.append(key)
        if key not in self.body:
            return default
        value = self.body[key]
        if type(value) in (kinds or (str,)):
            return self.attempt(check, value, default, key)
        self.note(f"{key} of {self.title} is {what}, not {_kind_of(value)}.", key)
        return default

    def require(self, key: str, check: Check) -> Any:
        """Returns the checked text of a key that must be there, or an empty one."""
        if key not in self.body:
            self.note(f"{self.title} has no {key}.")
        return self.take(key, "text", check, "")

    def attempt(self, check: Check, value: Any, default: Any, *below: str | int) -> Any:
        """Returns what `check` makes of a value, or notes why it makes nothing of it."""
        try:
            return check(value)
        except GrafctlError as error:
            self.note(f"{error.message} {error.hint or ''}".rstrip(), *below)
        except ValueError:  # Python does not write out a number of so many digits
            self.note("This number is too large.", *below)
        return default

    def placement(self) -> Placement:
        """Returns the patterns of allow and deny, without those that are none."""
        return Placement(tuple(self._patterns("allow")), tuple(self._patterns("deny")))

    def _patterns(self, key: str) -> Iterator[str]:
        for at, item in enumerate(self.take(key, "a list of texts", list, (), list)):
            if not isinstance(item, str):
                self.note(f"{key} of {self.title} is a list of texts, and holds {_kind_of(item)}.", key, at)
            elif self.attempt(check_pattern, item, None, key, at) is not None:
                yield item

    def tables(self, key: str, header: str) -> list[_Table]:
        """Returns the tables of `[[header]]`, each with its name in its title; a name that comes twice is noted."""
        found, seen = list[_Table](), set[str]()
        for at, item in enumerate(self.take(key, f"written as [[{header}]]", list, (), list)):
            if not isinstance(item, dict):
                self.note(f"{key} of {self.title} is written as [[{header}]], and holds {_kind_of(item)}.", key, at)
                continue
            name = item.get("name")
            title = f"{header} {shown(name)}" if isinstance(name, str) else f"[[{header}]]"
            found.append(_Table(title, (*self.place, key, at), item, self.lines, self.notes))
            if isinstance(name, str) and name in seen:
                found[-1].note(f"There is another {title} before this one.", "name")
            seen.add(str(name))
        return found

    def close(self) -> None:
        """Notes the keys that nobody took."""
        from difflib import get_close_matches

        for key in sorted(self.body.keys() - set(self.known)):
            close = get_close_matches(key, self.known, 1) if len(self.notes) < GUESSES_MAX else None
            guess = f"did you mean {close[0]}?" if close else f"it takes {', '.join(self.known) or 'no key'}."
            self.note(f"{self.title} has no key {shown(key)}; {guess}", key)


def _kind_of(value: Any) -> str:
    kinds = {bool: "true or false", str: "text", int: "a number", float: "a fraction", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or time")


def _declaration(root: _Table, folder: Path, check_key: Check) -> Declaration:
    store = root.take("store", "a table", dict, {}, dict)
    _Table("[store]", ("store",), store, root.lines, root.notes).close()
    if not root.body.get("domain", []):
        root.note("The file declares no [[domain]], and a store needs at least one.", "domain")
    domains = dict(_domain(table, folder) for table in root.tables("domain", "domain"))
    authorities = dict(_authority(table, folder, check_key) for table in root.tables("authority", "authority"))
    queues = tuple(_queue(table, domains) for table in root.tables("queue", "queue"))
    places = [path for path in domains.values() if path is not None]
    if len(set(places)) < len(places):
        root.note("Two domains have one path.", "domain")
    root.close()
    return Declaration(domains, authorities, queues)


def _domain(table: _Table, folder: Path) -> tuple[str, Path | None]:
    found = table.require("name", check_domain), table.take("path", "text", lambda text: folder / _FILE_NAME(text))
    table.close()
    return found


def _authority(table: _Table, folder: Path, check_key: Check) -> tuple[str, Path]:
    name = table.require("name", partial(check_name, "authority"))
    path = table.require("public_key", lambda text: folder / _FILE_NAME(text))
    if path:
        table.attempt(check_key, path, None, "public_key")
    table.close()
    return name, path


def _queue(table: _Table, domains: Iterable[str]) -> DeclaredQueue:
    name = table.require("name", partial(check_name, "queue"))
    schema = table.take("schema", "text", partial(check_name, "schema"))
    replicas = tuple(_replicas(table, domains))
    ack = table.take("ack", "majority, all or a number", str, "majority", str, int)
    min_payload = table.take("min_payload", "a whole number", _NUMBER, None, int)
    if replicas:
        _check_replicas(table, replicas, ack, min_payload)
    placement = table.placement()
    if placement.allow and not any(placement.decide(domain)[0] for domain in domains if domain):
        table.note(f"No declared domain may publish to {table.title}: allow covers none, or deny covers all.", "allow")
    retain_age_ms = table.take("retain_age", "text, such as 7d", duration_ms)
    retain_bytes = table.take(
        "retain_bytes", "a size, such as 10GB", lambda size: size_bytes(str(size)), None, str, int
    )
    compression = table.take("compression", "text", check_compression, NONE)
    holders = [replica["domain"] for replica in replicas if replica["role"] == VOTER]
    groups = tuple(_group(group, holders) for group in table.tables("group", "queue.group"))
    table.close()
    return DeclaredQueue(
        name, schema, replicas, ack, min_payload, placement, retain_age_ms, retain_bytes, compression, groups
    )


def _replicas(table: _Table, domains: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yields {id, domain, role} of each replica that is one."""
    items = table.take("replicas", 'a table of id = "domain[:role]"', dict, {}, dict)
    if not items:
        table.note(f'{table.title} has no replicas; write [queue.replicas] and under it ID = "DOMAIN".', "replicas")
    for key, text in items.items():
        if not isinstance(text, str):
            table.note(f'Replica {shown(key)} is text, "domain[:role]", not {_kind_of(text)}.', "replicas", key)
        elif (replica := table.attempt(partial(_replica, key), text, None, "replicas", key)) is not None:
            if replica["domain"] in domains:
                yield replica
            else:
                table.note(f"Replica {key} is in {replica['domain']}, which no [[domain]] declares.", "replicas", key)


def _replica(replica_id: str, text: str) -> dict[str, str]:
    domain, _, role = text.partition(":")
    return {"id": check_name("replica", replica_id), "domain": check_domain(domain), "role": _ROLE(role or VOTER)}


def _check_replicas(table: _Table, replicas: tuple[dict[str, str], ...], ack: str, min_payload: int | None) -> None:
    """Notes replicas that cannot stand together, and an acknowledgement rule that cannot hold with them."""
    seen: set[str] = set()
    for replica in replicas:
        if replica["domain"] in seen:
            table.note(f"Two replicas of {table.title} are in {replica['domain']}.", "replicas", replica["id"])
        seen.add(replica["domain"])
    roles = [replica["role"] for replica in replicas]
    try:
        ack_sizes(ack, roles.count(VOTER), roles.count(WITNESS), min_payload)
    except ValueError as error:
        why = str(error).replace("--min-payload", "min_payload").replace("--ack", "ack")
        culprit = next((key for key in ("min_payload", "ack") if key in why and key in table.body), "replicas")
        table.note(f"{table.title}: {why}.", culprit)


def _group(table: _Table, holders: list[str]) -> DeclaredGroup:
    name, placement = table.require("name", partial(check_name, "group")), table.placement()
    if holders and not any(placement.decide(domain)[0] for domain in holders):
        table.note(f"{table.title} may poll nowhere: no replica that keeps payloads is in its placement.", "allow")
    semantics = table.take("semantics", "text", _SEMANTICS, "at-least-once")
    start = table.take("start", "earliest, latest or an offset", _START, "earliest", str, int)
    max_deliveries = table.take("max_deliveries", "a whole number", _NUMBER, None, int)
    table.close()
    return DeclaredGroup(name, placement, semantics, start, max_deliveries)


def _like(pattern: str, what: str, mean: Callable[[re.Match[str]], Any] = lambda found: found[0]) -> Check:
    """Returns the check of a text or a number by its form."""
    form = re.compile(pattern)

    def check(value: str | int) -> Any:
        found = form.fullmatch(str(value))
        if found is None:
            raise Usage(f"{shown(str(value))} is not {what}.")
        return mean(found)

    return check


_NUMBER = _like("[1-9][0-9]{0,17}", "a whole number from 1 on", lambda found: int(found[0]))
_START = _like("earliest|latest|[0-9]{1,18}", "earliest, latest or an offset")
_SEMANTICS = _like("|".join(SEMANTICS), " or ".join(SEMANTICS))
_ROLE = _like("voter|witness", "voter or witness, with which a queue begins")
_FILE_NAME = _like("[^\0]+", "a path")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'", re.DOTALL)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]+")
_BETWEEN = re.compile(r"(?:[ \t\n]|#[^\n]*)*")


class Lines:
    """The line of every table, key and list item of a text that tomllib has read."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._line = text, 0, 1
        self._found: dict[Place, int] = {(): 1}
        self._counts: dict[Place, int] = {}  # how many [[tables]] there were so far
        table: Place = ()
        try:
            while True:
                table = self._statement(table)
        except (LookupError, RecursionError):
            pass  # the end of the text; one that this does not understand costs exact lines, not the problems

    def of(self, place: Place) -> int:
        """Returns the line of a place, or of the nearest one around it."""
        while place not in self._found:
            place = place[:-1]
        return self._found[place]

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise LookupError(self._at)
        self._line += found[0].count("\n")
        self._at = found.end()
        return found[0]

    def _skip(self, mark: str = "") -> bool:
        """Passes white space, comments and then the mark; returns whether that was there."""
        self._take(_BETWEEN)
        is_there = self._text.startswith(mark, self._at)
        self._at += len(mark) if is_there else 0
        return is_there

    def _key(self, place: Place) -> Iterator[Place]:
        """Passes a dotted key; yields the place after each of its parts, and marks it with its line."""
        line, goes_on = self._line, True
        while goes_on:
            self._skip()
            is_quoted = self._text[self._at] in "\"'"
            part = tomllib.loads(f"key = {self._take(_STRING)}")["key"] if is_quoted else self._take(_BARE_KEY)
            goes_on = self._skip(".")
            place = (*place, part)
            self._found.setdefault(place, line)
            yield place

    def _statement(self, table: Place) -> Place:
        """Passes a header or a pair; returns the table that the next pair is in."""
        if not self._skip("["):
            self._pair(table)
            return table
        line, is_list = self._line, self._skip("[")
        table = ()
        for *_, part in self._key(()):
            table = (*table, part)
            if is_list and self._text.startswith("]", self._at):
                self._counts[table] = self._counts.get(table, 0) + 1
            self._found.setdefault(table, line)
            if table in self._counts:
                table = (*table, self._counts[table] - 1)
                self._found.setdefault(table, line)
        return table if self._skip("]]" if is_list else "]") else ()

    def _pair(self, table: Place) -> None:
        *_, place = self._key(table)
        self._skip("=")
        self._value(place)

    def _value(self, place: Place) -> None:
        self._skip()
        self._found.setdefault(place, self._line)
        if self._text[self._at] in "\"'":
            self._take(_STRING)
        elif self._skip("["):
            for at in itertools.takewhile(lambda _: not self._skip("]"), itertools.count()):
                self._value((*place, at))
                self._skip(",")
        elif self._skip("{"):
            while not self._skip("}"):
                self._pair(place)
                self._skip(",")
        else:
            self._take(_SCALAR)
