"""Steps that give a record another shape: `keep`, `drop`, `rename`, `set`, `explode`.

Promises, of each step
- `keep` leaves the fields that it names, in the order in which it names them; one that is not there is left out.
- `drop` takes away the fields that it names; one that is not there is no error. `*` is each item of a list.
- `rename` gives fields other names, all at once, so that two may change places; one that is not there is no error, and
  a name that another field has is refused.
- `set` sets fields to what expressions give; all of them see the record as it was before the step. Objects that a path
  needs are made. `_id`, `_key` and `_headers.NAME` set the id, the key and a header of the output, each a text (null
  takes it away); `_value` is the whole record, and stands alone.
- `explode` makes one record of each item of a list, with the item in the place of the list; an empty list makes none,
  and more than `ITEMS_MAX` items are refused. `index` is a field that gets the number of the item, from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grafctl.errors import Usage
from grafctl.expression.failing import kind_of
from grafctl.expression.language import Expression
from grafctl.expression.paths import MISSING, find, parse_path
from grafctl.expression.scope import ABOUT
from grafctl.names import shown
from grafctl.pipeline.message import Refused
from grafctl.pipeline.transforms.drafts import Draft, Path, Work, put, remove
from grafctl.pipeline.transforms.options import Evaluate, Options, compiled
from grafctl.pipeline.transforms.plans import Drop, Keep, Rename, Set

ITEMS_MAX = 10_000


def named(path: Path) -> str:
    """Returns how a sentence names a field."""
    return shown(".".join(path))


def make_keep(options: Options) -> Work:
    paths = options.paths()
    if any("*" in path for path in paths):
        raise Usage("keep takes no *; drop does.")
    _no_overlap(paths)
    options.plan = Keep(paths)
    if all(len(path) == 1 for path in paths):
        names = [path[0] for path in paths]

        def keep_names(draft: Draft) -> None:
            record = draft.object()
            draft.replace({name: record[name] for name in names if name in record}, is_own=True)

        return keep_names

    def keep(draft: Draft) -> None:
        record, made = draft.object(), dict[str, Any]()
        for path in paths:
            found = _in_objects(record, path)
            if found is not MISSING:
                made = put(made, path, found)
        draft.replace(made, is_own=True)

    return keep


def make_drop(options: Options) -> Work:
    paths = options.paths()
    options.plan = Drop(paths)

    def drop(draft: Draft) -> None:
        record = draft.own()
        for path in paths:
            _take(record, path)

    return drop


def make_rename(options: Options) -> Work:
    pairs = [(old, parse_path(new)) for old, new in options.table("old and new names").items()]
    _no_overlap([old for old, _ in pairs])
    _no_overlap([new for _, new in pairs])
    if any("*" in path for pair in pairs for path in pair):
        raise Usage("rename takes no *.")
    options.plan = Rename(pairs)
    if all(len(path) == 1 for pair in pairs for path in pair):
        return _rename_names({old[0]: new[0] for old, new in pairs})

    def rename(draft: Draft) -> None:
        record = draft.own()
        found = [(new, _in_objects(record, old)) for old, new in pairs]
        for old, _ in pairs:
            _take(record, old)
        for new, value in found:
            if value is not MISSING:
                if new[0] in record and _in_objects(record, new) is not MISSING:
                    raise Refused(f"there is a field {named(new)} already")
                _put(record, new, value)

    return rename


def _rename_names(names: dict[str, str]) -> Work:
    def rename(draft: Draft) -> None:
        record = draft.object()
        made = {names.get(name, name): value for name, value in record.items()}
        if len(made) < len(record):
            taken = next(new for old, new in names.items() if old in record and new in record and new not in names)
            raise Refused(f"there is a field {shown(taken)} already")
        draft.replace(made, is_own=True)

    return rename


def make_set(options: Options) -> Work:
    fields = options.table("fields and expressions")
    _no_overlap(list(fields))
    work, shares = list[tuple[Callable[[Draft, Any], None], Evaluate]](), False
    said = list[tuple[Path, Expression]]()
    for path, text in fields.items():
        expression, evaluate = compiled(text)
        said.append((path, expression))
        shares |= "_value" in expression.names
        work.append((_setter(path, alone=len(fields) == 1), evaluate))
    options.plan = Set(said)

    def set_one(draft: Draft) -> None:
        value = evaluate(draft)
        if shares:
            draft.let_go()
        setter(draft, value)

    def set_all(draft: Draft) -> None:
        made = [evaluate(draft) for _, evaluate in work]
        if shares:
            draft.let_go()
        for (setter, _), value in zip(work, made, strict=True):
            setter(draft, value)

    if len(work) == 1:
        setter, evaluate = work[0]
        return set_one
    return set_all


def _setter(path: Path, *, alone: bool) -> Callable[[Draft, Any], None]:
    first = path[0]
    if first not in ABOUT:
        return _field_setter(path)
    if first == "_value" and len(path) == 1:
        if not alone:
            raise Usage("_value is the whole record: a step sets it alone.")
        return lambda draft, value: draft.replace(value)
    if first in ("_id", "_key") and len(path) == 1:
        attribute = first[1:]

        def set_about(draft: Draft, value: Any) -> None:
            setattr(draft, attribute, _text(first, value))

        return set_about
    if first == "_headers" and len(path) == 2:
        name = path[1]

        def set_header(draft: Draft, value: Any) -> None:
            others = {key: text for key, text in (draft.headers or {}).items() if key != name}
            text = _text(f"_headers.{name}", value)
            draft.headers = others if text is None else {**others, name: text}

        return set_header
    raise Usage(f"{named(path)} cannot be set; _id, _key, _headers.NAME and _value can.")


def _field_setter(path: Path) -> Callable[[Draft, Any], None]:
    if "*" in path:
        raise Usage("set takes no *.")
    first = path[0]
    if len(path) == 1:

        def set_name(draft: Draft, value: Any) -> None:
            draft.own()[first] = value

        return set_name

    return lambda draft, value: _put(draft.own(), path, value)


def _text(name: str, value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    raise Refused(f"{name} has to be text, and is {kind_of(value)}")


def make_explode(options: Options) -> Work:
    path, index = options.path("field"), options.path("index", None)
    assert path is not None
    if "*" in path or (index and "*" in index):
        raise Usage("explode takes no *.")
    if index:
        _no_overlap([path, index])

    def explode(draft: Draft) -> list[Draft]:
        record = draft.object()
        items = find(record, path)
        if type(items) is not list:
            what = "is not there" if items is MISSING else f"is {kind_of(items)}"
            raise Refused(f"{named(path)} has to be a list, and {what}")
        if len(items) > ITEMS_MAX:
            raise Refused(f"{named(path)} has {len(items)} items; at most {ITEMS_MAX} are allowed")
        made = [put(record, path, item) for item in items]
        if index:
            made = [put(one, index, number) for number, one in enumerate(made)]
        return [draft.copy(one) for one in made]

    return explode


def _put(record: dict[str, Any], path: Path, value: Any) -> None:
    """Puts something into an object that may be written into; what lies below is copied along the way."""
    first = path[0]
    record[first] = value if len(path) == 1 else put(record.get(first, MISSING), path, value, 1)


def _take(record: dict[str, Any], path: Path) -> None:
    """Takes the field at a path out of an object that may be written into, in the same way."""
    first = path[0]
    if len(path) == 1:
        record.pop(first, None)
    elif first in record:
        record[first] = remove(record[first], path, 1)


def _in_objects(record: Any, path: Path) -> Any:
    """Returns what is at a path that goes through objects alone."""
    for key in path:
        if type(record) is not dict:
            return MISSING
        record = record.get(key, MISSING)
    return record


def _no_overlap(paths: list[tuple[str, ...]]) -> None:
    """Refuses two paths of which one is the beginning of the other: what they mean would hang on their order."""
    taken = set(paths)
    if len(taken) < len(paths):
        raise Usage("Two of its fields are the same.")
    for path in paths:
        for size in range(1, len(path)):
            if path[:size] in taken:
                raise Usage(f"Its field {named(path)} is part of its field {named(path[:size])}.")
