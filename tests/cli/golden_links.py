"""The command lines of a pipeline with edges whose JSON is held still, in a store of its own."""

from __future__ import annotations

import json
from pathlib import Path

P, ON, AT = "chain/edges.toml", "--store ./linked", "-d aws/us-east-1"

LINKS = [
    (0, f"pipeline validate {P}", ""),
    (0, f"pipeline plan {P}", ""),
    (0, f"pipeline plan {P} -d gcp/us-central1", ""),
    (0, f"pipeline graph {P}", ""),
    (0, f"apply {P} {ON}", ""),
    (0, f"pipeline status {P} {ON}", ""),
    (0, f"pipeline run {P} {AT} {ON} --dry-run", ""),
    (11, f"pipeline run {P} -d gcp/us-central1 {ON} --stage parse", ""),
    (0, f"pipeline run {P} {AT} {ON} --until-idle", ""),
    (0, f"pipeline status {P} {ON}", ""),
    (2, f"pipeline tap {P} parse {AT} {ON}", ""),
]


def write_chain(example: Path, folder: Path) -> None:
    """Copies the example to a folder of its own, with files of one order each."""
    (folder / "feeds").mkdir(parents=True)
    for number, name in enumerate(("aws.jsonl", "gcp.jsonl")):
        customer = {"key": number, "segment": "MACHINERY"}
        order = {"event": f"order-{number}", "tenant": "iran", "order_key": number, "customer": customer}
        order |= {"total_price": "12.30", "priority": "5-LOW", "lines": []}
        (folder / "feeds" / name).write_text(json.dumps(order) + "\n")
    (folder / "edges.toml").write_text(example.read_text())
