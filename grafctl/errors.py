"""Every way in which grafctl says no: one class a code, each with its exit code and whether a retry can help.

Promises
- A class carries `code` (the word in JSON), `exit_code` (what a shell sees) and `retryable`; `EXIT_CODES` is the whole
  table, and a test compares it with `docs/exit-codes.md` and `grafctl explain`.
- `message` is one sentence, `hint` one sentence that names a command; `fields` are JSON values and never hold a payload
  or a secret.
- The driver's own errors (`DriverError` and below) never reach a user: the log turns them into one of the others, and
  what it lets through is `told`.
"""

from __future__ import annotations

from grafctl.typed import Any, ClassVar


class GrafctlError(Exception):
    """The root of everything that a caller of the library may catch."""

    code: ClassVar[str] = "internal"
    exit_code: int = 1
    retryable: ClassVar[str] = "no"
    meaning: ClassVar[str] = "a bug in grafctl"

    def __init__(self, message: str, *, hint: str | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = {name: value for name, value in fields.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """Returns the object that `--json` prints on stderr."""
        body: dict[str, Any] = {"v": 1, "ok": False, "code": self.code, "exit": self.exit_code}
        body["retryable"] = self.retryable not in ("no", "never")
        body["message"] = self.message
        if self.hint:
            body["hint"] = self.hint
        body.update(self.fields)
        return body


class Internal(GrafctlError):
    """Returned when an invariant of the program itself does not hold."""


class Usage(GrafctlError):
    """Returned when a flag or an argument is absent, of the wrong type or out of range."""

    code = "usage"
    exit_code = 2
    meaning = "flags or arguments"


class Changes(GrafctlError):
    """Returned only with `--exit-code`: a plan, a drift or a verify has findings."""

    code = "changes"
    exit_code = 3
    meaning = "only with --exit-code: a plan has changes, verify or drift found differences"


class Empty(GrafctlError):
    """Returned only with `--fail-empty`: nothing was delivered."""

    code = "empty"
    exit_code = 4
    retryable = "later"
    meaning = "only with --fail-empty: nothing delivered"


class NotFound(GrafctlError):
    """Returned when a store, domain, resource or group that an argument names does not exist."""

    code = "not_found"
    exit_code = 10
    meaning = "no such store, domain, resource or group"


NEVER_REASONS = frozenset({"not_in_placement", "not_in_locator"})
LATER_REASONS = frozenset({"unhealthy", "not_caught_up", "unreachable"})


class DomainUnavailable(GrafctlError):
    """Returned when a domain may not (exit 11) or cannot now (exit 12) do what was asked; `reason` says which."""

    code = "domain_unavailable"
    exit_code = 11
    retryable = "never"
    meaning = (
        "not authorised (11: not_in_placement, not_in_locator) or not now (12: unhealthy, not_caught_up, unreachable)"
    )

    def __init__(self, message: str, *, reason: str, hint: str | None = None, **fields: Any) -> None:
        assert reason in NEVER_REASONS | LATER_REASONS, reason
        super().__init__(message, hint=hint, reason=reason, **fields)
        self.reason = reason
        if reason in LATER_REASONS:
            self.exit_code = 12

    def as_json(self) -> dict[str, Any]:
        body = super().as_json()
        body["retryable"] = self.exit_code == 12
        return body


class GenerationConflict(GrafctlError):
    """Returned when a generation did not advance by one, or a compare-and-set was lost."""

    code = "generation_conflict"
    exit_code = 13
    retryable = "look again"
    meaning = "generation did not advance by one, or a compare-and-set was lost"

    def as_json(self) -> dict[str, Any]:
        return super().as_json() | {"retryable": False}


class Fenced(GrafctlError):
    """Returned when the caller's epoch or lease token is older than the one in force."""

    code = "fenced"
    exit_code = 14
    meaning = "stale epoch"


class ConfirmationRequired(GrafctlError):
    """Returned when a destructive act was declined, or there is no terminal and no `--yes`."""

    code = "confirmation_required"
    exit_code = 15
    meaning = "declined, or no terminal and no --yes"


class IdempotencyConflict(GrafctlError):
    """Returned when an id was used before with another payload; shows hashes, never payloads."""

    code = "idempotency_conflict"
    exit_code = 16
    meaning = "same id, other payload"


class SchemaMismatch(GrafctlError):
    """Returned when a record is refused by its schema."""

    code = "schema_mismatch"
    exit_code = 17
    meaning = "record refused by its schema"


class HealthRejected(GrafctlError):
    """Returned when a health observation is unsigned, wrongly signed, of an unknown authority, or goes back in time."""

    code = "health_rejected"
    exit_code = 18
    meaning = "unsigned, unknown authority, bad signature, time going back"


class ProofRequired(GrafctlError):
    """Returned when there is no proof, the proof is stale, the catch-up failed, or the proof would be vacuous.

    Also when the outputs of a switch differ, and when its consumer was taken back because a rule is broken.
    """

    code = "proof_required"
    exit_code = 19
    retryable = "after catch-up"
    meaning = "no proof, stale proof, failed catch-up, vacuous proof; outputs that differ, a regression of a switch"

    def as_json(self) -> dict[str, Any]:
        return super().as_json() | {"retryable": False}


class PauseBudgetExceeded(GrafctlError):
    """Returned when a write pause would pass or passed its budget; the source stays authoritative."""

    code = "pause_budget_exceeded"
    exit_code = 20
    retryable = "later"
    meaning = "write pause would pass or passed its budget; source stays authoritative"


class NoQuorum(GrafctlError):
    """Returned when too few voters answer; `outcome` is `not_written` or `unknown`."""

    code = "no_quorum"
    exit_code = 21
    retryable = "later"
    meaning = "not enough healthy voters; also says whether the outcome is unknown"


class Busy(GrafctlError):
    """Returned when a lock wait ran out or another migration is in progress."""

    code = "busy"
    exit_code = 22
    retryable = "yes"
    meaning = "lock wait ran out, migration in progress"


class StoreFull(GrafctlError):
    """Returned when a map, a disk or a quota is full."""

    code = "store_full"
    exit_code = 23
    meaning = "map, disk or quota"


class Timeout(GrafctlError):
    """Returned when `--timeout` or `--wait` ran out."""

    code = "timeout"
    exit_code = 24
    retryable = "yes"
    meaning = "--timeout, --wait ran out"


class Corrupt(GrafctlError):
    """Returned when a checksum or an invariant failed; names the domain and the key."""

    code = "corrupt"
    exit_code = 25
    meaning = "a checksum or invariant failed; names domain and key"


class ExternalFailed(GrafctlError):
    """Returned when a program, a file or a warehouse that a pipeline works with fails; what was committed stays."""

    code = "external_failed"
    exit_code = 26
    retryable = "later"
    meaning = "a program, a file or a warehouse outside the store failed"


class InvalidConfig(GrafctlError):
    """Returned with all problems of a TOML file at once; `problems` holds (line, sentence) pairs."""

    code = "invalid_config"
    exit_code = 78
    meaning = "a TOML file, with all its problems, file and line"

    def __init__(self, file: str, problems: list[tuple[int, str]]) -> None:
        count = len(problems)
        super().__init__(
            f"{file} has {count} problem{'s' if count != 1 else ''}.",
            hint="Mend the lines named above and run the same command again.",
            file=file,
            problems=[{"file": file, "line": line, "message": text} for line, text in problems],
        )
        self.file = file
        self.problems = problems


class DriverError(Exception):
    """The root of what a driver may raise; `domain` is the environment it happened in."""

    def __init__(self, domain: str, why: str) -> None:
        super().__init__(f"{domain}: {why}")
        self.domain = domain
        self.why = why


class Unreachable(DriverError):
    """Nothing was read or written: the environment is failed, missing, foreign or locked past the deadline."""


class Locked(Unreachable):
    """Raised when another writer kept the lock of an environment for longer than the caller would wait."""


class BeingChecked(Unreachable):
    """Something else has changed the files of a domain, and they are being read through: it may be back soon."""


class Full(DriverError):
    """Nothing was written: map or disk is full; where `grown`, there is more room now and the block may run again."""

    def __init__(self, domain: str, why: str, *, grown: bool = False) -> None:
        super().__init__(domain, why)
        self.grown = grown


class OutcomeUnknown(DriverError):
    """An I/O error in the middle of a commit: it may or may not be durable; the handle was closed."""


class Damaged(DriverError):
    """The environment cannot be trusted: a checksum failed, the file is torn, or an older copy was put back."""


def told(error: DriverError) -> GrafctlError:
    """Returns what to tell a user of a driver's error that nobody could make good."""
    domain = error.domain
    message = f"{domain}: {error.why.removeprefix(f'{domain}: ').rstrip('.')}."
    if isinstance(error, Damaged):
        return Corrupt(message, hint="Run `grafctl verify`.", domain=domain)
    if isinstance(error, Full):
        return StoreFull(message, domain=domain)
    if isinstance(error, OutcomeUnknown):
        return NoQuorum(message, hint="Run the same command again.", outcome="unknown", domains=[domain])
    return DomainUnavailable(message, reason="unreachable", hint="Run `grafctl status`.", domain=domain)


ERRORS: tuple[type[GrafctlError], ...] = (
    Internal, Usage, Changes, Empty, NotFound, DomainUnavailable, GenerationConflict, Fenced, ConfirmationRequired,
    IdempotencyConflict, SchemaMismatch, HealthRejected, ProofRequired, PauseBudgetExceeded, NoQuorum, Busy, StoreFull,
    Timeout, Corrupt, ExternalFailed, InvalidConfig,
)  # fmt: skip
