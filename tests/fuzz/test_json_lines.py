"""`publish - --input jsonl`, fuzzed: records are published, or the first line that is none is named, and no more.

Lines before the one that is wrong may be published, as the documentation says; none after it is, and none in part.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.effort import examples
from fuzz.running import Sandbox, check, run

PUBLISH = ["publish", "q", "-", "--input", "jsonl", "-s", "store", "-d", "aws"]
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
GOOD = st.fixed_dictionaries(
    {"payload": TEXTS},
    optional={
        "id": TEXTS.filter(bool), "key": TEXTS.filter(bool), "headers": st.dictionaries(TEXTS, TEXTS, max_size=2),
        "offset": st.integers(), "unknown": VALUES,
    },
)  # fmt: skip
WRONG = [
    b"", b"{", b"null", b"3", b'"x"', b"[]", b"{}", b"NaN", b'{"payload":}', b'{"payload":3}', b'{"payload":null}',
    b'{"payload":["x"]}',
    b'{"payload":"x"', b'{"payload":"x"}{"payload":"y"}', b'{"payload":"\\ud800"}', b'{"payload":"x","id":"\\udfff"}',
    b'{"payload":"\xff"}', b"\xff\xfe", b'{"payload":"x","payload_base64":"eA=="}', b'{"payload_base64":"?"}',
    b'{"payload_base64":"\xc3\xa9"}',
    b'{"payload":"x","id":""}', b'{"payload":"x","id":1}', b'{"payload":"x","id":"' + b"i" * 1025 + b'"}',
    b'{"payload":"x","key":{}}', b'{"payload":"x","headers":[]}', b'{"payload":"x","headers":{"a":1}}',
    b'{"payload":"x","headers":"a"}',
    b'{"payload":"x","key":"' + b"k" * 40_000 + b'"}', b'{"payload":"x","n":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"payload":"x","n":' + b"9" * 5000 + b"}", b"{'payload':'x'}", b'{"payload":"\x00"}', b"\x1b[31m",
    b'{"Payload":"x"}',
]  # fmt: skip
ODD = [
    b'{"payload":"a","payload":"b"}', b'{"id":"x","payload":"a","id":"y"}', b' {"payload":"x"} ', b'{"payload":"x"}\r',
    b"   ",
    b'{"payload":"x","n":NaN}', b'{"payload":"x","n":1e999}', b'{"payload":"x","id":null,"key":null,"headers":null}',
    b'{"payload":"\\u0000\\u001b[31m\\u202e"}', b'{"payload":""}', b'{"payload_base64":"/w=="}',
    b'{"payload_base64":""}',
    b'{"payload":"\\ud83d\\ude00"}', b'{"payload":"%s{0}$(touch pwned)"}',
]  # fmt: skip
LINES = st.one_of(
    GOOD.map(lambda body: json.dumps(body).encode()),
    GOOD.map(lambda body: json.dumps(body, ensure_ascii=False).encode()),
    st.sampled_from(ODD), st.sampled_from(ODD), st.sampled_from(WRONG),
    st.binary(max_size=30).filter(lambda raw: b"\n" not in raw),
)  # fmt: skip


def expected(line: bytes) -> tuple[bytes, Any] | None:
    """Returns payload and id of a line as JSON has them, or None where it is no record."""
    try:
        body = json.loads(line)
        payload, coded, name, key, headers = (
            body.get(k) for k in ("payload", "payload_base64", "id", "key", "headers")
        )
        found = payload.encode() if payload is not None else base64.b64decode(coded, validate=True)
        texts = [text for text in (name, key) if text is not None]
        sizes = [
            len(text.encode()) for text in (*texts, *(headers or {}), *({} if headers is None else headers).values())
        ]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    wrong = (
        (payload is not None and coded is not None) or "" in texts or not all(isinstance(text, str) for text in texts)
    )
    wrong |= (name is not None and sizes[0] > 1024) or max(sizes, default=0) > 32 << 10
    return None if wrong or (headers is not None and set(map(type, headers.values())) - {str}) else (found, name)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("fuzz"))


def stored(place: Path) -> list[dict[str, Any]]:
    said = run(["peek", "q", "-s", "store", "-d", "aws", "-n", "1000", "-o", "jsonl"])
    assert said.code == 0, str(said)
    return [json.loads(line) for line in said.out.splitlines()]


def test_every_line_is_published_or_the_first_wrong_one_is_named(sandbox: Sandbox) -> None:
    @given(st.lists(LINES, max_size=6), st.booleans(), st.sampled_from([[], ["--atomic"], ["--dry-run"]]))
    @examples(150)
    def try_one(lines: list[bytes], ends: bool, more: list[str]) -> None:
        with sandbox.fresh() as place:
            before = stored(place)
            said = run([*PUBLISH, *more, "--json"], stdin=b"\n".join(lines) + (b"\n" if ends else b""))
            found = stored(place)[len(before) :]
        check(said)
        wanted: list[tuple[bytes, Any]] = []
        wrong = None
        for number, line in enumerate(lines, 1):
            if line.strip():
                record = expected(line)
                if record is None:
                    wrong = number
                    break
                wanted.append(record)
        payloads = [
            base64.b64decode(r["payload_base64"]) if "payload_base64" in r else r["payload"].encode() for r in found
        ]
        if wrong is not None:
            assert said.code == 2, str(said)
            # Of two wrong lines it may be the later one: what is too long is found when its batch is packed.
            every = [at for at, line in enumerate(lines, 1) if line.strip() and expected(line) is None]
            assert any(f"Line {at} " in said.err or f"Line {at}:" in said.err for at in every), str(said)
        else:
            assert said.code in (0, 16), str(said)
        if "--dry-run" in more or ("--atomic" in more and said.code == 16):
            assert not found, str(said)
            return
        ids: dict[str, bytes] = {"one": b"one"}
        fresh = []
        for payload, name in wanted:
            if name is None or name not in ids:
                fresh.append(payload)
            if name is not None:
                ids.setdefault(name, payload)
        assert payloads == fresh[: len(payloads)], (str(said), payloads, fresh)
        if wrong is None:
            assert payloads == fresh, (str(said), payloads, fresh)

    try_one()


@pytest.mark.parametrize(
    "line", [b'{"payload":"' + b"x" * (100 << 20) + b'"}', b"x" * (65 << 20)], ids=["100 MB", "65 MB"]
)
def test_a_line_without_end_is_refused_by_its_number(sandbox: Sandbox, line: bytes) -> None:
    with sandbox.fresh() as place:
        said = run([*PUBLISH, "--json"], stdin=b'{"payload":"first"}\n' + line)
        found = [record["payload"] for record in stored(place)]
    check(said)
    assert said.code == 2 and "Line 2" in said.err and len(said.err) < 500
    assert found in (["one", "two"], ["one", "two", "first"])
