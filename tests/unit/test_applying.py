"""The table of what entries do: every function is named in it, and every name in it has a function."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from grafctl.store.resources import applying


def test_the_table_names_every_function_that_applies_an_entry() -> None:
    folder = Path(str(applying.__file__)).parent
    found: dict[str, str] = {}
    for module in sorted(path.stem for path in folder.glob("*.py") if path.stem != "applying"):
        names = vars(import_module(f"grafctl.store.resources.{module}"))
        own = (name for name, value in names.items() if getattr(value, "__module__", "").endswith(f".{module}"))
        found |= {name.removeprefix("apply_"): module for name in own if name.startswith("apply_")}
    assert found == applying.MODULES
    assert all(callable(applying.function_for(change)) for change in applying.MODULES)
