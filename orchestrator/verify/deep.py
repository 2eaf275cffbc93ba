"""`verify --deep`: the kept weights are evaluated again, on the CPU, and have to give the recorded numbers. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.base.errors import OrchestratorError
from orchestrator.base.layout import BEST
from orchestrator.base.records import State
from orchestrator.base.upgrades import current_config
from orchestrator.journal.events import Reported
from orchestrator.verify.evidence import TrialEvidence
from orchestrator.verify.rules import Finding, Invariant, NotApplicable, NotChecked

SAME_MACHINE = ("device", "cpu_capability", "threads", "torch")
"""Where these are as they were, the CPU computes the same bits."""

RELATIVE, SHARE = 1e-3, 2e-3
"""Elsewhere losses may differ by this much of themselves, and shares of examples by this much."""


def same_scores(trial: TrialEvidence) -> Iterator[Finding]:
    """Validation as at the best epoch, and the test as at the end."""
    weights = trial.folder / BEST
    if trial.terminal is None or trial.state not in (State.COMPLETED, State.STOPPED) or not weights.is_file():
        raise NotApplicable
    from orchestrator.training.checkpoint import Damaged
    from orchestrator.training.restored import evaluated_again

    try:
        found, ran_on = evaluated_again(current_config(trial.suggested.config), weights, uid=trial.uid_in_files)
    except Damaged as error:
        yield Finding(f"{BEST} cannot be used: {error}", "the weights of its best epoch")
        return
    except RuntimeError as error:
        yield Finding(f"{BEST} does not fit the model ({' '.join(str(error).split())[:160]})", "weights that do")
        return
    except (OrchestratorError, ImportError, OSError) as error:
        why = " ".join(str(error).split())[:400]
        raise NotChecked(
            f"not evaluated again ({why}); for your own code add allowed_targets= and import_paths="
        ) from error
    best = trial.terminal.best_epoch
    at_best: Mapping[str, Any] = next((epoch["metrics"] for epoch in trial.epochs if epoch["epoch"] == best), {})
    recorded = {key: value for key, value in at_best.items() if key.startswith("val/")} | dict(trial.terminal.metrics)
    exact = _same_machine(trial, ran_on)
    for key, value in found.items():
        said = recorded.get(key)
        if said is not None and not _equal(key, value, said, exact):
            yield Finding(f"{key} of the kept weights is {value}", f"{said}{'' if exact else ', about'}")


def _same_machine(trial: TrialEvidence, here: Mapping[str, Any]) -> bool:
    """Whether every attempt computed on what this process computes on."""
    events = [entry.event for entry in trial.of(Reported)]
    there = [event.ran_on for event in events if isinstance(event, Reported) and event.ran_on]
    return bool(there) and all(ran_on.get(key) == here[key] for ran_on in there for key in SAME_MACHINE)


def _equal(key: str, value: float, said: object, exact: bool) -> bool:
    if not isinstance(said, int | float):
        return False
    if exact:
        return value == said
    return abs(value - said) <= (SHARE if key.endswith("accuracy") else max(RELATIVE * abs(said), 1e-6))


DEEP = Invariant(19, "the kept weights give the recorded numbers", trial=(same_scores,))
