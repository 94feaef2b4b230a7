"""The file of a `[[schema]]`: a JSON Schema document that can be used, read before anything is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafctl.declare.document import read_text
from grafctl.errors import GrafctlError, Usage
from grafctl.json_schema import DOCUMENT_BYTES_MAX, Schema, parse_document
from grafctl.store.fingerprints import fingerprint_text
from grafctl.store.records import digest, encode_json


def load_schema(file: Path) -> Any:
    """Returns the JSON Schema that a file holds; raises a `GrafctlError` with what is wrong with it."""
    text = read_text(file, DOCUMENT_BYTES_MAX)
    try:
        document = parse_document(text)
        Schema(document)
    except GrafctlError as error:
        raise Usage(f"{file}: {error.message}", hint=error.hint) from None
    return document


def schema_digest(file: Path) -> str:
    """Returns what the store calls the document of a file."""
    return fingerprint_text(digest(encode_json(load_schema(file))))
