"""Results as people read them: sentences, `name: value` lines and tables.

Promises
- A block is a line of text or a `Table`; `blocks_of` is pure, `draw` is the only writer.
- Every name and value passes `clean`, so nothing in a store can move a cursor or colour a terminal.
- rich draws tables on a terminal; elsewhere the same cells are aligned with spaces, never cut.
"""

from __future__ import annotations

from grafctl import render, render_output
from grafctl.results import (
    Ack,
    Change,
    Drawing,
    Drift,
    Finding,
    Finished,
    Listed,
    Plan,
    Proof,
    Result,
    Shift,
    Shown,
    Tried,
    Verdict,
)
from grafctl.table_results import Stored
from grafctl.typed import Any, NamedTuple

# Columns that say which thing a row is about come first, whatever order the library has.
FIRST = (
    "audit",
    "offset",
    "resource",
    "group",
    "name",
    "vshard",
    "id",
    "stage",
    "lease",
    "edge",
    "domain",
    "kind",
    "role",
    "state",
)


# Fields that are moments in milliseconds, and what they are called where they are shown as a date.
MOMENTS = {
    "ms": "time",
    "observed_ms": "observed",
    "reserved_ms": "reserved",
    "completed_ms": "completed",
    "until_ms": "until",
    "due_ms": "due",
    "gone_ms": "gone",
    "began_ms": "began",
    "flipped_ms": "flipped",
    "soak_since_ms": "soaks since",
    "judged_ms": "judged",
    "beat_ms": "last seen",
}


# What a line of these shows in a terminal of 80 columns; JSON has all of it.
NARROW = {
    "leases": ("lease", "domain", "state", "bytes", "owner", "token", "until_ms"),
    "edges": ("edge", "domain", "state", "generation", "token", "used", "capacity", "head", "tail"),
}


class Table(NamedTuple):
    """Rows under column names; every cell is text already."""

    columns: list[str]
    rows: list[list[str]]
    indent: str = ""


Block = str | Table


def draw(blocks: list[Block]) -> None:
    """Writes blocks to standard output: with rich on a terminal that can draw, else as aligned text."""
    if render.draws() and any(isinstance(block, Table) for block in blocks):
        render_output.write(_with_rich(blocks).encode())
    else:
        render_output.write("".join(_plain(block) for block in blocks).encode())


def _plain(block: Block) -> str:
    if isinstance(block, str):
        return block + "\n"
    grid = [[column.upper() for column in block.columns], *block.rows]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in grid)
    return "".join(f"{block.indent}{line}".rstrip() + "\n" for line in lines)


def _with_rich(blocks: list[Block]) -> str:
    from io import StringIO

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    target = StringIO()
    measured = Console()
    console = Console(
        file=target, width=measured.width, color_system="standard", force_terminal=True, no_color=measured.no_color
    )
    for block in blocks:
        if isinstance(block, str):
            console.print(Text(block), soft_wrap=True)
            continue
        table = Drawn(*(column.upper() for column in block.columns), box=SIMPLE_HEAD, pad_edge=False)
        for row in block.rows:
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        console.print(table)
    return target.getvalue()


def blocks_of(answer: Result) -> list[Block]:
    """Returns what people read for any result."""
    if isinstance(answer, Ack):
        return [ack_sentence(answer)]
    if isinstance(answer, Finished):
        return [_finished_sentence(answer)]
    if isinstance(answer, Change):
        return _change_blocks(answer)
    if isinstance(answer, Listed):
        if answer.items and "audit" in answer.items[0]:
            return [line for item in answer.items for line in _audit_lines(item)]
        items = [{name: item[name] for name in NARROW.get(answer.noun, item) if name in item} for item in answer.items]
        if answer.items and "counts" in answer.items[0]:
            return [table_of(items), "", table_of([_counts(item) for item in answer.items])]
        return [table_of(items)] if answer.items else [f"No {answer.noun}."]
    if isinstance(answer, Verdict):
        return [_verdict_sentence(answer)]
    if isinstance(answer, Proof):
        return [_proof_sentence(answer), *pairs(answer.fields(), "  ")]
    if isinstance(answer, Shift):
        return [_shift_sentence(answer), *pairs(answer.fields(), "  ")]
    if isinstance(answer, Stored):
        return [_stored_sentence(answer)]
    if isinstance(answer, Drawing):
        return [render.clean(line) for line in answer.text.split("\n")]
    if isinstance(answer, Tried):
        return [render.clean(line) for case in answer.cases for line in _case_lines(case)] or [
            "There are no test cases."
        ]
    if isinstance(answer, (Plan, Drift)):
        from grafctl import render_plan

        return [*(render_plan.plan_lines(answer) if isinstance(answer, Plan) else render_plan.drift_lines(answer))]
    if isinstance(answer, Shown) and {"domains", "resources"} <= answer.body.keys():
        return _status_blocks(answer.fields())
    return pairs(answer.fields(), "")


def ack_sentence(ack: Ack) -> str:
    """Returns where one batch of records is now."""
    where = (
        f"offset {ack.offset}"
        if ack.count == 1
        else f"{ack.count} records, offsets {ack.offset} to {ack.offset + ack.count - 1}"
    )
    if ack.offsets:
        where = f"{ack.count} records, offsets {', '.join(map(str, ack.offsets))}"
    if not ack.acked_by:
        return f"would be {where}"
    again = "already published, " if ack.replayed else ""
    return render.clean(f"{where} ({again}durable in {', '.join(ack.acked_by)})")


def finding_lines(finding: Finding) -> str:
    """Returns one inconsistency as two lines: what is wrong where, and what to do."""
    return f"{render.clean(finding.where)}: {render.clean(finding.problem)}\n  {render.clean(finding.remedy)}\n"


def _finished_sentence(answer: Finished) -> str:
    dead = f", {answer.dead} dead" if answer.dead else ""
    return f"{answer.count} changed, {answer.already} already so{dead}; ack floor {answer.ack_floor}"


def _change_blocks(change: Change) -> list[Block]:
    subject = "/".join(name for name in (change.resource, change.group, change.domain) if name)
    name = render.clean(subject) or "the store"
    if change.dry_run:
        head = f"Would change {name}" if change.changed else f"Nothing would change in {name}"
    else:
        head = f"Changed {name}" if change.changed else f"Nothing to change in {name}"
    steps = [f"  {step}. {render.clean(action)}" for step, action in enumerate(change.actions or (), 1)]
    return [head, *steps, *pairs(change.after or {}, "  ")]


def _stored_sentence(stored: Stored) -> str:
    where = f"vshard {stored.vshard} of {stored.table}"
    if not stored.changed:
        return f"version {stored.version} is there already in {where}" if stored.version else f"no such key in {where}"
    what = f"version {stored.version} in {where}" if stored.version else f"deleted from {where}"
    return f"would be {what}" if stored.dry_run else render.clean(f"{what} (durable in {', '.join(stored.acked_by)})")


def _verdict_sentence(answer: Verdict) -> str:
    subject = f"{answer.op} {answer.resource}{'/' + answer.group if answer.group else ''} from {answer.domain}"
    if answer.allowed:
        return render.clean(f"allowed: {subject}, by {answer.by}")
    return render.clean(f"refused: {subject}, by {answer.by} (exit {answer.exit}, {answer.reason or answer.code})")


def _proof_sentence(proof: Proof) -> str:
    claim = "holds the same as" if proof.match else "differs from"
    role = ", promoted to voter" if proof.promoted else ""
    what = "keys" if "keys" in proof.covers else "records"
    return render.clean(f"{proof.domain} {claim} {proof.source or 'the source'}: {proof.count} {what}{role}")


def _case_lines(case: dict[str, Any]) -> list[str]:
    name = f"{case['test']} ({case['stage']})"
    if case["passed"]:
        return [f"passed  {name}"]
    return [f"FAILED  {name}, {case['file']}:{case['line']}", *(f"  {line}" for line in case["difference"])]


def _shift_sentence(shift: Shift) -> str:
    verb = "made" if shift.changed else "is there already"
    return render.clean(f"Group {shift.group} {verb}, of the lineage of {shift.from_}, which is untouched")


def _counts(item: dict[str, Any]) -> dict[str, Any]:
    """Returns what an edge has counted; the restarts of its two ends as one number."""
    counts = dict(item["counts"])
    restarts = counts.pop("writer_restarts") + counts.pop("reader_restarts")
    shown = {name: value for name, value in counts.items() if name != "generation_changes"}
    return {"edge": item["edge"], "restarts": restarts, **shown}


def _audit_lines(record: dict[str, Any]) -> list[Block]:
    """Returns what happened and, below it, why not; lines, because a table of them is wider than a terminal.

    `audit explain` shows the rest of a record.
    """
    subject = "/".join(str(record[name]) for name in ("resource", "group", "lease") if record.get(name))
    domain, why = record.get("domain"), record.get("reason") or record.get("code")
    head = f"{record['audit']:>4}  {value_of('ms', record.get('ms'))}  {record.get('op')}"
    if record.get("outcome") == "changed":
        return [render.clean(" ".join(filter(None, (head, subject, domain))))]
    told = f"      {record.get('outcome')}{f' in {domain}' if domain else ''}{f': {why}' if why else ''}"
    return [render.clean(f"{head} {subject}".rstrip()), render.clean(told)]


# --- any JSON value


def table_of(items: list[dict[str, Any]], indent: str = "") -> Table:
    """Returns items as a table: what names a row first, then the fields in the order they appear."""
    found = dict.fromkeys(name for item in items for name in item)
    columns = [name for name in FIRST if name in found] + [name for name in found if name not in FIRST]
    rows = [[value_of(name, item.get(name)) for name in columns] for item in items]
    return Table([render.clean(MOMENTS.get(name, name)) for name in columns], rows, indent)


def value_of(name: str, value: Any) -> str:
    if name in MOMENTS and isinstance(value, int):
        from datetime import UTC, datetime

        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return cell_of(value)


def cell_of(value: Any) -> str:
    """Returns a value as text on one line."""
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(cell_of(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{render.clean(str(name))} {cell_of(item)}" for name, item in value.items())
    return render.clean(str(value))


def pairs(body: dict[str, Any], indent: str) -> list[Block]:
    """Returns `name: value` lines, aligned; a list of objects becomes a table below them."""
    tables = {
        name: value for name, value in body.items() if isinstance(value, list) and value and isinstance(value[0], dict)
    }
    width = max((len(name) for name in body if name not in tables), default=0) + 1
    blocks: list[Block] = [
        f"{indent}{render.clean(MOMENTS.get(name, name) + ':'):<{width}} {value_of(name, value)}"
        for name, value in body.items()
        if name not in tables
    ]
    for name, value in tables.items():
        blocks += [f"{indent}{render.clean(name)}:", table_of(value, indent + "  ")]
    return blocks


def _status_blocks(body: dict[str, Any]) -> list[Block]:
    resources: list[dict[str, Any]] = body["resources"]
    nested = {"replicas": _under(resources, "replicas"), "groups": _under(resources, "groups")}
    plain = [{name: value for name, value in item.items() if name not in nested} for item in resources]
    under = ("vshards", "switches")
    rest = {name: value for name, value in body.items() if name not in ("domains", "resources", *under) and value}
    blocks = pairs(rest, "")
    for name, items in {"domains": _in_trouble_first(body["domains"]), "resources": plain, **nested}.items():
        blocks += ["", table_of(items)] if items else ["", f"No {name}."]
    for kind in under:
        blocks += ["", table_of(body[kind])] if body.get(kind) else []
    return blocks if rest else blocks[1:]


def _in_trouble_first(domains: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the domains, those in trouble first and marked."""
    marked = [{**item, "domain": f"! {item['domain']}"} for item in domains if item.get("trouble")]
    return marked + [item for item in domains if not item.get("trouble")]


def _under(resources: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [{"resource": item.get("name"), **row} for item in resources for row in item.get(name) or ()]
