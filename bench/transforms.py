"""What it costs to put a record through an expression, through steps and through a program, without any store.

Each is beside the same work written by hand in Python, which neither bounds nor checks anything; both run in turn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

from bench.rows import Row
from bench.turns import Action, in_turn, ratio
from grafctl.expression.language import compile_expression
from grafctl.pipeline.message import Message, Transform, decode_value
from grafctl.pipeline.transforms.executing import Exec
from grafctl.pipeline.transforms.steps import Steps, compile_step

NAME = "transforms: records through a filter, through steps, through a program, and JSON read exactly, in one thread"
ROUNDS = 7
FILTERS, RECORDS, ASKED = 100_000, 10_000, 500

ORDER: dict[str, Any] = {
    "event_id": "o-1", "tenant": "t-1", "order_key": 1, "status": "O", "total_price": "173665.47", "date": "1996-01-02",
    "priority": "5-LOW", "comment": "nstructions sleep furiously among",
    "customer": {"key": 36901, "segment": "BUILDING"},
    "lines": [{"part": number, "quantity": 17, "price": "21168.23", "tax": "0.02"} for number in range(4)],
}  # fmt: skip
PRIORITIES = {"1-URGENT": 1, "2-HIGH": 2, "5-LOW": 5}
FILTER = 'order_key > 0 and status == "O"'
KEPT = [
    "event_id", "tenant", "order_key", "customer_key", "segment", "status", "total_cents", "date", "priority", "items",
]  # fmt: skip
STEPS: list[Mapping[str, Any]] = [
    {"op": "rename", "fields": {"customer.key": "customer_key", "customer.segment": "segment"}},
    {"op": "rename", "fields": {"total_price": "total_cents"}},
    {"op": "cast", "fields": {"total_cents": "decimal:2"}},
    {"op": "lookup", "field": "priority", "into": "priority", "table": PRIORITIES},
    {"op": "set", "fields": {"items": "len(lines)"}},
    {"op": "keep", "fields": KEPT},
]
ECHO = "import sys\nfor line in sys.stdin:\n    sys.stdout.write(line)\n    sys.stdout.flush()"


def run() -> list[Row]:
    """Measures each beside what is written by hand."""
    evaluate = compile_expression(FILTER).evaluate
    steps = Steps([compile_step(step, (), Path()) for step in STEPS], "")
    payload = json.dumps(ORDER).encode()
    echo = Exec([sys.executable, "-c", ECHO], Path(), "")
    try:
        return [
            *_beside("a filter", FILTERS, lambda: evaluate(ORDER), lambda: _is_wanted(ORDER)),
            *_beside("six steps", RECORDS, lambda: steps(Message(ORDER)), _by_hand),
            *_beside("JSON read exactly", RECORDS, lambda: decode_value(payload), lambda: json.loads(payload)),
            _asked(echo),
        ]
    finally:
        echo.close()


def _is_wanted(order: dict[str, Any]) -> bool:
    return bool(order["order_key"] > 0 and order["status"] == "O")


def _by_hand() -> dict[str, Any]:
    made = {name: ORDER[name] for name in ("event_id", "tenant", "order_key", "status", "date")}
    made |= {"customer_key": ORDER["customer"]["key"], "segment": ORDER["customer"]["segment"]}
    made["total_cents"] = int(Decimal(ORDER["total_price"]) * 100)
    made |= {"priority": PRIORITIES[ORDER["priority"]], "items": len(ORDER["lines"])}
    return made


def _beside(what: str, times: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> list[Row]:
    def often(work: Callable[[], Any]) -> Action:
        def repeat() -> None:
            for _ in range(times):
                work()

        return repeat

    ours_s, theirs_s = in_turn(ROUNDS, often(ours), often(theirs))
    return [
        Row(what, times / median(ours_s), "/s"),
        Row(f"{what}, by hand", times / median(theirs_s), "/s"),
        Row(f"{what}, speed", ratio(theirs_s, ours_s), "x", None, "the same by hand"),
    ]


def _asked(echo: Transform) -> Row:
    def ask() -> None:
        for _ in range(ASKED):
            echo(Message(ORDER))

    (asked_s,) = in_turn(ROUNDS, ask)
    return Row("records through a program", ASKED / median(asked_s), "/s")
