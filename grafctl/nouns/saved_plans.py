"""The file of a saved plan: what was declared, what the store was like then, and a digest over all of it.

Promises
- The file is written whole or not at all, for its owner alone (0600), and never over a file that is no plan.
- It holds the text of the declared file, so that what is applied is what was planned, wherever that file went since;
  and the digests of the keys and schemas that the text names.
- A file that is cut short, edited, huge, nested or of another program is `InvalidConfig` (78), and nothing of it is
  done. The digest finds changes; it is no signature: whoever may write the file can make another plan.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from grafctl import clock
from grafctl.declare.document import FILE_BYTES_MAX as TEXT_BYTES_MAX
from grafctl.declare.document import read_text
from grafctl.declare.reading import DeclaredFile, contents, digest_of
from grafctl.errors import GenerationConflict, InvalidConfig, NotFound, Usage
from grafctl.names import shown
from grafctl.nouns.found import Facts
from grafctl.pipeline.declaring_store import parse_store
from grafctl.store.driver.private import sync_path
from grafctl.store.files import unwritable
from grafctl.store.records import encode_json

FORMAT = "grafctl plan"
VERSION = 1
FILE_BYTES_MAX = 32 << 20
FACTS_MAX, NAME_MAX, PATH_MAX = 16, 64, 4096  # since a refusal shows them
FIELDS: dict[str, tuple[type, ...]] = {
    "format": (str,),
    "version": (int,),
    "plan": (str,),
    "made_ms": (int,),
    "store": (str, type(None)),
    "file": (str,),
    "folder": (str,),
    "file_digest": (str,),
    "text": (str,),
    "contents": (dict,),
    "actions": (list,),
    "relies_on": (dict,),
    "digest": (str,),
}


class SavedPlan(NamedTuple):
    """A plan as its file has it, checked."""

    id: str
    digest: str
    store: str | None  # the identity of the store, None where there was none
    declared: DeclaredFile
    relies_on: dict[str, Facts | None]  # of everything declared: what it was, None where it was absent


def is_plan(text: bytes) -> bool:
    """Returns whether a file is a plan and not TOML, in which nothing begins with a brace."""
    return text.lstrip(b" \t\r\n").startswith(b"{")


def write(out: Path, declared: DeclaredFile, store: str | None, actions: list[str], relies_on: dict[str, Any]) -> Facts:
    """Writes a plan and returns its id and digest."""
    body = {
        "format": FORMAT,
        "version": VERSION,
        "plan": clock.random_token("pln"),
        "made_ms": clock.now_ms(),
        "store": store,
        "file": str(declared.file),
        "folder": str(declared.file.absolute().parent),
        "file_digest": declared.digest,
        "text": declared.text.decode(),
        "contents": contents(declared.declaration),
        "actions": actions,
        "relies_on": relies_on,
    }
    body["digest"] = digest_of(encode_json(body))
    _refuse_other(out)
    _replace(out, json.dumps(body, indent=1, ensure_ascii=False).encode() + b"\n")
    return {"plan": body["plan"], "digest": body["digest"]}


def _refuse_other(out: Path) -> None:
    """Raises `Usage` where something is there already that is no plan: the declared file itself, for one."""
    if not os.path.lexists(out):
        return
    try:
        there = read_text(out, FILE_BYTES_MAX)
        parse_body(there, str(out))
    except (NotFound, InvalidConfig):
        raise Usage(
            f"{out} is there already, and it is no plan.", hint="Name another file with --out, or move it away."
        ) from None


def _replace(out: Path, text: bytes) -> None:
    """Writes a file beside its place and moves it there, durable before it has its name."""
    beside = out.with_name(f".{out.name}.{clock.random_token('new')}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(handle, "wb") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(handle)
            os.rename(beside, out)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_path(out.absolute().parent)
    except OSError as error:
        raise unwritable(out, error) from None
    except ValueError:
        raise Usage(f"{shown(str(out))} is not a path.") from None


def parse(text: bytes, file: str) -> SavedPlan:
    """Returns the plan of a file; raises `InvalidConfig` where it is none, and `GenerationConflict` where a key or a
    schema is not what it was."""
    body = parse_body(text, file)
    declared = Path(body["file"])
    declaration = _declaration(body, file)
    if contents(declaration) != body["contents"]:
        raise GenerationConflict(
            f"A key or a schema that {body['file']} names is not what it was when the plan was made.",
            hint=f"Run `grafctl plan` with {body['file']} again.",
            plan=body["plan"],
        )
    found = DeclaredFile(declared, body["text"].encode(), declaration)
    return SavedPlan(body["plan"], body["digest"], body["store"], found, body["relies_on"])


def parse_body(text: bytes, file: str) -> dict[str, Any]:
    """Returns the fields of a plan's file, each of its type; raises `InvalidConfig`."""
    if len(text) > FILE_BYTES_MAX:
        raise InvalidConfig(file, [(1, f"The plan is longer than {FILE_BYTES_MAX >> 20} MiB.")])
    try:
        body = json.loads(text)
        digest = digest_of(encode_json({name: value for name, value in body.items() if name != "digest"}))
    except RecursionError:
        raise InvalidConfig(file, [(1, "This is nested too deeply.")]) from None
    except (ValueError, AttributeError, TypeError) as error:
        line = getattr(error, "lineno", 1)
        raise InvalidConfig(file, [(line, "This is no plan: it is not one JSON object.")]) from None
    if body.get("format") != FORMAT:
        raise InvalidConfig(file, [(1, "This is no plan of grafctl.")])
    if type(body.get("version")) is int and body["version"] > VERSION:
        raise InvalidConfig(file, [(1, f"The plan has version {body['version']}; this grafctl reads {VERSION}.")])
    wrong = sorted(body.keys() ^ FIELDS.keys()) or [
        name for name, kinds in FIELDS.items() if type(body[name]) not in kinds
    ]
    if wrong or body["digest"] != digest:
        what = f"{', '.join(map(shown, wrong))} is not as a plan has it" if wrong else "its digest is another"
        raise InvalidConfig(file, [(1, f"The plan was changed after it was made: {what}.")])
    _check_values(body, file)
    return dict(body)


def _check_values(body: dict[str, Any], file: str) -> None:
    """Raises `InvalidConfig` for what no digest can vouch for: whoever writes a file can write a digest."""
    facts = body["relies_on"].values()
    good = all(item is None or (isinstance(item, dict) and len(item) <= FACTS_MAX) for item in facts)
    good &= all(len(name) <= NAME_MAX for item in facts for name in item or ())
    good &= len(body["store"] or "") <= NAME_MAX and max(len(body["folder"]), len(body["file"])) <= PATH_MAX
    good &= all(isinstance(item, str) for item in (*body["contents"].values(), *body["actions"]))
    good &= len(body["plan"]) == 24 and body["plan"].startswith("pln_") and body["plan"][4:].isalnum()
    good &= body["plan"].isascii() and "\0" not in body["folder"] + body["file"]
    try:
        good &= len(body["text"].encode()) <= TEXT_BYTES_MAX and digest_of(body["text"].encode()) == body["file_digest"]
    except UnicodeEncodeError:
        good = False
    if not good:
        raise InvalidConfig(file, [(1, "The plan was changed after it was made: its fields do not fit together.")])


def _declaration(body: dict[str, Any], file: str) -> Any:
    """Returns what the text in a plan declares; its problems are those of the plan's file."""
    try:
        return parse_store(body["text"].encode(), Path(body["file"]), Path(body["folder"]))
    except InvalidConfig as error:
        problems = [(1, f"{body['file']}:{line}: {sentence}") for line, sentence in error.problems]
        raise InvalidConfig(file, problems) from None
