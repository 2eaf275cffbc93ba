"""A worker's reports, from real training on a small synthetic data set."""

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.records import Trial
from orchestrator.scheduling.reports import Reporter
from orchestrator.training import checkpoint
from orchestrator.training.predictions import Predictions
from orchestrator.training.trial import TrialRun


class Clock:
    """Seconds that pass only when told."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def trial(tmp_path: Path, trial_config: dict[str, Any]) -> Trial:
    return Trial("s/0", 0, {**trial_config, "epochs": 6}, folder=str(tmp_path / "trial"))


def reports(trial: Trial, seconds_an_epoch: float = 0.0, **settings: Any) -> list[dict[str, Any]]:
    reporter = Reporter(trial, monotonic=Clock(seconds_an_epoch), **settings)
    found = [reporter.next_report()]
    while found[-1]["state"] == "running":
        found.append(reporter.next_report())
    return found


def epochs_of(found: list[dict[str, Any]]) -> list[list[int]]:
    return [[epoch["epoch"] for epoch in report["epochs"]] for report in found]


def test_short_epochs_go_into_one_report(trial: Trial) -> None:
    (report,) = reports(trial)
    assert epochs_of([report]) == [[1, 2, 3, 4, 5, 6]]
    assert report["state"] == "completed"
    assert set(report["metrics"]) == {"test/loss", "test/accuracy", "test/top5_accuracy", "test/nll"}
    assert report["reason"] is None
    assert [Path(artifact["path"]).name for artifact in report["artifacts"]] == ["predictions.safetensors"]
    assert not list(Path(trial.folder).glob("checkpoint-*"))


def test_long_epochs_have_reports_and_checkpoints_of_their_own(trial: Trial) -> None:
    found = reports(trial, seconds_an_epoch=2.0)
    assert epochs_of(found) == [[1], [2], [3], [4], [5], [6]]
    assert [report["checkpoint"]["epoch"] for report in found[:-1]] == [1, 2, 3, 4, 5]
    assert len(list(Path(trial.folder).glob("checkpoint-*"))) == 2


def test_a_report_never_passes_a_rung(trial: Trial) -> None:
    assert epochs_of(reports(trial, rungs=[1, 3])) == [[1], [2, 3], [4, 5, 6]]


def test_a_restarted_worker_reports_what_was_saved_and_goes_on(trial: Trial) -> None:
    first = Reporter(trial, rungs=[2, 4], monotonic=Clock(0.0))
    seen = [first.next_report(), first.next_report()]
    again = reports(dataclasses.replace(trial, attempt=2, fence=2), rungs=[2, 4])
    assert epochs_of(again) == [[1, 2], [3, 4], [5, 6]]
    for restored, first_time in zip(again, seen, strict=False):
        assert restored["epochs"] == first_time["epochs"]
        assert restored["best"] == first_time["best"]
    whole = reports(dataclasses.replace(trial, folder=trial.folder + "-whole"))

    def values(found: list[dict[str, Any]]) -> list[float]:
        return [epoch["metrics"]["val/loss"] for report in found for epoch in report["epochs"]]

    assert values(again) == values(whole)
    assert again[-1]["metrics"] == whole[-1]["metrics"]


def test_a_trial_that_had_finished_is_not_trained_again(trial: Trial) -> None:
    (first,) = reports(trial)
    (again,) = reports(dataclasses.replace(trial, attempt=2, fence=2))
    assert again["epochs"] == first["epochs"]
    assert (again["state"], again["metrics"], again["attempt"]) == ("completed", first["metrics"], 2)
    assert again["best"] == first["best"]


def test_a_finished_trial_is_told_up_to_each_rung(trial: Trial) -> None:
    first = reports(trial, rungs=[1, 3])
    again = reports(dataclasses.replace(trial, attempt=2, fence=2), rungs=[1, 3])
    assert epochs_of(again) == [[1], [2, 3], [4, 5, 6]]
    assert [report["best"] for report in again] == [report["best"] for report in first]
    assert [report["state"] for report in again] == ["running", "running", "completed"]
    assert again[-1]["metrics"] == first[-1]["metrics"]


def test_the_first_report_of_an_attempt_says_what_it_ran_on(trial: Trial) -> None:
    first, *others = reports(trial, rungs=[1, 2])
    assert first["ran_on"]["device"] == "cpu"
    assert not any("ran_on" in report for report in others)


DEEP = {
    "model": {"_target_": "models.mlp.mlp", "hidden": 4, "width": 12},
    "init": {"_target_": "models.initializers.gaussian.gaussian", "std": 1e-4},
}


def test_one_report_of_an_attempt_says_what_the_initialization_was_like(trial: Trial) -> None:
    deep = dataclasses.replace(trial, config={**trial.config, **DEEP})
    first, *others = reports(deep, rungs=[1, 2])
    assert first["init_health"]["verdict"] == "vanishing"
    assert not any("init_health" in report for report in others)
    (recovered, *_) = reversed(reports(dataclasses.replace(deep, attempt=2, fence=2), rungs=[1, 2]))
    assert recovered["init_health"] == first["init_health"]
    assert not any("init_health" in report for report in reports(dataclasses.replace(trial, folder="")))


def test_a_full_disk_is_no_fault_of_the_trial(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "checkpoint")

    monkeypatch.setattr(checkpoint, "write_all", full)
    report = Reporter(trial, rungs=[1], monotonic=Clock(0.0)).next_report()
    assert (report["state"], report["epochs"]) == ("running", [])
    assert "No space left on device" in report["unwritable"]


def of_run(report: dict[str, Any]) -> list[Any]:
    """What a report says that does not depend on how fast the machine was."""
    epochs = [{k: v for k, v in epoch["metrics"].items() if k != "images_per_s"} for epoch in report["epochs"]]
    return [
        report["state"],
        [epoch["epoch"] for epoch in report["epochs"]],
        epochs,
        report["best"],
        report.get("metrics"),
    ]


def test_a_trial_goes_on_where_it_was_when_there_is_room_again(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = reports(dataclasses.replace(trial, folder=f"{trial.folder}-other"), rungs=[1, 2])
    monkeypatch.setattr("orchestrator.scheduling.reports.DISK_PAUSE_S", 0.0)
    write_all, calls = checkpoint.write_all, 0

    def full_every_other_time(*args: Any, **more: Any) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise OSError(errno.ENOSPC, "No space left on device", "checkpoint")
        write_all(*args, **more)

    monkeypatch.setattr(checkpoint, "write_all", full_every_other_time)
    predict, tested = TrialRun._predict, list[TrialRun]()

    def counted(run: TrialRun) -> Predictions:
        tested.append(run)
        return predict(run)

    monkeypatch.setattr(TrialRun, "_predict", counted)
    found = reports(trial, rungs=[1, 2])
    refused = [report for report in found if "unwritable" in report]
    assert len(refused) == calls / 2 >= 3
    assert [of_run(report) for report in found if "unwritable" not in report] == [of_run(one) for one in undisturbed]
    assert len(tested) == 1


def test_a_loss_that_is_not_finite_ends_the_trial_with_step_and_value(trial: Trial) -> None:
    optimizer = {**trial.config["optimizer"], "lr": 1e20}
    (report,) = reports(dataclasses.replace(trial, config={**trial.config, "optimizer": optimizer}))
    assert report["state"] == "diverged"
    assert "epoch 1, step" in report["reason"]
    assert report["best"] is None


def test_the_same_exception_twice_is_the_end(trial: Trial) -> None:
    loss = {"_target_": "orchestrator.training.losses.cross_entropy", "no_such_key": 1}
    first, second = reports(dataclasses.replace(trial, config={**trial.config, "loss": loss}))
    assert (first["state"], first["retrying"], first["attempt"], first["epochs"]) == ("running", True, 1, [])
    assert (second["state"], second["attempt"]) == ("failed", 2)
    assert "no_such_key" in second["error"]


def test_an_older_attempt_ends_quietly_where_a_newer_one_has_begun(trial: Trial) -> None:
    old = Reporter(trial, rungs=[2, 4], monotonic=Clock(0.0))
    old.next_report()
    newer = Reporter(dataclasses.replace(trial, attempt=2, fence=2), rungs=[2, 4], monotonic=Clock(0.0))
    newer.next_report()
    report = old.next_report()
    assert (report["state"], report["attempt"], report["epochs"]) == ("failed", 1, [])
    assert epochs_of([newer.next_report()]) == [[3, 4]]
