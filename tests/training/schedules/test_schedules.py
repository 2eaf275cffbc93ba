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
    schedule = cosine(epochs=4, final_factor=0.5)
    assert [schedule(t) for t in (0, 2, 4)] == pytest.approx([1, 0.75, 0.5])
    assert cosine(epochs=3)(1) == pytest.approx(0.75)  # (1 + cos 60 degrees) / 2
    assert cosine(epochs=3)(3) == 0


def test_cosine_warms_up_in_a_line_and_then_falls_over_what_is_left() -> None:
    schedule = cosine(epochs=6, warmup_epochs=2)
    assert [schedule(t) for t in (0, 1, 2, 4, 6)] == pytest.approx([0, 0.5, 1, 0.5, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: step(epochs=3, every_epochs=0), "every_epochs must be more than 0, got 0"),
        (lambda: step(epochs=3, factor=1.5), "factor must be more than 0 and at most 1, got 1.5"),
        (lambda: cosine(epochs=3, warmup_epochs=3), "warmup_epochs must be at least 0 and less than epochs=3, got 3"),
        (lambda: cosine(epochs=3, final_factor=-1), "final_factor must be at least 0 and at most 1, got -1"),
    ],
)
def test_settings_outside_their_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
