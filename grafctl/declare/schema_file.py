"""The file of a `[[schema]]`: one JSON object of bounded size, read before anything is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafctl.declare.document import read_text
from grafctl.errors import Usage

FILE_BYTES_MAX = 1 << 20


def load_schema(file: Path) -> dict[str, Any]:
    """Returns the JSON Schema that a file holds; raises a `GrafctlError` with what is wrong with it."""
    text = read_text(file, FILE_BYTES_MAX)
    if len(text) > FILE_BYTES_MAX:
        raise Usage(f"{file} is longer than {FILE_BYTES_MAX >> 20} MiB.")
    try:
        body = json.loads(text)
    except UnicodeDecodeError:
        raise Usage(f"{file} is not UTF-8.") from None
    except RecursionError:
        raise Usage(f"{file} is nested too deeply.") from None
    except ValueError as error:
        raise Usage(f"{file} is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise Usage(f"{file} is no JSON Schema: it holds no object.")
    return body
