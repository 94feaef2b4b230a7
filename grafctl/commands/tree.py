"""Which commands there are, in the order of the help, and the module that holds each; the modules are imported late."""

from __future__ import annotations

from grafctl.typed import Any, Callable

# Each command and the module that holds it, in the order of the help.
COMMANDS = {
    "init": "init",
    "publish": "publish",
    "poll": "poll",
    "peek": "poll",
    "ack": "ack",
    "nack": "ack",
    "fence": "fence",
    "catch-up": "catch_up",
    "can": "can",
    "status": "status",
    "verify": "status",
    "doctor": "status",
    "backup": "backup",
    "restore": "backup",
    "plan": "apply",
    "apply": "apply",
    "drift": "apply",
    "explain": "explain",
}

# Each group, its help and its commands; they are functions of the module with the group's name.
GROUPS = {
    "domain": ("Manage the failure domains of a store", "add list show fail restore repair remove"),
    "authority": ("Manage who may sign health observations", "keygen add list revoke"),
    "health": ("State and list the health of domains", "observe list"),
    "queue": ("Manage queues", "create list show trim"),
    "topic": ("Manage topics", "create list show trim"),
    "idem": ("Manage stores of what was done under a key", "create list show reserve complete release expire"),
    "table": ("Keep values under keys", "create list show put get delete scan count load export"),
    "vshard": (
        "Move parts of a table while it is written",
        "list show status plan migrate resume cutover throttle reverse cancel retire",
    ),
    "schema": ("Manage what records must look like", "add list show"),
    "consumer": (
        "Manage the groups that read a resource",
        "create list show pause resume seek shift "
        "attach detach compare switch soak rollback lock status report plan wave",
    ),
    "dead": ("Inspect and redeliver failed work", "list redrive"),
    "lease": ("Hold local segments for a time", "acquire renew release revoke forget list"),
    "edge": ("Pass records between stages of one domain", "create push pop relocate remove status"),
    "placement": ("Manage which domains may use a resource or group", "show set"),
    "policy": ("Manage how many copies an answer needs", "show set"),
    "locator": ("Manage which domains hold a resource", "show history set"),
    "pipeline": ("Check and run pipelines declared in TOML", "validate test plan run status tap graph"),
    "audit": ("Read the chained record of changes and refusals", "tail verify explain"),
    "completion": ("Complete commands and names with the tab key", "show install"),
}


def function_of(module: str, name: str) -> Callable[..., None]:
    """Imports the module of a command and returns its function."""
    source: Any = __import__(f"grafctl.commands.{module}", fromlist=["commands"])  # not importlib: it takes 1 ms
    attribute = name.replace("-", "_")
    function: Callable[..., None] = getattr(source, attribute, None) or getattr(source, attribute + "_")
    return function
