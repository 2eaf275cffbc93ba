"""Why a trial diverged and what to try, in words."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from orchestrator.analysis.health import health_words
from orchestrator.base.records import CAN_BE_BEST, Divergence
from orchestrator.journal.record import TrialRecord

EARLY = 10
"""Steps from the beginning; what diverges within them began much too fast."""

SUDDEN = 10.0
"""A gradient that is so many times as long as usual is an outlier, and is shortened."""

WHAT = {
    "outputs": "the outputs of",
    "gradients": "the gradients of",
    "weights": "the step made the weights of",
}


def divergence_words(told: Divergence, reason: str | None = None) -> str:
    """What left the finite range first, where and at which learning rate, in one sentence.

    Args:
        reason: how the trial ended, which says where it was noticed; often later than it began.
    """
    if not told["replayed"]:
        why = told.get("why") or "trained again from the last checkpoint, it did not diverge, as may be on a GPU"
        return f"where it began is not known: {why}"
    where = f"epoch {told['epoch']}, step {told['step']} of {told.get('steps')}"
    good = told.get("last_good")
    before = f"the last good step was step {good[1]} of epoch {good[0]}" if good else "there was no good step before"
    if told.get("validation"):
        where = f"the validation after epoch {told['epoch']}"
        before = f"all {told.get('steps')} steps of that epoch were good"
    what = WHAT.get(told.get("signal", ""))
    left = "the loss was the first that was not finite, though all outputs were"
    if what is not None:
        kind = "not finite" if told.get("signal") == "weights" else "were not finite first"
        left = f"{what} module {told.get('layer')} {kind}"
    sentence = f"it began at {where}: {left}, at learning rate {told.get('lr', 0.0):.3g}; {before}"
    if gradient := told.get("gradient"):
        sentence += f"; the gradient had length {gradient[1]:.2g} there, and usually {gradient[0]:.2g} in that epoch"
    if reason and not told.get("validation") and not reason.endswith(f" epoch {told['epoch']}, step {told['step']}"):
        sentence += f"; it was noticed later ({reason})"
    return sentence


Rates = Mapping[str, Sequence[tuple[float, int]]]
"""Target of an optimizer -> learning rates with which a trial did not diverge, ascending, each with a trial's number."""


def good_rates(trials: Iterable[TrialRecord]) -> Rates:
    """The learning rates of the trials of a sweep that gave a result."""
    found: dict[str, dict[float, int]] = {}
    for trial in trials:
        lr = _argument(trial.config, "optimizer", "lr")
        if trial.state in CAN_BE_BEST and lr is not None:
            found.setdefault(str(trial.config["optimizer"].get("_target_")), {}).setdefault(lr, trial.index)
    return {target: sorted(rates.items()) for target, rates in found.items()}


def divergence_advice(trial: TrialRecord, good: Rates = MappingProxyType({})) -> list[str]:
    """What to try, the most promising first, as overrides with a word why; from what was found and is not set yet.

    A learning rate that diverges is divided by 3 until it does not: Bengio 2012, Practical Recommendations, arXiv:1206.5533,
    section 3.1.1. A trial that diverges at once is far off, and takes two such divisions.

    Args:
        good: of the other trials of its sweep; what is known to train comes before what may.
    """
    known = _known_to_train(trial, good)
    untried = _untried(trial)
    if len(untried) > 1 or (known and untried):
        untried.append("several of these together: each alone may not be enough")
    return [*known, *untried]


def _known_to_train(trial: TrialRecord, good: Rates) -> list[str]:
    """The largest learning rate below its own with which a trial of the same optimizer did not diverge."""
    lr = _argument(trial.config, "optimizer", "lr")
    if lr is None:
        return []
    rates = good.get(str(trial.config["optimizer"].get("_target_")), ())
    place = bisect_left(rates, (lr, -1))
    if place == 0:
        return []
    rate, index = rates[place - 1]
    return [f"optimizer.lr={rate:.6g}: trial {index} of this sweep did not diverge with it"]


def _untried(trial: TrialRecord) -> list[str]:
    told, config = trial.divergence, trial.config
    health = trial.init_health
    advice = []
    if health and health["verdict"] == "exploding":
        advice.append(
            f"a smaller initialization, such as init=kaiming or a smaller init.std: it is {health_words(health)}"
        )
    at_once = told is not None and told["epoch"] == 1 and told["step"] <= EARLY
    if (lr := _argument(config, "optimizer", "lr")) is not None:
        advice.append(
            f"optimizer.lr={lr / (9 if at_once else 3):.2g}: {'a ninth' if at_once else 'a third'} of what it was"
        )
    if told is not None and told["epoch"] == 1 and _argument(config, "schedule", "warmup_epochs") == 0:
        advice.append("schedule.warmup_epochs=1: it diverged in the first epoch")
    if told is not None and config.get("clip_grad_norm") is None and (gradient := told.get("gradient")):
        usual, last = gradient
        if last > SUDDEN * usual > 0:
            advice.append(f"clip_grad_norm={usual:.2g}, the usual length of the gradient: it grew suddenly")
    if _choice(config, "norm") == "none":
        advice.append("norm=batch: nothing is normalized")
    return advice


def _argument(config: Mapping[str, Any], group: str, name: str) -> float | None:
    spec = config.get(group)
    value = spec.get(name) if isinstance(spec, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _choice(config: Mapping[str, Any], group: str) -> object:
    choices = config.get("choices")
    return choices.get(group) if isinstance(choices, Mapping) else None
