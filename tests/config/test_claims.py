"""Claims of experiments: decoded strictly, checked against the sweep, recorded in its plan, kept by a resume."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from orchestrator.base import yaml_files
from orchestrator.base.costs import key_of, known_costs
from orchestrator.base.errors import ConfigError
from orchestrator.base.settings import CONF
from orchestrator.config import joint, planning
from orchestrator.config.claims import ClaimError, Measure, decode_claims, words
from orchestrator.config.plan import SweepPlan, describe_plan, trial_config
from orchestrator.config.planning import plan
from orchestrator.config.resuming import checked
from orchestrator.training.build import build_model, load_data
from orchestrator.training.pretrained import KeptWeights

CLAIMING = sorted(
    path.stem for path in (CONF / "experiment").glob("*.yaml") if yaml_files.read(path).get("claims") is not None
)
GOOD: dict[str, Any] = {
    "id": "A-1",
    "lecture": "004 L1",
    "says": "deep is worse",
    "left": {"metric": "train/loss", "of": {"model.hidden": 2}, "over": {"optimizer.lr": "best"}},
    "at_least": 0.5,
}
SPACE = """
space:
  model.hidden: choice(1, 2)
  optimizer.lr: choice(0.01, 0.1)
"""


def damaged(**changes: object) -> dict[str, Any]:
    """The good claim with other entries; None takes one out."""
    return {key: value for key, value in {**GOOD, **changes}.items() if value is not None}


def ensemble(**changes: object) -> dict[str, Any]:
    """A side about ensembles with other entries."""
    return {"metric": "val/nll", "over": {"model": "ensemble"}, **changes}


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ({}, "claims: must be a list"),
        ([3], r"claims\[0\]: must be a mapping"),
        ([damaged(id=None)], r"claims\[0\]: lacks id"),
        ([damaged(id="a b")], r"claims\[0\]\.id: must be letters"),
        ([GOOD, GOOD], "is the id of two claims"),
        ([damaged(atleast=1)], r"claims\[0\]\.atleast: unknown key"),
        ([damaged(at_most=1)], "must have either at_least or at_most"),
        ([damaged(at_least=None)], "must have either at_least or at_most"),
        ([damaged(margin="much")], r"claims\.A-1\.margin: must be a number"),
        ([damaged(margin=True)], "must be a number"),
        ([damaged(margin=math.nan)], r"claims\.A-1\.margin: must be a finite number"),
        ([damaged(at_least=-math.inf)], r"claims\.A-1\.at_least: must be a finite number"),
        ([damaged(left={"max": [1, math.inf]})], r"claims\.A-1\.left\.max: must be a finite number"),
        ([damaged(left={"metric": "val/loss", "until": math.nan})], r"left\.until: must be a finite number"),
        (
            [damaged(left={"metric": "val/loss", "over": {"model.hidden": {"largest": math.inf}}})],
            r"over\.model\.hidden\.largest: must be a finite number",
        ),
        ([damaged(piloted="yes")], "must be true or false"),
        ([damaged(left="__import__('os')")], r"claims\.A-1\.left: must be a number"),
        ([damaged(left={"metric": "val/acuracy"})], r"left\.metric: is not measured"),
        ([damaged(left={"metric": "val/loss", "fo": {}})], r"left\.fo: unknown key"),
        ([damaged(left={"metric": "val/loss", "at": "lats"})], "must be last, best, kept or the number of an epoch"),
        (
            [damaged(left={"metric": "test/loss", "at": "best"})],
            r"left\.at: has no meaning: test/loss is not measured in",
        ),
        ([damaged(left={"metric": "macs", "at": 1})], r"left\.at: has no meaning: macs is not measured in each epoch"),
        ([damaged(left={"metric": "parameters", "until": 1})], r"left\.until: has no meaning: parameters is not"),
        ([damaged(left={"metric": "val/loss", "at": 1, "until": 1})], r"left\.at: has no meaning with until"),
        ([damaged(left={"metric": "epochs", "at": 3})], r"left\.at: has no meaning: epochs is not measured in each"),
        ([damaged(left={"metric": "init/3/dead", "at": 1})], r"left\.at: has no meaning: init/3/dead is not"),
        ([damaged(left={"metric": "layers/last/ded"})], r"left\.metric: is not measured"),
        ([damaged(left={"metric": "layers/dead"})], r"left\.metric: is not measured"),
        ([damaged(left={"metric": 3})], r"left\.metric: is not measured"),
        ([damaged(left={"metric": "layers/3/activation_std", "at": "best"})], r"left\.at: neither more nor less of"),
        ([damaged(left={"metric": "layers/small_weights", "until": 0.5})], r"left\.until: neither more nor less of"),
        (
            [damaged(left={"metric": "layers/last/activation_std", "over": {"optimizer.lr": "best"}})],
            r"left\.over\.optimizer\.lr: neither more nor less of layers/last/activation_std is better: take max, min",
        ),
        ([damaged(left={"metric": "val/loss", "chosen_at": 0})], r"left\.chosen_at: must be the number of an epoch"),
        ([damaged(left={"metric": "val/loss", "chosen_at": 1})], r"left\.chosen_at: chooses the best trial: give"),
        (
            [damaged(left={"metric": "val/loss", "chosen_at": 1, "over": {"a": "best", "b": "median"}})],
            r"left\.chosen_at: chooses the best trial: give the searched keys as best",
        ),
        (
            [damaged(left={"metric": "val/loss", "chosen_at": 1, "until": 1, "over": {"a": "best"}})],
            r"left\.chosen_at: has no meaning with until",
        ),
        ([damaged(left={"metric": "val/loss", "over": {"model.hidden": "bets"}})], "is no way to reduce"),
        ([damaged(left={"metric": "val/loss", "over": {"model.hidden": {"plateau": 2}}})], "must be above 0"),
        ([damaged(left=ensemble(metric="val/loss"))], r"left\.metric: is not measured of ensembles"),
        ([damaged(left=ensemble(metric="test/accuracy"))], r"left\.metric: is not measured of ensembles"),
        (
            [damaged(left=ensemble(at="best"))],
            r"left\.at: of ensembles must be kept, or left out: the predictions that",
        ),
        ([damaged(left=ensemble(at="last"))], r"left\.at: of ensembles must be kept"),
        ([damaged(left=ensemble(at=3))], r"left\.at: of ensembles must be kept"),
        ([damaged(left=ensemble(until=0.5))], r"left\.until: has no meaning for ensembles"),
        (
            [damaged(left=ensemble(over={"optimizer.lr": "best", "model": "ensemble"}))],
            r"left\.over: must name keys with ensemble first",
        ),
        ([damaged(left=ensemble(over={"seed": "ensemble"}))], r"over\.seed: must say of how many seeds"),
        ([damaged(left=ensemble(over={"model": {"ensemble": 7}}))], r"left\.over\.model: is no way to reduce"),
        ([damaged(left=ensemble(over={"seed": {"ensemble": 0}}))], r"over\.seed\.ensemble: must be how many seeds"),
        ([damaged(left=ensemble(over={"seed": {"ensemble": 2.0}}))], r"over\.seed\.ensemble: must be how many seeds"),
        ([damaged(left=ensemble(over={"seed": {"mean": 3, "of": True}}))], r"over\.seed\.of: must be how many seeds"),
        (
            [damaged(left=ensemble(over={"seed": {"mean": 3, "of": 2}}))],
            r"over\.seed\.mean: must be at most the 2 seeds",
        ),
        ([damaged(left=ensemble(over={"seed": {"mean": 3, "fo": 7}}))], r"over\.seed\.fo: unknown key"),
        ([damaged(left=ensemble(over={"seed": {"rise": 7}}))], r"over\.seed: is no way to reduce"),
        (
            [damaged(left=ensemble(over={"seed": {"ensemble": 7}}), at_least={"metric": "val/nll"})],
            r"claims\.A-1: its measures must all be of single seeds, or of groups of equally many",
        ),
        (
            [damaged(left=ensemble(over={"seed": {"mean": 7}}), at_least=ensemble(over={"seed": {"ensemble": 3}}))],
            r"claims\.A-1: its measures must all be of single seeds, or of groups of equally many",
        ),
        ([damaged(left={"difference": [1]})], r"left\.difference: takes 2 sides, got 1"),
        ([damaged(left={"eval": "1"})], r"left\.eval: unknown key"),
    ],
)
def test_what_is_no_claim_is_refused_with_its_place(written: object, why: str) -> None:
    with pytest.raises(ClaimError, match=why):
        decode_claims(written)


def test_a_typo_names_what_is_known() -> None:
    with pytest.raises(ClaimError, match="metric") as caught:
        decode_claims([damaged(left={"metric": "val/acuracy"})])
    assert "did you mean val/accuracy?" in str(caught.value.problem)


def test_an_inequality_is_told_in_words() -> None:
    side = {"difference": [GOOD["left"], {"metric": "val/loss", "until": 0.5, "of": {"model.hidden": 1}}]}
    (claim,) = decode_claims([damaged(left=side, margin=-0.01)])
    assert claim.inequality == (
        "(train/loss [model.hidden=2, best over optimizer.lr] - epochs until val/loss <= 0.5 [model.hidden=1]) >= 0.5 - 0.01"
    )
    assert len(list(claim.measures())) == 2


def test_ensembles_are_told_in_words() -> None:
    of_seeds = ensemble(over={"seed": {"ensemble": 3, "of": 7}, "model": "mean"})
    singles = ensemble(over={"seed": {"median": 7}, "model": "mean"}, at="kept")
    (claim,) = decode_claims([damaged(left=of_seeds, at_least=singles, every_seed=True)])
    assert claim.inequality == (
        "val/nll (kept epoch) [ensemble of 3 (of each 7) over seed, mean over model]"
        " >= val/nll (kept epoch) [median of 7 over seed, mean over model] in every group"
    )
    assert claim.group == 7
    (pool,) = decode_claims([damaged(left=ensemble(at="kept"))])
    assert pool.inequality == "val/nll (kept epoch) [ensemble over model] >= 0.5"
    assert pool.group is None


def test_how_a_trial_is_chosen_is_told_in_words() -> None:
    side = {"metric": "val/accuracy", "chosen_at": 1, "over": {"optimizer.lr": "best", "model.hidden": "best"}}
    (claim,) = decode_claims([damaged(left=side)])
    assert words(claim.left) == "val/accuracy [best at epoch 1 over optimizer.lr and model.hidden]"


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder for an experiment `mine`, to be written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    return tmp_path / "conf" / "experiment" / "mine.yaml"


def write(experiment: Path, claim: str) -> Path:
    head = "# @package _global_\ndefaults:\n  - override /search: none\n  - override /sampler: grid\n"
    experiment.write_text(f"{head}epochs: 1\n{SPACE}\nclaims:\n{claim}")
    return experiment.parent.parent


CLAIM = """
  - {id: A, lecture: 004 L1, says: more is better, left: %s, at_least: 0.5}
"""


def refused(experiment: Path, side: str) -> str:
    with pytest.raises(ConfigError, match="claims") as caught:
        plan(["experiment=mine"], config_dir=write(experiment, CLAIM % side))
    return str(caught.value)


def test_a_claim_about_what_the_sweep_has_not_is_a_problem_of_the_plan(experiment: Path) -> None:
    found = refused(experiment, "{metric: val/loss, of: {model.hiden: 1}, over: {optimizer.lr: best}}")
    assert re.search(r"claims\.A\.of\.model\.hiden: is no key.*did you mean model\.hidden", found)
    found = refused(experiment, "{metric: val/loss, of: {model.hidden: 3}, over: {optimizer.lr: best}}")
    assert "claims.A.of.model.hidden=3: no trial has this value" in found
    assert "known: 1, 2" in found
    found = refused(experiment, "{metric: val/loss, of: {model.hidden: 1, optimizer: sdg}, over: {optimizer.lr: best}}")
    assert "optimizer=sdg: no trial has this value; did you mean sgd?" in found
    found = refused(experiment, "{metric: val/loss, of: {model.hidden: 1, optimizer.lr: .inf}}")
    assert "claims.A.of.optimizer.lr=inf: no trial has this value" in found
    found = refused(experiment, "{metric: val/loss, of: {model.hidden: 1}, over: {seed: best}}")
    assert "claims.A.over.seed: is not searched" in found
    assert "claims.A.optimizer.lr: is searched: give its value in `of`" in found


def test_an_epoch_that_no_trial_reaches_is_refused(experiment: Path) -> None:
    """Of epochs that are searched the most count, or those that the claim is of."""
    side = "{metric: val/loss, at: 3, of: {model.hidden: 1}, over: {optimizer.lr: best%s}}"
    assert "claims.A.at=3: no trial has so many epochs; the most are 1" in refused(experiment, side % "")
    where = write(experiment, CLAIM % side % "")
    assert len(plan(["experiment=mine", "epochs=3"], config_dir=where).claims) == 1
    shorter = plan(["experiment=mine", "epochs=2"], config_dir=where)
    assert shorter.claims == ()
    assert "the claim A is left out: epochs is not as the experiment has it" in shorter.notes

    where = write(experiment, CLAIM % side % ", epochs: best")
    text = experiment.read_text()
    experiment.write_text(text.replace("space:", "space:\n  epochs: choice(2, 4)"))
    assert len(plan(["experiment=mine"], config_dir=where).claims) == 1
    experiment.write_text(text.replace("space:", "space:\n  epochs: choice(1, 2)"))
    with pytest.raises(ConfigError, match=r"claims\.A\.at=3: no trial has so many epochs; the most are 2"):
        plan(["experiment=mine"], config_dir=where)
    text = text.replace("space:", "space:\n  epochs: choice(2, 4)").replace(", epochs: best", "")
    experiment.write_text(text.replace("of: {", "of: {epochs: 2, "))
    with pytest.raises(ConfigError, match=r"claims\.A\.at=3: no trial has so many epochs; the most are 2"):
        plan(["experiment=mine"], config_dir=where)


def test_groups_take_as_many_seeds_as_there_are_at_most(experiment: Path) -> None:
    side = "{metric: val/nll, of: {model.hidden: 1, optimizer.lr: 0.1}, over: {seed: {ensemble: 3}}}"
    assert "claims.A.over.seed=1: takes 3 seeds a group; set repeat to a multiple" in refused(experiment, side)
    where = write(experiment, CLAIM % side)
    assert len(plan(["experiment=mine", "repeat=3"], config_dir=where).claims) == 1
    fewer = plan(["experiment=mine", "repeat=2"], config_dir=where)
    assert "the claim A is left out: repeat is not as the experiment has it" in fewer.notes
    searched = experiment.read_text().replace("space:", "space:\n  seed: choice(1, 2, 3)")
    experiment.write_text(searched)
    with pytest.raises(
        ConfigError, match=r"claims\.A\.over\.seed: is searched, and groups are of the seeds of `repeat`"
    ):
        plan(["experiment=mine"], config_dir=where)


def test_a_key_with_one_value_needs_not_be_told(experiment: Path) -> None:
    """So a pool of architectures may have settings of their own."""
    side = "{metric: val/nll, of: {optimizer.lr: 0.1}, over: {model: ensemble}}"
    where = write(experiment, CLAIM % side)
    space = "\nspace:\n  model: choice(mlp, convnet)\n  optimizer.lr: choice(0.01, 0.1)\n"
    when = "when:\n  model=mlp:\n    model.hidden: choice(%s)\n"
    text = experiment.read_text()
    experiment.write_text(text.replace(SPACE, space + when % "1"))
    assert len(plan(["experiment=mine"], config_dir=where).claims) == 1
    experiment.write_text(text.replace(SPACE, space + when % "1, 2"))
    with pytest.raises(ConfigError, match=r"claims\.A\.model\.hidden: is searched"):
        plan(["experiment=mine"], config_dir=where)


def test_every_network_is_counted_where_a_claim_is_about_its_size(experiment: Path) -> None:
    """Pairs of values among them, which no other check builds; each network once, whatever else is searched."""
    side = "{metric: parameters, of: {model.hidden: 2, model.width: 8}, over: {optimizer.lr: best}}"
    where = write(experiment, CLAIM % side)
    text = experiment.read_text().replace(
        "space:", "space:\n  model.width: choice(6, 8)\n  data.label_noise: choice(0, 0.2)"
    )
    experiment.write_text(text.replace("model.width: 8}", "model.width: 8, data.label_noise: 0}"))
    made = plan(["experiment=mine", "norm=none", "data=digits", "model=mlp"], config_dir=where)
    counted = known_costs(made.facts)
    assert len(counted) == len(made.facts["costs"])
    for hidden, width in product((1, 2), (6, 8)):
        config = trial_config(made, {"model.hidden": hidden, "model.width": width, "data.label_noise": 0.2})
        weights = 64 * width + (hidden - 1) * width**2 + 10 * width  # of digits of 8 x 8
        assert counted[key_of(config)] == (weights + hidden * width + 10, weights)


def test_a_network_that_cannot_be_counted_beforehand_is_a_problem_of_a_claim_about_its_size(experiment: Path) -> None:
    side = "{metric: macs, of: {model.hidden: 1}, over: {model.dropout: min, optimizer.lr: min}}"
    where = write(experiment, CLAIM % side)
    text = experiment.read_text().replace("/sampler: grid", "/sampler: random")
    experiment.write_text(text.replace("space:", "space:\n  model.dropout: interval(0.0, 0.5)"))
    with pytest.raises(ConfigError, match=r"give model.dropout single values, with choice"):
        plan(["experiment=mine", "trials=4"], config_dir=where)
    experiment.write_text(text.replace("space:", "space:\n  model.dropout: range(0, 0.256, 0.001)"))
    with pytest.raises(ConfigError, match=r"the sweep has 512 networks; the most are 500"):
        plan(["experiment=mine", "trials=4"], config_dir=where)


def test_what_diagnostics_measures_needs_them(experiment: Path) -> None:
    side = "{metric: init/last/activation_std, of: {model.hidden: 1}, over: {optimizer.lr: max}}"
    found = refused(experiment, side)
    assert "claims.A.metric=init/last/activation_std: is measured by trials with diagnostics: true; set it" in found
    where = write(experiment, CLAIM % side)
    experiment.write_text(experiment.read_text().replace("epochs: 1", "epochs: 1\ndiagnostics: true"))
    assert len(plan(["experiment=mine"], config_dir=where).claims) == 1
    without = plan(["experiment=mine", "diagnostics=false"], config_dir=where)
    assert "the claim A is left out: diagnostics is not as the experiment has it" in without.notes


def test_an_epoch_of_choice_that_no_trial_reaches_is_refused(experiment: Path) -> None:
    side = "{metric: val/loss, chosen_at: 2, of: {model.hidden: 1}, over: {optimizer.lr: best}}"
    assert "claims.A.chosen_at=2: no trial has so many epochs; the most are 1" in refused(experiment, side)


@pytest.mark.parametrize(
    ("of", "why"),
    [
        ("[[flip]]", None),
        ("[flip]", None),
        ("[flip, cutout]", None),
        ("flip", "claims.A.of.augment.steps=flip: no trial has this value"),
        ("[cutout]", "claims.A.of.augment.steps=cutout: no trial has this value"),
        ("[[flip], [flip, cutout]]", "claims.A.augment.steps: is searched: give its value in `of`"),
    ],
)
def test_a_key_whose_values_are_lists_takes_one_of_them(experiment: Path, of: str, why: str | None) -> None:
    where = write(experiment, CLAIM % f"{{metric: val/loss, of: {{augment.steps: {of}}}}}")
    text = experiment.read_text().replace(SPACE, "\nspace:\n  augment.steps: choice([flip], [flip, cutout])\n")
    experiment.write_text(text.replace("defaults:\n", "defaults:\n  - override /augment: sequence\n"))
    if why is None:
        assert len(plan(["experiment=mine"], config_dir=where).claims) == 1
    else:
        with pytest.raises(ConfigError, match=re.escape(why)):
            plan(["experiment=mine"], config_dir=where)


def test_a_text_with_half_an_interpolation_is_named_with_its_file(experiment: Path) -> None:
    side = "{metric: val/loss, of: {model.hidden: 1}, over: {optimizer.lr: best}}"
    where = write(experiment, CLAIM % side)
    text = experiment.read_text()
    experiment.write_text(text.replace("more is better", '"${runs_dir} costs ${"'))
    with pytest.raises(ConfigError) as caught:
        plan(["experiment=mine"], config_dir=where)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("claims[0].says", "${runs_dir} costs ${")
    assert r"write \${" in problem.why
    assert str(problem.where).startswith(f"{experiment}:")
    experiment.write_text(text.replace("more is better", r"'${epochs} costs \${'"))
    assert plan(["experiment=mine"], config_dir=where).claims[0]["says"] == "1 costs ${"


def test_claims_are_recorded_in_the_plan_and_a_resume_keeps_those_of_before(experiment: Path) -> None:
    side = "{metric: val/loss, of: {model.hidden: 1}, over: {optimizer.lr: best}}"
    made = plan(["experiment=mine"], config_dir=write(experiment, CLAIM % side))
    again = SweepPlan.from_json(made.to_json())
    assert again.claims == made.claims
    assert decode_claims(again.claims)[0].left == Measure(
        "val/loss",
        of={"model.hidden": 1},
        over=decode_claims(made.claims)[0].left.over,  # type: ignore[union-attr]
    )
    assert any("A (004 L1): more is better" in line for line in describe_plan(made))
    changed, _ = checked(made, replace(made, claims=()), suggested=0)
    assert changed.claims == made.claims


def test_a_plan_without_claims_is_recorded_as_ever() -> None:
    assert '"claims"' not in plan(["search=none"]).to_json()


def test_a_claim_about_what_the_command_line_changed_is_left_out_with_a_note(experiment: Path) -> None:
    side = "{metric: val/loss, of: {model.hidden: 1}, over: {optimizer.lr: best}}"
    where = write(experiment, CLAIM % side)
    made = plan(["experiment=mine", "model.hidden=5"], config_dir=where)
    assert made.claims == ()
    assert "the claim A is left out: model.hidden is not as the experiment has it" in made.notes
    assert len(plan(["experiment=mine", "epochs=2"], config_dir=where).claims) == 1


@pytest.mark.parametrize("name", CLAIMING)
def test_every_experiment_plans_with_all_its_claims(
    name: str, tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id begins with the number of the experiment, and every claim says where the lectures do."""
    for module in (joint, planning):  # a busy machine does not end the tries early, which would be a note
        monkeypatch.setattr(module, "BUDGET_S", math.inf)
    written = yaml_files.read(CONF / "experiment" / f"{name}.yaml")
    on_photographs = {"override /data": "image_folder"} in written["defaults"]
    root = [f"data.root={photographs}", "batch_size=4"] if on_photographs else []
    made = plan([f"experiment={name}", f"runs_dir={tmp_path}", *root], find_trial=initial_weights)
    assert len(made.claims) == len(written["claims"]) > 0
    assert [note for note in made.notes if not note.startswith("pretrained=")] == []
    for claim in made.claims:
        assert claim["id"].startswith(f"{name[:3].upper()}-")
        assert re.fullmatch(r"00[0134] L\d+", claim["lecture"])


def initial_weights(runs_dir: Path, value: str) -> KeptWeights:
    """What the only trial of an experiment would keep, untrained."""
    source, _, index = value.partition("/")
    assert index == "0"
    made = plan([f"experiment={source}", f"runs_dir={runs_dir}"])
    assert (made.root.name, made.root.trials) == (source, 1)
    config = trial_config(made, {})
    path = runs_dir / f"{source}.safetensors"
    path.write_bytes(
        safetensors.torch.save(build_model(config, load_data(config), torch.device("cpu"))[0].state_dict())
    )
    return KeptWeights(path, f"{source}-0a1b2c3d/0", config)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of two small images in each split."""
    from PIL import Image

    root = tmp_path_factory.mktemp("photographs")
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for place in range(10):
                Image.new("RGB", (32, 32), (place * 20, 0, 0)).save(root / split / label / f"{place}.png")
    return root
