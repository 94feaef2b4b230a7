"""The checkers behind `test_house.py`: pure functions from source text to findings, a finding being one sentence.

They read syntax trees and import nothing of what they check, so a module that is half written can be judged too.
The rules themselves, which is what changes, are the tables in `test_house.py`.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

PACKAGE = "grafctl"


@dataclass(frozen=True)
class Module:
    """One source file: `path` begins with the package, `name` is dotted and leaves the package out."""

    path: str
    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def place(self) -> str:
        """The path inside the package, as the only-in rules write it."""
        return self.path.removeprefix(f"{PACKAGE}/")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


@dataclass(frozen=True)
class Floor:
    """Modules that may import each other and everything on an earlier floor; `reason` says what holds them together."""

    modules: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class OnlyIn:
    """The names in `what` may be used in files that match `places` and nowhere else."""

    what: tuple[str, ...]
    places: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Allowance:
    """A size over the limit that is tolerated for now; the number may only shrink."""

    lines: int
    reason: str


def load(root: Path) -> list[Module]:
    """Returns every module of the package under `root`, sorted by path."""
    modules = []
    for file in sorted((root / PACKAGE).rglob("*.py")):
        path = file.relative_to(root)
        parts = list(path.with_suffix("").parts[1:])
        if parts and parts[-1] == "__init__":
            parts.pop()
        modules.append(Module(path.as_posix(), ".".join(parts), file.read_text(encoding="utf-8")))
    return modules


# Floors


def covers(pattern: str, name: str) -> bool:
    """Says whether a pattern of the floors table covers a module: itself, what is inside it, and `*` as in a shell."""
    if "*" not in pattern:
        return name == pattern or name.startswith(f"{pattern}.")
    return fnmatchcase(name, pattern) or name == pattern.removesuffix(".*")


def floor_of(name: str, floors: Sequence[Floor]) -> int | None:
    """Returns the floor of a module; where several patterns cover it, the longest one decides."""
    found = [
        (len(pattern), number)
        for number, floor in enumerate(floors)
        for pattern in floor.modules
        if covers(pattern, name)
    ]
    return max(found)[1] if found else None


def check_floors(modules: Sequence[Module], floors: Sequence[Floor], *, facade: str) -> Iterator[str]:
    """Yields every import that points up, and every module that the table does not know.

    The package's own `__init__` stands where `facade` stands, since all it may do is to hand that module out.
    """
    names = {module.name for module in modules}
    for module in modules:
        targets = list(own_imports(module, names))
        if module.is_package and not targets and module.name:
            continue
        here = floor_of(module.name or facade, floors)
        if here is None:
            yield f"{module.path} stands on no floor: add {module.name!r} to FLOORS in tests/test_house.py."
            continue
        for line, target in targets:
            there = floor_of(target, floors)
            if there is not None and there > here:
                yield (
                    f"{module.path}:{line} imports {target} from floor {there + 1} ({floors[there].reason}), "
                    f"but stands on floor {here + 1} ({floors[here].reason}): dependencies point down."
                )


def check_leaves(modules: Sequence[Module]) -> Iterator[str]:
    """Yields every import that takes a name through a package instead of from the module that defines it."""
    names = {module.name for module in modules}
    packages = {module.name for module in modules if module.is_package}
    for module in modules:
        if not module.name:
            continue  # the facade hands names out, it does not take them through itself
        through = {(line, target) for line, target in own_imports(module, names) if target in packages}
        version = {line for line, name in imported_names(module.tree) if name == f"{PACKAGE}.__version__"}
        for line, target in sorted(through):
            if target or line not in version:
                package = f"{PACKAGE}.{target}".rstrip(".")
                yield f"{module.path}:{line} imports through the package {package}: name the module that defines it."


def own_imports(module: Module, names: set[str]) -> Iterator[tuple[int, str]]:
    """Yields (line, module inside the package) for each import of the package's own modules, also inside functions."""
    for line, imported in imported_names(module.tree):
        root, _, inside = imported.partition(".")
        if root != PACKAGE:
            continue
        # `from grafctl.store import keys` and `from grafctl.store.keys import KEY` look alike: strip what is no module.
        while inside and inside not in names and inside.rpartition(".")[0] in names:
            inside = inside.rpartition(".")[0]
        yield line, inside


def imported_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of everything a tree imports, by statement or by a constant `import_module("…")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in ("import_module", "__import__"):
            match node.args:
                case [ast.Constant(value=str(name)), *_]:
                    yield node.lineno, name


# Only in


def dotted(node: ast.AST) -> str:
    """Returns `a.b.c` for a chain of attributes on a name, and an empty string for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def used_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of what a tree imports, of each mention of it (`as` undone), and of `print`."""
    original = {"print": "print"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                original[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            original |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    yield from imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)):
            head, dot, tail = dotted(node).partition(".")
            if head in original:
                yield node.lineno, original[head] + dot + tail


def check_only_in(modules: Sequence[Module], rules: Sequence[OnlyIn]) -> Iterator[str]:
    """Yields every use of a name outside the files that may use it, once a line."""
    for module in modules:
        seen = set()
        for line, name in used_names(module.tree):
            for rule in rules:
                if any(fnmatchcase(module.place, place) for place in rule.places):
                    continue
                what = next((what for what in rule.what if name == what or name.startswith(f"{what}.")), None)
                if what and (line, what) not in seen:
                    seen.add((line, what))
                    yield f"{module.path}:{line} uses {what}, which belongs in {', '.join(rule.places)}: {rule.reason}."


# Form


def check_form(modules: Sequence[Module], *, forbidden_files: Iterable[str]) -> Iterator[str]:
    """Yields relative imports, file names that say nothing, and modules without a docstring."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{module.path}:{node.lineno} is a relative import: write the whole name."
        if Path(module.path).name in forbidden_files:
            yield f"{module.path} is named for no thing: call it after what it holds."
        if ast.get_docstring(module.tree) is None and not (module.is_package and not module.text.strip()):
            yield f"{module.path} begins with no docstring: say what it promises."


# Size


def sizes(module: Module) -> Iterator[tuple[str, str, int]]:
    """Yields (key, kind, lines) of the file and of every function; kind is `file`, `function` or `command`.

    A command is measured by its body alone, since its signature is a list of options and its docstring the help.
    """
    yield module.path, "file", len(module.text.splitlines())
    yield from _function_sizes(module, module.tree, "")


def _function_sizes(module: Module, node: ast.AST, scope: str) -> Iterator[tuple[str, str, int]]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from _function_sizes(module, child, scope)
            continue
        inner = f"{scope}.{child.name}".lstrip(".")
        if not isinstance(child, ast.ClassDef):
            end = child.end_lineno or child.lineno
            if module.place.startswith("commands/") and _is_command(child):
                body = child.body[1:] if ast.get_docstring(child) is not None else child.body
                yield f"{module.path}:{inner}", "command", end - body[0].lineno + 1 if body else 0
            else:
                yield f"{module.path}:{inner}", "function", end - child.lineno + 1
        yield from _function_sizes(module, child, inner)


def _is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if dotted(target).split(".")[-1] == "command":
            return True
    return False


def check_sizes(
    modules: Sequence[Module], limits: Mapping[str, int], exceptions: Mapping[str, Allowance]
) -> Iterator[str]:
    """Yields what is over its limit, and every exception that grew, could be smaller, or is no longer needed."""
    unused = set(exceptions)
    for key, kind, lines in (size for module in modules for size in sizes(module)):
        limit, allowance = limits[kind], exceptions.get(key)
        unused.discard(key)
        if allowance is None:
            if lines > limit:
                yield f"{key} has {lines} lines; a {kind} has at most {limit}."
        elif lines <= limit:
            yield f"{key} has {lines} lines, within the limit of {limit}: remove its line from EXCEPTIONS."
        elif lines > allowance.lines:
            yield f"{key} grew to {lines} lines; EXCEPTIONS records {allowance.lines}, which may only shrink."
        elif lines < allowance.lines:
            yield f"{key} shrank to {lines} lines: record that in EXCEPTIONS instead of {allowance.lines}."
    yield from (f"{key} does not exist: remove its line from EXCEPTIONS." for key in sorted(unused))


# Text

# Written in two halves, because this file is read by its own rule.
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.-])/(?:wo" r"rk|fa" r"rm)/")


def tracked(root: Path) -> list[Path]:
    """Returns the files that git tracks or would track; without git, every file outside hidden directories."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        files = [file for file in root.rglob("*") if not any(_is_made(part) for part in file.relative_to(root).parts)]
    else:
        files = [root / name for name in listed.split("\0") if name]
    return sorted(file for file in files if file.is_file() and not file.is_symlink())


def _is_made(part: str) -> bool:
    return part == "__pycache__" or (part.startswith(".") and part not in (".ci", ".gitignore"))


def check_text(root: Path, files: Iterable[Path]) -> Iterator[str]:
    """Yields every line that marks unfinished work or names a directory of the machine it was written on."""
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # golden bytes and the like
        for number, line in enumerate(text.splitlines(), start=1):
            where = f"{file.relative_to(root).as_posix()}:{number}"
            if found := UNFINISHED.search(line):
                yield f"{where} says {found[0]}: finish it, or open an issue and say what is missing."
            if found := MACHINE_PATH.search(line):
                yield f"{where} names {found[0]}, a directory that other machines do not have."
