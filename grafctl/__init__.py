"""grafctl keeps durable work in several failure domains and moves it between them; `grafctl.open(path)` is the door."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from grafctl.client import Outgoing, Store, apply, create, keygen, open, restore
    from grafctl.pipeline.building import Pipeline
    from grafctl.worker import Worker

__version__ = "0.1.0"
__all__ = ["Outgoing", "Pipeline", "Store", "Worker", "__version__", "apply", "create", "keygen", "open", "restore"]


def __getattr__(name: str) -> object:
    # Lazy, because `grafctl --version` and completion must not pay for the store.
    if name in ("Outgoing", "Store", "apply", "create", "keygen", "open", "restore"):
        from grafctl import client

        return getattr(client, name)
    if name == "Worker":
        from grafctl import worker

        return worker.Worker
    if name == "Pipeline":
        from grafctl.pipeline import building

        return building.Pipeline
    raise AttributeError(f"module 'grafctl' has no attribute {name!r}")
