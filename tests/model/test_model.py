"""The replication protocol, explored: all interleavings and crashes of small configurations, and all known errors.

What runs here takes about a minute on one core. `python -m model --long` from within `tests/` goes on for longer.
"""

from __future__ import annotations

import pytest

from grafctl.store.rules import RULES
from model import lock_all
from model.configurations import LONG, QUICK, Configuration
from model.explorer import Result, explore
from model.liveness import applies_to, check
from model.mutants import MUTANTS, STUCK, Mutant, hunt
from model.others import Wiper
from model.setting import CORRECT, Setting

LIVELY = [configuration for configuration in QUICK if applies_to(configuration.setting)]
SAFE_ONLY = [configuration for configuration in QUICK if not applies_to(configuration.setting)]
LONGER = [configuration for configuration in LONG if configuration.states < 150_000]


def _name(value: object) -> str:
    if isinstance(value, Configuration):
        return value.setting.name
    return str(getattr(value, "name", value))


def _require_safe(configuration: Configuration, result: Result) -> None:
    assert result.violation is None, str(result)
    assert result.states >= configuration.states, "fewer states than before: the check has become weaker"


@pytest.mark.parametrize("configuration", SAFE_ONLY, ids=_name)
def test_no_reachable_state_breaks_an_invariant(configuration: Configuration) -> None:
    _require_safe(configuration, explore(configuration.setting))


@pytest.mark.parametrize("configuration", LIVELY, ids=_name)
def test_no_reachable_state_breaks_an_invariant_or_stops_a_fresh_client(configuration: Configuration) -> None:
    result, visitor = check(configuration.setting)
    _require_safe(configuration, result)
    has_accident = any(isinstance(process, Wiper) for process in configuration.setting.processes)
    least = len(visitor.tried) // (2 if has_accident else 1)  # what was lost and is not repaired is not there
    assert visitor.recoveries >= least, "hardly any client had the quorums that it needs"


@pytest.mark.slow
@pytest.mark.parametrize("configuration", LONGER, ids=_name)
def test_no_reachable_state_of_a_longer_configuration_breaks_an_invariant(configuration: Configuration) -> None:
    _require_safe(configuration, explore(configuration.setting))


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_every_error_is_caught(mutant: Mutant) -> None:
    result = hunt(mutant)
    assert result.violation is not None, str(result)
    assert result.violation.startswith(mutant.breaks), str(result)


@pytest.mark.parametrize(("name", "setting", "options"), STUCK, ids=_name)
def test_every_standstill_is_caught(name: str, setting: Setting, options: dict[str, bool]) -> None:
    result, _ = check(setting, **options)
    assert result.violation is not None and result.violation.startswith("I8"), str(result)


# Where neither the rules nor the processes are wrong, the accident itself is the error: a voter wiped, its name kept.
MENDABLE = [mutant for mutant in MUTANTS if (mutant.rules, mutant.behaviour) != (RULES, CORRECT)]
SOUND = [configuration.setting._replace(name="") for configuration in QUICK]  # explored above, under another name
OTHERS = {m.setting.name: m.setting for m in MENDABLE if m.setting._replace(name="") not in SOUND}


@pytest.mark.parametrize("setting", OTHERS.values(), ids=_name)
def test_what_catches_an_error_is_sound_without_it(setting: Setting) -> None:
    result = explore(setting)
    assert result.violation is None, str(result)


def test_locking_a_majority_without_promises_loses_an_acknowledged_record() -> None:
    found = lock_all.violation()
    assert found is not None
    wrong, trace = found
    assert wrong.startswith("I1")
    assert len(trace) == 6


def test_writing_primary_and_backup_at_once_is_wrong_even_where_all_must_be_durable() -> None:
    caught = {mutant.setting.name for mutant in MUTANTS if mutant.behaviour.plans}
    assert {"n2w2 x, y", "n3w3 x, y"} <= caught


def test_an_exploration_is_the_same_every_time() -> None:
    first, again = explore(QUICK[1].setting), explore(QUICK[1].setting)
    assert (first.states, first.edges) == (again.states, again.edges)
