"""Every key of an environment; no other file joins key bytes, but `vshard_keys.py` for the rows of tables,
`segment_keys.py` for those of segments and `switch_keys.py` for those of switches.

| tag  | parts                          | value                        | written by            |
|------|--------------------------------|------------------------------|-----------------------|
| `01` | `identity`                     | who the environment is       | the driver, once      |
| `10` | log                            | head of the replica          | every log transaction |
| `11` | log, index                     | a START's configuration      | START, COPY           |
| `12` | log, peer domain               | what the peer's head was     | APPEND, COPY          |
| `20` | log, index                     | entry                        | APPEND, START, COPY   |
| `21` | log, index                     | pre-images of the entry      | the same; gone once committed |
| `22` | log, index, term               | a dropped entry (quarantine) | COPY                  |
| `30` | log, resource, table, subkey   | state row at the log's tail  | `apply` of an entry   |

Promises
- A log is 8 bytes, an index or offset 8 bytes big-endian, a resource 2 bytes, a table 1 byte: fixed widths, so that
  byte order is the order of the parts and no name reaches into another's range.
- A name inside a subkey ends in a zero byte, which no name can hold (`names.py`).
- `parse_index` refuses a key of another shape.

State tables. Resource 0 is the log itself: `L` locator, `H` locator history by generation, `P` proofs by id, `R` the
resources it carries beside the first, by number. Resources 1, 2 and so on are what the log carries; the functions below
speak of the first, and `replica/scope.py` puts another number in its place. Queue: `Q` the queue, `B` blocks by first
offset, `I` the index of ids (`ID` its directory, `IA` records by number, `IR` items by run and first item, `IF` filters
by run and first cell), `G` groups, `N` lineages, `T` leases by lineage and token, `D` dead letters by lineage and
offset; of a group that is attached to a switch `XC` what was carried and `XO` what is owed, by group. Idempotency
store: `Q`, `B` and `I` as a queue has them, of what is completed; `K` keys (`KR` reservations by stage and digest, `KS`
counts by stage). Table, and the parts that hold its moved vshards: `Q` as a queue has it, `V` vshards, `W` rows by
vshard and key, `M` migrations by vshard, `Y` ways back by vshard. Control: `R` resources by name, `A` authorities, `O`
health observations by domain, `P` saved plans that were applied, `S` schemas by id, `V` routes by table and vshard, `L`
leases on segments, `E` edges and `X` switches by name, `Y` readers of switched tables by table and group. Audit: `C`
the counters, `U` the latest record of each refusal.
"""

from __future__ import annotations

import struct

from grafctl.errors import Corrupt

U64 = struct.Struct(">Q")
U64_MAX = (1 << 64) - 1

CONTROL_LOG = b"\0\0\0\0\0\0\0\1"
AUDIT_LOG = b"\0\0\0\0\0\0\0\2"

LOG_ITSELF = b"\0\0"
PAYLOAD = b"\0\1"  # the first resource of a log; a log of several numbers them on
U16 = struct.Struct(">H")
CARRIED_MAX = 1000  # resources of one log


def head(log: bytes) -> bytes:
    return b"\x10" + log


def heads() -> tuple[bytes, bytes]:
    """Returns the range of all heads of an environment."""
    return b"\x10", b"\x11"


def parse_head(key: bytes) -> bytes:
    """Returns the log of a head's key."""
    if len(key) != 9 or key[0] != 0x10:
        raise Corrupt(f"Key {key.hex()} is not that of a head.", key=key.hex())
    return key[1:]


def config(log: bytes, index: int) -> bytes:
    return b"\x11" + log + U64.pack(index)


def configs(log: bytes) -> tuple[bytes, bytes]:
    return range_of(b"\x11" + log)


def seen(log: bytes, domain: str) -> bytes:
    return b"\x12" + log + domain.encode()


def entry(log: bytes, index: int) -> bytes:
    return b"\x20" + log + U64.pack(index)


def entries(log: bytes, start: int, stop: int) -> tuple[bytes, bytes]:
    return entry(log, start), entry(log, stop)


def undo(log: bytes, index: int) -> bytes:
    return b"\x21" + log + U64.pack(index)


def undos(log: bytes, start: int, stop: int) -> tuple[bytes, bytes]:
    return undo(log, start), undo(log, stop)


def quarantine(log: bytes, index: int, term: tuple[int, int]) -> bytes:
    return b"\x22" + log + U64.pack(index) + U64.pack(term[0]) + U64.pack(term[1])


def quarantines(log: bytes) -> tuple[bytes, bytes]:
    return range_of(b"\x22" + log)


def parse_index(key: bytes) -> int:
    """Returns the index that stands behind the tag and the log."""
    if len(key) != {0x11: 17, 0x20: 17, 0x21: 17, 0x22: 33}.get(key[0] if key else 0):
        raise Corrupt(f"Key {key.hex()} holds no index.", key=key.hex())
    return int(U64.unpack_from(key, 9)[0])


def state(log: bytes, row: bytes) -> bytes:
    """Returns the key of a state row; `row` is one of the subkeys below."""
    return b"\x30" + log + row


def states(log: bytes) -> tuple[bytes, bytes]:
    """Returns the range of all state rows of a log."""
    return range_of(b"\x30" + log)


# --- subkeys of state rows: what `decide` and `apply` see


def locator() -> bytes:
    return LOG_ITSELF + b"L"


def locator_generation(generation: int) -> bytes:
    return LOG_ITSELF + b"H" + U64.pack(generation)


def locator_history() -> tuple[bytes, bytes]:
    return range_of(LOG_ITSELF + b"H")


def proof(proof_id: str) -> bytes:
    return LOG_ITSELF + b"P" + proof_id.encode()


def proofs() -> tuple[bytes, bytes]:
    return range_of(LOG_ITSELF + b"P")


def carried_prefix(number: int) -> bytes:
    """Returns what all rows of a resource begin with."""
    return U16.pack(number)


def carried(number: int) -> bytes:
    """Returns the row that says that a log carries a resource beside its first."""
    return LOG_ITSELF + b"R" + U16.pack(number)


def all_carried() -> tuple[bytes, bytes]:
    return range_of(LOG_ITSELF + b"R")


def parse_carried(row: bytes) -> int:
    """Returns the number of a resource from the row that names it."""
    if len(row) != 5:
        raise Corrupt(f"Row {row.hex()} names no resource.", key=row.hex())
    return int(U16.unpack_from(row, 3)[0])


def queue() -> bytes:
    return PAYLOAD + b"Q"


def block(offset: int) -> bytes:
    return PAYLOAD + b"B" + U64.pack(offset)


def blocks(start: int, stop: int = U64_MAX) -> tuple[bytes, bytes]:
    return block(start), block(stop)


def parse_block(row: bytes) -> int:
    """Returns the first offset of a block's row."""
    if len(row) != 11:
        raise Corrupt(f"Row {row.hex()} is not that of a block.", key=row.hex())
    return int(U64.unpack_from(row, 3)[0])


def ids() -> tuple[bytes, bytes]:
    """Returns the range of all rows of the index of ids."""
    return range_of(PAYLOAD + b"I")


def id_directory() -> bytes:
    return PAYLOAD + b"ID"


def id_records(number: int) -> bytes:
    return PAYLOAD + b"IA" + U64.pack(number)


def id_records_from(number: int, stop: int = U64_MAX) -> tuple[bytes, bytes]:
    return id_records(number), id_records(stop)


def id_items(run: int, first: bytes) -> bytes:
    return PAYLOAD + b"IR" + U64.pack(run) + first


def id_items_of(run: int, stop: bytes | None = None) -> tuple[bytes, bytes]:
    """Returns the range of a run's rows whose first item is below `stop`, or of all of them."""
    return id_items(run, b""), id_items(run + 1, b"") if stop is None else id_items(run, stop)


def id_filter(run: int, cell: int) -> bytes:
    return PAYLOAD + b"IF" + U64.pack(run) + U64.pack(cell)


def id_filters_of(run: int, start: int = 0, stop: int = U64_MAX) -> tuple[bytes, bytes]:
    return id_filter(run, start), id_filter(run, stop)


def group(name: str) -> bytes:
    return PAYLOAD + b"G" + name.encode() + b"\0"


def groups() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"G")


def lineage(name: str) -> bytes:
    return PAYLOAD + b"N" + name.encode() + b"\0"


def lineages() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"N")


def lease(lineage_name: str, token: int) -> bytes:
    return PAYLOAD + b"T" + lineage_name.encode() + b"\0" + U64.pack(token)


def leases(lineage_name: str) -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"T" + lineage_name.encode() + b"\0")


def all_leases() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"T")


def dead(lineage_name: str, offset: int) -> bytes:
    return PAYLOAD + b"D" + lineage_name.encode() + b"\0" + U64.pack(offset)


def dead_letters(lineage_name: str) -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"D" + lineage_name.encode() + b"\0")


def all_dead_letters() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"D")


def name_of(row: bytes) -> str:
    """Returns the name that ends the subkey of a group or a lineage."""
    if len(row) < 5 or row[-1]:
        raise Corrupt(f"Row {row.hex()} ends in no name.", key=row.hex())
    return row[3:-1].decode()


def reservation(stage: str, digest: bytes) -> bytes:
    return PAYLOAD + b"KR" + stage.encode() + b"\0" + digest


def reservations(stage: str | None = None) -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"KR" + (b"" if stage is None else stage.encode() + b"\0"))


def parse_reservation(row: bytes) -> tuple[str, bytes]:
    """Returns stage and digest of a reservation's row."""
    name, zero, digest = row[4:].partition(b"\0")
    if not zero or len(digest) != 16:
        raise Corrupt(f"Row {row.hex()} is not that of a reservation.", key=row.hex())
    return name.decode(), digest


def stage(name: str) -> bytes:
    return PAYLOAD + b"KS" + name.encode() + b"\0"


def parse_stage(row: bytes) -> str:
    """Returns the name of a stage's row."""
    if not row.endswith(b"\0") or len(row) < 6:
        raise Corrupt(f"Row {row.hex()} is not that of a stage.", key=row.hex())
    return row[4:-1].decode()


def stages() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"KS")


def idem_keys() -> tuple[bytes, bytes]:
    """Returns the range of all rows of reservations and stages."""
    return range_of(PAYLOAD + b"K")


def last_u64(row: bytes) -> int:
    """Returns the number that ends a row's subkey: a token, an offset, an id's number, a cell of a filter."""
    return last_number(U64, row)


def resource(name: str) -> bytes:
    return PAYLOAD + b"R" + name.encode()


def resources() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"R")


def authority(name: str) -> bytes:
    return PAYLOAD + b"A" + name.encode()


def authorities() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"A")


def observation(domain: str) -> bytes:
    return PAYLOAD + b"O" + domain.encode()


def observations() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"O")


def plan(plan_id: str) -> bytes:
    return PAYLOAD + b"P" + plan_id.encode()


def schema(schema_id: str) -> bytes:
    return PAYLOAD + b"S" + schema_id.encode()


def schemas() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"S")


def audit_counters() -> bytes:
    return PAYLOAD + b"C"


def refusal(digest: bytes) -> bytes:
    return PAYLOAD + b"U" + digest


def last_number(number: struct.Struct, row: bytes) -> int:
    """Returns the number that ends a row's subkey; raises `Corrupt` where the row is too short."""
    if len(row) < number.size:
        raise Corrupt(f"Row {row.hex()} ends in no number.", key=row.hex())
    return int(number.unpack_from(row, len(row) - number.size)[0])


def range_of(prefix: bytes) -> tuple[bytes, bytes]:
    """Returns the half-open range of all keys with this prefix."""
    cut = prefix.rstrip(b"\xff")
    return prefix, cut[:-1] + bytes([cut[-1] + 1])
