"""Times and sizes: what they mean, to the last millisecond and byte, and what is none."""

from __future__ import annotations

import pytest

from grafctl import units
from grafctl.errors import Usage


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("0s", 0), ("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000), ("7d", 604_800_000),
     ("0.001s", 1), ("9007199254740993ms", 9007199254740993)],
)  # fmt: skip
def test_a_time_is_so_many_milliseconds(text: str, expected: int) -> None:
    assert units.duration_ms(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("512", 512), ("1kB", 1000), ("1KiB", 1024), ("10GB", 10**10), ("64MiB", 64 << 20), ("1.5TiB", 3 << 39),
     ("9007199254740993", 9007199254740993)],
)  # fmt: skip
def test_a_size_is_so_many_bytes(text: str, expected: int) -> None:
    assert units.size_bytes(text) == expected


NEITHER = [
    "",
    " ",
    "-1s",
    "+1s",
    "1 s",
    "s",
    "kB",
    ".5s",
    "1.s",
    "1.2.3s",
    "1e3s",
    "5weeks",
    "٣s",
    "1s\n",
    "9" * 19,
    "inf",
]


@pytest.mark.parametrize("text", [*NEITHER, "1", "1.5", "5S", "5kB", "1" * 18 + "d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="is no time; write 500ms"):
        units.duration_ms(text)


@pytest.mark.parametrize("text", [*NEITHER, "1kb", "1MIB", "5ms", "1" * 18 + "TiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="is no size; write 64MiB"):
        units.size_bytes(text)
