"""Every schedule against torch's own, step by step or epoch by epoch, and against values worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.optim import lr_scheduler

from orchestrator.base.build import build
from orchestrator.training.optimizers import sgd
from orchestrator.training.schedules import (
    ObservingSchedule,
    Schedule,
    adaptive,
    constant,
    cosine,
    cyclic_cosine,
    exponential,
    one_cycle,
    plateau,
    polynomial,
    step,
)

CONF = Path(__file__).parents[3] / "conf" / "schedule"

TWO: dict[str, Any] = {"epochs": 2, "steps_per_epoch": 1}
"""Settings where the times are given by hand."""


def halving(**provided: int) -> Schedule:
    spec = yaml.safe_load((CONF / "halving.yaml").read_text())
    spec.pop("search")
    schedule: Schedule = build(spec, **provided)
    return schedule


def rates(make: Callable[[Any], Any], count: int) -> list[float]:
    """The learning rates that a schedule of torch gives from 1, one for each of its steps."""
    optimizer = sgd([nn.Parameter(torch.ones(1))], lr=1.0)
    schedule, found = make(optimizer), []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_constant_is_one() -> None:
    schedule = constant(epochs=3, steps_per_epoch=2)
    assert [schedule(t) for t in (0, 0.5, 2.9)] == [1, 1, 1]


def test_step_drops_at_the_start_of_every_interval() -> None:
    schedule = step(epochs=90, steps_per_epoch=1, every_epochs=30, factor=0.5)
    assert [schedule(t) for t in (0, 29.99, 30, 59.99, 60, 89)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_cosine_from_one_to_the_final_factor() -> None:
    schedule = cosine(epochs=4, steps_per_epoch=10, final_factor=0.5)
    assert [schedule(t) for t in (0, 2, 4)] == pytest.approx([1, 0.75, 0.5])
    assert cosine(epochs=3, steps_per_epoch=10)(1) == pytest.approx(0.75)  # (1 + cos 60 degrees) / 2
    assert cosine(epochs=3, steps_per_epoch=10)(3) == 0


@pytest.mark.parametrize(
    ("schedule", "torchs"),
    [
        (halving(epochs=35, steps_per_epoch=1), lambda o: lr_scheduler.StepLR(o, 10, 0.5)),
        (exponential(epochs=35, steps_per_epoch=1, gamma=0.2), lambda o: lr_scheduler.ExponentialLR(o, math.exp(-0.2))),
        (cosine(epochs=35, steps_per_epoch=1), lambda o: lr_scheduler.CosineAnnealingLR(o, 35)),
        (polynomial(epochs=35, steps_per_epoch=1, power=2), lambda o: lr_scheduler.PolynomialLR(o, 35, 2)),
        (
            cyclic_cosine(epochs=35, steps_per_epoch=1, cycles=5),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 7),
        ),
    ],
    ids=["halving", "exponential", "cosine", "polynomial", "cyclic_cosine"],
)
def test_property_of_each_epoch_equals_torchs(schedule: Schedule, torchs: Callable[[Any], Any]) -> None:
    assert [schedule(epoch) for epoch in range(35)] == pytest.approx(rates(torchs, 35), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("gamma", [0.05, 0.2])
def test_property_exponential_is_e_to_minus_gamma_t_also_within_an_epoch(gamma: float) -> None:
    schedule = exponential(epochs=20, steps_per_epoch=4, gamma=gamma)
    assert [schedule(t / 4) for t in range(80)] == pytest.approx([math.exp(-gamma * t / 4) for t in range(80)])


def test_cycles_are_of_equal_length_also_where_they_end_within_an_epoch() -> None:
    schedule = cyclic_cosine(epochs=5, steps_per_epoch=4, cycles=2)
    assert [schedule(t) for t in (0, 1.25, 2.5, 3.75, 5)] == pytest.approx([1, 0.5, 1, 0.5, 0])


def test_polynomial_ends_at_its_final_factor() -> None:
    schedule = polynomial(epochs=4, steps_per_epoch=1, final_factor=0.2)
    assert [schedule(t) for t in (0, 1, 4)] == pytest.approx([1, 0.8, 0.2])


@pytest.mark.parametrize(("epochs", "steps", "rise"), [(6, 5, 0.3), (3, 1, 0.5), (2, 4, 0.9)])
def test_one_cycle_equals_torchs_at_every_step(epochs: int, steps: int, rise: float) -> None:
    schedule = one_cycle(epochs=epochs, steps_per_epoch=steps, rise=rise)
    expected = rates(
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, epochs * steps, pct_start=rise, cycle_momentum=False), epochs * steps
    )
    assert [schedule(s / steps) for s in range(epochs * steps)] == pytest.approx(expected, abs=1e-9)


def test_one_cycle_of_few_steps_begins_at_the_top() -> None:
    assert one_cycle(epochs=1, steps_per_epoch=1)(0) == 1
    assert one_cycle(epochs=1, steps_per_epoch=2, rise=0.5)(0) == 1


# schedules that observe -----------------------------------------------------------------------------------------------


def followed(schedule: Schedule, name: str, values: list[float]) -> list[float]:
    """The factor after each epoch, of which the metric is as given."""
    assert isinstance(schedule, ObservingSchedule)
    found = []
    for epoch, value in enumerate(values, 1):
        schedule.observe({name: value})
        found.append(schedule(epoch))
    return found


ACCURACIES = [0.3, 0.5, 0.5, 0.50001, 0.49, 0.6, 0.6, 0.6, 0.59, 0.2, 0.3, 0.4, 0.61, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("cooldown", [0, 2])
def test_property_plateau_equals_torchs_of_mode_max(cooldown: int) -> None:
    optimizer = sgd([nn.Parameter(torch.ones(1))], lr=1.0)
    torchs = lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", factor=0.1, patience=2, cooldown=cooldown, min_lr=0.005, eps=0
    )
    expected = []
    for accuracy in ACCURACIES:
        torchs.step(accuracy)
        expected.append(optimizer.param_groups[0]["lr"])
    schedule = plateau(epochs=30, steps_per_epoch=2, patience=2, cooldown=cooldown, min_factor=0.005)
    found = followed(schedule, "val/accuracy", ACCURACIES)
    assert found == pytest.approx(expected)
    assert len(set(found)) == 4 if cooldown == 0 else 3


@pytest.mark.parametrize(
    ("losses", "factor"),
    [
        ([1.0, 0.98, 0.96, 0.94], 1.2),  # slowly and steadily
        ([1.0, 0.7, 0.5, 0.3], 1.0),  # steadily and fast
        ([1.0, 0.98, 1.01, 0.96], 1.0),  # one of three rises
        ([1.0, 1.01, 1.02, 1.03], 0.5),  # rising
        ([1.0, 1.1, 0.9, 1.1], 0.5),  # fluctuating
        ([1.0, 0.9999, 0.9998, 0.9997], 0.5),  # flat
        ([0.0, 0.0, 0.0, 0.0], 0.5),
        ([1.0, 0.98, 0.96], 1.0),  # not yet a whole window
    ],
)
def test_property_adaptive_follows_the_advice(losses: list[float], factor: float) -> None:
    assert followed(adaptive(epochs=9, steps_per_epoch=2), "val/loss", losses)[-1] == factor


def test_adaptive_decides_again_after_each_window_up_to_its_highest_factor() -> None:
    losses = [0.99**epoch for epoch in range(8)]
    found = followed(adaptive(epochs=9, steps_per_epoch=2, window=2, max_factor=1.5), "val/loss", losses)
    assert found == pytest.approx([1, 1, 1.2, 1.2, 1.44, 1.44, 1.5, 1.5])


@pytest.mark.parametrize("warmup_epochs", [0, 2])
@pytest.mark.parametrize("make", [plateau, adaptive])
def test_observing_schedule_continues_from_its_state_as_if_never_stopped(
    make: Callable[..., Schedule], warmup_epochs: float
) -> None:
    name = "val/accuracy" if make is plateau else "val/loss"
    settings = {"patience": 1} if make is plateau else {"window": 2}
    settings |= {"epochs": 30, "steps_per_epoch": 2, "warmup_epochs": warmup_epochs}
    whole = followed(make(**settings), name, ACCURACIES)
    for cut in (0, 1, 3, 7):
        first, then = make(**settings), make(**settings)
        followed(first, name, ACCURACIES[:cut])
        assert isinstance(first, ObservingSchedule)
        assert isinstance(then, ObservingSchedule)
        then.restore(json.loads(json.dumps(first.state())))
        then_found = []
        for epoch, value in enumerate(ACCURACIES[cut:], cut + 1):
            then.observe({name: value})
            then_found.append(then(epoch))
        assert then_found == whole[cut:]


# warm-up --------------------------------------------------------------------------------------------------------------

WARMED = [constant, step, cosine, cyclic_cosine, exponential, polynomial, plateau, adaptive]


@pytest.mark.parametrize("make", WARMED)
def test_every_schedule_warms_up_in_a_line_from_the_first_step_and_then_begins(make: Callable[..., Schedule]) -> None:
    schedule = make(epochs=6, steps_per_epoch=4, warmup_epochs=2)
    alone = make(epochs=4, steps_per_epoch=4)
    steps = [schedule(step / 4) for step in range(8)]
    assert steps == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1])
    assert [schedule(2 + t) for t in (0, 1.5, 4)] == pytest.approx([alone(t) for t in (0, 1.5, 4)])


def test_a_choice_of_schedule_has_a_warm_up() -> None:
    choices = {path.stem: yaml.safe_load(path.read_text()) for path in CONF.glob("*.yaml")}
    assert {name for name, spec in choices.items() if "warmup_epochs" not in spec} == {"one_cycle"}


def test_plateau_does_not_count_the_epochs_of_its_warm_up() -> None:
    settings = {"epochs": 30, "steps_per_epoch": 2, "patience": 1}
    found = followed(plateau(**settings, warmup_epochs=3), "val/accuracy", [0.5] * 6)  # type: ignore[arg-type]
    assert found[3:] == followed(plateau(**settings), "val/accuracy", [0.5] * 3)  # type: ignore[arg-type]


def test_warm_up_shorter_than_a_step_is_none() -> None:
    assert cosine(epochs=2, steps_per_epoch=4, warmup_epochs=0.1)(0) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: step(**TWO, every_epochs=0), "every_epochs must be more than 0, got 0"),
        (lambda: step(**TWO, factor=1.5), "factor must be more than 0 and at most 1, got 1.5"),
        (lambda: cosine(**TWO, warmup_epochs=2), "warmup_epochs must be at least 0 and less than epochs=2, got 2"),
        (lambda: plateau(**TWO, warmup_epochs=-1), "warmup_epochs must be at least 0 and less than epochs=2, got -1"),
        (lambda: cosine(**TWO, final_factor=-1), "final_factor must be at least 0 and at most 1, got -1"),
        (lambda: polynomial(**TWO, final_factor=2), "final_factor must be at least 0 and at most 1, got 2"),
        (lambda: polynomial(**TWO, power=0), "power must be more than 0, got 0"),
        (lambda: exponential(**TWO, gamma=-1), "gamma must be at least 0, got -1"),
        (lambda: cyclic_cosine(**TWO, cycles=0), "cycles must be at least 1, got 0"),
        (lambda: one_cycle(**TWO, rise=1), "rise must be more than 0 and less than 1, got 1"),
        (lambda: one_cycle(**TWO, initial_factor=0), "initial_factor must be more than 0 and at most 1, got 0"),
        (lambda: plateau(**TWO, factor=1), "factor must be more than 0 and less than 1, got 1"),
        (lambda: plateau(**TWO, patience=-1), "patience must be at least 0, got -1"),
        (lambda: plateau(**TWO, min_factor=2), "min_factor must be at least 0 and at most 1, got 2"),
        (lambda: adaptive(**TWO, raise_by=0.5), "raise_by must be at least 1, got 0.5"),
        (lambda: adaptive(**TWO, lower_by=0), "lower_by must be more than 0 and at most 1, got 0"),
        (lambda: adaptive(**TWO, window=0), "window must be at least 1, got 0"),
        (lambda: adaptive(**TWO, flat=0.1), "flat must be at least 0 and less than slow=0.05, got 0.1"),
        (lambda: adaptive(**TWO, max_factor=0.5), "max_factor must be at least 1, got 0.5"),
    ],
)
def test_settings_outside_their_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
