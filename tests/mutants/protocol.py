"""What catches each error of the protocol's own list: a mutant of the explorer (`model/mutants.py`) or of `table.py`.

An item of `LISTED` is "model:" with the name of a mutant of the explorer, "product:" with one of the table, or "test:".
"""

from __future__ import annotations

LISTED = {
    "acknowledge after the primary alone": (
        "model:acknowledge after the primary alone",
        "product:ack before the quorum",
    ),
    "backup before primary": ("model:backup before primary",),
    "no fence at the primary": ("model:no fence at the primary", "product:no fence at the primary"),
    "none at a backup": ("model:no fence at a backup", "product:no fence at a backup"),
    "no promise": ("model:no promise", "product:promise not durable"),
    "longest log": ("model:longest log", "product:longest log"),
    "counting old-term entries": ("model:counting entries of an old term", "product:old-term entries counted"),
    "non-unique terms": ("model:terms not unique", "product:terms not unique"),
    "no idempotency": ("model:no idempotency", "product:no search for the operation key"),
    "certify too early": ("model:certify too early",),
    "no joint quorum": ("model:no joint quorum", "product:no joint quorum"),
    "lock-all": ("test:model/test_model.py::test_locking_a_majority_without_promises_loses_an_acknowledged_record",),
    "a wiped voter keeping its vote": ("model:wiped voter keeps its vote", "product:a wiped voter keeps its vote"),
    "answer from uncommitted state": ("model:refuse from uncommitted state", "product:ack before the quorum"),
    "shift on a proof of an older generation": ("model:shift on a proof of an older generation", "product:old proof"),
    "a seal that does not stop writers": ("product:a seal that does not stop writers",),
    "a revoked grant honoured late": ("model:revoked grant honoured late", "product:no check of the placement"),
}
NOT_BUILT: dict[str, str] = {}
