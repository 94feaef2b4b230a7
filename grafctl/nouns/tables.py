"""`table`: keyed tables, and the parts that hold their moved vshards.

Promises
- A table is one name to its users, however many logs its vshards are in.
- Work on a table is what `operations/tables.py` promises: atomic in one log, the newest is read, and no error is due to
  a vshard that is being moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from grafctl.errors import NotFound
from grafctl.names import check_name
from grafctl.nouns.queues import Resources
from grafctl.results import Change, Shown
from grafctl.store import keys
from grafctl.store.authority import Placement
from grafctl.store.log import DEADLINE_S
from grafctl.store.operations import tables
from grafctl.store.operations.routing import table_of
from grafctl.store.operations.table_rows import vshard_rows
from grafctl.store.operations.tables import Item, Written
from grafctl.store.replica.state import State
from grafctl.store.resources.carried import policy_row
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.table import KIND
from grafctl.store.vshards import VSHARDS, check_vshards
from grafctl.table_results import Loaded, Row, Stored


def as_bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


class Tables(Resources):
    """The keyed tables of one store."""

    kind = KIND

    def create(
        self,
        name: str,
        *,
        replicas: Sequence[str] = (),
        log: str | None = None,
        ack: str = "majority",
        min_payload: int | None = None,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        vshards: int = VSHARDS,
        dry_run: bool = False,
    ) -> Change:
        """Creates a table whose vshards all begin on these replicas; their number never changes."""
        placement: dict[str, Any] = {"allow": allow, "deny": deny}
        rule: dict[str, Any] = {"log": log, "ack": ack, "min_payload": min_payload}
        return self._create(name, replicas, **rule, **placement, dry_run=dry_run, vshards=check_vshards(vshards))

    def _shown(self, state: State, name: str) -> dict[str, Any]:
        return table_fields(state, name)

    _listed = _shown

    # --- work

    def put(
        self,
        name: str,
        key: bytes | str,
        value: bytes | str,
        *,
        domain: str,
        expect: int | None = None,
        epoch: int | None = None,
        timeout_s: float = DEADLINE_S,
        dry_run: bool = False,
    ) -> Stored:
        """Writes a value and returns when it is durable; with `expect` only where that version is there, 0 for none.

        A value that is there already is left as it is, unless `expect` is given. Raises `GenerationConflict` where
        another version is there.
        """
        item = Item(as_bytes(key), as_bytes(value), expect)
        return self._write(name, item, domain, epoch, timeout_s, dry_run)

    def delete(
        self,
        name: str,
        key: bytes | str,
        *,
        domain: str,
        expect: int | None = None,
        epoch: int | None = None,
        timeout_s: float = DEADLINE_S,
        dry_run: bool = False,
    ) -> Stored:
        """Deletes a key; one that is not there changes nothing."""
        return self._write(name, Item(as_bytes(key), None, expect), domain, epoch, timeout_s, dry_run)

    def _write(self, name: str, item: Item, domain: str, epoch: int | None, timeout_s: float, dry_run: bool) -> Stored:
        if dry_run:
            done = tables.would_put(self.session, name, item, domain=domain, epoch=epoch)
        else:
            (done,) = tables.put(self.session, name, [item], domain=domain, epoch=epoch, timeout_s=timeout_s)
        version = 0 if item.value is None else done.version
        return Stored(name, item.key, version, done.vshard, done.changed, done.acked_by, dry_run or None)

    def put_many(
        self,
        name: str,
        items: Sequence[Item],
        *,
        domain: str,
        epoch: int | None = None,
        timeout_s: float = DEADLINE_S,
    ) -> list[Written]:
        """Writes many keys, and returns what became of each; those of one log are one entry, up to its size."""
        return tables.put(self.session, name, items, domain=domain, epoch=epoch, timeout_s=timeout_s)

    def load(
        self,
        name: str,
        batches: Iterable[Sequence[Item]],
        *,
        domain: str,
        epoch: int | None = None,
        timeout_s: float = DEADLINE_S,
        dry_run: bool = False,
    ) -> Iterator[Loaded]:
        """Writes batch after batch, and yields what became of each when it is durable; with `dry_run` what would.

        What is there already is not written again, so the same rows once more write only what was missing.
        """
        for batch in batches:
            last = {item.key: item for item in batch}
            if dry_run:
                tables.would_put(self.session, name, batch[0], domain=domain, epoch=epoch)  # who may not is refused
                found = tables.get(self.session, name, list(last), domain=domain, timeout_s=timeout_s)
                written = sum(
                    row is None or row.value != item.value for row, item in zip(found, last.values(), strict=True)
                )
            else:
                rows = list(last.values())
                done = tables.put(self.session, name, rows, domain=domain, epoch=epoch, timeout_s=timeout_s)
                written = sum(one.changed for one in done)
            yield Loaded(name, len(batch), written, len(last) - written, dry_run or None)

    def get(
        self, name: str, key: bytes | str, *, domain: str, group: str | None = None, timeout_s: float = DEADLINE_S
    ) -> Row:
        """Returns what is there under a key, the newest that was acknowledged; raises `NotFound`.

        A `group` says who reads: where it is attached to a switch, the row is of the side that is open.
        """
        (row,) = self.get_many(name, [as_bytes(key)], domain=domain, group=group, timeout_s=timeout_s)
        if row is None:
            raise NotFound(
                f"{name} has no such key.", hint=f"Run `grafctl table scan {name}` to see its keys.", resource=name
            )
        return row

    def get_many(
        self,
        name: str,
        wanted: Sequence[bytes],
        *,
        domain: str,
        group: str | None = None,
        timeout_s: float = DEADLINE_S,
    ) -> list[Row | None]:
        """Returns what is there under each of many keys, None where there is nothing; all of one side of a switch."""
        if group is None:
            return tables.get(self.session, name, wanted, domain=domain, timeout_s=timeout_s)
        from grafctl.store.operations.switching import reading

        return reading.get(
            self.session, name, wanted, group=check_name("group", group), domain=domain, timeout_s=timeout_s
        )

    def scan(
        self,
        name: str,
        *,
        domain: str,
        prefix: bytes | str = b"",
        vshard: int | None = None,
        group: str | None = None,
    ) -> Iterator[Row]:
        """Yields the rows, by vshard and then by key, all or those whose keys begin with `prefix`.

        With a `group` that is attached to a switch those of the open side; where that changes in the middle it raises
        `GenerationConflict`.
        """
        how: dict[str, Any] = {"domain": domain, "prefix": as_bytes(prefix), "vshard": vshard}
        if group is None:
            return tables.scan(self.session, name, **how)
        from grafctl.store.operations.switching import reading

        return reading.scan(self.session, name, group=check_name("group", group), **how)

    def count(self, name: str, *, vshard: int | None = None) -> Shown:
        """Returns how many keys a table or one vshard has, and their bytes, as its logs count them."""
        table = table_of(self.session, name)
        if vshard is not None:
            table.check(vshard)
        found = [row for number, row in vshard_rows(self.session, name).items() if vshard in (None, number)]
        records, size = (sum(row[field] for row in found) for field in ("records", "bytes"))
        fields: dict[str, Any] = {"table": name} | ({} if vshard is None else {"vshard": vshard})
        return Shown({**fields, "count": records, "bytes": size})


def table_fields(state: State, name: str) -> dict[str, Any]:
    """Returns what `table show` prints of a table."""
    row = queue_row(state, name)
    locator, policy = state.get_json(keys.locator()), policy_row(state)
    placement = Placement.of(row)
    return {
        "resource": name,
        "kind": row["kind"],
        **({"log": row["log"]} if "log" in row else {}),
        "vshards": row["vshards"],
        "ack": policy["ack"],
        "min_payload": policy["min_payload"],
        "epoch": row["epoch"],
        "generation": locator["generation"],
        "placement": placement.as_json(),
        "placement_digest": placement.digest(),
        "replicas": locator["replicas"],
    }
