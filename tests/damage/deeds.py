"""What is done in a store of which one domain was damaged: the commands of a day, each opening the store anew.

Each says `step`, how it ended (`exit`, and `crash` where it was no refusal), and what it showed. A deed of the fork
server, so that a process which a damaged page kills is counted and not the test.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from faults.deeds import GROUP, HOUR_MS, QUEUE
from faults.verdict import Ledger, verdict

import grafctl.client as client
from grafctl.errors import GrafctlError

Say = Callable[..., None]


def day(store: Path, say: Say, steps: Sequence[Sequence[Any]]) -> None:
    """Does one step after the other: [name, arguments]."""
    for name, about in steps:
        say(begins=name)
        try:
            with client.open(store) as opened:
                shown = STEPS[name](opened, **about)
            say(step=name, exit=0, about=about, shown=shown)
        except GrafctlError as error:
            say(step=name, exit=error.exit_code, about=about, shown=error.as_json())
        except BaseException:
            say(step=name, exit=1, about=about, crash=traceback.format_exc())


def judged(store: Path, say: Say, ledger: Mapping[str, Any], away: Sequence[str]) -> None:
    """Gives the standard verdict."""
    known = Ledger(QUEUE)
    known.acked = {int(offset): payload for offset, payload in ledger["acked"].items()}
    known.ids = {name: (offset, payload) for name, (offset, payload) in ledger["ids"].items()}
    known.tried.update(ledger["tried"])
    for lineage, offsets in ledger["final"].items():
        known.finalised(lineage, offsets, 0)
    try:
        verdict(store, known, away=frozenset(away))
    except AssertionError as error:
        say(wrong=str(error))
    except GrafctlError as error:
        say(wrong=f"{error.code}: {error.message}")


def _status(opened: client.Store) -> Any:
    body = opened.status().body
    bad = [d["domain"] for d in body["domains"] if d["state"] != "available"]
    bad += [r["domain"] for item in body["resources"] for r in item.get("replicas", []) if "trouble" in r]
    return {"named": sorted(set(bad)), "trouble": body["trouble"], "resources": len(body["resources"])}


def _verify(opened: client.Store) -> Any:
    found = [(f.domain, f"{f.where}: {f.problem}") for f in opened.verify()]
    return {"named": sorted({str(domain) for domain, _ in found}), "found": [text for _, text in found][:3]}


def _doctor(opened: client.Store) -> Any:
    return [f"{f.where}: {f.problem}" for f in opened.doctor()]


def _peek(opened: client.Store, domain: str) -> Any:
    return [[r.offset, r.payload.decode(), r.id] for r in opened.peek(QUEUE, domain=domain, max=1000).body["records"]]


def _publish(opened: client.Store, payload: str, domain: str, id: str | None = None) -> Any:
    ack = opened.publish(QUEUE, payload, domain=domain, id=id)
    return [ack.offset, payload, id]


def _work(opened: client.Store, domain: str) -> Any:
    delivery = opened.poll(QUEUE, GROUP, domain=domain, max=3, visibility_ms=HOUR_MS)
    records = [[r.offset, r.payload.decode(), r.id] for r in delivery.records]
    offsets = [record.offset for record in delivery.records]
    done = opened.ack(QUEUE, GROUP, offsets, domain=domain, lease=delivery.lease).count if offsets else 0
    return [records, done]


STEPS: dict[str, Callable[..., Any]] = {
    "status": _status,
    "verify": _verify,
    "doctor": _doctor,
    "peek": _peek,
    "publish": _publish,
    "work": _work,
}
