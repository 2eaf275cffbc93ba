"""From overrides and YAML to a checked plan. What the driver tries (data, models) is replaced here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from orchestrator.base.build import build
from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.rights import Rights, granted
from orchestrator.base.settings import CONF
from orchestrator.config.plan import SweepPlan, describe_plan, trial_config
from orchestrator.config.planning import compose_job, plan
from orchestrator.space import Choice, Interval, Range
from orchestrator.training import preflight
from orchestrator.training.pretrained import KeptWeights

FACTS = {"parameters": 17_610, "val": 10, "test": 10, "num_classes": 4}


@pytest.fixture(autouse=True)
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Mapping[str, Any]]]:
    """The configurations that would have been tried; nothing is."""
    configs: list[tuple[str, Mapping[str, Any]]] = []

    def check(given: Iterable[tuple[str, Mapping[str, Any]]], *_: object, **__: object) -> SimpleNamespace:
        configs[:] = given
        return SimpleNamespace(problems=[], facts=FACTS, tried=len(configs), notes=())

    monkeypatch.setattr(preflight, "check", check)
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(tmp_path / "settings.yaml"))
    monkeypatch.chdir(tmp_path)
    return configs


def shown(made: SweepPlan) -> list[str]:
    return [parameter.describe() for parameter in made.space.parameters]


def refused(*overrides: str, **where: Any) -> str:
    with pytest.raises(ConfigError, match=r"\S") as caught:
        plan(overrides, **where)
    return str(caught.value)


# the search space


def test_defaults_are_the_quickstart() -> None:
    made = plan([])
    assert made.space.keys == ("optimizer", "optimizer.lr", "norm")
    assert made.root.trials == 16
    assert made.base["mode"] == "max"
    assert made.base["choices"]["model"] == "mlp"
    assert Path(made.root.runs_dir).is_absolute()


def test_swept_values_replace_the_default_search() -> None:
    made = plan(
        [
            "model=resnet_cifar",
            "optimizer.lr=tag(log,interval(1e-4,1))",
            "norm=batch,group",
            "model.depth=range(20,57,12)",
        ]
    )
    assert {p.key: p.domain for p in made.space.parameters} == {
        "optimizer.lr": Interval(1e-4, 1.0, log=True),
        "norm": Choice(("batch", "group")),
        "model.depth": Range(20, 57, 12),
    }
    assert made.notes == ("model.depth takes 20, 32, 44, 56 (the step does not reach 57)",)


def test_swept_values_are_merged_into_a_named_search_and_win() -> None:
    assert shown(plan(["search=learning_rate", "optimizer.lr=0.1,0.2", "seed=1,2"])) == [
        "optimizer.lr: 0.1, 0.2",
        "seed: 1, 2",
    ]


def test_fixed_values_pin_their_key() -> None:
    made = plan(["optimizer=adam", "optimizer.lr=0.01"])
    assert made.space.keys == ("norm",)
    assert made.base["optimizer"]["lr"] == 0.01
    assert made.base["choices"]["optimizer"] == "adam"


def test_deleted_key_leaves_the_search() -> None:
    assert plan(["~optimizer.lr"]).space.keys == ("optimizer", "norm")
    assert "~model.width: is not searched" in refused("~model.width")
    assert "a group always has a choice" in refused("~optimizer")


def test_key_below_a_searched_group_belongs_to_the_choices_that_have_it() -> None:
    made = plan(["optimizer=sgd,adam", "optimizer.momentum=0.5"])
    assert made.choices["optimizer"]["sgd"]["momentum"] == 0.5
    assert "momentum" not in made.choices["optimizer"]["adam"]
    swept = plan(["optimizer=sgd,adam", "optimizer.momentum=0.5,0.9"])
    assert shown(swept) == ["optimizer: sgd, adam", "optimizer.momentum: 0.5, 0.9, when optimizer=sgd"]
    assert "optimizer=adam has no momentum" in refused("optimizer=adam", "optimizer.momentum=0.9")
    assert "optimizer=sgd, adam has no momentun" in refused("optimizer=sgd,adam", "optimizer.momentun=0.9,1")


def test_usual_ranges_come_from_the_choices() -> None:
    assert shown(plan(["search=learning_rate", "optimizer=sgd,adam"])) == [
        "optimizer: sgd, adam",
        "optimizer.lr: 0.001 to 1 (log), when optimizer=sgd",
        "optimizer.lr: 0.0001 to 0.1 (log), when optimizer=adam",
    ]


def test_glob_chooses_among_the_files_of_a_group() -> None:
    made = plan(["optimizer=glob(adam*)", "optimizer.lr=0.1"])
    assert shown(made) == ["optimizer: adam, adamw"]
    assert "matches none of" in refused("optimizer=glob(x*)")
    assert "glob() chooses among the files of a group" in refused("optimizer.lr=glob(*)")


@pytest.mark.parametrize("search", [path.stem for path in sorted((CONF / "search").glob("*.yaml"))])
@pytest.mark.parametrize("model", ["mlp", "resnet_cifar,mlp"])
def test_ready_searches_plan_and_their_draws_are_whole_configurations(search: str, model: str, tmp_path: Path) -> None:
    if search == "lottery_ticket":
        write(tmp_path / "best.safetensors", "weights")
        trained = KeptWeights(tmp_path / "best.safetensors", "trained-0000aaaa/0", plan(["search=none"]).base)
        made = plan([f"search={search}", "from=trained/0"], find_trial=lambda runs, name: trained)
        assert made.base["ticket"] == "trained-0000aaaa/0"
    else:
        made = plan([f"search={search}", f"model={model}"])
    for u in (0.0, 0.3, 0.6, 0.999):
        params = made.space.from_unit([u] * len(made.space.parameters))
        config = trial_config(made, params)
        assert made.space.contains(params) == []
        for key, value in params.items():
            group, _, name = key.partition(".")
            assert (config[group][name] if name else config["choices"][group]) == value
            assert "search" not in config[group]


@pytest.mark.parametrize(
    ("other", "key", "there"),
    [
        ("init=xavier", "init=xavier", "default"),
        ("init=default,xavier", "init=xavier", "default"),
        ("model=resnet_cifar", "model=resnet_cifar", "mlp"),
        ("model.width=7", "model.width=7", "16"),
        ("model.width=7,16", "model.width=a search", "16"),
        ("norm=none", "norm=none", "batch"),
        ("activation=tanh", "activation=tanh", "relu"),
    ],
)
def test_a_ticket_is_of_its_own_network_and_initialization(other: str, key: str, there: str, tmp_path: Path) -> None:
    write(tmp_path / "best.safetensors", "weights")
    own = plan(["search=none", "model=mlp", "model.width=16", "norm=batch", "activation=relu"]).base
    trained = KeptWeights(tmp_path / "best.safetensors", "trained-0000aaaa/0", own)
    texts = ["search=lottery_ticket", "from=trained/0"]
    same = ["model.width=16", "norm=batch", "prune.reinit=true", "optimizer=adam"]
    plan([*texts, *same], find_trial=lambda runs, name: trained)
    with pytest.raises(ConfigError, match=re.escape(f"{key}: is {there} in the trial that it comes from")):
        plan([*texts, other], find_trial=lambda runs, name: trained)
    with pytest.raises(
        ConfigError, match=r"pretrained=resnet18\.pth: a ticket begins with the initial weights of trained-0000"
    ):
        plan([*texts, "pretrained=resnet18.pth"], find_trial=lambda runs, name: trained)


def test_all_holds_every_other_ready_search() -> None:
    everything = set(plan(["search=all"]).space.keys)
    for search in ("learning_rate", "weight_scale", "init", "normalization", "optimizer", "depth", "quickstart"):
        assert set(plan([f"search={search}"]).space.keys) <= everything


@pytest.mark.parametrize("experiment", [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))])
def test_experiments_plan(experiment: str) -> None:
    texts = (
        [f"experiment={experiment}", "data.root=/somewhere"] if "photo" in experiment else [f"experiment={experiment}"]
    )
    kept = KeptWeights(write(Path("best.safetensors"), "weights"), "source-0000aaaa/0")
    made = plan(texts, find_trial=lambda runs, name: kept)
    assert made.space.parameters or experiment == "e16_source"  # whose one trial e16_transfer begins with


def test_nothing_searched_is_one_trial() -> None:
    made = plan(["search=none"])
    assert made.root.trials == 1
    assert made.notes == ("nothing is searched: one trial",)


def test_two_names_of_one_initialization_are_not_searched_together() -> None:
    message = refused("init=lecun,xavier,xavier_fan_in")
    assert "init=xavier_fan_in: is the same as lecun under another name" in message
    assert "leave one of them out" in message
    assert plan(["init=xavier,xavier_fan_in"]).space.keys == ("init",)


def test_a_single_crop_is_the_default_and_changes_nothing() -> None:
    made = plan([])
    assert made.base["choices"]["evaluate"] == "single_crop"
    assert made.base["evaluate"] == {}


def test_ways_of_evaluation_are_searched_and_their_two_names_are_not() -> None:
    made = plan(["model.dropout=0.5", "evaluate=single_crop,flips,monte_carlo_dropout", "evaluate.masks=1,10"])
    assert {"evaluate", "evaluate.masks"} <= {*made.space.keys}
    message = refused("evaluate=single_crop,flips,dropout_scaled")
    assert "evaluate=dropout_scaled: is the same as single_crop under another name" in message


@pytest.mark.parametrize("search", ["init", "weight_scale", "all"])
def test_a_ready_search_has_no_initialization_that_learns_nothing_or_comes_twice(search: str) -> None:
    (initializations,) = [p.domain.ends() for p in plan([f"search={search}"]).space.parameters if p.key == "init"]
    assert not {"default", "zero", "constant", "xavier_fan_in"} & set(initializations)
    assert {"lecun", "lsuv", "kaiming", "pca"} <= set(initializations)


def test_a_search_that_applies_to_nothing_is_refused() -> None:
    assert "nothing to search: of model.depth" in refused("search=depth", "model=linear", "~optimizer.lr")


def test_searches_of_a_user(tmp_path: Path) -> None:
    write(
        tmp_path / "conf/search/mine.yaml",
        """
        space:
          norm: choice(none, batch, group)
          optimizer: choice(sgd, adam)
        when:
          norm=group,batch:
            optimizer.weight_decay: tag(log, interval(1e-6, 1e-3))
            optimizer=sgd:
              optimizer.momentum: choice(0, 0.9)
          optimizer.momentum=0.9:
            optimizer.nesterov: choice(true, false)
        """,
    )
    made = plan(["search=mine"], config_dir=tmp_path / "conf")
    assert shown(made) == [
        "norm: none, batch, group",
        "optimizer: sgd, adam",
        "optimizer.weight_decay: 1e-06 to 0.001 (log), when norm=group,batch",
        "optimizer.momentum: 0, 0.9, when norm=group,batch and optimizer=sgd",
        "optimizer.nesterov: true, false, when optimizer.momentum=0.9 and optimizer=sgd",
    ]
    pinned = plan(["search=mine", "optimizer=sgd", "norm=batch"], config_dir=tmp_path / "conf")
    assert shown(pinned) == [
        "optimizer.weight_decay: 1e-06 to 0.001 (log)",
        "optimizer.momentum: 0, 0.9",
        "optimizer.nesterov: true, false, when optimizer.momentum=0.9",
    ]
    assert plan(
        ["search=mine", "optimizer=adam", "norm=none", "seed=1,2"], config_dir=tmp_path / "conf"
    ).space.keys == ("seed",)


NEW_OPTIMIZER = """# a new one
_target_: orchestrator.training.optimizers.sgd
lr: 0.1
search:
  lr: tag(log, interval(0.02, 0.5))
"""


def test_a_new_optimizer_is_in_the_ready_search_without_an_edit(tmp_path: Path) -> None:
    write(tmp_path / "conf/optimizer/novel.yaml", NEW_OPTIMIZER)
    made = plan(["search=optimizer"], config_dir=tmp_path / "conf")
    assert "novel" in made.choices["optimizer"]
    assert "optimizer: adagrad, adam, adamw, muon, nesterov, novel, rmsprop, sgd" in shown(made)
    assert "optimizer.lr: 0.02 to 0.5 (log), when optimizer=novel" in shown(made)
    assert "optimizer.momentum is not searched with optimizer=novel, rmsprop: no usual range" in made.notes


def test_a_choice_that_cannot_run_is_left_out_of_a_ready_search_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "conf/optimizer/broken.yaml", "_target_: torch.optim.nowhere\n")
    write(tmp_path / "conf/optimizer/unfit.yaml", NEW_OPTIMIZER)

    def check(given: Iterable[tuple[str, Mapping[str, Any]]], *_: object, **__: object) -> SimpleNamespace:
        fails = any(config["choices"]["optimizer"] == "unfit" for _, config in given)
        problems = [Problem("optimizer", "does not run on this", "unfit")] if fails else []
        return SimpleNamespace(problems=problems, facts=FACTS, tried=10**6, notes=())

    monkeypatch.setattr(preflight, "check", check)
    made = plan(["search=optimizer"], config_dir=tmp_path / "conf")
    assert "optimizer: adagrad, adam, adamw, muon, nesterov, rmsprop, sgd" in shown(made)
    assert any(
        note.startswith("optimizer=broken is left out") and "is not a class of torch.optim" in note
        for note in made.notes
    )
    assert "optimizer=unfit is left out: does not run on this" in made.notes
    assert "does not run on this" in refused("optimizer=adam,unfit", config_dir=tmp_path / "conf")


def test_the_search_that_nobody_asked_for_leaves_out_what_the_model_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(given: Iterable[tuple[str, Mapping[str, Any]]], *_: object, **__: object) -> SimpleNamespace:
        norms = {config["choices"]["norm"] for _, config in given} & {"batch", "layer"}
        problems = [Problem("norm", "nothing to normalize", norm) for norm in sorted(norms)]
        return SimpleNamespace(problems=problems, facts=FACTS, tried=10**6, notes=())

    monkeypatch.setattr(preflight, "check", check)
    made = plan(["model=linear"])
    assert "norm: none" in shown(made)
    assert "norm=batch is left out: nothing to normalize" in made.notes
    assert "norm=batch: nothing to normalize" in refused("model=linear", "search=quickstart")


def test_a_role_is_played_by_an_argument_of_each_family(own: Path) -> None:
    allowed = "allowed_targets=[my_nets_for_test]"
    write(own / "model/deep.yaml", "_target_: my_nets_for_test.Net\nsearch:\n  size: choice(1, 2)\n  depth: size\n")
    made = plan(["search=depth", "model=deep,mlp,resnet_cifar,convnet", "~optimizer.lr", allowed], config_dir=own)
    assert [line.partition(":")[0] + line.partition(", when")[2] for line in shown(made)] == [
        "model", "model.depth model=resnet_cifar", "model.hidden model=mlp", "model.size model=deep",
        "model.stages model=convnet",
    ]  # fmt: skip
    assert shown(plan(["search=depth", "model=deep", allowed], config_dir=own))[0] == "model.size: 1, 2"
    assert plan(["search=depth", "model.hidden=3"]).space.keys == ("optimizer.lr",)


def test_a_role_names_an_argument_with_a_range(own: Path) -> None:
    write(own / "model/deep.yaml", "_target_: my_nets_for_test.Net\nsearch:\n  size: choice(1, 2)\n  depth: sice\n")
    message = refused("search=depth", "model=deep", "allowed_targets=[my_nets_for_test]", config_dir=own)
    assert "search.depth=sice: must be a sweep, or the argument with a range here that plays the role depth" in message
    assert "did you mean size?" in message


def test_a_search_brings_the_values_for_which_it_is_meant() -> None:
    made = plan(["search=weight_scale"])
    assert (made.base["model"]["hidden"], made.base["optimizer"]["lr"]) == (8, 0.01)
    assert plan(["search=weight_scale", "model.hidden=3"]).base["model"]["hidden"] == 3
    other = plan(["search=weight_scale", "model=convnet"])
    assert "search=weight_scale is meant for model.hidden=8, which model=convnet does not have" in other.notes


def test_a_search_brings_no_unknown_values(tmp_path: Path) -> None:
    write(tmp_path / "conf/search/odd.yaml", "fixed: {model.hiden: 8}\nspace: {optimizer.lr: usual}")
    assert "model=mlp has no hiden" in refused("search=odd", config_dir=tmp_path / "conf")


def test_mistakes_in_a_search(tmp_path: Path) -> None:
    write(
        tmp_path / "conf/search/bad.yaml",
        """
        spaces: {}
        space:
          optimizer: choice(sgd, adamm)
          model.widht: choice(1, 2)
          model.width: 7
          norm: sort(batch, none)
          data: choice(digits, mnist)
        when:
          norm=grup:
            model.dropout: choice(0, 0.5)
          activation.x=1:
            model.hidden: choice(1, 2)
        """,
    )
    message = refused("search=bad", config_dir=tmp_path / "conf")
    for text in (
        "search.spaces={}: unknown key; did you mean search.space?",
        "optimizer=adamm: not in conf/optimizer; did you mean adam? (search=bad); known: adagrad, adam, adamw, ",
        "model.widht: model=mlp has no widht; did you mean model.width?",
        "model.width=7: must be usual or a sweep: choice(a, b)",
        "norm=sort(batch, none): must be usual or a sweep",
        "data: a sweep has one data set",
        "when.norm=grup: not in conf/norm",
        "when.activation.x: activation=default has no x",
    ):
        assert text in message


def test_circle_of_conditions(tmp_path: Path) -> None:
    text = "when: {optimizer.momentum=0.9: {seed: 'choice(1, 2)'}, seed=1: {optimizer.momentum: 'choice(0, 0.9)'}}"
    write(tmp_path / "conf/search/circle.yaml", text)
    message = refused("search=circle", config_dir=tmp_path / "conf")
    assert "circle: seed -> optimizer.momentum -> seed" in message


def test_condition_on_a_continuous_key(tmp_path: Path) -> None:
    write(
        tmp_path / "conf/search/odd.yaml",
        "space: {optimizer.lr: usual}\nwhen: {optimizer.lr=0.1: {seed: 'choice(1, 2)'}}",
    )
    assert "depends on single values of an interval" in refused("search=odd", config_dir=tmp_path / "conf")


# what comes out


def test_plan_goes_through_json_and_makes_trials_without_hydra() -> None:
    made = plan(["search=all", "model=resnet_cifar,mlp"])
    again = SweepPlan.from_json(made.to_json())
    assert again == made
    params = made.space.from_unit([0.4] * len(made.space.parameters))
    assert trial_config(again, params) == trial_config(made, params)


def test_trials_do_not_share_their_configuration() -> None:
    made = plan([])
    trial_config(made, {"optimizer": "adam"})["optimizer"]["lr"] = 7
    assert trial_config(made, {"optimizer": "adam"})["optimizer"]["lr"] != 7
    assert made.base["choices"]["optimizer"] == "sgd"


def test_defaults_of_the_signature_are_written_down() -> None:
    config = plan(["optimizer=adam", "optimizer.lr=0.1"]).base
    assert set(config["optimizer"]) >= {"_target_", "lr", "betas", "eps", "weight_decay"}


def test_every_choice_and_both_ends_are_tried_once_and_then_the_choices_in_pairs(
    tried: list[tuple[str, Mapping[str, Any]]],
) -> None:
    plan(
        ["optimizer=sgd,adam", "optimizer.momentum=interval(0,0.9)", "model=mlp,linear", "model.width=range(10,31,10)"]
    )
    labels = [label for label, _ in tried]
    assert labels == [
        "every trial", "optimizer=sgd", "optimizer=adam", "optimizer=sgd, optimizer.momentum=0.0",
        "optimizer=sgd, optimizer.momentum=0.9", "model=mlp", "model=linear", "model=mlp, model.width=10",
        "model=mlp, model.width=30",
        "optimizer=sgd, model=mlp", "optimizer=sgd, model=linear", "optimizer=adam, model=mlp", "optimizer=adam, model=linear",
    ]  # fmt: skip
    assert dict(tried)["model=linear"]["model"] == {"_target_": "models.mlp.linear"}


def test_penalties_are_tried_beside_the_weight_decays_of_each_optimizer(
    tried: list[tuple[str, Mapping[str, Any]]],
) -> None:
    """Two choices and a range: among pairs of choices, or the ends of the range alone, no squares are penalized twice."""
    plan(["optimizer=sgd,adamw", "optimizer.weight_decay=interval(1e-6,0.1)", "penalty=none,l2"])
    triples = [label for label, _ in tried if label.count("=") == 3]
    assert triples == [
        f"optimizer.weight_decay={decay}, optimizer={optimizer}, penalty={penalty}"
        for decay in (1e-6, 0.1)
        for optimizer in ("sgd", "adamw")
        for penalty in ("none", "l2")
    ]


def test_what_there_was_no_time_to_try_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        preflight, "check", lambda *_, **__: SimpleNamespace(problems=[], facts=FACTS, tried=6, notes=())
    )
    overrides = ["optimizer=sgd,adam", "model=mlp,linear"]  # one, two optimizers, two models, and four pairs
    assert (
        "3 of 9 combinations were not tried beforehand (after 10 s), from optimizer=sgd, model=linear on"
        in plan(overrides).notes
    )


def test_number_of_trials_follows_the_sampler() -> None:
    assert plan(["sampler=grid", "optimizer.lr=0.1,0.2", "norm=batch,none"]).root.trials == 4
    assert plan(["sampler=grid", "sampler.points=5"]).root.trials == 30
    assert plan(["optimizer=sgd,adam"]).root.trials == 2
    assert plan(["sampler=grid", "sampler.points=5", "trials=7"]).root.trials == 7


def test_trials_of_a_yaml_count_like_typed_ones(own: Path) -> None:
    grid = ["sampler=grid", "sampler.points=20", "optimizer.lr=interval(0.1,1)"]
    assert plan(grid).root.trials == 20
    write(own / "experiment/mine.yaml", "# @package _global_\ntrials: 16\n")
    assert plan([*grid, "experiment=mine"], config_dir=own).root.trials == 16
    write(own / "mine.yaml", "defaults: [launch, _self_]\ntrials: 7\n")
    assert plan(grid, config_dir=own, config_name="mine").root.trials == 7
    write(own / "mine.yaml", "defaults: [launch, _self_]\nseed: 7\n")
    assert plan(grid, config_dir=own, config_name="mine").root.trials == 20


def test_description() -> None:
    text = "\n".join(describe_plan(plan(["scheduler=asha", "epochs=10", "gpus_per_trial=0"])))
    for line in (
        "configurations  continuous",
        "trials          16 (random sampler, seed 0)",
        "epochs          10 a trial at most, 160 in all",
        "rungs           1, 3, 9 (asha scheduler)",
        "parameters      17,610 in the largest model",
        "resources       1 CPU, 0 GPU a trial",
        "objective       val/accuracy (max)",
    ):
        assert line in text


def test_every_value_given_is_in_the_description() -> None:
    """Those that say what is so anyway, too, and those of an experiment; what is searched stands there as that."""
    given = ["optimizer.lr=0.1,0.2", "optimizer.momentum=0.9", "norm=none", "epochs=10", "seed=3", "scheduler=asha"]
    given += [
        "scheduler.grace_epochs=2",
        "data.split_seed=5",
        "runs_dir=elsewhere",
        "tracking=none",
        "search=learning_rate",
    ]
    lines = describe_plan(plan(given), given)
    fixed = next(line.split()[1:] for line in lines if line.startswith("fixed"))
    start = next(place for place, line in enumerate(lines) if line.startswith("values"))
    end = next(place for place, line in enumerate(lines) if line.startswith("search space"))
    values = " ".join(lines[start:end]).split()[1:]

    assert {"norm=none", "scheduler=asha", "tracking=none", "search=learning_rate"} <= set(fixed)
    assert set(values) == {
        "optimizer.momentum=0.9",
        "epochs=10",
        "seed=3",
        "scheduler.grace_epochs=2",
        "data.split_seed=5",
        "runs_dir=elsewhere",
    }


def test_values_of_an_experiment_are_in_the_description(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nepochs: 7\nmodel:\n  width: 33\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    lines = describe_plan(plan(["experiment=mine"], config_dir=tmp_path), ["experiment=mine"])
    assert any(line.split() == ["values", "epochs=7", "model.width=33"] for line in lines)


def test_mode_follows_the_metric() -> None:
    assert plan(["metric=val/loss"]).base["mode"] == "min"
    assert plan(["metric=val/loss", "mode=min"]).base["mode"] == "min"


def test_numbers_stay_text_where_text_is_wanted() -> None:
    assert plan(["name=2026"]).root.name == "2026"


def test_interpolation_follows_the_command_line() -> None:
    assert plan(["epochs=5", "optimizer.weight_decay=${epochs}"]).base["optimizer"]["weight_decay"] == 5


def test_job_is_yaml_and_tries_nothing(tried: list[tuple[str, Mapping[str, Any]]]) -> None:
    job = yaml.safe_load(compose_job(["norm=batch,none", "data=image_folder", "data.root=/not/there"]))
    assert job["space"] == [{"key": "norm", "domain": "choice(batch, none)"}]
    assert job["data"]["root"] == "/not/there"
    assert tried == []


@pytest.mark.parametrize(
    "overrides",
    ["batch_size=abc", "epochs=abc schedule=cosine", "allowed_targets=5", "data_cache=[a]", "data=cifar10 name=a/b",
     "data=image_folder data.root=nowhere name=a/b", "model.width=1,2 trials=abc", "scheduler=asha scheduler.grace_epochs=99"],
)  # fmt: skip
def test_nothing_is_tried_while_a_problem_stands(overrides: str, tried: list[tuple[str, Mapping[str, Any]]]) -> None:
    assert refused(*overrides.split())
    assert tried == []


# files of the user's


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    indent = re.match(r"\n( *)", text)
    path.write_text(text.replace(indent[0], "\n") if indent else text)
    return path


MODULE = """
class Net:
    def __init__(
        self, *, num_classes: int, in_channels: int, image_size: tuple[int, int], norm=None, activation=None, size: int = 3
    ):
        self.size = size
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of the user's."""
    write(tmp_path / "conf/my_nets_for_test.py", MODULE)
    write(tmp_path / "conf/model/mine.yaml", "_target_: my_nets_for_test.Net\nsize: 4\nsearch:\n  size: choice(1, 2)\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("my_nets_for_test", None)
    return tmp_path / "conf"


def test_own_model_launches_like_a_built_in_one(own: Path) -> None:
    made = plan(["model=mine,mlp", "model.size=5,6", "allowed_targets=[my_nets_for_test]"], config_dir=own)
    assert shown(made) == ["model: mine, mlp", "model.size: 5, 6, when model=mine"]
    config = trial_config(made, {"model": "mine", "model.size": 6})
    assert config["import_paths"] == [str(own), str(Path.cwd())]
    spec = config["model"]
    with granted(made.rights):
        assert build(spec, num_classes=2, in_channels=1, image_size=(8, 8)).size == 6
    with pytest.raises(ConfigError, match="is not allowed"):
        build(spec)
    read_back = SweepPlan.from_json(made.to_json())
    assert read_back == made
    assert read_back.rights == Rights(), "a record gives no rights"


def test_own_targets_must_be_allowed_by_the_user_not_by_the_yaml(own: Path, tmp_path: Path) -> None:
    assert "my_nets_for_test.Net: is not allowed" in refused("model=mine", config_dir=own)
    assert "my_nets_for_test" not in sys.modules
    write(
        own / "sneaky.yaml", "defaults: [launch, {override model: mine}, _self_]\nallowed_targets: [my_nets_for_test]\n"
    )
    message = refused(config_dir=own, config_name="sneaky")
    assert "must come from the command line or your own settings file" in message
    write(tmp_path / "settings.yaml", "allowed_targets: [my_nets_for_test]\n")
    assert plan(["model=mine"], config_dir=own).base["choices"]["model"] == "mine"
    write(tmp_path / "settings.yaml", "allowed_target: [my_nets_for_test]\n")
    assert "did you mean allowed_targets?" in refused("model=mine", config_dir=own)


@pytest.mark.parametrize("key", ["model.size=5", "model.size=5,6", "norm=batch", "experiment=sized"])
def test_without_the_right_only_the_right_is_missed(own: Path, key: str) -> None:
    """What cannot be imported may well have the key, and take a norm: nothing is said of it."""
    lines = "# @package _global_\nspace: {model.size: 'choice(1, 2)'}\nwhen: {model.size=1: {optimizer.lr: usual}}\n"
    write(own / "experiment/sized.yaml", lines)
    message = refused("model=mine", key, config_dir=own)
    assert message.startswith(
        "model._target_=my_nets_for_test.Net: is not allowed; if it is yours, add allowed_targets="
    )
    assert "\n" not in message


def test_a_loss_that_is_not_made_by_its_target_is_told_as_one(own: Path) -> None:
    write(own / "my_nets_for_test.py", "def focal(logits, labels, gamma=2.0): ...\n")
    write(own / "loss/focal.yaml", "_target_: my_nets_for_test.focal\n")
    message = refused("loss=focal", "allowed_targets=[my_nets_for_test]", config_dir=own)
    assert message.startswith(
        "loss._target_=my_nets_for_test.focal: takes logits, labels, so it is the loss itself; name a function"
    )
    assert "\n" not in message


def test_own_model_that_takes_no_norm(own: Path) -> None:
    write(own / "my_nets_for_test.py", "def make(*, num_classes: int): ...\n")
    write(own / "model/mine.yaml", "_target_: my_nets_for_test.make\n")
    message = refused("model=mine", "norm=batch", "allowed_targets=my_nets_for_test", config_dir=own)
    assert "norm=batch: model=mine takes no norm" in message


def test_own_root_file_extends_the_built_in_one(own: Path) -> None:
    write(
        own / "mine.yaml",
        "defaults: [launch, {override search: none}, _self_]\ntrials: 3\nspace: {optimizer.lr: usual}\n",
    )
    made = plan([], config_dir=own, config_name="mine")
    assert made.root.trials == 3
    assert made.space.keys == ("optimizer.lr",)
    assert "did you mean mine?" in refused(config_dir=own, config_name="mines")


def test_experiment_values_reach_every_choice_that_has_them(own: Path) -> None:
    write(
        own / "experiment/mine.yaml",
        """
        # @package _global_
        optimizer: {weight_decay: 5e-4, momentum: 0.5}
        space:
          optimizer: choice(sgd, adam)
        """,
    )
    made = plan(["experiment=mine"], config_dir=own)
    assert made.space.keys == ("optimizer",)
    assert (
        made.choices["optimizer"]["sgd"] | {"momentum": 0.5, "weight_decay": 5e-4} == made.choices["optimizer"]["sgd"]
    )
    assert made.choices["optimizer"]["adam"]["weight_decay"] == 5e-4
    assert "momentum" not in made.choices["optimizer"]["adam"]


def test_problems_in_a_yaml_say_where(own: Path) -> None:
    path = write(own / "experiment/bad.yaml", "# @package _global_\ntrails: 3\nmodel:\n  widht: 3\n  width: wide\n")
    message = refused("experiment=bad", config_dir=own)
    assert f"trails=3: unknown key; did you mean trials? ({path}:2); known: activation, allowed_targets" in message
    assert f"did you mean model.width? ({path}:4)" in message
    assert f"model.width=wide: must be an integer ({path}:5)" in message


def test_a_choice_of_the_users_may_not_hide_one_of_ours(own: Path) -> None:
    write(own / "optimizer/sgd.yaml", "_target_: torch.optim.SGD\n")
    assert "optimizer=sgd is there already" in refused(config_dir=own)


def test_choice_files_hold_values_only(own: Path) -> None:
    write(own / "optimizer/odd.yaml", "_target_: torch.optim.SGD\nlr: ${epochs}\n")
    assert "no defaults list and no interpolation" in refused("optimizer=odd", "optimizer.lr=1", config_dir=own)


def test_config_dir_must_be_there(tmp_path: Path) -> None:
    assert "is not a folder" in refused(config_dir=tmp_path / "nope")


def test_byte_order_mark_before_the_package_is_stripped(own: Path) -> None:
    write(own / "experiment/mine.yaml", "\ufeff# @package _global_\r\ntrials: 3\r\n")
    assert plan(["experiment=mine"], config_dir=own).root.trials == 3
    write(own / "mine.yaml", "\ufeffdefaults: [launch, _self_]\ntrials: 4\n")
    assert plan([], config_dir=own, config_name="mine").root.trials == 4


# runs_dir


def test_disk_must_have_room_for_what_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def disk(place: Path) -> SimpleNamespace:
        asked.append(place)
        return SimpleNamespace(free=free)

    monkeypatch.setattr("shutil.disk_usage", disk)
    weights = 17_610 * 4
    free = 20 * weights + 9 * weights + 1_000 * 20 * (4 * 4 + 16)  # the best, the one at work, predictions of FACTS
    assert plan(["trials=1000", "max_concurrent=1", "runs_dir=deep/er"]).root.trials == 1000
    assert asked == [tmp_path]
    free -= 1
    with pytest.raises(NotReadyError, match=r"the sweep needs about 0\.0 GB .*has 0\.0 GB free"):
        plan(["trials=1000", "max_concurrent=1"])


def test_runs_dir_is_probed_and_left_as_it_was(tmp_path: Path) -> None:
    plan(["runs_dir=deep/er/runs"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReadyError, match="is a file, not a folder"):
        plan(["runs_dir=file/runs"])
    with pytest.raises(NotReadyError, match="cannot be written"):
        plan(["runs_dir=/proc/runs"])
