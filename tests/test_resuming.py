"""What of an earlier command line stays when a sweep is resumed."""

import pytest

from orchestrator.resuming import merged


@pytest.mark.parametrize(
    ("before", "now", "together"),
    [
        (["seed=1", "trials=4"], [], ["seed=1", "trials=4"]),
        (["seed=1", "trials=4"], ["trials=8"], ["seed=1", "trials=8"]),
        (["sampler=tpe", "sampler.startup_trials=4"], ["sampler=random"], ["sampler=random"]),
        (["sampler=tpe"], ["sampler.startup_trials=4"], ["sampler=tpe", "sampler.startup_trials=4"]),
        (["optimizer=sgd,adam", "optimizer.lr=0.1,0.2"], ["optimizer=sgd"], ["optimizer.lr=0.1,0.2", "optimizer=sgd"]),
    ],
)
def test_the_later_word_counts(before: list[str], now: list[str], together: list[str]) -> None:
    assert merged(before, now) == together
