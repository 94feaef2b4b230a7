"""The words of `typing` and `collections.abc` for modules that every command imports; to a type checker they are those.

Importing the two takes longer than a durable publish, and each class that `typing.NamedTuple` makes is compiled anew.
What stands here is enough for annotations, which nobody reads while a command runs, and for the values of the store.

Promises
- A `NamedTuple` here is made, compared, unpacked, matched, copied, pickled and shown like one of `typing`
  (`tests/unit/test_typed.py` compares them), and making one takes no longer.
- A module that uses these words says `from __future__ import annotations`.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Any, ClassVar, NamedTuple, NoReturn, Protocol, Self, TypeVar, dataclass_transform
else:
    # What `collections.abc` hands on; it is there since Python began, and the package around it is not.
    from _collections_abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    Any = ClassVar = NoReturn = Protocol = Self = object

    def TypeVar(name, **_):
        return name

    def dataclass_transform(**_):
        return lambda made: made

    try:
        from _collections import _tuplegetter as _field
    except ImportError:

        def _field(place, doc):
            return property(lambda self: self[place], doc=doc)

    _new = tuple.__new__

    class _Fields(type):
        """Makes the class: its annotations are its fields, and what they are set to their defaults."""

        def __new__(cls, name, bases, body):
            if "__annotations__" not in body:  # the root, and a class below one with fields
                return super().__new__(cls, name, bases, body)
            fields = tuple(body["__annotations__"])
            defaults = {field: body[field] for field in fields if field in body}
            body |= {"__slots__": (), "__match_args__": fields, "_fields": fields, "_field_defaults": defaults}
            body |= {field: _field(place, None) for place, field in enumerate(fields)}
            body["__new__"] = cls._maker(len(fields), tuple(defaults.values()))
            return super().__new__(cls, name, bases, body)

        @staticmethod
        def _maker(count, last):
            def __new__(cls, *values, **named):
                if named:
                    values = cls._complete(values, named)
                elif len(values) != count:
                    missing = count - len(values)
                    if not 0 < missing <= len(last):
                        raise cls._refuse()
                    values += last[-missing:]
                return _new(cls, values)

            return __new__

    class NamedTuple(tuple, metaclass=_Fields):
        """The root of tuples whose places have names."""

        __slots__ = ()

        @classmethod
        def _complete(cls, values, named):
            given = cls._field_defaults | dict(zip(cls._fields, values, strict=False)) | named
            taken = cls._fields[: len(values)]
            if len(taken) < len(values) or given.keys() != set(cls._fields) or not named.keys().isdisjoint(taken):
                raise cls._refuse()
            return [given[field] for field in cls._fields]

        @classmethod
        def _refuse(cls):
            return TypeError(f"{cls.__name__} takes {', '.join(cls._fields)}, each once")

        @classmethod
        def _make(cls, values):
            made = _new(cls, values)
            if len(made) != len(cls._fields):
                raise cls._refuse()
            return made

        def _replace(self, **named):
            fields, values = self._fields, list(self)
            for name, value in named.items():
                if name not in fields:
                    raise self._refuse()
                values[fields.index(name)] = value
            return _new(type(self), values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"


__all__ = [
    "Any", "Callable", "ClassVar", "Collection", "Iterable", "Iterator", "Mapping", "NamedTuple", "NoReturn",
    "Protocol", "Self", "Sequence", "TypeVar", "dataclass_transform",
]  # fmt: skip
