"""What ensembles cost: sums over members, and networks timed where their weights are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from orchestrator.ensembles.costs import Latencies, Latency, multiply_adds, parameters
from tests.ensembles.made import made_pool
from tests.serving.trained import config, trained_sweep


def test_costs_are_sums_and_unknown_where_one_is() -> None:
    pool = made_pool(3, 20)
    costs = [(10, 100), (20, None), (30, 300)]
    members = tuple(
        replace(member, parameters=one, multiply_adds=other)
        for member, (one, other) in zip(pool.members, costs, strict=True)
    )
    pool = replace(pool, members=members)
    assert parameters(pool, [0, 1, 2]) == 60
    assert multiply_adds(pool, [0, 2]) == 400
    assert multiply_adds(pool, [0, 1]) is None


def test_what_has_no_weights_here_is_not_timed(tmp_path: Path) -> None:
    timer = Latencies({"there-00000001": tmp_path / "there-00000001"})
    assert timer.of(["elsewhere-00000002/0"]) is None
    assert timer.of(["there-00000001/0"]) is None
    assert "not on this machine" in timer.reasons["elsewhere-00000002/0"]
    assert "no sweep of that name" in timer.reasons["there-00000001/0"]


def test_a_latency_is_the_least_median_and_says_how_far_others_are() -> None:
    """Three blocks of seven rounds by hand: another program slows the second one down, and a single round of the third."""
    calm, busy, odd = [2.0] * 7, [5.0] * 4 + [9.0] * 3, [2.5] * 6 + [400.0]
    assert Latency.of([*calm, *busy, *odd]) == Latency(2.0, 2.5)
    assert Latency.of([3.0] * 21) == Latency(3.0, 1.0)


@pytest.mark.slow
def test_members_whose_weights_are_kept_are_timed_once_each(tmp_path: Path) -> None:
    sweep = trained_sweep(tmp_path / "runs" / "digits-00000001", config(), config(seed=1))
    timer = Latencies({sweep.uid: sweep.folder}, batch=8)
    names, threads = [f"{sweep.uid}/{index}" for index in (0, 1)], torch.get_num_threads()
    both = timer.of(names)
    assert both is not None
    assert both == pytest.approx(sum(timer.of([name]) or 0.0 for name in names)), "measured once, and added"
    assert both > 0
    assert timer.spread is not None
    assert timer.spread >= 1
    assert not timer.reasons
    assert torch.get_num_threads() == threads, "as many as before"
