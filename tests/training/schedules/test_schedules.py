from __future__ import annotations

import pytest

from orchestrator.training.schedules import constant, cosine, step


def test_constant_is_one() -> None:
    schedule = constant(epochs=3)
    assert [schedule(t) for t in (0, 0.5, 2.9)] == [1, 1, 1]


def test_step_drops_at_the_start_of_every_interval() -> None:
    schedule = step(epochs=90, every_epochs=30, factor=0.5)
    assert [schedule(t) for t in (0, 29.99, 30, 59.99, 60, 89)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_cosine_from_one_to_the_final_factor() -> None:
    schedule = cosine(epochs=4, steps_per_epoch=10, final_factor=0.5)
    assert [schedule(t) for t in (0, 2, 4)] == pytest.approx([1, 0.75, 0.5])
    assert cosine(epochs=3, steps_per_epoch=10)(1) == pytest.approx(0.75)  # (1 + cos 60 degrees) / 2
    assert cosine(epochs=3, steps_per_epoch=10)(3) == 0


def test_cosine_warms_up_in_a_line_from_the_first_step_and_then_falls_over_what_is_left() -> None:
    schedule = cosine(epochs=6, steps_per_epoch=4, warmup_epochs=2)
    steps = [schedule(step / 4) for step in range(8)]
    assert steps == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1])
    assert [schedule(t) for t in (2, 4, 6)] == pytest.approx([1, 0.5, 0])


def test_warm_up_shorter_than_a_step_is_none() -> None:
    assert cosine(epochs=2, steps_per_epoch=4, warmup_epochs=0.1)(0) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: step(epochs=3, every_epochs=0), "every_epochs must be more than 0, got 0"),
        (lambda: step(epochs=3, factor=1.5), "factor must be more than 0 and at most 1, got 1.5"),
        (
            lambda: cosine(epochs=3, steps_per_epoch=10, warmup_epochs=3),
            "warmup_epochs must be at least 0 and less than epochs=3, got 3",
        ),
        (
            lambda: cosine(epochs=3, steps_per_epoch=10, final_factor=-1),
            "final_factor must be at least 0 and at most 1, got -1",
        ),
    ],
)
def test_settings_outside_their_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
