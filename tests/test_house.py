"""The house guards itself: import floors, only-in rules, form, size and text.

The tables are here; how they are checked is in `house.py`. Every checker is also shown a bad snippet, because a guard
that cannot fail guards nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from house import (
    Allowance,
    Floor,
    Module,
    OnlyIn,
    check_floors,
    check_form,
    check_leaves,
    check_only_in,
    check_sizes,
    check_text,
    floor_of,
    load,
    sizes,
    tracked,
)

ROOT = Path(__file__).resolve().parent.parent

# Lowest first. A module may import its own floor or a lower one. A name covers itself and what is inside it, `*` is as
# in a shell, and where two names cover a module the longer decides. A package that imports nothing needs no line.
FLOORS = [
    Floor(
        ("errors", "clock", "threads", "results", "table_results", "typed", "json_text", "bare_signal"),
        "words that every floor speaks; they know nothing of a store",
    ),
    Floor(
        (
            "names",
            "units",
            "expression",
            "json_pattern",
            "json_schema*",
            "store.keys",
            "store.vshard_keys",
            "store.records",
            "store.fingerprints",
            "store.blocks",
            "store.intervals",
            "store.rules",
            "store.moving_rules",
            "store.vshards",
            "store.segment_rules",
            "store.wave_rules",
            "store.edge_rules",
            "store.segment_keys",
            "store.switch_match",
            "store.switch_fields",
            "store.switch_compare",
            "store.switch_health",
            "store.switch_rules",
            "store.switch_keys",
            "store.switch_rows",
            "store.table_block",
        ),
        "pure functions from values to values",
    ),
    Floor(("store.authority",), "the gate: pure decisions on placement, epoch, locator and health"),
    Floor(("store.driver",), "one environment of one domain: the only floor that knows LMDB"),
    Floor(("store.cluster", "store.files"), "all environments of a store, and the file that names them"),
    Floor(("edges",), "a segment of one domain: files and bytes beside its environment, of which no log knows"),
    Floor(
        ("store.replica", "store.replica.*", "store.requests", "store.reading", "store.checking"),
        "one domain's copy of a log",
    ),
    Floor(
        (
            "store.log",
            "store.group_commit",
            "store.observe",
            "store.committed",
            "store.lookout",
            "store.snapshots",
            "store.checked",
            "store.replicate",
            "store.elect",
            "store.learn",
            "store.ahead",
            "store.beginning",
        ),
        "the copies of a log taken together: observe, append, elect, repair",
    ),
    Floor(("store.filters",), "which records a subscription wants"),
    Floor(("store.resources",), "what entries mean: pure decide and apply"),
    Floor(
        (
            "store.session",
            "store.spool",
            "store.signing",
            "declare",
            "pipeline.model",
            "pipeline.where",
            "pipeline.declaring*",
            "pipeline.message",
            *(
                f"pipeline.transforms.{name}"
                for name in ("steps", "options", "plans", "fusing", "drafts", "routing", "shaping", "converting")
            ),
        ),
        "an open store: its own logs, its resources by name, its audit; what files declare",
    ),
    Floor(("store.operations",), "work and long jobs as lists of steps over everything below"),
    Floor(("nouns",), "what an operator manages, one file a noun"),
    Floor(("client", "client_nouns", "making", "worker"), "the public Python API"),
    Floor(("pipeline",), "what runs a declared pipeline: stages, sources, transforms, sinks"),
    Floor(
        ("streams", "stream_ends", "render*", "interruption", "table_input", "table_output"),
        "the terminal, pipes and JSON",
    ),
    Floor(("commands",), "one file a noun: check, call the API once, render"),
    Floor(
        ("quick", "help_page", "front", "cli", "__main__"),
        "the front door: reads command lines and maps errors to exit codes",
    ),
]
FACADE = "pipeline.building"

ONLY_IN = [
    OnlyIn(("lmdb",), ("store/driver/lmdb*.py",), "another driver must be able to stand in for it"),
    OnlyIn(
        ("rich",), ("render*.py",), "a command that draws nothing must not load it, and one file knows the terminal"
    ),
    OnlyIn(("typer",), ("cli.py", "commands/completion.py"), "it takes longer to import than a publish takes"),
    OnlyIn(("click",), (), "typer carries its own; another one is another library"),
    OnlyIn(
        (
            *("time", "random", "secrets", "uuid", "os.urandom", "os.getrandom"),
            *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
        ),
        ("clock.py",),
        "a test sets the clock and the dice in one place",
    ),
    OnlyIn(
        ("threading", "queue", "_thread", "concurrent"),
        ("threads.py", "store/driver/*.py", "store/resources/id_filters.py", "worker.py"),
        "a simulator runs one thread at a time, so it must know of all that start and wait",
    ),
    OnlyIn(("numpy",), ("store/resources/id_bulk.py",), "it takes longer to import than a publish takes"),
    OnlyIn(("cryptography",), ("store/signing.py",), "one file signs and verifies, and only it pays for the import"),
    OnlyIn(
        ("backports", "compression"), ("store/blocks.py",), "one file compresses and bounds what comes out of a frame"
    ),
    OnlyIn(
        ("print", "sys.stdout", "sys.__stdout__", "typer.echo", "typer.secho"),
        ("render*.py", "cli.py", "__main__.py"),
        "data on stdout has one writer, which knows about pipes, JSON and acknowledgement after writing",
    ),
    OnlyIn(
        ("tomllib", "tomli_w"),
        ("config.py", "declare/document.py", "store/files.py"),
        "problems of a file are reported with file and line in one way",
    ),
]

FORBIDDEN_FILES = ("utils.py", "helpers.py", "manager.py", "base.py")

LIMITS = {"file": 400, "function": 60, "command": 25}

# "grafctl/file.py" or "grafctl/file.py:Class.function" -> Allowance(lines, "why it is so long").
EXCEPTIONS: dict[str, Allowance] = {}


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return load(ROOT)


def passes(findings: list[str]) -> None:
    assert not findings, "\n".join(["", *findings])


def test_dependencies_point_down(modules: list[Module]) -> None:
    passes(list(check_floors(modules, FLOORS, facade=FACADE)))


def test_imports_name_the_module_that_defines(modules: list[Module]) -> None:
    passes(list(check_leaves(modules)))


def test_each_hard_thing_has_one_place(modules: list[Module]) -> None:
    passes(list(check_only_in(modules, ONLY_IN)))


def test_every_module_has_a_name_a_docstring_and_absolute_imports(modules: list[Module]) -> None:
    passes(list(check_form(modules, forbidden_files=FORBIDDEN_FILES)))


def test_sizes_stay_within_the_budget(modules: list[Module]) -> None:
    passes(list(check_sizes(modules, LIMITS, EXCEPTIONS)))


def test_nothing_is_marked_unfinished_or_tied_to_one_machine() -> None:
    files = tracked(ROOT)
    assert ROOT / "pyproject.toml" in files
    passes(list(check_text(ROOT, files)))


# The guard can fail: each checker finds what is planted and stays silent beside it.


def planted(tmp_path: Path, files: dict[str, str]) -> list[Module]:
    """Writes a package of a few modules, named by path without `.py`, and reads it back."""
    for name, text in {"__init__": "", **files}.items():
        file = tmp_path / "grafctl" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(text)
    return load(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "import grafctl.store.log",
        "from grafctl.store import log",
        "from grafctl.store.log import append",
        "def late():\n    from grafctl.store.log import append",
        "importlib.import_module('grafctl.store.log')",
    ],
)
def test_floors_find_an_import_that_points_up(tmp_path: Path, line: str) -> None:
    bad = planted(tmp_path, {"store/keys": line, "store/log": "from grafctl.store.keys import KEY"})
    (finding,) = check_floors(bad, FLOORS, facade=FACADE)
    assert finding.startswith("grafctl/store/keys.py:") and "store.log" in finding and "point down" in finding


def test_floors_find_a_module_that_the_table_does_not_know(tmp_path: Path) -> None:
    (finding,) = check_floors(planted(tmp_path, {"attic": "X = 1"}), FLOORS, facade=FACADE)
    assert finding == "grafctl/attic.py stands on no floor: add 'attic' to FLOORS in tests/test_house.py."


def test_floors_find_a_package_that_imports_and_a_facade_that_reaches_too_high(tmp_path: Path) -> None:
    bad = planted(
        tmp_path,
        {
            "__init__": "from grafctl import cli",
            "store/__init__": "from grafctl.store.keys import KEY",
            "store/keys": "KEY = 1",
            "cli": "",
        },
    )
    findings = list(check_floors(bad, FLOORS, facade=FACADE))
    assert [finding.split(" ")[0] for finding in findings] == ["grafctl/__init__.py:1", "grafctl/store/__init__.py"]


def test_floors_let_any_module_ask_for_the_version(tmp_path: Path) -> None:
    good = planted(tmp_path, {"__init__": "__version__ = '1'", "clock": "from grafctl import __version__"})
    assert not list(check_floors(good, FLOORS, facade=FACADE))
    assert not list(check_leaves(good))


def test_the_longest_name_in_the_table_decides() -> None:
    floors = [Floor(("store.driver.contract",), "low"), Floor(("store.driver", "store.log*"), "high")]
    assert floor_of("store.driver.contract", floors) == 0
    assert floor_of("store.driver.lmdb", floors) == 1
    assert floor_of("store.log_read", floors) == 1
    assert floor_of("store.drivers", floors) is None


@pytest.mark.parametrize("line", ["from grafctl.store import KEY", "from grafctl import open", "import grafctl"])
def test_leaves_find_an_import_through_a_package(tmp_path: Path, line: str) -> None:
    bad = planted(tmp_path, {"store/keys": "", "cli": line, "clock": "from grafctl.store import keys"})
    (finding,) = check_leaves(bad)
    assert finding.startswith("grafctl/cli.py:1 imports through the package grafctl")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import lmdb", "lmdb"),
        ("def late():\n    from lmdb import Environment", "lmdb"),
        ("__import__('lmdb')", "lmdb"),
        ("from rich.table import Table", "rich"),
        ("import typer", "typer"),
        ("import click", "click"),
        ("import time as t", "time"),
        ("from time import sleep", "time"),
        ("import random", "random"),
        ("import uuid, secrets", "uuid"),
        ("import os\nos.urandom(8)", "os.urandom"),
        ("import os as system\nsystem.urandom(8)", "os.urandom"),
        ("from os import urandom", "os.urandom"),
        ("import datetime\ndatetime.datetime.now()", "datetime.datetime.now"),
        ("from datetime import datetime as when\nwhen.now()", "datetime.datetime.now"),
        ("from cryptography.hazmat import x", "cryptography"),
        ("print('x')", "print"),
        ("show = print", "print"),
        ("import sys\nsys.stdout.write('x')", "sys.stdout"),
        ("from sys import stdout", "sys.stdout"),
        ("import tomllib", "tomllib"),
    ],
)
def test_only_in_finds_a_name_in_the_wrong_place(tmp_path: Path, text: str, what: str) -> None:
    findings = list(check_only_in(planted(tmp_path, {"store/resources/queue": text}), ONLY_IN))
    assert any(f" uses {what}, which belongs in" in finding for finding in findings), findings


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("store/driver/lmdb", "import lmdb"),
        ("store/driver/lmdb_map", "import lmdb"),
        ("render_json", "import sys\nsys.stdout.write('x')"),
        ("commands/completion", "import typer"),
        ("clock", "import time\nimport os\nos.urandom(8)"),
        ("declare/document", "import tomllib"),
        ("store/keys", "import timeit\nfrom datetime import datetime\ndatetime.fromtimestamp(0)\ntime = self.time"),
    ],
)
def test_only_in_is_silent_in_the_right_place(tmp_path: Path, place: str, text: str) -> None:
    assert not list(check_only_in(planted(tmp_path, {place: text}), ONLY_IN))


def test_form_finds_each_kind_of_fault(tmp_path: Path) -> None:
    bad = planted(
        tmp_path,
        {"store/__init__": "X = 1", "store/utils": '"""Things."""', "cli": '"""Door."""\nfrom .store import log'},
    )
    findings = list(check_form(bad, forbidden_files=FORBIDDEN_FILES))
    assert [finding.split(" ")[0] for finding in findings] == [
        "grafctl/cli.py:2",
        "grafctl/store/__init__.py",
        "grafctl/store/utils.py",
    ]


def long_function(lines: int, *, decorator: str = "") -> str:
    return f"{decorator}\ndef run(\n    a,\n):\n    '''Runs.'''\n" + "    a += 1\n" * lines


def test_sizes_find_a_long_file_function_and_command(tmp_path: Path) -> None:
    bad = planted(
        tmp_path,
        {
            "cli": "\n" * 401,
            "worker": "class Worker:\n    def run(self):\n" + "        x = 1\n" * 60,
            "commands/queue": long_function(26, decorator="@app.command('create')"),
            "commands/topic": long_function(25, decorator="@app.command"),
            "commands/audit": long_function(30, decorator="@cached"),
        },
    )
    assert list(check_sizes(bad, LIMITS, {})) == [
        "grafctl/cli.py has 401 lines; a file has at most 400.",
        "grafctl/commands/queue.py:run has 26 lines; a command has at most 25.",
        "grafctl/worker.py:Worker.run has 61 lines; a function has at most 60.",
    ]


@pytest.mark.parametrize(
    ("recorded", "lines", "expected"),
    [
        (402, 402, None),
        (402, 403, "grew to 403 lines"),
        (402, 401, "shrank to 401 lines"),
        (402, 400, "remove its line from EXCEPTIONS"),
    ],
)
def test_an_exception_may_only_shrink(tmp_path: Path, recorded: int, lines: int, expected: str | None) -> None:
    exceptions = {"grafctl/cli.py": Allowance(recorded, "the table of commands")}
    findings = list(check_sizes(planted(tmp_path, {"cli": "\n" * lines}), LIMITS, exceptions))
    assert len(findings) == (expected is not None)
    assert expected is None or expected in findings[0]


def test_an_exception_for_nothing_is_found(tmp_path: Path) -> None:
    (finding,) = check_sizes(planted(tmp_path, {}), LIMITS, {"grafctl/gone.py": Allowance(500, "was long")})
    assert finding == "grafctl/gone.py does not exist: remove its line from EXCEPTIONS."


def test_sizes_measure_nested_functions(tmp_path: Path) -> None:
    nested = "def outer():\n    if True:\n        def inner():\n            return 1\n    return inner\n"
    found = {key: lines for module in planted(tmp_path, {"cli": nested}) for key, _, lines in sizes(module)}
    assert found["grafctl/cli.py:outer"] == 5
    assert found["grafctl/cli.py:outer.inner"] == 2


def test_text_finds_unfinished_work_and_paths_of_one_machine(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("# TO" + "DO\nx = '/wo" + "rk/main'\n")
    (tmp_path / "b.md").write_text("A frame" + "work/x, a net" + "work/main and METHODOLOGY are all well.\n")
    (tmp_path / "c.bin").write_bytes(b"\xff\xfe")
    assert [finding.split(" ")[0] for finding in check_text(tmp_path, tracked(tmp_path))] == ["a.py:1", "a.py:2"]
