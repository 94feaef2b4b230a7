"""`store.toml` is read without tomllib where it looks as it was written, and always means what tomllib reads."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import InvalidConfig
from grafctl.store import files
from grafctl.store.files import StoreFile

WRITTEN = """# Written by grafctl; change it with `grafctl domain add` and `grafctl domain remove`.
format = 1
identity = "st_1"
driver = "lmdb"

[[domain]]
name = "aws"
path = "domains/aws"
incarnation = "inc_1"

[[domain]]
name = "gcp/b"
path = "/mnt/ä #1"
incarnation = "inc_2"
"""
OTHERWISE = [
    'domain = [\n    { name = "aws", path = "p", incarnation = "i" },\n]\n',
    "format = 0x1\n",
    "format = 01\n",
    "format = +1\n",
    "format = 1_0\n",
    "format = 1 # one\n",
    " format = 1\n",
    "format=1\n",
    "format = 1\nformat = 2\n",
    "format = 1\r\n",
    'identity = "a\\tb"\n',
    'identity = "a\tb"\n',
    'identity = "a" "b"\n',
    'identity = """a"""\n',
    "identity = 'a'\n",
    'identity = ""\n',
    'identity = "\n',
    'identity = "a\n"\n',
    '"identity" = "a"\n',
    'a.b = "c"\n',
    'ä = "c"\n',
    "[domain]\n",
    'domain = "aws"\n[[domain]]\nname = "a"\n',
    '[[domain]]\nname = "a"\nname = "b"\n',
    '[[domain]]\n[domain.more]\nname = "a"\n',
    "[[domain]]\n[[domain]]\n",
    "[[domain]] # one\n",
    "# a comment with \x07 in it\n",
    "true = 1\n",
    "x\n",
    "",
]


def agree(text: str) -> bool:
    """Returns whether the plain reader read it; fails where that is not what tomllib reads."""
    found = files.parse_plain_toml(text)
    if found is not None:
        assert found == tomllib.loads(text)
    return found is not None


def test_what_is_written_is_read_without_tomllib(tmp_path: Path) -> None:
    file = StoreFile("st_1", "lmdb", {"aws": {"path": "domains/aws", "incarnation": "inc_1"}})
    file = file.with_domain("gcp/b", "/mnt/ä #1").with_domain("azure", "x" * 200)
    files.write(tmp_path, file)
    text = (tmp_path / "store.toml").read_text()
    assert agree(text) and agree(WRITTEN) and text.startswith(WRITTEN[:100])
    assert files.read(tmp_path) == file
    program = "import sys; from grafctl.store import files; files.read(sys.argv[1]); print('tomllib' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


def test_a_path_that_needs_escapes_is_read_back(tmp_path: Path) -> None:
    file = StoreFile("st_1", "lmdb", {}).with_domain("aws", 'a"b\\c\nd\x85')
    files.write(tmp_path, file)
    assert files.read(tmp_path) == file
    assert not agree((tmp_path / "store.toml").read_text())


@pytest.mark.parametrize("text", OTHERWISE)
def test_any_other_form_means_what_tomllib_reads(text: str, tmp_path: Path) -> None:
    agree(text)
    agree(WRITTEN + text)
    agree(text + WRITTEN)
    for whole in (text, WRITTEN + text, text + WRITTEN):
        (tmp_path / "store.toml").write_bytes(whole.encode())
        try:
            body = tomllib.loads(whole)
        except tomllib.TOMLDecodeError:
            with pytest.raises(InvalidConfig, match="problem") as caught:
                files.read(tmp_path)
            assert "not TOML" in str(caught.value.problems)
        else:
            assert files.parse_toml(whole) == body


@given(st.data())
def test_a_file_that_was_edited_means_what_tomllib_reads(data: st.DataObject) -> None:
    text = WRITTEN
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        stop = at + data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(st.text(alphabet='"\\=[]{}#,.\n\r\t 019_-+aä\x85', max_size=6)) + text[stop:]
    agree(text)


@given(st.text(alphabet="/.ab ~", min_size=1, max_size=12))
def test_a_path_is_made_absolute_as_pathlib_does(text: str) -> None:
    assert files.absolute(text) == str(Path(text).absolute())
    assert files.absolute(Path(text)) == str(Path(text).absolute())
