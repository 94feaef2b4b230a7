"""The store that a file declares, be it a file of a store alone or of a pipeline on it.

Promises
- Of a file with a pipeline nothing is returned unless all of it holds: a store is not made for stages that cannot run.
- A file without one costs no import of what reads pipelines.
"""

from __future__ import annotations

from pathlib import Path

from grafctl.declare import store
from grafctl.declare.document import load
from grafctl.declare.store import Declaration


def parse_store(text: bytes, file: Path, folder: Path) -> Declaration:
    """Returns what a text declares, with the groups that the stages of its pipeline bring, and looks at the files that
    it names relative to `folder`; raises `InvalidConfig`."""
    from grafctl.declare.schema_file import load_schema
    from grafctl.store.signing import load_public

    body, _ = load(text, str(file))
    if body.keys().isdisjoint(store.PIPELINE_KEYS):
        return store.parse(text, str(file), folder, load_public, load_schema)
    from grafctl.pipeline.declaring import examine_text

    return examine_text(text, file, folder).pipeline.declaration
