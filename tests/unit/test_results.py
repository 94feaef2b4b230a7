"""Answers: they are made, compared and shown as frozen dataclasses are."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from grafctl.results import Ack, Change, Record, Shown

ACK: dict[str, Any] = {
    "resource": "q",
    "offset": 1,
    "count": 2,
    "generation": 3,
    "acked_by": ["aws"],
    "replayed": False,
}


def test_fields_are_given_by_place_or_by_name() -> None:
    assert Ack("q", 1, 2, 3, ["aws"], replayed=False) == Ack(**ACK) == Ack(*ACK.values())
    assert Ack(**ACK).offsets is None and Ack(**ACK, offsets=[1, 3]).offsets == [1, 3]
    assert Ack(**ACK) != Ack(**ACK, offsets=[1, 3])
    assert Shown({}) != {} and Shown({"a": 1}) != Change(True)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), {}),
        (("q",), {}),
        ((), {name: value for name, value in ACK.items() if name != "offset"}),
        ((), ACK | {"colour": "red"}),
        (("q",), ACK),
        ((*ACK.values(), None, None, None, None, None), {}),
    ],
)
def test_what_lacks_a_field_or_has_another_is_refused(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"Ack takes resource, offset, .*, each once"):
        Ack(*values, **named)


def test_an_answer_does_not_change() -> None:
    ack, record = Ack(**ACK), Record(0, b"created")
    for change in (lambda: setattr(ack, "offset", 2), lambda: delattr(ack, "offset")):
        with pytest.raises(AttributeError, match="answers do not change"):
            change()
    for change in (lambda: setattr(record, "offset", 1), lambda: delattr(record, "offset")):
        with pytest.raises(AttributeError):
            change()
    assert ack == Ack(**ACK) and record == Record(0, b"created") == Record(0, b"created", None)
    assert hash(record) == hash(Record(0, b"created", None))


def test_an_answer_is_shown_matched_and_copied_like_any_value() -> None:
    record = Record(7, b"paid", id="order-1")
    assert repr(record) == "Record(offset=7, payload=b'paid', id='order-1', key=None, headers=None, delivery=None)"
    match record:
        case Record(offset, payload):
            assert (offset, payload) == (7, b"paid")
        case _:
            pytest.fail("a record does not match its own fields")
    assert copy.deepcopy(record) == pickle.loads(pickle.dumps(record)) == record
