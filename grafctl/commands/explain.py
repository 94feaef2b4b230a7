"""`explain`: what an exit code means."""

from grafctl import names
from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument
from grafctl.errors import ERRORS, LATER_REASONS, NEVER_REASONS, DomainUnavailable
from grafctl.results import Listed
from grafctl.typed import Any

Code = Annotated[
    str,
    Argument(metavar="CODE", help="Exit code, or a word from JSON", parser=options.text_of("code"), show_default=False),
]

# What no error class stands for: success, the second word of 3, and the ways a process is ended from outside.
OTHERS: tuple[dict[str, Any], ...] = (
    {"exit": 0, "code": "ok", "meaning": "done, or nothing to do, or an idempotent replay", "retry": "no"},
    {"exit": 3, "code": "mismatch", "meaning": "only with --exit-code: differences were found", "retry": "no"},
    {"exit": 130, "code": "interrupted", "meaning": "Ctrl-C; what was acknowledged before is durable", "retry": "yes"},
    {"exit": 141, "code": "output_closed", "meaning": "the reader of standard output went away", "retry": "yes"},
    {"exit": 143, "code": "terminated", "meaning": "SIGTERM; what was acknowledged before is durable", "retry": "yes"},
)  # fmt: skip


def explain(code: Code, json: options.Json = False, output: options.Output = "table") -> None:
    """Explain an exit code or an error word

    Needs no store and changes nothing.

    Example: grafctl explain 11
    """
    found = [row for row in table() if code in (str(row["exit"]), row["code"], *row.get("reasons", ()))]
    known = ", ".join(dict.fromkeys(str(row["exit"]) for row in table()))
    options.require_one(
        bool(found),
        f"There is no exit code {names.shown(code)}.",
        f"The codes are {known}; 'grafctl explain 11' explains one.",
    )

    from grafctl import render

    render.show(Listed("codes", found), output, json)


def table() -> list[dict[str, Any]]:
    """Returns every exit code with its word, what it means and whether a retry can help; 11 and 12 share a class."""
    rows: list[dict[str, Any]] = []
    for error in ERRORS:
        row: dict[str, Any] = {
            "exit": error.exit_code,
            "code": error.code,
            "meaning": error.meaning,
            "retry": error.retryable,
        }
        if error is DomainUnavailable:
            reasons = {"meaning": "not authorised", "reasons": sorted(NEVER_REASONS)}
            later = {
                "exit": 12,
                "meaning": "authorised, but not now",
                "retry": "later",
                "reasons": sorted(LATER_REASONS),
            }
            rows += [row | reasons, row | later]
        else:
            rows.append(row)
    return sorted([*rows, *OTHERS], key=lambda row: int(str(row["exit"])))
