"""The tuples with named places that every command imports are those of `typing`, made in another way."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import Any

import pytest

from grafctl import typed


class Theirs(typing.NamedTuple):
    """A tuple of `typing`."""

    name: str
    size: int
    note: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name}/{self.size}"


class Ours(typed.NamedTuple):
    """A tuple of ours."""

    name: str
    size: int
    note: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name}/{self.size}"


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("a", 1), {}),
    (("a", 1, "n"), {}),
    (("a", 1, "n", ("t",)), {}),
    (("a",), {"size": 2}),
    (("a", 1), {"tags": ("t",)}),
    ((), {"size": 1, "name": "a"}),
]
MISTAKES: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    (("a",), {}),
    (("a", 1, "n", (), "more"), {}),
    (("a", 1), {"name": "b"}),
    (("a", 1), {"other": "b"}),
    (("a",), {"note": "n"}),
]


def test_they_are_not_the_same_class() -> None:
    assert type(Ours) is not type(Theirs)  # or the tests below would compare typing with itself


@pytest.mark.parametrize(("values", "named"), CALLS)
def test_it_is_made_read_and_shown_like_one_of_typing(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    ours: Any = Ours(*values, **named)
    theirs: Any = Theirs(*values, **named)
    assert tuple(ours) == tuple(theirs) and ours == theirs and hash(ours) == hash(theirs)
    assert (ours.name, ours.size, ours.note, ours.tags, ours.label) == (*theirs, theirs.label)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict()
    assert not hasattr(ours, "__dict__")


@pytest.mark.parametrize(("values", "named"), MISTAKES)
def test_what_typing_does_not_take_is_not_taken(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*values, **named)


def test_it_is_changed_copied_pickled_and_matched_like_one_of_typing() -> None:
    ours: Any = Ours("a", 1)
    theirs: Any = Theirs("a", 1)
    changed = ours._replace(size=2, note="n")
    assert changed == theirs._replace(size=2, note="n") and type(changed) is Ours
    with pytest.raises((TypeError, ValueError)):
        ours._replace(**{"other": 1})
    for again in (copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), Ours._make(ours)):
        assert again == ours and type(again) is Ours
    assert Ours._fields == Theirs._fields and Ours._field_defaults == Theirs._field_defaults
    match ours:
        case Ours(name, size):
            assert (name, size) == ("a", 1)
        case _:
            raise AssertionError
    with pytest.raises(AttributeError):
        ours.name = "b"  # type: ignore[misc]
