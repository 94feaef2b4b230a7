"""What the tests of declared stores do with a text: read it, or list its problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.declare import store as declare
from grafctl.errors import InvalidConfig

FOLDER = Path("/folder")


def parse(text: str | bytes) -> declare.Declaration:
    return declare.parse(text.encode() if isinstance(text, str) else text, "store.toml", FOLDER)


def problems(text: str | bytes) -> list[tuple[int, str]]:
    with pytest.raises(InvalidConfig) as caught:
        parse(text)
    assert caught.value.exit_code == 78 and caught.value.file == "store.toml"
    return caught.value.problems
