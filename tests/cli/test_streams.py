"""Standard input as batches of records: where lines end, what a record may be, and what is never waited for."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl import stream_ends, streams
from grafctl.errors import Busy, Empty, Fenced, GrafctlError, IdempotencyConflict, NoQuorum, Usage
from grafctl.results import Delivery, Record


def lines_of(data: bytes, bytes_max: int = 1 << 20) -> list[bytes]:
    return [line for batch in streams._lines(io.BytesIO(data), bytes_max) for line in batch]


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"a\r\nb\r", [b"a\r", b"b\r"]),
        (b"\xff\x00\n", [b"\xff\x00"]),
    ],
)
def test_a_line_is_what_stands_before_its_newline(data: bytes, records: list[bytes]) -> None:
    assert lines_of(data) == records


class Pieces(io.RawIOBase):
    """A stream that gives what it has in pieces of its own choice, as a pipe does."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def read1(self, size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@given(st.lists(st.binary(max_size=6).map(lambda piece: piece.replace(b"\x01", b"\n")), max_size=12))
def test_where_the_pieces_of_a_pipe_end_makes_no_difference(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    stream: Any = Pieces(pieces)
    assert [line for batch in streams._lines(stream, 1 << 20) for line in batch] == expected


def test_batches_are_bounded() -> None:
    batches = list(streams._lines(io.BytesIO(b"\n" * 25_000 + b"x" * (3 << 20)), 8 << 20))
    assert [len(batch) for batch in batches] == [10_000, 10_000, 5_000, 1]


def test_a_slow_producer_is_not_delayed() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as stream, open(writing, "wb", buffering=0) as producer:
        batches = streams._lines(stream, 1 << 20)
        for number in range(3):
            producer.write(b"record %d\n" % number)
            assert next(batches) == [b"record %d" % number]


def test_a_line_that_is_too_long_is_named_before_it_is_all_read() -> None:
    endless: Any = Pieces([b"ok\n", *[b"x" * 1000] * 50])
    batches = streams._lines(endless, 10_000)
    assert next(batches) == [b"ok"]
    with pytest.raises(Usage, match="Line 2 "):
        next(batches)
    assert len(endless.pieces) > 30
    with pytest.raises(Usage, match="Line 1 "):
        list(streams._lines(Pieces([b"x" * 9, b"x\n"]), 9))  # type: ignore[arg-type]


# --- JSON Lines


def parsed(text: str) -> Iterator[list[Any]]:
    return streams._parsed(streams._lines(io.BytesIO(text.encode("utf-8", "surrogateescape")), 1 << 20))


def test_a_line_of_json_is_a_record() -> None:
    full = {"payload": "a\nb", "id": "1", "key": "k", "headers": {"h": "v"}}
    text = "\n".join([json.dumps(full), "", '{"payload":""}', '{"payload_base64":"/wA="}'])
    assert [tuple(record) for batch in parsed(text) for record in batch] == [
        (b"a\nb", "1", "k", {"h": "v"}, 1),
        (b"", None, None, None, 3),
        (b"\xff\x00", None, None, None, 4),
    ]


def test_what_poll_prints_is_what_publish_reads() -> None:
    polled = [Record(0, b"\xff", "a", "k", {"h": "v"}, 1), Record(1, "é\u2028\x9b\x00".encode(), None, None, None, 2)]
    from grafctl.render import json_lines

    text = json_lines(polled).decode()
    again = [record for batch in parsed(text) for record in batch]
    assert [record[:4] for record in again] == [(p.payload, p.id, p.key, p.headers) for p in polled]


@pytest.mark.parametrize(
    "line",
    [
        "payload",
        '"payload"',
        "[]",
        "null",
        "{}",
        '{"payload":1}',
        '{"payload":null}',
        '{"payload":"a","payload_base64":"YQ=="}',
        '{"payload_base64":"?"}',
        '{"payload_base64":"YQ"}',
        '{"payload_base64":"é"}',
        '{"payload":"a","id":1}',
        '{"payload":"a","id":""}',
        '{"payload":"a","key":""}',
        '{"payload":"a","headers":[]}',
        '{"payload":"a","headers":{"a":1}}',
        '{"payload":"\\ud800"}',
        '{"payload":"a","id":"\\ud800"}',
        '{"payload":"a"} {"payload":"b"}',
        '{"payload":"a"',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_bad_line_is_named_and_what_stood_before_it_is_given_away(line: str) -> None:
    batches = parsed(f'{{"payload":"good"}}\n{line}\n{{"payload":"after"}}\n')
    assert [record.payload for record in next(batches)] == [b"good"]
    with pytest.raises(Usage, match="Line 2 ") as refused:
        next(batches)
    assert refused.value.fields["line"] == 2 and len(refused.value.message) < 200


# --- deliveries


def chunks(sizes: list[int], *, max_records: int | None, follow: bool = False) -> tuple[list[int], list[int]]:
    """Returns how many records each chunk had, and how many each poll asked for."""
    asked: list[int] = []

    def poll(*, max: int, wait_s: float) -> Delivery:
        asked.append(max)
        return Delivery("q", "g", [Record(0, b"")] * min(max, sizes[len(asked) - 1]), 0)

    return [len(chunk.records) for chunk in streams._chunks(poll, max_records, 0.0, follow)], asked


@pytest.mark.parametrize(
    ("sizes", "most", "given_out", "asked"),
    [
        ([0], 100, [0], [100]),
        ([7], 100, [7], [100]),
        ([100], 100, [100], [100]),
        ([1000], 1000, [1000], [1000]),
        ([1000, 500], 1500, [1000, 500], [1000, 500]),
        ([1000, 300, 0], 2500, [1000, 300], [1000, 1000, 1000]),
        ([1000, 1000, 500], 2500, [1000, 1000, 500], [1000, 1000, 500]),
    ],
)
def test_a_large_max_is_polled_in_chunks(sizes: list[int], most: int, given_out: list[int], asked: list[int]) -> None:
    assert chunks(sizes, max_records=most) == (given_out, asked)


@pytest.mark.parametrize(
    ("payload_bytes", "asked"),
    [
        (0, [1000, 1000, 1000, 1000, 1000]),
        (1, [1000, 2000, 4000, 8000, 10_000]),  # at most doubled, so that a wrong guess is not far off
        (1024, [1000, 2000, 4000, 4096, 4096]),
        (1 << 20, [1000, 4, 4, 4, 4]),
        (8 << 20, [1000, 1, 1, 1, 1]),
    ],
)
def test_a_poll_takes_what_fits_in_memory(payload_bytes: int, asked: list[int]) -> None:
    made: list[int] = []

    def poll(*, max: int, wait_s: float) -> Delivery:
        made.append(max)
        return Delivery("q", "g", [Record(0, bytes(payload_bytes))] * max, 0)

    chunks = streams._chunks(poll, None, 0.0, False)
    for _ in asked:
        next(chunks)
    assert made == asked


class Shop:
    """What `deliveries` asks a store for, in order; `refuse` is what the poll that finishes something raises."""

    def __init__(self, sizes: list[int], lease: bool = True, refuse: GrafctlError | None = None) -> None:
        self.sizes, self.lease, self.refuse = sizes, lease, refuse
        self.done: list[tuple[Any, ...]] = []
        self.next = 0

    def poll(self, resource: str, group: str, *, max: int, finish: Any = (), lease: Any = None, **_: Any) -> Delivery:
        self.done.append(("poll", max, list(finish), lease))
        if finish and self.refuse:
            raise self.refuse
        size = min(max, self.sizes.pop(0) if self.sizes else 0)
        records = [Record(self.next + at, b"") for at in range(size)]
        self.next += size
        return Delivery(resource, group, records, 0, self.next if self.lease and records else None)

    def ack(self, resource: str, group: str, offsets: list[int], *, lease: int, **_: Any) -> None:
        self.done.append(("ack", offsets, lease))

    def run(self, most: int | None, *, acknowledge: bool = True, whole: bool = False, stop: int = 9) -> list[Any]:
        """Takes deliveries, and stops in the middle of writing one of them where `stop` says so."""
        shop: Any = self
        how: Any = {"max_records": most, "wait_s": 0.0, "follow": False, "acknowledge": acknowledge, "whole": whole}
        chunks = streams.deliveries(shop, "q", "g", **how, domain="aws", epoch=None, visibility_ms=1)
        for at, chunk in enumerate(chunks):
            self.done.append(("write", len(chunk.records)))
            if at == stop:
                break
        return self.done


@pytest.fixture
def by_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "POLL_RECORDS", 2)


def test_what_was_written_is_finished_with_the_next_lease_and_the_last_by_itself(by_two: None) -> None:
    assert Shop([2, 1, 9]).run(5) == [
        ("poll", 2, [], None), ("write", 2),
        ("poll", 2, [0, 1], 2), ("write", 1),
        ("poll", 2, [2], 3), ("write", 2),
        ("ack", [3, 4], 5),
    ]  # fmt: skip
    assert Shop([2]).run(5) == [("poll", 2, [], None), ("write", 2), ("poll", 2, [0, 1], 2)]


def test_what_was_not_written_to_its_end_is_not_finished(by_two: None) -> None:
    assert Shop([2, 1, 9]).run(5, stop=1) == [("poll", 2, [], None), ("write", 2), ("poll", 2, [0, 1], 2), ("write", 1)]
    assert Shop([2, 1, 9]).run(5, stop=0) == [("poll", 2, [], None), ("write", 2)]


def test_one_document_is_finished_when_all_of_it_is_written(by_two: None) -> None:
    assert Shop([2, 1]).run(3, whole=True) == [
        ("poll", 2, [], None), ("poll", 1, [], None), ("write", 3), ("ack", [0, 1], 2), ("ack", [2], 3),
    ]  # fmt: skip


def test_nothing_is_finished_that_is_final_or_that_nobody_asked_for(by_two: None) -> None:
    neither: list[Any] = [("poll", 2, [], None), ("write", 2), ("poll", 1, [], None), ("write", 1)]
    assert Shop([2, 1]).run(3, acknowledge=False) == neither
    assert Shop([2, 1], lease=False).run(3) == neither


@pytest.mark.parametrize(
    ("refusal", "acked"),
    [(Busy("The group is paused."), True), (NoQuorum("Nobody answers."), True), (Fenced("It is over."), False)],
)
def test_where_the_next_poll_is_refused_what_was_written_is_finished_all_the_same(
    by_two: None, refusal: GrafctlError, acked: bool
) -> None:
    shop = Shop([2, 1], refuse=refusal)
    with pytest.raises(type(refusal)):
        shop.run(3)
    assert shop.done == [
        ("poll", 2, [], None), ("write", 2), ("poll", 1, [0, 1], 2), *([("ack", [0, 1], 2)] if acked else []),
    ]  # fmt: skip


def test_merged_chunks_name_no_lease_that_is_not_theirs() -> None:
    one, two = (Delivery("q", "g", [Record(at, b"")], at, lease=at) for at in (3, 4))
    assert streams._merged([one]) is one
    both = streams._merged([one, two])
    assert [record.offset for record in both.records] == [3, 4] and (both.ack_floor, both.lease) == (4, None)


# --- files and outcomes


def test_a_payload_is_the_argument_or_a_file(tmp_path: Any) -> None:
    (tmp_path / "payload").write_bytes(b"\x00\xff\n")
    assert streams.payload_of(f"@{tmp_path}/payload") == b"\x00\xff\n"
    assert streams.payload_of("") == b""
    assert streams.payload_of(b"\xff".decode("utf-8", "surrogateescape")) == b"\xff"
    for name in ("missing", "", "a\0b"):
        with pytest.raises(Usage):
            streams.payload_of(f"@{tmp_path}/{name}")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="the system has no /dev/zero")
def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(Usage, match="more than"):
        streams.payload_of("@/dev/zero")


def test_a_closed_standard_input_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(Usage):
        streams.batches("lines")


def test_empty_and_conflicts_are_told_at_the_end() -> None:
    stream_ends.require_records(0, fail_empty=False)
    with pytest.raises(Empty):
        stream_ends.require_records(0, fail_empty=True)
    stream_ends.require_no_conflicts([])
    with pytest.raises(IdempotencyConflict) as refused:
        stream_ends.require_no_conflicts([{"line": at} for at in range(500)])
    assert refused.value.fields["refused"] == 500 and len(refused.value.fields["conflicts"]) == 100
