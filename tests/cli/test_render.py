"""What is printed: golden JSON, sentences and tables, and nothing that a terminal would act on."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Runner
from hypothesis import given
from hypothesis import strategies as st

from grafctl import render, render_output, render_text
from grafctl.results import (
    Ack,
    Change,
    Delivery,
    Finding,
    Finished,
    Listed,
    Proof,
    Record,
    Result,
    Shift,
    Shown,
    Verdict,
)

CHANGED = {"audit": 7, "ms": 1767323045000, "op": "domain add", "outcome": "changed", "domain": "azure/eastus"}
REFUSED = {
    "audit": 1234, "ms": 1767323045000, "op": "poll", "outcome": "refused", "resource": "migration-orders",
    "group": "active-workers", "domain": "aws/us-east-1/us-east-1a", "reason": "not_in_placement",
}  # fmt: skip
HOSTILE = "\x1b]0;owned\x07\x9b31m\r\n\u202e\u2028\x7f"
ACK = Ack("q", 1, 1, 1, ["aws", "gcp"], False)
CHANGE = Change(
    True, "q", before={"generation": 1}, after={"generation": 2, "replicas": [{"id": "r", "domain": "aws"}]}
)
PROOF = Proof("prf_1", "q", "az", 2, 1, 1, 2, "d", "d", True, ["records"], True, source="aws")


@pytest.fixture
def printed(capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Callable[[], str]]:
    yield lambda: capfdbinary.readouterr().out.decode()


@pytest.mark.parametrize(
    ("answer", "golden"),
    [
        (
            ACK,
            '{"v":1,"ok":true,"resource":"q","offset":1,"count":1,"generation":1,"acked_by":["aws","gcp"],'
            '"replayed":false}',
        ),
        (
            Delivery("q", "g", [Record(0, b"created", "order-1", delivery=1), Record(1, b"\xff")], 0),
            '{"v":1,"ok":true,"resource":"q","group":"g","records":[{"offset":0,"id":"order-1","payload":"created",'
            '"delivery":1},{"offset":1,"payload_base64":"/w=="}],"ack_floor":0}',
        ),
        (
            CHANGE,
            '{"v":1,"ok":true,"changed":true,"resource":"q","before":{"generation":1},"after":{"generation":2,'
            '"replicas":[{"id":"r","domain":"aws"}]}}',
        ),
        (
            PROOF,
            '{"v":1,"ok":true,"proof":"prf_1","resource":"q","domain":"az","generation":2,"epoch":1,"through":1,'
            '"count":2,"source_digest":"d","target_digest":"d","match":true,"covers":["records"],"promoted":true,'
            '"source":"aws"}',
        ),
        (
            Shift("q", "g", "n", "g", {"allow": ["az"]}, 0, "prf_1", {"unchanged": True}),
            '{"v":1,"ok":true,"resource":"q","from":"g","group":"n","lineage":"g","placement":{"allow":["az"]},'
            '"start":0,"proof":"prf_1","original":{"unchanged":true},"changed":true}',
        ),
        (
            Finished("q", "g", True, 2, 0, 2),
            '{"v":1,"ok":true,"resource":"q","group":"g","changed":true,"count":2,"already":0,"ack_floor":2}',
        ),
        (Listed("queues", [{"name": "q"}]), '{"v":1,"ok":true,"queues":[{"name":"q"}]}'),
        (
            Verdict(False, "poll", "q", "az", "no allow line", "g", "domain_unavailable", 11, "not_in_placement"),
            '{"v":1,"ok":true,"allowed":false,"op":"poll","resource":"q","domain":"az","by":"no allow line",'
            '"group":"g","code":"domain_unavailable","exit":11,"reason":"not_in_placement"}',
        ),
    ],
)
def test_json_is_one_line_in_the_order_that_was_promised(
    answer: Result, golden: str, printed: Callable[[], str]
) -> None:
    render.show(answer, "table", json=True)
    assert printed() == golden + "\n"
    render.show(answer, "json")
    assert printed() == golden + "\n"


@pytest.mark.parametrize(
    ("answer", "golden"),
    [
        (ACK, "offset 1 (durable in aws, gcp)\n"),
        (Ack("q", 1, 1, 1, ["aws"], True), "offset 1 (already published, durable in aws)\n"),
        (Ack("q", 1, 3, 1, ["aws"], False), "3 records, offsets 1 to 3 (durable in aws)\n"),
        (Ack("q", 1, 2, 1, ["aws"], False, [1, 9]), "2 records, offsets 1, 9 (durable in aws)\n"),
        (Ack("q", 1, 1, 1, [], False), "would be offset 1\n"),
        (Finished("q", "g", True, 2, 1, 3, dead=1), "2 changed, 1 already so, 1 dead; ack floor 3\n"),
        (CHANGE, "Changed q\n  generation: 2\n  replicas:\n    ID  DOMAIN\n    r   aws\n"),
        (Change(False, "q", "g"), "Nothing to change in q/g\n"),
        (Change(True, dry_run=True, actions=["do this"]), "Would change the store\n  1. do this\n"),
        (Listed("queues", []), "No queues.\n"),
        (
            Listed("queues", [{"records": 10, "name": "q"}, {"name": "other", "allow": ["aws", "gcp"]}]),
            "NAME   RECORDS  ALLOW\nq      10       -\nother  -        aws, gcp\n",
        ),
        (
            Listed("records", [CHANGED, REFUSED]),
            "   7  2026-01-02T03:04:05Z  domain add azure/eastus\n"
            "1234  2026-01-02T03:04:05Z  poll migration-orders/active-workers\n"
            "      refused in aws/us-east-1/us-east-1a: not_in_placement\n",
        ),
        (Shown({"name": "q", "paused": False, "nothing": None}), "name:   q\npaused: no\n"),
        (Verdict(True, "poll", "q", "aws", "allow aws", "g"), "allowed: poll q/g from aws, by allow aws\n"),
        (
            Shown(
                {"domains": [{"name": "aws"}], "resources": [{"name": "q", "replicas": [{"id": "r"}], "groups": []}]}
            ),
            "NAME\naws\n\nNAME\nq\n\nRESOURCE  ID\nq         r\n\nNo groups.\n",
        ),
    ],
)
def test_people_read_sentences_and_tables(answer: Result, golden: str, printed: Callable[[], str]) -> None:
    render.show(answer, "table")
    assert printed() == golden


@pytest.mark.parametrize(
    "answer",
    [
        Ack(HOSTILE, 1, 1, 1, [HOSTILE], False),
        Change(True, HOSTILE, HOSTILE, HOSTILE, after={HOSTILE: HOSTILE, "x": [{HOSTILE: HOSTILE}]}, actions=[HOSTILE]),
        Listed(HOSTILE, [{HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}}]),
        Shown({HOSTILE: HOSTILE, "many": [HOSTILE]}),
        Verdict(False, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, "c", 11, HOSTILE),
        Shift(HOSTILE, HOSTILE, HOSTILE, HOSTILE, {HOSTILE: [HOSTILE]}, 0, HOSTILE, {HOSTILE: HOSTILE}),
    ],
)
@pytest.mark.parametrize("output", ["table", "json"])
def test_nothing_in_a_store_reaches_a_terminal_raw(answer: Result, output: Any, printed: Callable[[], str]) -> None:
    render.show(answer, output)
    assert all(letter.isprintable() or letter == "\n" for letter in printed())


def test_audit_records_of_the_runbook_fit_a_terminal(printed: Callable[[], str]) -> None:
    render.show(Listed("records", [CHANGED, REFUSED]), "table")
    assert max(map(len, printed().splitlines())) <= 80


def test_records_findings_and_conflicts_are_escaped_too(
    printed: Callable[[], str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    render.deliveries([Delivery("q", "g", [Record(0, HOSTILE.encode() + b"\xff\t", HOSTILE)], 0)], "table")
    text = printed()
    assert text.count("\n") == 1 and text.count("\t") == 2 and "\\xff\\t" in text
    assert all(letter.isprintable() or letter in "\n\t" for letter in text)
    render.findings(iter([Finding(HOSTILE, HOSTILE, HOSTILE)]), "table")
    assert all(letter.isprintable() or letter == "\n" for letter in printed())
    refused = {"line": 3, "id": HOSTILE, "stored": "aa", "offered": "bb"}
    render.acks([Ack("q", 0, 1, 1, ["aws"], False, conflicts=[refused])], "table")
    said = capfdbinary.readouterr().err.decode()
    assert said.startswith("stdin:3: id ") and said.strip().isprintable()


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.integers() | st.none(), max_size=4))
def test_a_document_is_one_printable_line_that_means_the_same(body: dict[str, Any]) -> None:
    line = render.document(body).decode()
    assert line.endswith("\n") and line[:-1].isprintable()
    assert json.loads(line) == body


@given(st.text())
def test_clean_text_is_printable(text: str) -> None:
    assert render.clean(text).isprintable()
    assert render.clean(text) == text or not text.isprintable()


def test_a_stream_is_summed_or_told_batch_by_batch(printed: Callable[[], str]) -> None:
    batches = [Ack("q", 0, 2, 1, ["aws"], False), Ack("q", 2, 3, 1, ["aws"], True)]
    render.acks(iter(batches), "json")
    assert json.loads(printed()) == {
        **{"v": 1, "ok": True, "resource": "q", "offset": 0, "count": 5, "generation": 1, "acked_by": ["aws"]},
        **{"replayed": False, "last": 4, "batches": 2},
    }
    render.acks(iter(batches), "table")
    assert printed() == "5 records, offsets 0 to 4 (durable in aws)\n"
    render.acks(iter(batches), "jsonl")
    assert [json.loads(line)["offset"] for line in printed().splitlines()] == [0, 2]
    render.acks(iter(batches[:1]), "json")
    assert json.loads(printed()) == batches[0].as_json()
    render.acks(iter([]), "json")
    assert json.loads(printed()) == {"v": 1, "ok": True, "count": 0, "batches": 0}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_acknowledged_is_told_also_when_the_stream_breaks(
    error: type[BaseException], printed: Callable[[], str]
) -> None:
    def broken() -> Iterator[Ack]:
        yield Ack("q", 0, 2, 1, ["aws"], False)
        raise error

    with pytest.raises(error):
        render.acks(broken(), "table")
    assert printed() == "2 records, offsets 0 to 1 (durable in aws)\n"


def test_deliveries_are_written_before_the_next_is_asked_for(printed: Callable[[], str]) -> None:
    seen: list[str] = []

    def chunks() -> Iterator[Delivery]:
        yield Delivery("q", "g", [Record(0, b"a")], 0)
        seen.append(printed())
        yield Delivery("q", "g", [Record(1, b"b")], 0)
        seen.append(printed())

    assert render.deliveries(chunks(), "jsonl") == 2
    assert seen == ['{"offset":0,"payload":"a"}\n', '{"offset":1,"payload":"b"}\n']


TEXTS = st.text(max_size=8) | st.text(st.sampled_from('ab"\\/\x7f\x1f ~\u2028é'), max_size=8)


@given(
    st.lists(
        st.builds(
            Record,
            st.integers(0, 1 << 63),
            TEXTS.map(str.encode) | st.binary(max_size=8),
            st.none() | TEXTS,
            st.none() | TEXTS,
            st.none() | st.dictionaries(TEXTS, TEXTS, max_size=2),
            st.none() | st.integers(1, 9),
        )
    )
)
def test_lines_of_records_are_their_documents(records: list[Record]) -> None:
    lines = render.json_lines(records)
    assert lines == b"".join(render.document(record.fields()) for record in records)
    assert [json.loads(line) for line in lines.decode().splitlines()] == [record.fields() for record in records]
    assert lines.count(b"\n") == len(records) and lines.replace(b"\n", b"").decode().isprintable()


@pytest.mark.parametrize("output", ["jsonl", "table"])
def test_many_records_are_written_in_pieces_and_in_order(output: render.Form, printed: Callable[[], str]) -> None:
    records = [Record(offset, b"a") for offset in range(3 * render.PIECE_LINES + 1)]
    assert render.deliveries([Delivery("q", "g", records, 0)], output) == len(records)
    lines = printed().splitlines()
    assert len(lines) == len(records)
    found = [json.loads(line)["offset"] if output == "jsonl" else int(line.split("\t")[0]) for line in lines]
    assert found == list(range(len(records)))


def test_findings_are_counted(printed: Callable[[], str]) -> None:
    found = [Finding("aws", "It is gone.", "Run: grafctl domain restore aws", domain="aws")]
    assert render.findings(iter(found), "table") == 1
    assert printed() == "aws: It is gone.\n  Run: grafctl domain restore aws\n"
    assert render.findings(iter(found), "json") == 1
    assert json.loads(printed())["count"] == 1
    assert render.findings(iter(()), "table") == 0
    assert printed() == "No problems found.\n"


def test_a_terminal_gets_a_drawn_table_with_the_same_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    drawn = render_text._with_rich([render_text.Table(["name"], [["[red]q[/]"], ["x" * 60]]), "[bold]done[/]"])
    assert "[red]q[/]" in drawn and "[bold]done[/]" in drawn and drawn.replace("\n", "").count("x") == 60


@pytest.mark.parametrize(
    ("env", "draws"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, True)],
)
def test_rich_is_loaded_for_a_terminal_only(run: Runner, env: dict[str, str], draws: bool) -> None:
    probe = (
        "import sys\nfrom grafctl import front\nfront.run(['explain', '11'])\n"
        "sys.stderr.write(str('rich' in sys.modules))"
    )
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", probe]
    ended = subprocess.run(command, env=run.environment(env=env), stdout=follower, stderr=subprocess.PIPE, check=True)
    os.close(follower)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert ended.stderr == str(draws).encode() and "domain_unavailable" in shown
    assert "\x1b[3" not in shown or "NO_COLOR" not in env


def test_output_to_an_unbuffered_stream_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    class Halves(io.RawIOBase):
        taken = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            half = bytes(data[: max(1, len(data) // 2)])
            self.taken += half
            return len(half)

    raw = Halves()

    class Out:
        buffer = raw

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "stdout", Out())
    render_output.write(b"0123456789" * 100)
    assert raw.taken == b"0123456789" * 100
