"""What a sweep runs on is decided once, and a resume keeps it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.config.plan import SweepPlan
from orchestrator.config.planning import plan as make_plan
from orchestrator.journal.events import SweepOpened, SweepResumed
from orchestrator.journal.record import SweepRecord
from orchestrator.sweep.resources import Place, check_same, nearest_existing, with_gpus, with_gpus_of

FAR = ["data=synthetic", "search=none", "cluster=ray", "cluster.address=host:6379"]


@pytest.fixture(scope="module")
def plan() -> SweepPlan:
    return make_plan(FAR)


def computing(plan: SweepPlan, precision: str) -> SweepPlan:
    return replace(plan, base={**plan.base, "precision": precision})


def opening(environment: dict[str, Any]) -> SweepOpened:
    return SweepOpened(
        uid="s", name="s", metric="m", mode="max", trials=1, folder="", plan="", tracking={}, environment=environment
    )


@pytest.mark.parametrize(
    ("asked", "device", "most", "gpus"),
    [
        (None, "auto", 8, 1),
        (None, "auto", 0, 0),
        (None, "cuda", 1, 1),
        (None, "cpu", 8, 0),
        (0, "auto", 8, 0),
        (0.25, "auto", 8, 0.25),
    ],
)
def test_where_there_are_gpus_a_trial_gets_one(
    plan: SweepPlan, asked: float | None, device: str, most: float, gpus: float
) -> None:
    given = replace(plan, settings={**plan.settings, "gpus_per_trial": asked, "device": device})
    decided = with_gpus(given, most)
    assert decided.settings["gpus_per_trial"] == gpus
    assert asked is not None or decided.base["gpus_per_trial"] == gpus


def test_a_resume_keeps_the_gpus_that_were_decided(plan: SweepPlan) -> None:
    begun = with_gpus(plan, 4)
    assert plan.settings["gpus_per_trial"] is None
    resumed = with_gpus_of(begun.settings, plan)
    assert resumed.settings["gpus_per_trial"] == resumed.base["gpus_per_trial"] == 1


def test_a_resume_where_the_nodes_decide_for_another_precision_is_refused(plan: SweepPlan) -> None:
    place = Place(computing(plan, "fp32"), 2, ("cpu AVX2",))
    with pytest.raises(
        NotReadyError, match=r"computes in bf16, and on this cluster it would be fp32 \(cpu AVX2\); resume"
    ):
        check_same(place, SweepRecord(), computing(plan, "bf16"))


def test_a_resume_on_another_instruction_set_is_noted(plan: SweepPlan) -> None:
    record = SweepRecord(opening=opening({"computes_on": ["cpu AVX512"]}))
    before = computing(plan, "fp32")
    assert check_same(Place(before, 2, ("cpu AVX512",)), record, before) == {}
    changed = {"computes_on": [["cpu AVX512"], ["cpu AVX2"]]}
    assert check_same(Place(before, 2, ("cpu AVX2",)), record, before) == changed
    record.resumes.append(SweepResumed(changes=changed))
    assert check_same(Place(before, 2, ("cpu AVX2",)), record, before) == {}


def test_sweeps_that_left_it_to_each_worker_go_on(plan: SweepPlan) -> None:
    record = SweepRecord(opening=opening({}))
    assert check_same(Place(computing(plan, "bf16"), 2, ("cpu AVX512",)), record, plan) == {}


def test_a_folder_that_is_not_there_is_looked_for_above(tmp_path: Path) -> None:
    assert nearest_existing(tmp_path / "runs" / "deep") == tmp_path
    assert nearest_existing(tmp_path) == tmp_path
