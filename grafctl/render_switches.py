"""The report of a switch as people and scripts see it; a room of `render.py`."""

from __future__ import annotations

from grafctl import render, render_output, render_text
from grafctl.results import Listed, Shown
from grafctl.typed import TYPE_CHECKING, Any, Mapping, Sequence

if TYPE_CHECKING:
    from grafctl.render import Form
    from grafctl.render_text import Block, Table

KINDS = ("matched", "missing", "extra", "different", "repeated", "unmatched", "waiting")

FLIP = ("generation", "side", "ms", "why")
NAMED = ("kind", "match_key", "source", "target", "field", "source_value", "target_value", "why")


def report(answer: Shown, output: Form, json: bool = False) -> None:
    """Prints what was found out about a switch."""
    if json or output != "table":
        render_output.write(render.document(answer.as_json()))
    else:
        render_text.draw(blocks_of(answer.fields()))


def standing(answer: Shown | Listed, output: Form, json: bool = False) -> None:
    """Prints which side one consumer is at, or each of them."""
    if json or output != "table":
        render_output.write(render.document(answer.as_json()))
        return
    body = dict(answer.fields())
    if isinstance(answer, Listed):
        render_text.draw([_sides(answer.items)] if answer.items else ["No switches."])
        return
    flips = [{name: flip[name] for name in FLIP} for flip in body.pop("flips", [])]
    for name in ("shadow", "soak"):
        if body.get(name):
            body[name] = f"judged {render_text.value_of('judged_ms', body[name]['judged_ms'])}; see `consumer report`"
    render_text.draw(render_text.pairs(body | ({"flips": flips} if flips else {}), ""))


def _sides(items: Sequence[Mapping[str, Any]]) -> Table:
    """Returns the switches as a table that is narrow enough for a terminal."""
    rows = []
    for item in items:
        place, left_ms = item["open"], item["window_left_ms"]
        state = f"{item['state']}, {item['phase']}" if item["phase"] else item["state"]
        left = "-" if left_ms is None or item["state"] == "locked" else f"{left_ms:,} ms"
        reads = f"{place['group']} of {place['resource']}"
        rows.append([render.clean(str(cell)) for cell in (item["switch"], state, reads, item["generation"], left)])
    return render_text.Table(["switch", "state", "reads", "generation", "window left"], rows)


def judgement(body: dict[str, Any]) -> None:
    """Prints one judgement of a soak that is followed, as a line."""
    shown = {name: body[name] for name in ("switch", "state", "side", "generation", "window_left_ms", "soak")}
    render_output.write(render.document({"v": 1, "ok": True, **shown}))


def blocks_of(body: Mapping[str, Any]) -> list[Block]:
    """Returns the report as text: a sentence on each matter, and what it is made of below."""
    blocks: list[Block] = [render.clean(line) for line in _head(body)]
    if body["samples"]:
        named = [{name: item[name] for name in NAMED if name in item} for item in body["samples"]]
        blocks += ["", "Mismatches, some of each kind:", render_text.table_of(named, "  ")]
    if body.get("soak"):
        found = body["soak"]["checks"]
        checks = [{"rule": check["rule"], "ok": check["ok"], "says": check["sentence"]} for check in found]
        blocks += ["", "Health since it was switched:", render_text.table_of(checks, "  ")]
    if body["flips"]:
        shown = [{name: flip[name] for name in FLIP} for flip in body["flips"]]
        blocks += ["", "Flips:", render_text.table_of(shown, "  ")]
    return blocks


def _head(body: Mapping[str, Any]) -> list[str]:
    going = f", {body['phase']}" if body.get("phase") else ""
    place = body[body["side"]]
    lines = [
        f"Switch {body['switch']} is {body['state']}{going}: group {place['group']} of {place['resource']} is the "
        f"consumer's (generation {body['generation']})."
    ]
    found = body.get("compared")
    if found is None:
        return [*lines, "The outputs were not compared yet."]
    counts = [f"{found[kind]:,} {kind}" for kind in KINDS if found[kind] or kind == "matched"]
    time = render_text.value_of("ms", found["judged_ms"])
    lines.append(f"Compared by {body['match']} at {time}: {', '.join(counts)}. {_verdict(found)}")
    if found["not_compared"]:
        lines.append(f"Not compared: {found['not_compared']:,}, which retention took or which were forgiven.")
    if found["left_out"]:
        lines.append(f"Left out by the filters of the groups: {found['left_out']:,}.")
    if "ahead" in found:
        lines.append(f"The {found['ahead']} is too far ahead of the other side; what is behind that was not compared.")
    if "undated" in found:
        lines.append(f"Of those that wait {found['undated']:,} differ since nobody knows when; so they are in the way.")
    if body.get("window_left_ms") is not None:
        lines.append(f"Its window has {body['window_left_ms']:,} of {body['window_ms']:,} ms to go.")
    return lines


def _verdict(found: Mapping[str, Any]) -> str:
    if found["mismatches"] is None:
        return "That is not all."
    return f"{found['mismatches']:,} mismatch{'' if found['mismatches'] == 1 else 'es'}."
