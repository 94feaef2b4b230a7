"""Files that are no backup any more: cut, changed, or sealed by somebody who wants to be believed."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.errors import Corrupt, GrafctlError, Usage
from grafctl.store import keys
from grafctl.store.operations.backup_file import END, LAST, BackupFile, header, padding
from grafctl.store.records import encode_json, encode_row, parse_json

Members = list[tuple[str, bytes]]


def refused(path: Path, target: Path) -> str:
    """Returns the code of the refusal, which reading alone gives; nothing was written."""
    with pytest.raises((Corrupt, Usage)):
        client.restore(path)
    try:
        client.restore(path, target)
    except GrafctlError as error:
        assert error.exit_code in (2, 25), error
        assert not target.exists()
        return error.code
    raise AssertionError(f"{path} was restored")


def test_a_changed_byte_is_noticed_wherever_it_is(backup: Path, tmp_path: Path) -> None:
    raw, rng, broken = backup.read_bytes(), random.Random(4), tmp_path / "broken"
    places = {*range(0, len(raw), 41), *range(600), *range(len(raw) - 2100, len(raw))}
    for at in sorted(places):
        changed = bytearray(raw)
        changed[at] ^= 1 << rng.randrange(8)
        broken.write_bytes(changed)
        code = refused(broken, tmp_path / "none")
        assert code == "corrupt" or at < 1024, "only a name or a format that was changed may look like another file"


def test_a_file_of_another_length_is_noticed(backup: Path, tmp_path: Path) -> None:
    raw, broken = backup.read_bytes(), tmp_path / "broken"
    for size in (0, 1, 99, 100, 511, *range(512, len(raw), 509), len(raw) - 1):
        broken.write_bytes(raw[:size])
        assert refused(broken, tmp_path / "none") == ("usage" if size < 14 else "corrupt"), size
    for more in (b"\0", bytes(512), raw):
        broken.write_bytes(raw + more)
        refused(broken, tmp_path / "none")
    for at in range(0, len(raw), 4096):
        broken.write_bytes(raw[:at] + bytes(len(raw[at : at + 4096])) + raw[at + 4096 :])
        refused(broken, tmp_path / "none")


def members(path: Path) -> Members:
    with tarfile.open(path) as archive:
        return [(item.name, archive.extractfile(item).read()) for item in archive]  # type: ignore[union-attr]


def sealed(path: Path, found: Members) -> Path:
    """Writes members with the right digest over all of them, as somebody could who wants to be believed."""
    whole = b"".join(header(name, len(body)) + body + padding(len(body)) for name, body in found if name != LAST)
    told = hashlib.sha256(whole).hexdigest().encode()
    path.write_bytes(whole + header(LAST, len(told)) + told + padding(len(told)) + END)
    return path


def test_the_seal_of_the_tests_is_the_one_of_the_product(backup: Path, tmp_path: Path) -> None:
    assert sealed(tmp_path / "same", members(backup)).read_bytes() == backup.read_bytes()


def renamed(old: str, new: str) -> Callable[[Members], Members]:
    return lambda found: [(name.replace(old, new), body) for name, body in found]


def without(part: str) -> Callable[[Members], Members]:
    return lambda found: [(name, body) for name, body in found if part not in name]


def rewritten(name: str, **fields: Any) -> Callable[[Members], Members]:
    return lambda found: [
        (item, encode_json({**parse_json(body), **fields}) if item.endswith(name) else body) for item, body in found
    ]


HOSTILE: dict[str, Callable[[Members], Members]] = {
    "a path that leads elsewhere": renamed("entries-1", "../../../../tmp/entries-1"),
    "an absolute path": renamed("0000000000000001/begin", "/etc/passwd"),
    "a log without a beginning": without("0000000000000002/begin"),
    "a log without its entries": without("0000000000000002/entries"),
    "a log without its state": without("0000000000000002/state"),
    "no log but one": lambda found: found[:4] + found[-2:],
    "members in another order": lambda found: [found[0], *reversed(found[1:-2]), *found[-2:]],
    "a member twice": lambda found: [*found[:3], *found[2:]],
    "a floor below zero": rewritten("begin", floor=-1),
    "a floor beyond all": rewritten("begin", floor=1 << 70),
    "a floor that is text": rewritten("begin", floor="0"),
    "another chain before it": rewritten("begin", chain="00" * 31 + "01"),
    "no chain before it": rewritten("begin", chain="zz"),
    "a manifest of nothing": rewritten("manifest.json", logs=[]),
    "a manifest that is a list": lambda found: [(n, b"[]" if n == "manifest.json" else b) for n, b in found],
    "a deep manifest": lambda found: [(n, b"[" * 90_000 if n == "manifest.json" else b) for n, b in found],
    "a domain that is a path": rewritten("manifest.json", domains=["../../tmp"]),
    "a domain that is a number": rewritten("manifest.json", domains=[7]),
    "entries of absurd length": lambda found: [(n, b"\xff" * 8 if "entries" in n else b) for n, b in found],
    "rows of absurd length": lambda found: [(n, b"\xff" * 8 if "state" in n else b) for n, b in found],
    "an entry cut off": lambda found: [(n, b[:-1] if "entries" in n else b) for n, b in found],
    "a later format": rewritten("grafctl-backup", format=2),
    "no format": rewritten("grafctl-backup", format=None),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_sealed_backup_is_not_believed_for_its_seal(backup: Path, tmp_path: Path, what: str) -> None:
    refused(sealed(tmp_path / "hostile", HOSTILE[what](members(backup))), tmp_path / "none")


def test_a_length_beyond_all_is_not_believed(backup: Path, tmp_path: Path) -> None:
    raw = backup.read_bytes()
    for size in (8 << 30) - 1, (128 << 20) + 1, len(raw):
        (tmp_path / "hostile").write_bytes(header("grafctl-backup", size) + raw[512:])
        refused(tmp_path / "hostile", tmp_path / "none")


def test_what_verify_would_find_is_not_left_behind(backup: Path, tmp_path: Path) -> None:
    """The row is one that could be there, with its checksum, and manifest and seal say so: only `verify` can tell."""

    found = members(backup)
    log = next(line["log"] for line in parse_json(dict(found)["manifest.json"])["logs"] if line["name"] == "q")
    name = next(name for name, _ in found if name.startswith(f"{log}/state"))
    check = BackupFile(backup).check().logs[log]
    state, at, body = hashlib.sha256(), 0, dict(found)[name]
    parts, size = [], 0
    while at < len(body):
        key_bytes, value_bytes = struct.unpack_from(">HI", body, at)
        row, raw = body[at + 6 : at + 6 + key_bytes], body[at + 6 + key_bytes : at + 6 + key_bytes + value_bytes]
        at += 6 + key_bytes + value_bytes
        if row == keys.queue():
            raw = encode_row(encode_json({**json.loads(raw[5:]), "next": 12}), keys.state(bytes.fromhex(log), row))
        parts.append(struct.pack(">HI", len(row), len(raw)) + row + raw)
        state.update(struct.pack(">HI", len(row), len(raw) - 5) + row + raw[5:])
        size += len(raw)
    manifest = parse_json(dict(found)["manifest.json"])
    (line,) = (line for line in manifest["logs"] if line["log"] == log)
    line["state_digest"] = state.hexdigest()
    line["bytes"] += sum(map(len, parts)) - len(body)
    assert check.saved().bytes != line["bytes"]
    changed = {name: b"".join(parts), "manifest.json": encode_json(manifest)}
    hostile = sealed(tmp_path / "hostile", [(item, changed.get(item, body)) for item, body in found])
    client.restore(hostile)
    with pytest.raises(Corrupt, match="offsets 9 to 11 are missing"):
        client.restore(hostile, tmp_path / "none")
    assert not (tmp_path / "none").exists()
