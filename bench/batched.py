"""What a record costs in a batch of 1,000, beside the same bytes written as large values by py-lmdb alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import grafctl
from bench.rows import Row, Target
from bench.stores import IN_FLIGHT, PAYLOAD_BYTES, make, payloads, publish_all, raw
from bench.turns import in_turn, ratio

NAME = "batched: records without ids, 1,000 in a batch, Python API"
ROUNDS, BATCHES, RECORDS = 9, 30, 1000  # batches in each round, records in each
RAW_VALUE_BYTES = 1 << 20
RATIO_MIN = 0.6


def run() -> list[Row]:
    """Measures streams and single batches into two domains."""
    batches = [payloads(RECORDS)] * BATCHES
    whole = b"".join(batches[0]) * BATCHES
    values = [whole[at : at + RAW_VALUE_BYTES] for at in range(0, len(whole), RAW_VALUE_BYTES)]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with raw(directory) as pair, grafctl.open(make(directory / "store", "stream", "batch")) as store:

            def packed() -> None:
                for value in values:
                    pair.commit(value)

            def one_by_one() -> None:
                for batch in batches:
                    store.publish_batch("batch", batch, domain="aws")

            raw_s, stream_s, batch_s = in_turn(
                ROUNDS, packed, lambda: publish_all(store, "stream", batches), one_by_one
            )
    records = BATCHES * RECORDS
    against = "py-lmdb: values of 1 MiB, a commit for each in two environments in turn"
    note = f"{ROUNDS} rounds of {records * PAYLOAD_BYTES / 1e6:,.0f} MB, {IN_FLIGHT} batches in flight"
    return [
        Row("py-lmdb, packed 1 MiB values, two commits in turn", records / median(raw_s), "/s"),
        Row("store.publish_stream of 1 KiB records", records / median(stream_s), "/s"),
        Row("store.publish_batch, one after another", records / median(batch_s), "/s"),
        Row("store.publish_batch, one after another", ratio(raw_s, batch_s), "x", None, against),
        Row("batched publish without ids", ratio(raw_s, stream_s), "x", Target(">=", RATIO_MIN), against, note),
    ]
