"""Every family of conf/model through the real engine, each at its smallest member.

In the plain suite those whose training is out of the ordinary: branches left out, auxiliary classifiers, dropout of many kinds,
cells that hand on several maps. `-m slow` runs all.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import orchestrator
from orchestrator.base.layout import BEST, PREDICTIONS, trial_folder
from orchestrator.base.records import EpochResult, State, Trial
from orchestrator.cli import main
from orchestrator.training import evaluate
from orchestrator.training.trial import Outcome, TrialRun
from tests.models.catalogue import FAMILIES, load, smallest_arguments, smallest_image
from tests.synthetic import Sweep, plan_text

Config = dict[str, Any]

LIVELIER: dict[str, Config] = {
    "fractalnet": {"columns": 3, "blocks": 2},
    "resnet_cifar": {"survival": 0.3, "decay": "constant"},
}
"""Arguments beside the smallest ones, where those leave nothing to drop."""

PLAIN = ("resnet_cifar", "fractalnet", "googlenet", "mobilenet_v3_small", "nasnet_a_cifar")

CASES = [pytest.param(name, marks=[] if name in PLAIN else [pytest.mark.slow]) for name in FAMILIES]


def family(name: str) -> Config:
    """What a trial's configuration says of a family, and of made-up photographs of the smallest size that it takes."""
    model = {
        "_target_": load("model", name)["_target_"],
        **smallest_arguments(load("model", name)),
        **LIVELIER.get(name, {}),
    }
    size = smallest_image(name) if name not in LIVELIER else 8
    data = {"_target_": "orchestrator.training.data.synthetic.synthetic", "num_examples": 40, "classes": 2}
    return {
        "model": model,
        "data": data | {"image_size": size, "channels": 3},
        "optimizer": {"_target_": "orchestrator.training.optimizers.sgd", "lr": 0.005},
        "precision": "bf16",
        "epochs": 2,
        "batch_size": 7,
    }


@pytest.mark.parametrize("name", CASES)
def test_trains_and_continues_and_is_loaded_and_trained_again(
    trial: Callable[..., Trial], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    sweep = Sweep(tmp_path / "runs" / "family-0a1b2c3d", {"kind": "none"}, plan=plan_text())
    folder, stopped = trial_folder(sweep.folder, 0), tmp_path / "stopped"
    config = trial("", **family(name)).config
    whole = TrialRun(Trial(f"{sweep.uid}/0", 0, config, folder=str(folder)))
    computed_channels_last = watch_convolutions(whole._learner.model)
    next(whole)
    whole.save()
    shutil.copytree(folder, stopped)
    next(whole)

    assert all(math.isfinite(value) for result in whole.history for value in result.metrics.values())
    assert all(computed_channels_last)
    weights = {key: tensor.clone() for key, tensor in whole._learner.model.state_dict().items()}
    outcome = whole.finish()

    again = TrialRun(Trial(f"{sweep.uid}/0", 0, config, folder=str(stopped)))
    assert again.epoch == 1
    next(again)
    assert_same_bits(again._learner.model.state_dict(), weights)
    assert untimed(again.history) == untimed(whole.history)
    assert again.finish().metrics == outcome.metrics
    assert_same_bits(load_file(stopped / BEST), load_file(folder / BEST))
    assert_same_bits(load_file(stopped / PREDICTIONS), load_file(folder / PREDICTIONS))

    record(sweep, whole, outcome)
    model = orchestrator.load_model(f"{sweep.uid}/0", runs_dir=sweep.folder.parent).network
    assert not any(module.training for module in model.modules())
    predicted = load_file(folder / PREDICTIONS)
    for split in ("val", "test"):
        logits = evaluate.logits(model, whole._learner.data.splits[split], channels_last=whole._learner.channels_last)
        assert torch.equal(logits, predicted[f"{split}_logits"])

    capsys.readouterr()
    assert main(["train", f"from={sweep.uid}/0", "--runs-dir", str(sweep.folder.parent)]) == 0
    assert "equal to the recorded trial: yes\n" in capsys.readouterr().out


OPTIMIZERS: dict[str, Config] = {"sgd": {}, "adam": {}, "adamw": {}, "rmsprop": {"momentum": 0.5}}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", LIVELIER)
def test_what_a_step_drops_stays_as_it_is(trial: Callable[..., Trial], name: str, optimizer: str) -> None:
    """Its weights, which would decay, its running statistics, and what the optimizer keeps of it."""
    target = f"orchestrator.training.optimizers.{optimizer}"
    spec = {"_target_": target, "lr": 0.001, "weight_decay": 0.1, **OPTIMIZERS[optimizer]}
    run = TrialRun(trial("", **family(name) | {"optimizer": spec, "batch_size": 26, "epochs": 4}))
    assert len(run._learner.sizes) == 1, "an epoch is a step"
    dropped = 0
    before = kept_of_modules(run)
    for result in run:
        after = kept_of_modules(run)
        for path, tensors in after.items():
            module = run._learner.model.get_submodule(path)
            used = {parameter.grad is not None for parameter in module.parameters(recurse=False)}
            unchanged = [torch.equal(one, other) for one, other in zip(tensors, before[path], strict=True)]
            assert used != {False} or all(unchanged), path
            assert used != {True} or not all(unchanged), path
            dropped += used == {False}
        assert math.isfinite(result.metrics["grad_norm"])
        before = after
    assert dropped > 0


def kept_of_modules(run: TrialRun) -> dict[str, list[Tensor]]:
    """Of each module that owns parameters: these, its buffers, and what the optimizer keeps of each parameter."""
    found = {}
    state = run._learner.optimizer.state
    for path, module in run._learner.model.named_modules():
        if parameters := list(module.parameters(recurse=False)):
            slots = [tensor for parameter in parameters for tensor in state[parameter].values()]
            found[path] = [tensor.detach().clone() for tensor in (*parameters, *module.buffers(recurse=False), *slots)]
    return found


def watch_convolutions(model: nn.Module) -> list[bool]:
    """Grows with each convolution that is computed, by whether its result lies channels-last in memory.

    Of one channel both layouts are the same, and the result may lie in either.
    """
    found: list[bool] = []

    def look(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.append(output.is_contiguous(memory_format=torch.channels_last))

    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 1:
            module.register_forward_hook(look)
    return found


def record(sweep: Sweep, run: TrialRun, outcome: Outcome) -> None:
    """The events of a sweep of this one trial."""
    assert run.best is not None
    epoch, value = run.best
    sweep.append("suggested", 0, params={}, config=run.trial.config)
    sweep.append("started", 0, 1, host="here", pid=1)
    epochs = [{"epoch": r.epoch, "time_ms": r.time_ms, "metrics": dict(r.metrics)} for r in run.history]
    sweep.append("reported", 0, 1, epochs=epochs, checkpoint=None)
    ending = {"state": State.COMPLETED, "epoch": len(epochs), "value": value, "best_epoch": epoch}
    sweep.append("terminal", 0, 1, **ending, metrics=dict(outcome.metrics), artifacts=outcome.artifacts)
    sweep.journal.commit()


def untimed(history: list[EpochResult]) -> list[tuple[int, Config]]:
    return [(r.epoch, {key: value for key, value in r.metrics.items() if key != "images_per_s"}) for r in history]


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key
