"""Patience on scores written down, and in a trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.base.records import Trial
from orchestrator.training.early_stopping.patience import patience
from orchestrator.training.trial import TrialRun

MakeTrial = Callable[..., Trial]
PATIENCE = "orchestrator.training.early_stopping.patience.patience"


@pytest.mark.parametrize(
    ("scores", "epochs", "min_delta", "ends"),
    [
        ([1, 2, 3, 4], 1, 0.0, False),
        ([1, 2, 2], 1, 0.0, True),
        ([1, 3, 2, 2], 3, 0.0, False),
        ([1, 3, 2, 2, 3], 3, 0.0, True),  # as good again is no improvement
        ([5], 1, 0.0, False),
        ([5, 4], 1, 0.0, True),
        ([1.0, 1.05, 1.09], 2, 0.1, True),
        ([1.0, 1.05, 1.11], 2, 0.1, False),  # small steps add up to one that counts
        ([-3.0, -2.0, -2.5], 2, 0.0, False),
    ],
)
def test_it_ends_after_so_many_epochs_without_an_improvement(
    scores: list[float], epochs: int, min_delta: float, ends: bool
) -> None:
    assert (patience(patience=epochs, min_delta=min_delta)(scores) is not None) == ends


@pytest.mark.parametrize(("arguments", "said"), [({"patience": 0}, "at least 1"), ({"min_delta": -0.1}, "at least 0")])
def test_wrong_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        patience(**arguments)


@pytest.mark.parametrize(("metric", "mode"), [("val/accuracy", "max"), ("val/loss", "min")])
def test_a_trial_ends_early_keeps_its_best_epoch_and_says_so(trial: MakeTrial, metric: str, mode: str) -> None:
    rule = {"_target_": PATIENCE, "patience": 2, "min_delta": 0.0}
    changes: dict[str, Any] = {"metric": metric, "mode": mode, "epochs": 60}
    changes["data"] = {"_target_": "orchestrator.training.data.synthetic.synthetic", "num_examples": 150, "noise": 5.0}
    sgd = {"_target_": "orchestrator.training.optimizers.sgd", "lr": 0.05, "momentum": 0.9}  # learns by heart
    run = TrialRun(trial("early", early_stopping=rule, optimizer=sgd, **changes))
    values = [result.metrics[metric] for result in run]
    best = max(values) if mode == "max" else min(values)
    assert len(values) < 60
    assert len(values) == values.index(best) + 1 + 2
    assert run.whole
    outcome = run.finish()
    assert outcome.best_epoch == values.index(best) + 1
    assert outcome.reason == f"stopped early after epoch {len(values)}: no improvement for 2 epochs"


def test_without_a_rule_all_epochs_are_trained(trial: MakeTrial) -> None:
    run = TrialRun(trial("all", early_stopping={}, epochs=3))
    assert len([*run]) == 3
    assert run.stopped_early is None
    assert run.finish().reason is None
