from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import models
from orchestrator.base.errors import NotReadyError
from orchestrator.training import preflight
from orchestrator.training.counted import network_costs
from orchestrator.training.data import decoding, loading
from orchestrator.training.preflight import check
from orchestrator.training.tries import decoding as told_of
from orchestrator.training.tries import network
from orchestrator.training.tries.decoding import decoding_progress

OWN = "orchestrator.training"
LESION = f"{OWN}.evaluation.lesion.lesion"
COLUMN = f"{OWN}.evaluation.column.column"
MakeConfig = Callable[..., dict[str, Any]]


def problems(*configs: tuple[str, dict[str, Any]]) -> list[str]:
    return [str(problem) for problem in check(configs).problems]


def test_facts_of_good_configurations(config: MakeConfig) -> None:
    linear = config(model={"_target_": "models.mlp.linear"})
    found = check([("model=linear", linear), ("model=mlp", config())])
    assert found.problems == []
    facts = found.facts
    assert (facts["num_classes"], facts["in_channels"], facts["image_size"]) == (4, 1, (8, 8))
    assert (facts["train"], facts["val"], facts["test"]) == (98, 24, 28)
    assert (facts["parameters"], facts["largest"]) == (64 * 12 + 12 + 12 * 4 + 4, "model=mlp")


def test_facts_tell_the_groups_of_group_norm_in_force(config: MakeConfig) -> None:
    """Of at most 8 groups 6 divide 12 features, of at most 5 it is 4; each is [features, asked for, in force]."""
    group = {"_target_": "models.layers.norm.group_norm"}
    found = check([(f"num_groups={n}", config(norm={**group, "num_groups": n})) for n in (8, 5, 8)])
    assert found.facts["group_norm"] == [[12, 5, 4], [12, 8, 6]]


def test_trials_on_one_data_set_may_differ_in_the_size_of_images(config: MakeConfig) -> None:
    """Each costs what its own size does; the size of the data is a fact of the data."""
    own = {"stem": "cifar", "width": 0.25}
    resizing = {"_target_": "models.efficientnet.efficientnet", "resize": True, "base_resolution": 16, **own}
    of = {"data": "synthetic", "model": "efficientnet_b0"}
    labels = [f"model.phi={phi}" for phi in (0.0, 1.0)]
    configs = [config(model={**resizing, "phi": phi}, choices=of) for phi in (0.0, 1.0)]

    found = check([*zip(labels, configs, strict=True)], costs=True)

    assert found.problems == []
    assert found.facts["image_size"] == (8, 8)
    assert found.facts["resized_to"] == [16, 18]
    expected = [
        models.describe("efficientnet_b0", num_classes=4, in_channels=1, image_size=(size, size), phi=phi, **own)
        for phi, size in ((0.0, 16), (1.0, 18))
    ]
    assert [cost[1:3] for cost in found.facts["costs"]] == [[one.parameters, one.multiply_adds] for one in expected]
    shape = {"num_classes": 4, "in_channels": 1, "image_size": (8, 8)}
    assert [network_costs(one, **shape)[1] for one in configs] == [one.multiply_adds for one in expected]


def test_image_too_small_is_told_with_the_name_of_the_data(config: MakeConfig) -> None:
    small = {"_target_": f"{OWN}.data.synthetic.synthetic", "num_examples": 150, "image_size": 4}
    choices = {"data": "synthetic", "model": "convnet"}
    made = config(data=small, model={"_target_": "models.convnet.convnet"}, choices=choices)
    assert problems(("model=convnet", made)) == [
        "model=convnet: convnet of 3 stages needs at least 8x8 images, data=synthetic gives 4x4"
    ]


def test_an_initialization_for_other_networks_is_told_as_the_choice_at_fault(config: MakeConfig) -> None:
    between, lsuv = ({"_target_": f"models.initializers.{name}.{name}"} for name in ("between_layer", "lsuv"))
    residual = {"model": {"_target_": "models.residual_mlp.residual_mlp"}}
    of = {name: {"data": "synthetic", "model": "residual_mlp", "init": name} for name in ("between_layer", "lsuv")}
    found = problems(
        ("init=between_layer", config(**residual, init=between, choices=of["between_layer"])),
        ("init=lsuv", config(**residual, init=lsuv, choices=of["lsuv"])),
        ("model=mlp", config(init=between, choices={"init": "between_layer"})),
    )
    assert len(found) == 1
    assert found[0].startswith("init=between_layer: between_layer needs a plain chain of layers, and Residual computes")


def test_images_too_large_for_a_preprocessing_are_told_before_anything_is_started(config: MakeConfig) -> None:
    large = {"_target_": f"{OWN}.data.synthetic.synthetic", "num_examples": 150, "image_size": 65}
    choices = {"data": "synthetic", "preprocess": "whiten"}
    whiten = {"_target_": f"{OWN}.preprocess.whiten.whiten"}
    (found,) = problems(("", config(data=large, preprocess=whiten, choices=choices)))
    assert found.startswith("preprocess=whiten: whiten keeps a matrix of 4,225 x 4,225 numbers for images of 1x65x65")
    assert "choose preprocess=channel_mean" in found
    assert problems(("", config(preprocess=whiten, choices=choices))) == []


def test_a_way_of_evaluation_that_makes_no_sense_is_told_before_anything_is_started(config: MakeConfig) -> None:
    of = f"{OWN}.evaluation"
    masks = {"_target_": f"{of}.monte_carlo_dropout.monte_carlo_dropout", "masks": 3}
    choices = {"data": "synthetic", "evaluate": "monte_carlo_dropout"}
    (found,) = problems(("", config(evaluate=masks, choices=choices)))
    assert found.startswith(
        "evaluate=monte_carlo_dropout: needs a network with dropout, and this one has none; model.dr"
    )
    dropout = {"_target_": "models.mlp.mlp", "hidden": 1, "width": 12, "dropout": 0.5}
    assert problems(("", config(evaluate=masks, model=dropout, choices=choices))) == []
    (found,) = problems(("", config(evaluate=masks | {"masks": 0}, model=dropout, choices=choices)))
    assert found == "evaluate=monte_carlo_dropout: masks must be from 1 to 10000, got 0"
    large = {"_target_": f"{of}.ten_crops.ten_crops", "size": 9}
    (found,) = problems(("", config(evaluate=large, choices={"data": "synthetic", "evaluate": "ten_crops"})))
    assert found == "evaluate=ten_crops: size=9 is larger than the images, data=synthetic gives 8x8"
    flips, head = {"_target_": f"{of}.flips.flips"}, {"_target_": f"{OWN}.transfer.head"}
    both = {"data": "synthetic", "evaluate": "flips", "transfer": "head"}
    (found,) = problems(("", config(evaluate=flips, transfer=head, choices=both)))
    assert found.startswith(
        "evaluate=flips: looks at images in several ways, and this transfer computes their features"
    )


@pytest.mark.parametrize(
    ("model", "evaluate", "told"),
    [
        ({"_target_": "models.mlp.mlp"}, {"_target_": LESION}, "needs a network with units that can be left out"),
        (
            {"_target_": "models.plain.plain_cifar", "depth": 14},
            {"_target_": LESION, "deleted": 5},
            "deleted must be at most 4, the units of this network, those that keep the shape, got 5",
        ),
        ({"_target_": "models.plain.plain_cifar", "depth": 14}, {"_target_": LESION, "deleted": 4}, None),
        ({"_target_": "models.resnet.resnet_cifar", "depth": 8}, {"_target_": COLUMN}, "needs a fractal network"),
        (
            {"_target_": "models.fractalnet.fractalnet", "blocks": 3, "columns": 2},
            {"_target_": COLUMN, "column": 3},
            "column must be at most 2, the columns of this network, got 3",
        ),
    ],
)
def test_networks_without_the_units_or_columns_are_told_before_anything_is_started(
    config: MakeConfig, model: dict[str, Any], evaluate: dict[str, Any], told: str | None
) -> None:
    choices = {"data": "synthetic", "evaluate": "its name"}
    found = problems(("", config(model=model, evaluate=evaluate, choices=choices)))
    assert [one.startswith(f"evaluate=its name: {told}") for one in found] == ([True] if told else [])


def test_clipping_that_an_optimizer_cannot_do_with_is_told_before_anything_is_started(config: MakeConfig) -> None:
    newton, sgd = ({"_target_": f"{OWN}.optimizers.{name}"} for name in ("newton", "sgd"))
    choices = {"data": "synthetic", "optimizer": "newton"}
    (found,) = problems(("", config(optimizer=newton, clip_grad_norm=1.0, choices=choices)))
    assert found == (
        "clip_grad_norm=1.0: shortens gradients that optimizer=newton differentiates again; set clip_grad_norm=null,"
        " or take another optimizer"
    )
    assert problems(("", config(optimizer=newton))) == []
    assert problems(("", config(optimizer=sgd, clip_grad_norm=1.0))) == []


@pytest.mark.parametrize(
    ("epochs", "arguments", "idle"),
    [
        (10, {"_target_": f"{OWN}.schedules.step", "every_epochs": 30}, True),
        (31, {"_target_": f"{OWN}.schedules.step", "every_epochs": 30}, False),
        (11, {"_target_": f"{OWN}.schedules.plateau", "patience": 10}, True),
        (13, {"_target_": f"{OWN}.schedules.plateau", "patience": 10}, False),
        (10, {"_target_": f"{OWN}.schedules.step", "every_epochs": 30, "warmup_epochs": 1.0}, False),
        (3, {"_target_": f"{OWN}.schedules.cosine"}, False),
        (10, {"_target_": f"{OWN}.schedules.constant"}, False),
    ],
)
def test_a_schedule_that_cannot_act_is_told(
    config: MakeConfig, epochs: int, arguments: dict[str, Any], idle: bool
) -> None:
    choices = {"data": "synthetic", "schedule": "its name"}
    notes = check([("", config(epochs=epochs, schedule=arguments, choices=choices))]).notes
    said = f"schedule=its name never changes the learning rate within {epochs} epochs as it is set"
    assert any(note.startswith(said) for note in notes) == idle


@pytest.mark.parametrize(("epochs", "idle"), [(11, True), (12, False)])
def test_early_stopping_that_cannot_act_is_told(config: MakeConfig, epochs: int, idle: bool) -> None:
    rule = {"_target_": f"{OWN}.early_stopping.patience.patience", "patience": 10}
    choices = {"data": "synthetic", "early_stopping": "patience"}
    notes = check([("", config(epochs=epochs, early_stopping=rule, choices=choices))]).notes
    assert (
        any(note.startswith(f"early_stopping=patience ends no trial within {epochs} epochs") for note in notes) == idle
    )


@pytest.mark.parametrize(("model", "told"), [("models.convnet.convnet", True), ("models.mlp.mlp", False)])
def test_whitened_images_for_convolutions_are_told(config: MakeConfig, model: str, told: bool) -> None:
    whiten = {"_target_": f"{OWN}.preprocess.whiten.whiten"}
    choices = {"data": "synthetic", "preprocess": "whiten"}
    notes = check([("", config(model={"_target_": model}, preprocess=whiten, choices=choices))]).notes
    assert any(note.startswith("preprocess=whiten leaves no neighbouring pixels") for note in notes) == told


@pytest.mark.parametrize(("hidden", "told"), [(1, True), (2, False)])
def test_muon_without_hidden_matrices_is_told(config: MakeConfig, hidden: int, told: bool) -> None:
    choices = {"data": "synthetic", "optimizer": "muon"}
    model, muon = {"_target_": "models.mlp.mlp", "hidden": hidden, "width": 8}, {"_target_": f"{OWN}.optimizers.muon"}
    notes = check([("", config(model=model, optimizer=muon, choices=choices))]).notes
    assert any(note.startswith("optimizer=muon is adamw here") for note in notes) == told


def test_a_refused_norm_or_activation_is_told_as_the_choice_at_fault(config: MakeConfig) -> None:
    """A ready search that asks for all norms can leave this one out then."""
    choices = {"data": "synthetic", "model": "linear", "norm": "batch", "activation": "tanh"}
    batch, tanh = {"_target_": "models.layers.norm.batch_norm"}, {"_target_": "models.layers.activation.tanh"}
    linear = config(model={"_target_": "models.mlp.linear"}, choices=choices)
    assert problems(
        ("norm=batch", linear | {"norm": batch}),
        ("activation=tanh", linear | {"activation": tanh}),
        ("norm=batch, activation=tanh", linear | {"norm": batch, "activation": tanh}),
    ) == [
        "norm=batch: linear has no hidden features to normalize; use norm=none, or model=mlp",
        "activation=tanh: linear has no hidden features to activate; use activation=identity, or model=mlp",
        "model=linear: linear has no hidden features to normalize; use norm=none, or model=mlp"
        " (norm=batch, activation=tanh)",
    ]


def test_a_norm_that_is_refused_once_maps_are_small_is_told_as_the_choice_at_fault(config: MakeConfig) -> None:
    choices = {"data": "synthetic", "model": "convnet", "norm": "instance"}
    instance = {"_target_": "models.layers.norm.instance_norm"}
    made = config(model={"_target_": "models.convnet.convnet"}, norm=instance, choices=choices)
    assert problems(("norm=instance", made)) == [
        "norm=instance: instance normalization has no variance over the one position of a 1x1 map;"
        " use larger images or another norm"
    ]


def test_every_problem_is_told_once_with_the_configurations_that_have_it(config: MakeConfig) -> None:
    bad = config(
        precision="fp16",
        optimizer={"_target_": f"{OWN}.optimizers.sgd", "lr": -1.0},
        schedule={"_target_": f"{OWN}.schedules.cosine", "warmup_epochs": 9.0},
        augment={"_target_": f"{OWN}.augment.crop.crop", "padding": 0},
    )
    found = problems(("base", bad), ("norm=batch", bad | {"norm": {"_target_": "models.layers.norm.batch_norm"}}))
    assert sorted(line.partition(":")[0] for line in found) == [
        "augment", "optimizer=sgd", "precision=fp16", "schedule",
    ]  # fmt: skip
    assert "optimizer=sgd: lr must be more than 0, got -1 (base; norm=batch)" in found


def test_every_problem_with_the_data_is_told(config: MakeConfig) -> None:
    small = {"_target_": f"{OWN}.data.synthetic.synthetic", "num_examples": 150, "image_size": 4}
    found = problems(("base", config(data=small, batch_size=1000, model={"_target_": "models.convnet.convnet"})))
    assert [line.partition(":")[0] for line in found] == ["batch_size=1000", "model=mlp"]
    assert "at most the 98 training examples" in found[0]


def test_no_data_are_loaded_while_a_part_is_refused(config: MakeConfig, tmp_path: Path) -> None:
    absent = {"_target_": f"{OWN}.data.folder.image_folder", "root": f"{tmp_path}/absent", "image_size": 8}
    bad = config(data=absent, optimizer={"_target_": f"{OWN}.optimizers.sgd", "lr": -1.0})
    assert problems(("base", bad)) == ["optimizer=sgd: lr must be more than 0, got -1 (base)"]
    assert [line.partition(" ")[0] for line in problems(("base", bad | {"data": absent | {"image_size": 0}}))] == [
        "data=synthetic:", "optimizer=sgd:",
    ]  # fmt: skip


def test_batch_norm_over_a_single_value_is_refused(config: MakeConfig) -> None:
    batch_norm = {"_target_": "models.layers.norm.batch_norm"}
    assert problems(("norm=batch", config(norm=batch_norm, batch_size=1))) == [
        "model=mlp: batch norm has no variance over the single value that batch_size=1 leaves a channel;"
        " set a larger batch_size or another norm (norm=batch)"
    ]
    assert problems(("", config(norm=batch_norm, batch_size=2))) == []
    assert problems(("", config(norm={"_target_": "models.layers.norm.layer_norm"}, batch_size=1))) == []
    maps = {"_target_": "models.convnet.convnet", "stages": 2, "width": 4}
    assert problems(("", config(model=maps, norm=batch_norm, batch_size=1))) == []


def test_slow_decoding_is_told_with_its_folder() -> None:
    now, told = 0.0, []
    progress = decoding_progress(told.append, "/cache", clock=lambda: now)
    for seconds, done in ((0.1, 500), (2.5, 9_000), (3.0, 10_000), (6.0, 30_000), (9.1, 60_000)):
        now = seconds
        progress(done, 60_000)
    assert told == [
        "decoding 60,000 images once into /cache ...",
        "  9,000 of 60,000 images, about 10 s left",  # 8,500 in 2.4 s, and 51,000 to come
        "  30,000 of 60,000 images, a few seconds left",  # 29,500 in 5.9 s, and 30,000 to come
    ]


def test_decoding_is_told_to_who_asks(config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(told_of, "DECODING_TOLD_AFTER_S", 0.0)
    monkeypatch.setattr(decoding, "_REPORT_EVERY", 4)
    for place, name in enumerate(f"{split}/{label}" for split in ("train", "test") for label in "ab"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), 10 * place + number).save(tmp_path / name / f"{number}.png")
    folder = {"_target_": f"{OWN}.data.folder.image_folder", "root": str(tmp_path), "channels": 1}
    told: list[str] = []
    found = check([("", config(data=folder, batch_size=2, data_cache=str(tmp_path / "cache")))], told.append)
    assert found.problems == []
    assert told[0] == f"decoding 12 images once into {tmp_path / 'cache'} ..."


def test_nothing_is_decoded_where_data_are_only_looked_at(config: MakeConfig, tmp_path: Path) -> None:
    """As for `launch --plan`: no cache is written, and what is told is what can be told without; once decoded, all of it."""
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), number).save(tmp_path / name / f"{number}.png")
    cache = tmp_path / "cache"
    folder = {"_target_": f"{OWN}.data.folder.image_folder", "root": str(tmp_path), "channels": 1, "val_fraction": 0.4}
    configs = [("", config(data=folder, batch_size=2, data_cache=str(cache)))]

    looked = check(configs, fetch=False)
    assert (looked.problems, looked.facts, cache.exists()) == ([], {}, False)
    decoded = check(configs)
    loading.forget()
    assert check(configs, fetch=False).facts == decoded.facts
    assert decoded.facts["test"] == 6


def test_digits_need_no_cache_to_be_looked_at(config: MakeConfig, tmp_path: Path) -> None:
    digits = {"_target_": f"{OWN}.data.digits.digits"}
    loading.forget()
    looked = check([("", config(data=digits, data_cache=str(tmp_path / "cache")))], fetch=False)
    assert list(tmp_path.iterdir()) == []
    assert looked.facts == check([("", config(data=digits, data_cache=str(tmp_path / "cache")))]).facts


def test_unknown_argument_is_told_with_its_key(config: MakeConfig) -> None:
    bad = config(model={"_target_": "models.mlp.mlp", "widht": 3})
    (found,) = problems(("base", bad))
    assert found.startswith("model.widht=3: unknown key")
    assert "did you mean model.width?" in found


def test_refused_norm_is_told_once(config: MakeConfig) -> None:
    bad = config(norm={"_target_": "models.layers.norm.group_norm", "num_groups": 0})
    (found,) = problems(("base", bad))
    assert found.startswith("norm: num_groups must be")


def test_models_are_tried_once_for_all_optimizers(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    probe = preflight.probe_model
    monkeypatch.setattr(preflight, "probe_model", lambda *args: tried.append(1) or probe(*args))
    check(
        [(f"optimizer.lr={lr}", config(optimizer={"_target_": f"{OWN}.optimizers.sgd", "lr": lr})) for lr in (0.1, 1)]
    )
    assert len(tried) == 1


@pytest.mark.slow  # the meta device imports the compiler: 6 s
def test_large_models_are_tried_without_memory(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "COMPUTED_PARAMETERS", 0)
    found = check([("base", config(model={"_target_": "models.mlp.mlp", "hidden": 2, "width": 1_000_000}))])
    assert found.problems == []
    assert found.facts["parameters"] > 10**12


def test_data_that_are_not_there_are_not_a_problem_of_the_input(config: MakeConfig, tmp_path: object) -> None:
    absent = {"_target_": f"{OWN}.data.folder.image_folder", "root": f"{tmp_path}/absent", "image_size": 8}
    with pytest.raises(NotReadyError, match="absent"):
        check([("base", config(data=absent))])


def test_model_of_the_users_own_that_does_not_fit_is_explained(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model, expected in (
        (torch.nn.Linear(3, 4), "does not take images of 1x8x8"),
        (torch.nn.Flatten(), "must give logits of shape (2, 4) for a batch, gave (2, 64)"),
    ):
        monkeypatch.setattr(network, "build_model", lambda *args, model=model: (model, False))
        (found,) = problems(("base", config()))
        assert expected in found


def test_configurations_are_tried_until_the_time_is_used_up(config: MakeConfig) -> None:
    """Each look at the clock takes a second. The first configuration, with which everything is loaded, does not count."""
    configs = [(f"seed={seed}", config(seed=seed)) for seed in range(20)]
    seconds = iter(range(1_000))
    assert check(configs, budget_s=12, clock=lambda: next(seconds)).tried == 6
    assert check(configs[:1], budget_s=0).tried == 1
    assert check(configs, budget_s=1_000, clock=lambda: 0.0).tried == 20


@pytest.mark.parametrize("penalty", ["l2", "elastic_net"])
def test_a_penalty_of_squares_beside_coupled_weight_decay_is_refused(config: MakeConfig, penalty: str) -> None:
    both = config(
        optimizer={"_target_": f"{OWN}.optimizers.sgd", "weight_decay": 5e-4},
        penalty={"_target_": f"{OWN}.penalties.{penalty}"},
        choices={"penalty": penalty},
    )
    assert problems(("", both)) == [
        f"penalty={penalty}: penalizes squares, as optimizer.weight_decay=0.0005 does; set optimizer.weight_decay=0, or"
        " penalty=none (weight_decay is twice the strength of squares)"
    ]
    assert problems(("", both | {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 5e-4}}))


@pytest.mark.parametrize(
    ("optimizer", "penalty"),
    [
        ({"_target_": f"{OWN}.optimizers.sgd"}, {"_target_": f"{OWN}.penalties.l2"}),
        ({"_target_": f"{OWN}.optimizers.sgd", "weight_decay": 0.1}, {"_target_": f"{OWN}.penalties.l1"}),
        ({"_target_": f"{OWN}.optimizers.sgd", "weight_decay": 0.1}, {}),
        ({"_target_": f"{OWN}.optimizers.adamw", "weight_decay": 0.1}, {"_target_": f"{OWN}.penalties.l2"}),
        ({"_target_": "torch.optim.AdamW", "weight_decay": 0.1}, {"_target_": f"{OWN}.penalties.l2"}),
    ],
)
def test_other_penalties_and_weight_decays_go_together(
    config: MakeConfig, optimizer: dict[str, Any], penalty: dict[str, Any]
) -> None:
    assert problems(("", config(optimizer=optimizer, penalty=penalty))) == []
