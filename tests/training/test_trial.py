from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from orchestrator.base.errors import NotReadyError
from orchestrator.base.records import METRICS, EpochResult, Trial
from orchestrator.training import build as build_module
from orchestrator.training import checkpoint, metrics
from orchestrator.training import trial as trial_module
from orchestrator.training.trial import Diverged, Infeasible, Superseded, TrialRun, recover_outcome, train

OWN = "orchestrator.training"
MakeTrial = Callable[..., Trial]

KINDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "nesterov and l2": {
        "optimizer": {"_target_": f"{OWN}.optimizers.sgd", "lr": 0.05, "nesterov": True},
        "penalty": {"_target_": f"{OWN}.penalties.l2", "strength": 1e-3},
    },
    "adam": {"optimizer": {"_target_": f"{OWN}.optimizers.adam", "lr": 1e-2}},
    "adamw": {"optimizer": {"_target_": f"{OWN}.optimizers.adamw", "lr": 1e-2}},
    "rmsprop": {"optimizer": {"_target_": f"{OWN}.optimizers.rmsprop", "momentum": 0.9}},
    "torch's own Adam": {"optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-2}},
    "rprop of the whole split": {"optimizer": {"_target_": f"{OWN}.optimizers.rprop"}},
    "muon": {
        "model": {"_target_": "models.mlp.mlp", "hidden": 2, "width": 12},
        "optimizer": {"_target_": f"{OWN}.optimizers.muon"},
    },
    "hessian-free": {"optimizer": {"_target_": f"{OWN}.optimizers.hessian_free"}},
    "plateau": {
        "schedule": {"_target_": f"{OWN}.schedules.plateau", "patience": 0, "threshold": 0.5, "warmup_epochs": 1.0}
    },
    "adaptive": {"schedule": {"_target_": f"{OWN}.schedules.adaptive", "window": 1}},
    "dropout": {"model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 12, "dropout": 0.3}},
    "batch norm": {"norm": {"_target_": "models.layers.norm.batch_norm"}},
    "augmentation": {"augment": {"_target_": f"{OWN}.augment.crop_flip.crop_flip", "padding": 1}},
    "cosine": {"schedule": {"_target_": f"{OWN}.schedules.cosine", "warmup_epochs": 1.5}},
    "convolutions": {
        "model": {"_target_": "models.convnet.convnet", "stages": 2, "width": 4},
        "optimizer": {"_target_": f"{OWN}.optimizers.adam", "lr": 1e-2},
        "augment": {"_target_": f"{OWN}.augment.crop.crop", "padding": 1},
        "schedule": {"_target_": f"{OWN}.schedules.step", "every_epochs": 2},
        "epochs": 3,
    },
    "stochastic depth": {
        "model": {
            "_target_": "models.resnet.resnet_cifar",
            "depth": 8,
            "width": 2,
            "survival": 0.3,
            "decay": "constant",
        },
        "optimizer": {"_target_": f"{OWN}.optimizers.adam", "lr": 1e-2},
        "epochs": 3,
    },
    "bf16": {"precision": "bf16"},
    "average": {"average_from": 0.3, "norm": {"_target_": "models.layers.norm.batch_norm"}},
    "moving average": {"ema_decay": 0.9, "norm": {"_target_": "models.layers.norm.batch_norm"}, "average_from": 0.3},
    "snapshots": {
        "snapshots": 3,
        "epochs": 6,
        "schedule": {"_target_": f"{OWN}.schedules.cyclic_cosine", "cycles": 3},
        "norm": {"_target_": "models.layers.norm.batch_norm"},
    },
    "newton": {
        "optimizer": {"_target_": f"{OWN}.optimizers.newton"},
        "model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 3},
        "epochs": 2,
        "batch_size": 48,
    },
    "clipped": {"clip_grad_norm": 0.1},
    "patience": {"early_stopping": {"_target_": f"{OWN}.early_stopping.patience.patience", "patience": 2}, "epochs": 9},
    "dropout masks": {
        "model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 12, "dropout": 0.3},
        "evaluate": {"_target_": f"{OWN}.evaluation.monte_carlo_dropout.monte_carlo_dropout", "masks": 2},
    },
    "ten crops": {"evaluate": {"_target_": f"{OWN}.evaluation.ten_crops.ten_crops"}},
    "smallest training loss": {"metric": "train/loss", "mode": "min"},
}


def outcome_of(run: TrialRun) -> tuple[list[Any], Mapping[str, float], dict[str, Tensor], dict[str, Tensor]]:
    """All that must not depend on interruptions: metrics but for times, test metrics, predictions, best weights."""
    outcome = run.finish()
    folder = Path(run.trial.folder)
    metrics = [(r.epoch, {k: v for k, v in r.metrics.items() if k != "images_per_s"}) for r in run.history]
    predictions = load_file(folder / "artifacts" / "predictions.safetensors")
    weights = load_file(folder / "best.safetensors")
    if "average_from" in run.trial.config:
        weights |= {f"average/{name}": tensor for name, tensor in load_file(folder / "average.safetensors").items()}
    for number in range(1, (run.trial.config.get("snapshots") or 0) + 1):
        state = load_file(folder / f"snapshot-{number}.safetensors")
        weights |= {f"snapshot-{number}/{name}": tensor for name, tensor in state.items()}
    return [run.best, *metrics], outcome.metrics, predictions, weights


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_after_any_epoch_and_continued_equals_uninterrupted(trial: MakeTrial, kind: str) -> None:
    whole = TrialRun(trial("whole", **KINDS[kind]))
    list(whole)
    weights = {name: tensor.clone() for name, tensor in whole._learner.model.state_dict().items()}
    expected = outcome_of(whole)
    for stop in range(1, len(whole.history) + 1):
        first = TrialRun(trial(f"stopped {stop}", **KINDS[kind]))
        for result in first:
            first.save()
            if result.epoch == stop:
                break
        torch.rand(7)  # what else the process does with the global generator must not matter
        second = TrialRun(trial(f"stopped {stop}", **KINDS[kind]))
        assert [r.epoch for r in second.history] == list(range(1, stop + 1))
        assert second.history == first.history
        assert [r.epoch for r in second] == list(range(stop + 1, len(whole.history) + 1))
        assert_same_bits(dict(second._learner.model.state_dict()), weights)
        got = outcome_of(second)
        assert got[:2] == expected[:2]
        assert_same_bits(got[2], expected[2])
        assert_same_bits(got[3], expected[3])


def test_same_trial_gives_the_same_bits_and_another_seed_others(trial: MakeTrial) -> None:
    def losses(seed: int) -> list[float]:
        return [result.metrics["train/loss"] for result in train(trial("", seed=seed))]

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


def test_two_runs_in_turns_do_not_disturb_each_other(trial: MakeTrial) -> None:
    dropout = KINDS["dropout"]
    alone = [result.metrics["val/loss"] for result in train(trial("", **dropout))]
    one, other = train(trial("", **dropout)), train(trial("", seed=5, **dropout))
    in_turns = [(a.metrics["val/loss"], b.metrics["val/loss"]) for a, b in zip(one, other, strict=True)]
    assert [a for a, _ in in_turns] == alone


def test_every_epoch_reports_finite_metrics_and_the_clock(trial: MakeTrial) -> None:
    results = list(TrialRun(trial(), clock=lambda: 12.5))
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    for result in results:
        assert set(result.metrics) == {
            "train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/top5_accuracy", "val/nll",
            "lr", "grad_norm", "images_per_s",
        }  # fmt: skip
        assert all(math.isfinite(value) for value in result.metrics.values())
        assert result.time_ms == 12500


def test_learns(trial: MakeTrial) -> None:
    results = list(train(trial("", epochs=10)))
    assert results[-1].metrics["val/accuracy"] > 0.9
    assert results[-1].metrics["train/loss"] < results[0].metrics["train/loss"]


def test_without_a_folder_nothing_is_written(trial: MakeTrial, tmp_path: Path) -> None:
    run = TrialRun(trial(""))
    list(run)
    assert run.finish().artifacts == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="has no folder to save to"):
        run.save()


def test_finish_before_the_first_epoch_is_refused(trial: MakeTrial) -> None:
    with pytest.raises(RuntimeError, match="has not trained an epoch"):
        TrialRun(trial()).finish()


class Scripted(nn.Module):
    """Its validation logits are right for a share of the images that depends on the epoch: best in the second and third."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> Scripted:
        if mode and hasattr(self, "epoch"):
            self.epoch += 1
        return super().train(mode)

    def forward(self, images: Tensor) -> Tensor:
        constant = torch.zeros_like(self.weight)
        constant[1 if self.epoch in (2, 3) else 3] = 1.0 + 0.01 * self.epoch
        return (self.weight * 0 + constant).expand(len(images), -1)


def test_best_epoch_is_the_earliest_of_equals_and_its_weights_are_tested(
    trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = build_module.build
    monkeypatch.setattr(
        build_module, "build", lambda spec, **kw: Scripted(4) if "mlp" in str(spec) else build(spec, **kw)
    )
    # class 3 is rarer than class 1 in the validation split below, so that epochs 2 and 3 are the best and equal
    data = {"_target_": f"{OWN}.data.synthetic.synthetic", "num_examples": 150}
    monkeypatch.setitem(metrics.EVALUATED, "accuracy", _share_of_class_one)
    run = TrialRun(trial(data=data))
    list(run)
    assert run.best == (2, 1.0)
    outcome = run.finish()
    assert outcome.best_epoch == 2
    logits = load_file(Path(run.trial.folder) / "artifacts" / "predictions.safetensors")["test_logits"]
    assert logits[0, 0].item() == pytest.approx(-1.02)  # the second epoch's 1.02, not the third's 1.03
    with safe_open(Path(run.trial.folder) / "best.safetensors", "pt") as file:
        assert file.get_tensor("epoch").item() == 2
        assert json.loads(file.metadata()["state"])["epoch"] == 2


def _share_of_class_one(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == 1).double().mean())


def test_predictions_give_the_logged_metrics_again(trial: MakeTrial) -> None:
    run = TrialRun(trial())
    list(run)
    outcome = run.finish()
    with safe_open(outcome.artifacts[0]["path"], "pt") as file:
        state = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    dataset = run._learner.data.dataset
    for split in ("val", "test"):
        logits, labels = tensors[f"{split}_logits"], tensors[f"{split}_labels"]
        assert logits.dtype == torch.float32
        assert labels.dtype == tensors[f"{split}_ids"].dtype == torch.int64
        assert torch.equal(logits.amax(1), torch.zeros(len(logits)))
        assert tensors[f"{split}_ids"].tolist() == dataset.splits[split].tolist()
        assert labels.tolist() == dataset.labels[dataset.splits[split]].tolist()
    accuracy = (tensors["test_logits"].numpy().argmax(1) == tensors["test_labels"].numpy()).mean()
    assert accuracy == outcome.metrics["test/accuracy"]
    assert run.best is not None
    val_accuracy = (tensors["val_logits"].numpy().argmax(1) == tensors["val_labels"].numpy()).mean()
    assert val_accuracy == run.best[1]
    assert state["classes"] == list(dataset.classes)
    assert state["fingerprint"] == dataset.fingerprint
    assert (state["uid"], state["best_epoch"]) == (run.trial.uid, run.best[0])


def test_finished_trial_is_recovered_from_its_predictions(trial: MakeTrial) -> None:
    run = TrialRun(trial())
    list(run)
    assert recover_outcome(run.trial.folder, run.trial.uid) is None
    outcome = run.finish()
    assert recover_outcome(run.trial.folder, run.trial.uid) == (run.history, outcome)
    assert recover_outcome(run.trial.folder, "sweep-0123abcd/4") is None
    path = Path(outcome.artifacts[0]["path"])
    contents = bytearray(path.read_bytes())
    contents[-3] ^= 4
    path.write_bytes(contents)
    assert recover_outcome(run.trial.folder, run.trial.uid) is None


def test_damaged_newest_checkpoint_falls_back_to_the_one_before(trial: MakeTrial) -> None:
    whole = TrialRun(trial("whole"))
    list(whole)
    expected = outcome_of(whole)
    run = TrialRun(trial())
    paths = []
    for result in run:
        paths.append(Path(run.save().path))
        if result.epoch == 3:
            break
    assert [path.exists() for path in paths] == [False, True, True]
    contents = bytearray(paths[-1].read_bytes())
    contents[len(contents) // 2] ^= 1
    paths[-1].write_bytes(contents)
    again = TrialRun(trial())
    assert again.epoch == 2
    assert again.notes == [f"{paths[-1].name} is not used: its contents do not match the SHA-256 in its name"]
    list(again)
    assert outcome_of(again)[:2] == expected[:2]


def test_all_checkpoints_damaged_starts_over_and_says_so(trial: MakeTrial) -> None:
    run = TrialRun(trial())
    next(iter(run))
    Path(run.save().path).write_bytes(b"")
    again = TrialRun(trial())
    assert again.epoch == 0
    assert again.notes[-1] == "no valid checkpoint is left: the trial starts over from epoch 1"
    assert [result.epoch for result in again] == [1, 2, 3, 4]


def test_saving_twice_writes_once_and_leftovers_are_cleared(trial: MakeTrial) -> None:
    run = TrialRun(trial())
    next(iter(run))
    assert run.save() is run.save()
    leftover = Path(run.trial.folder) / f"checkpoint-000002.{'ab' * 32}.safetensors.1.tmp"
    leftover.write_bytes(b"half")
    TrialRun(trial())
    assert not leftover.exists()


def test_saving_before_the_first_epoch_keeps_the_start(trial: MakeTrial) -> None:
    assert TrialRun(trial()).save().epoch == 0
    again = TrialRun(trial())
    assert (again.epoch, again.best, again.notes) == (0, None, [])


def test_earlier_attempt_may_not_write_once_a_later_one_began(trial: MakeTrial) -> None:
    zombie = TrialRun(trial())
    next(iter(zombie))
    later = TrialRun(trial(attempt=2))
    with pytest.raises(Superseded, match="a later attempt at trial sweep-0123abcd/3 has begun; attempt 1 ends"):
        zombie.save()
    with pytest.raises(Superseded, match="attempt 1 ends"):
        zombie.finish()
    next(iter(later))
    later.save()


def test_an_attempt_that_is_overtaken_while_it_writes_leaves_nothing(
    trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    zombie = TrialRun(trial())
    next(iter(zombie))
    pack = checkpoint.pack

    def overtaken(*args: Any, **more: Any) -> bytes:
        TrialRun(trial(attempt=2))
        return pack(*args, **more)

    monkeypatch.setattr(checkpoint, "pack", overtaken)
    with pytest.raises(Superseded, match="attempt 1 ends"):
        zombie.save()
    assert [path.name for path in Path(zombie.trial.folder).iterdir()] == ["attempt"]


def test_checkpoint_of_other_data_is_refused(trial: MakeTrial) -> None:
    run = TrialRun(trial())
    next(iter(run))
    run.save()
    other = {"_target_": f"{OWN}.data.synthetic.synthetic", "num_examples": 150, "seed": 1}
    with pytest.raises(NotReadyError, match="is not the one that trial sweep-0123abcd/3 began with"):
        TrialRun(trial(data=other))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimizer": KINDS["nesterov and l2"]["optimizer"] | {"lr": 0.2}}, r"optimizer\.lr=0\.05 there, 0\.2 here, .*"),
        ({"model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 13}}, r"model\.width=12 there, 13 here"),
        ({"model": {"_target_": "models.mlp.linear"}}, r"model=models\.mlp\.mlp there, models\.mlp\.linear here"),
        ({"norm": {"_target_": "models.layers.norm.batch_norm"}}, r"norm=null there, models\.layers\.norm\.batch_norm here"),
        ({"epochs": 5, "seed": 1}, "epochs=4 there, 5 here, seed=0 there, 1 here"),
        ({"cpus_per_trial": 2}, "cpus_per_trial=1 there, 2 here"),
    ],
)  # fmt: skip
def test_checkpoint_of_another_configuration_is_refused(trial: MakeTrial, changes: dict[str, Any], told: str) -> None:
    run = TrialRun(trial())
    next(iter(run))
    run.save()
    with pytest.raises(NotReadyError, match=rf"{run.trial.folder} is of another configuration: {told}; use another"):
        TrialRun(trial(**changes))


def test_what_does_not_change_the_result_may_differ_when_a_trial_continues(trial: MakeTrial, tmp_path: Path) -> None:
    run = TrialRun(trial())
    next(iter(run))
    run.save()
    moved = {"data_cache": str(tmp_path / "cache"), "import_paths": [str(tmp_path)], "allowed_targets": ["mine"]}
    assert TrialRun(trial(**moved, report_every_s=9.0, data_entry="")).epoch == 1


def test_checkpoint_of_other_code_of_the_model_is_refused(trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    run = TrialRun(trial())
    next(iter(run))
    run.save()
    monkeypatch.setattr(build_module, "build_model", lambda *_: (nn.Linear(64, 4), False))
    with pytest.raises(NotReadyError, match=r"does not fit the model, whose code must have changed \(.*Missing key"):
        TrialRun(trial())


def test_divergence_tells_epoch_step_and_value(trial: MakeTrial) -> None:
    run = TrialRun(trial(optimizer={"_target_": f"{OWN}.optimizers.sgd", "lr": 1e30}))
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at epoch 1, step") as caught:
        list(run)
    assert caught.value.epoch == 1
    assert 2 <= caught.value.step <= 6
    assert not math.isfinite(caught.value.value)
    assert run.history == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_is_infeasible(trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: Any) -> dict[str, float]:
        raise error

    monkeypatch.setattr(trial_module, "train_epoch", fail)
    with pytest.raises(Infeasible, match=r"^out of memory: (CUDA|.*you tried to allocate|MemoryError)[^\n]*$"):
        next(iter(TrialRun(trial(""))))


def test_other_runtime_errors_are_not_hidden(trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> dict[str, float]:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(trial_module, "train_epoch", fail)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        next(iter(TrialRun(trial(""))))


def test_a_model_too_large_for_memory_is_infeasible(trial: MakeTrial) -> None:
    model = {"_target_": "models.mlp.mlp", "hidden": 1, "width": 2**44}
    with pytest.raises(Infeasible, match="out of memory"):
        TrialRun(trial("", model=model))


class Observing:
    """Halves the learning rate after every epoch: a schedule with a memory."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def __call__(self, epoch: float) -> float:
        return 0.5 ** len(self.seen)

    def observe(self, metrics: Mapping[str, float]) -> None:
        self.seen.append(metrics["val/loss"])

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.seen = list(state["seen"])


def test_schedule_that_observes_is_told_the_metrics_and_restored(
    trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = build_module.build
    monkeypatch.setattr(
        build_module, "build", lambda spec, **kw: Observing() if "constant" in str(spec) else build(spec, **kw)
    )

    def lrs(results: Iterator[EpochResult]) -> list[float]:
        return [result.metrics["lr"] for result in results]

    run = TrialRun(trial())
    next(iter(run))
    run.save()
    assert lrs(iter(TrialRun(trial()))) == pytest.approx([0.025, 0.0125, 0.00625])


@pytest.mark.slow  # a fresh process imports torch
def test_a_trial_does_not_import_the_compiler(trial: MakeTrial) -> None:
    """torch imports it behind several innocent names, for 6 s of every worker's start (2.15)."""
    made = trial("", optimizer={"_target_": f"{OWN}.optimizers.adam"})
    script = (
        "import json, sys\n"
        "from orchestrator.base.records import Trial\n"
        "from orchestrator.training.preflight import check\n"
        "from orchestrator.training.trial import TrialRun\n"
        "config = json.loads(sys.argv[1])\n"
        "check([('', config)])\n"
        "run = TrialRun(Trial('s/0', 0, config))\n"
        "list(run), run.finish()\n"
        "sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script, json.dumps(made.config)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == 0


def released(run: Any) -> Callable[[], Any]:
    """A weak reference to the run's model, for after the run is dropped; no collection of cycles may help."""
    return weakref.ref(run._learner.model)


def drop_after(run: TrialRun, how: str) -> None:
    if how == "stopped":
        next(run)
        run.save()
    elif how == "finished":
        list(run)
        run.finish()
    else:
        error, said = {"diverged": (Diverged, "the loss is"), "failed": (ValueError, "no metric")}[how]
        with pytest.raises(error, match=said):
            list(run)


@pytest.mark.parametrize("how", ["stopped", "finished", "diverged", "failed"])
def test_memory_of_a_dropped_run_is_free_at_once(trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    changes: dict[str, Any] = {"optimizer": KINDS["adam"]["optimizer"]}
    if how == "diverged":
        changes = {"optimizer": {"_target_": f"{OWN}.optimizers.sgd", "lr": 1e30}}
    run = TrialRun(trial(**changes))
    if how == "failed":

        def fail(logits: Tensor, labels: Tensor) -> float:
            raise ValueError("no metric")

        monkeypatch.setitem(metrics.EVALUATED, "nll", fail)
    model = released(run)
    gc.disable()
    try:
        drop_after(run, how)
        assert model() is not None
        del run
        assert model() is None
    finally:
        gc.enable()


def test_what_failed_is_not_trained_again(trial: MakeTrial) -> None:
    run = TrialRun(trial(optimizer={"_target_": f"{OWN}.optimizers.sgd", "lr": 1e30}))
    with pytest.raises(Diverged, match="at epoch 1"):
        next(run)
    assert list(run) == []


class OddInTest(nn.Module):
    """A linear classifier whose logits are NaN for the images of the test split alone, told by their number."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.linear, self.examples = nn.Linear(64, 4), examples

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1))
        return logits * math.nan if len(images) == self.examples else logits


def test_a_test_loss_that_is_not_finite_is_left_out_and_the_trial_completes(
    trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = len(TrialRun(trial("", data=ODD_DATA))._learner.data.splits["test"])
    build = build_module.build
    monkeypatch.setattr(
        build_module, "build", lambda spec, **kw: OddInTest(examples) if "mlp" in str(spec) else build(spec, **kw)
    )
    run = TrialRun(trial(data=ODD_DATA))
    assert len(list(run)) == 4
    outcome = run.finish()
    assert outcome.metrics.keys() == {"test/accuracy", "test/top5_accuracy"}
    assert outcome.reason == "not finite, so not recorded: test/loss=nan, test/nll=nan"
    assert recover_outcome(run.trial.folder, run.trial.uid) == (run.history, outcome)


ODD_DATA = {"_target_": f"{OWN}.data.synthetic.synthetic", "num_examples": 160, "noise": 1.0, "val_fraction": 0.1}


def test_a_run_knows_what_it_computes_on(trial: MakeTrial) -> None:
    assert TrialRun(trial("", precision="bf16", cpus_per_trial=2)).ran_on == {
        "device": "cpu",
        "precision": "bf16",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": 2,
        "tf32": False,
        "torch": torch.__version__,
    }


@pytest.mark.parametrize("metric", ["val/top5_accuracy", "val/nll"])
def test_every_metric_can_be_the_objective(trial: MakeTrial, metric: str) -> None:
    run = TrialRun(trial(metric=metric, mode=METRICS[metric]))
    values = [result.metrics[metric] for result in run]
    best = max(values) if metric == "val/top5_accuracy" else min(values)
    assert run.best == (values.index(best) + 1, best)
