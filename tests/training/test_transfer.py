"""Transfer through whole trials: what is frozen, what is trained and how fast, and features that are computed once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.network import Network, after_part, part_names
from orchestrator.base.errors import NotReadyError
from orchestrator.training import checkpoint, evaluate
from orchestrator.training.build import build_model, load_data
from orchestrator.training.restored import evaluated_again
from orchestrator.training.restored import restored as restored_trial
from orchestrator.training.transfer import head, stage_probe, top_layers, whole
from orchestrator.training.transfer.layers import cut_heads, freeze_all_but, layers_of, stages_of
from orchestrator.training.trial import TrialRun

MakeTrial = Callable[..., Any]

OWN = "orchestrator.training.transfer"
RESNET = {"_target_": "models.resnet.resnet_cifar", "depth": 8, "width": 4}
CONVNET = {"_target_": "models.convnet.convnet", "stages": 2, "width": 4, "dropout": 0.5}
MLP = {"_target_": "models.mlp.mlp", "hidden": 3, "width": 12, "dropout": 0.2}
BATCH = {"_target_": "models.layers.norm.batch_norm"}


def choice(name: str, **settings: Any) -> dict[str, Any]:
    return {"_target_": f"{OWN}.{name}", **settings}


HEAD, PROBE, FEW = choice("head"), choice("stage_probe", stage=2), choice("top_layers", layers=2)
MODELS = pytest.mark.parametrize("model", [RESNET, CONVNET, MLP], ids=["resnet", "convnet", "mlp"])


def state_of(run: TrialRun) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in run._learner.whole.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@MODELS
@pytest.mark.parametrize("transfer", [HEAD, PROBE, FEW], ids=["head", "probe", "few"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_is_frozen_stays_bit_equal(trial: MakeTrial, model: Any, transfer: Any, optimizer: str) -> None:
    decaying = {"_target_": f"orchestrator.training.optimizers.{optimizer}", "lr": 0.05, "weight_decay": 0.1}
    penalty = {"_target_": "orchestrator.training.penalties.l2", "strength": 0.1, "parameters": "all"}
    run = TrialRun(trial("", model=model, norm=BATCH, transfer=transfer, optimizer=decaying, penalty=penalty))
    before = state_of(run)
    list(run)
    after = state_of(run)
    frozen = {name for name, p in run._learner.whole.named_parameters() if not p.requires_grad}
    assert frozen
    moved = changed(before, after)
    assert not moved & frozen
    assert {name for name, p in run._learner.whole.named_parameters() if p.requires_grad} <= moved
    trained = {name.rpartition(".")[0] for name in moved if name in dict(run._learner.whole.named_parameters())}
    statistics = {name for name in moved if "running" in name or "num_batches" in name}
    assert {name.rpartition(".")[0] for name in statistics} <= trained, "statistics of norms that are trained alone"
    assert all(p.grad is None for name, p in run._learner.whole.named_parameters() if name in frozen)


@MODELS
@pytest.mark.parametrize("transfer", [HEAD, PROBE], ids=["head", "probe"])
def test_features_are_the_output_of_the_frozen_network(trial: MakeTrial, model: Any, transfer: Any) -> None:
    run = TrialRun(trial("", model=model, norm=BATCH, transfer=transfer))
    learner = run._learner
    data = TrialRun(trial("", model=model, norm=BATCH))._learner.data
    last = part_names(learner.whole)[-2]
    learner.whole.eval()
    for name, split in data.splits.items():
        assert split.floats is not None
        features = learner.data.splits[name].floats
        with torch.no_grad():
            assert torch.equal(features, after_part(learner.whole, split.floats, last))
        assert torch.equal(
            evaluate.logits(learner.model, learner.data.splits[name]), evaluate.logits(learner.whole, split)
        )


@MODELS
def test_the_probe_of_a_stage_sees_what_after_part_gives(trial: MakeTrial, model: Any) -> None:
    plain = TrialRun(trial("", model=model))._learner
    probe = TrialRun(trial("", model=model, transfer=PROBE))._learner
    names = [name for name in part_names(plain.model) if name.startswith("stage")]
    last = names[1] if names else stages_of(plain.model)[1][-1]
    images = plain.data.splits["val"].floats
    assert images is not None
    with torch.no_grad():
        expected = after_part(plain.model.eval(), images, last)
    assert torch.equal(probe.data.splits["val"].floats, expected.flatten(1))


def test_a_probe_is_logistic_regression_on_the_features(trial: MakeTrial) -> None:
    """The same steps by hand, from the same start, in the same order."""
    run = TrialRun(trial("", model=RESNET, norm=BATCH, transfer=HEAD, batch_size=98, epochs=3))
    features, labels = run._learner.data.splits["train"].floats, run._learner.data.splits["train"].labels
    linear = nn.Linear(features.shape[1], 4)
    linear.load_state_dict(run._learner.model.state_dict())
    velocities = [torch.zeros_like(p) for p in linear.parameters()]
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(linear(features), labels)
        losses.append(loss.item())
        for p, v, g in zip(
            linear.parameters(), velocities, torch.autograd.grad(loss, list(linear.parameters())), strict=True
        ):
            v.mul_(0.9).add_(g)
            p.data.sub_(0.05 * v)
    assert [result.metrics["train/loss"] for result in run] == pytest.approx(losses, rel=1e-4)


def test_frozen_parts_run_as_in_evaluation_and_trained_ones_do_not(trial: MakeTrial) -> None:
    model = {**MLP, "hidden": 3, "dropout": 0.3}
    run = TrialRun(trial("", model=model, norm=BATCH, transfer=choice("top_layers", layers=2)))
    next(run)
    run._learner.model.train()
    for module in run._learner.frozen:
        module.eval()
    modes = [(type(module).__name__, module.training) for module in run._learner.model]  # type: ignore[union-attr]
    linears = [place for place, (name, _) in enumerate(modes) if name == "Linear"]
    begins = linears[-2]
    assert len(linears) == 4
    assert not any(training for _, training in modes[:begins])
    assert all(training for _, training in modes[begins:])
    assert [name for name, training in modes if training].count("Dropout") == 1


@pytest.mark.parametrize(
    "transfer", [HEAD, PROBE, FEW, choice("whole", lr_factor=0.3)], ids=["head", "probe", "few", "all"]
)
@MODELS
def test_continues_bit_for_bit(trial: MakeTrial, tmp_path: Path, model: Any, transfer: Any) -> None:
    settings = {"model": model, "norm": BATCH, "transfer": transfer, "epochs": 5}
    straight = TrialRun(trial("straight", **settings))
    expected = list(straight)
    expected_end = straight.finish()
    first = TrialRun(trial("cut", **settings))
    next(first), next(first)
    first.save()
    second = TrialRun(trial("cut", attempt=2, **settings))
    assert second.epoch == 2
    rest = list(second)
    keys = ("train/loss", "val/loss", "val/accuracy", "grad_norm")
    assert [[r.metrics[k] for k in keys] for r in rest] == [[r.metrics[k] for k in keys] for r in expected[2:]]
    assert second.finish().metrics == expected_end.metrics
    assert not changed(state_of(straight), state_of(second))
    one, other = (restored(trial(name, **settings), tmp_path / name) for name in ("straight", "cut"))
    assert not changed(one.state_dict(), other.state_dict())


def test_a_checkpoint_with_other_frozen_weights_is_refused(trial: MakeTrial, tmp_path: Path) -> None:
    """As where a version of torch draws other random weights: the features would not be those of the checkpoint."""
    settings = {"model": RESNET, "transfer": HEAD}
    first = TrialRun(trial("kept", **settings))
    next(first)
    saved = first.save()
    loaded = checkpoint.load(Path(saved.path), uid=None, sha256=saved.sha256)
    loaded.tensors["model/stem.affine.weight"] += 1
    Path(saved.path).unlink()
    checkpoint.save(tmp_path / "kept", 1, loaded.tensors, loaded.state)
    with pytest.raises(
        NotReadyError, match=r"has other frozen weights than the trial begins with here \(stem.affine.weight\)"
    ):
        TrialRun(trial("kept", attempt=2, **settings))


def restored(trial: Any, folder: Path) -> nn.Module:
    facts = {"num_classes": 4, "in_channels": 1, "image_size": [8, 8]}
    return restored_trial(trial.config, folder / "best.safetensors", uid=trial.uid, facts=facts).network


@pytest.mark.parametrize("transfer", [HEAD, PROBE, FEW], ids=["head", "probe", "few"])
@MODELS
def test_the_kept_weights_are_the_whole_network(trial: MakeTrial, tmp_path: Path, model: Any, transfer: Any) -> None:
    made = trial("kept", model=model, norm=BATCH, transfer=transfer, epochs=4)
    run = TrialRun(made)
    results = list(run)
    tested = run.finish().metrics
    found, _ = evaluated_again(made.config, tmp_path / "kept/best.safetensors", uid=made.uid)
    assert {name: found[name] for name in tested} == tested
    assert found["val/loss"] == results[run.best[0] - 1].metrics["val/loss"]
    network = restored(made, tmp_path / "kept")
    assert network.state_dict().keys() == run._learner.whole.state_dict().keys()
    if transfer is not PROBE:
        plain, _ = build_model(made.config | {"transfer": {}}, load_data(made.config), torch.device("cpu"))
        assert plain.state_dict().keys() == network.state_dict().keys(), "compare builds the architecture's own"


def test_features_are_computed_once_for_trials_with_the_same_frozen_part(trial: MakeTrial) -> None:
    settings = {"model": RESNET, "norm": BATCH, "transfer": HEAD}
    first, again = (TrialRun(trial("", **settings))._learner.data for _ in range(2))
    assert first is again
    faster = {"_target_": "orchestrator.training.optimizers.sgd", "lr": 0.5}
    assert TrialRun(trial("", **settings, optimizer=faster))._learner.data is first
    assert TrialRun(trial("", **settings, seed=1))._learner.data is not first, "other random features"
    tanh = {"_target_": "models.layers.activation.tanh"}
    same_weights = TrialRun(trial("", **settings, activation=tanh))._learner.data
    assert same_weights is not first
    assert not torch.equal(
        same_weights.splits["val"].floats, TrialRun(trial("", **settings))._learner.data.splits["val"].floats
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_learning_rates_fall_geometrically_from_the_output(trial: MakeTrial, optimizer: str) -> None:
    spec = {"_target_": f"orchestrator.training.optimizers.{optimizer}", "lr": 0.08}
    run = TrialRun(trial("", model=RESNET, optimizer=spec, transfer=choice("whole", lr_factor=0.5)))
    learner = run._learner
    places = {id(p): name.split(".")[0] for name, p in learner.model.named_parameters()}
    rates = {places[id(p)]: group["lr"] for group in learner.optimizer.param_groups for p in group["params"]}
    assert rates == {"classifier": 0.08, "stage3": 0.04, "stage2": 0.02, "stage1": 0.01, "stem": 0.005}
    result = next(run)
    assert result.metrics["lr"] == 0.08


def test_a_stage_moves_by_its_own_learning_rate(trial: MakeTrial) -> None:
    """One step of plain gradient descent from the same weights moves each stage by its factor times the common step."""
    plain = {"_target_": "orchestrator.training.optimizers.sgd", "lr": 1e-3, "momentum": 0.0}
    settings = {"model": CONVNET | {"dropout": 0.0}, "optimizer": plain, "batch_size": 98, "epochs": 1}
    moves = []
    for transfer in ({}, choice("whole", lr_factor=0.5)):
        run = TrialRun(trial("", **settings, transfer=transfer))
        before = state_of(run)
        next(run)
        after = state_of(run)
        moves.append({name: after[name] - before[name] for name, _ in run._learner.model.named_parameters()})
    factors = {"classifier": 1.0, "stage2": 0.5, "stage1": 0.25}
    for name, common in moves[0].items():
        assert torch.allclose(moves[1][name], common * factors[name.split(".")[0]], rtol=1e-2, atol=1e-7), name


def test_one_factor_of_1_leaves_the_groups_alone(trial: MakeTrial) -> None:
    whole_, plain = (TrialRun(trial("", model=RESNET, transfer=t)) for t in (choice("whole", lr_factor=1.0), {}))
    assert len(whole_._learner.optimizer.param_groups) == 1
    assert [r.metrics["train/loss"] for r in whole_] == [r.metrics["train/loss"] for r in plain]


@pytest.mark.slow  # torch.optim imports torch's compiler
def test_an_optimizer_with_one_learning_rate_is_refused(trial: MakeTrial) -> None:
    spec = {"_target_": "torch.optim.LBFGS", "lr": 0.1}
    with pytest.raises(ValueError, match=r"LBFGS has one learning rate for all parameters; set transfer.lr_factor=1"):
        TrialRun(trial("", optimizer=spec, transfer=choice("whole", lr_factor=0.5)))


@pytest.mark.parametrize("transfer", [HEAD, PROBE], ids=["head", "probe"])
def test_augmentation_with_features_computed_once_is_refused(trial: MakeTrial, transfer: Any) -> None:
    flips = {"_target_": "orchestrator.training.augment.flip.flip"}
    with pytest.raises(ValueError, match=r"augmentation changes the images in every epoch; set augment=none, or train"):
        TrialRun(trial("", model=RESNET, transfer=transfer, augment=flips))
    assert len(list(TrialRun(trial("", model=RESNET, transfer=choice("top_layers", layers=1), augment=flips)))) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stage_probe(stage=0), r"stage must be at least 1, got 0"),
        (lambda: top_layers(layers=0), r"layers must be at least 1, got 0"),
        (lambda: top_layers(lr_factor=0.0), r"lr_factor must be more than 0 and at most 1, got 0"),
        (lambda: whole(lr_factor=1.5), r"lr_factor must be more than 0 and at most 1, got 1.5"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        (
            choice("stage_probe", stage=4),
            r"stage must be at most 3, as the network has no more stages \(stage1, stage2, stage3\)",
        ),
        (
            choice("stage_probe", stage="stage9"),
            r"stage must be a part of the network before its classifier \(stem, stage1",
        ),
        (choice("top_layers", layers=9), r"layers must be at most 8, as the network has no more .*transfer=all.*got 9"),
    ],
)
def test_what_the_network_does_not_have_is_refused(trial: MakeTrial, transfer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrialRun(trial("", model=RESNET, transfer=transfer))


def test_a_linear_model_has_no_stage(trial: MakeTrial) -> None:
    with pytest.raises(ValueError, match="stage must be at most 0"):
        TrialRun(trial("", model={"_target_": "models.mlp.linear"}, transfer=choice("stage_probe", stage=1)))


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 2)


def test_a_network_without_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs parts that follow each other .*, got Whole"):
        head().adapt(Whole(), 2, torch.Size((1, 2, 2)))


# the layers of a network


def network() -> Network:
    return Network(
        {
            "stem": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.1)),
            "stage1": nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.PReLU()),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "fc6": nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)),
            "dropout": nn.Dropout(0.5),
            "classifier": nn.Linear(3, 2),
        },
        heads={
            "stem": nn.Sequential(nn.Flatten(), nn.Linear(72, 2)),
            "stage1": nn.Sequential(nn.Flatten(), nn.Linear(32, 2)),
        },
    )


def test_layers_are_modules_with_weights_and_what_follows() -> None:
    found = [
        [type(module).__name__.removeprefix("Parametrized") for module in layer.modules]
        for layer in layers_of(network())
    ]
    assert found == [
        ["Conv2d", "BatchNorm2d"],
        ["Conv2d", "BatchNorm2d"],
        ["Conv2d", "PReLU"],
        ["Linear", "ParametrizationList"],
        ["Linear"],
    ]
    assert [layer.stage for layer in layers_of(network())] == [0, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("layers", "frozen", "modules"),
    [
        (1, {"stem", "stage1", "fc6"}, ["stem", "stage1", "pool", "flatten", "fc6", "dropout"]),
        (2, {"stem", "stage1"}, ["stem", "stage1", "pool", "flatten"]),
        (3, {"stem", "stage1"}, ["stem", "stage1.0", "stage1.1"]),
        (4, {"stem"}, ["stem"]),
        (5, set(), []),
        (None, {"stem", "stage1"}, ["stem", "stage1.0", "stage1.1"]),
    ],
)
def test_layers_are_counted_from_the_output(layers: int | None, frozen: set[str], modules: list[str]) -> None:
    model = network()
    names = {id(module): name for name, module in model.named_modules()}
    trained = top_layers(layers=layers).trained(model)
    cut_heads(model, trained)
    assert [names[id(module)] for module in freeze_all_but(model, trained)] == modules
    still = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert still - {"heads"} == frozen
    live = {name for name in ("stem", "stage1") if all(p.requires_grad for p in model.heads[name].parameters())}
    assert live == model.head_names


def test_many_layers_are_half_of_them_rounded_up() -> None:
    assert len(top_layers(layers=None).trained(network())) == 3
    assert len(top_layers(layers=None).trained(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))) == 1


def test_an_auxiliary_head_of_a_frozen_stage_is_not_computed() -> None:
    model = network()
    cut_heads(model, top_layers(layers=4).trained(model))
    assert model.head_names == {"stage1"}
    cut_heads(model, head().trained(model))
    assert model.head_names == set()
    assert isinstance(model.train()(torch.randn(2, 1, 8, 8)), Tensor)


def test_building_on_meta_gives_the_same_shapes(trial: MakeTrial) -> None:
    config = trial("", model=RESNET, transfer=PROBE).config
    data = load_data(config)
    meta, real = (build_model(config, data, torch.device(device))[0] for device in ("meta", "cpu"))
    shapes = [{name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} for model in (meta, real)]
    assert shapes[0] == shapes[1]
    assert json.loads(json.dumps(list(shapes[0]))) == list(real.state_dict())
