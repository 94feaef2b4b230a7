"""Operation keys: each request of a shared entry has one of its own, and is found by it."""

from __future__ import annotations

from grafctl.errors import Timeout
from grafctl.store.requests import error_of, new_operation, operation_name, operation_of, place_in


def test_each_place_in_an_entry_has_a_key_of_its_own_and_is_found_by_it() -> None:
    operation, other = new_operation(), new_operation()
    given = [operation_of(operation, place) for place in range(300)]
    assert len(set(given)) == 300 and given[0] == operation
    assert [place_in(operation, key) for key in given] == list(range(300))
    assert place_in(other, given[1]) is None and place_in(given[1], operation) is None


def test_an_error_of_the_entry_names_the_key_of_each_request() -> None:
    operation = new_operation()
    error = Timeout("late", outcome="unknown", operation=operation_name(7, operation))
    told = [error_of(error, place).fields["operation"] for place in range(3)]
    assert told == [operation_name(7, operation_of(operation, place)) for place in range(3)]
    assert error.fields["operation"] == told[0]
