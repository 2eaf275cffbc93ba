"""Networks of averaged weights in a comparison: members behind the candidates, honest in their validation, tested last."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, log_loss

from orchestrator import load_model
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import AVERAGE, BEST, trial_folder
from orchestrator.base.regular import read_regular
from orchestrator.cli.compared import lines_of, next_steps
from orchestrator.ensembles import record
from orchestrator.ensembles.catalogue import Choice
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.comparison import Comparison, Row
from orchestrator.ensembles.cooking import cook
from orchestrator.ensembles.crossfitting import folds
from orchestrator.ensembles.finishing import finish
from orchestrator.ensembles.fixing import fix, looks
from orchestrator.ensembles.gathering import Gathered, Source, gather
from orchestrator.ensembles.methods.soup import GreedySoup, UniformSoup
from orchestrator.ensembles.page.figures.candidates import figure as candidates
from orchestrator.ensembles.page.head import question
from orchestrator.ensembles.page.tables import page_data
from orchestrator.ensembles.page.view import View
from orchestrator.journal.record import read_sweep
from orchestrator.training.build import build_learner
from orchestrator.training.data import load
from orchestrator.training.soups import Kitchen
from tests.conftest import ROOT
from tests.ensembles.candidates import gathered_of, split
from tests.ensembles.recorded import comparison, row
from tests.ensembles.test_comparing import finished
from tests.serving.finetuned import finetuned
from tests.serving.trained import DIGITS, config, trained_sweep
from tests.synthetic import Sweep

SOUPS = ["greedy_soup", "uniform_soup"]
METHODS = [*SOUPS, "swa", "mean", "greedy"]
FEW: dict[str, Any] = {"resamples": 200}


@contextlib.contextmanager
def torch_as_before() -> Iterator[None]:
    """Trials set this process up for the same bits; other tests are not to see it."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with torch_as_before():
        return finetuned(tmp_path_factory.mktemp("runs"), 4, average_from=0.4)


@pytest.fixture(scope="module")
def gathered(sweeps: Any) -> Gathered:
    return gather(["tuned"], sweeps[0].folder.parent)


@pytest.fixture(scope="module")
def made(gathered: Gathered) -> tuple[Comparison, dict[str, bytes]]:
    networks: dict[str, bytes] = {}
    return compare(gathered, methods=METHODS, networks=networks, **FEW), networks


def rows_of(found: Comparison) -> dict[str, Row]:
    return {row["method"]: row for row in found["rows"]}


def network_of(found: Comparison, method: str) -> Any:
    (place,) = rows_of(found)[method]["members"]
    return found["members"][place]


def numbers_of(found: Comparison, method: str) -> list[int]:
    return [
        int(found["members"][place]["name"].rpartition("/")[2]) for place in network_of(found, method)["ingredients"]
    ]


def shares(logits: Any, temperature: float) -> Any:
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    found = np.exp(scaled - scaled.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)


def accuracy_of_trials(learner: Any, sweep: Path, numbers: Sequence[int]) -> float:
    """The mean of their test accuracies, from their own weights."""
    test, found = learner.data.splits["test"], []
    for number in numbers:
        learner.model.load_state_dict(load_file(trial_folder(sweep, number) / BEST))
        with torch.inference_mode():
            found.append(accuracy_score(test.labels.numpy(), learner.model(test.slice(0, len(test))).numpy().argmax(1)))
    return sum(found) / len(found)


@pytest.mark.parametrize("method", [*SOUPS, "swa"])
def test_the_test_scores_are_those_of_the_average_by_hand(sweeps: Any, made: Any, method: str) -> None:
    """Averaged in this test, statistics by torch's own function, scored by scikit-learn."""
    from torch.optim.swa_utils import update_bn

    (sweep, configs), (found, _) = sweeps, made
    numbers = numbers_of(found, method)
    file = AVERAGE if method == "swa" else BEST
    states = [load_file(trial_folder(sweep.folder, number) / file) for number in numbers]
    with torch_as_before():
        learner = build_learner(configs[0])
        learner.model.load_state_dict({name: sum(s[name] for s in states) / len(states) for name in states[0]})
        train, test = learner.data.splits["train"], learner.data.splits["test"]
        if len(numbers) > 1 or method == "swa":
            update_bn([train.slice(0, len(train))], learner.model)
        learner.model.eval()
        with torch.inference_mode():
            logits = learner.model(test.slice(0, len(test))).numpy()
    row, labels = rows_of(found)[method], test.labels.numpy()
    said = shares(logits, row["temperature"])
    assert row["test"]["measures"]["accuracy"] == pytest.approx(accuracy_score(labels, said.argmax(1)), abs=1 / 359)
    assert row["test"]["measures"]["nll"] == pytest.approx(log_loss(labels, said), abs=1e-3)
    over_mean = row["test"]["measures"]["accuracy"] - accuracy_of_trials(learner, sweep.folder, numbers)
    assert row.get("gain_over_mean") == pytest.approx(over_mean, abs=1 / 359), "over the trials that it is made of"
    assert len(numbers) in {"uniform_soup": [4], "greedy_soup": [1, 2, 3, 4], "swa": [1]}[method]
    assert method != "swa" or network_of(found, "swa")["ingredients"] == [0], "the best trial's"


def test_the_choice_of_the_greedy_soup_is_cross_fitted(sweeps: Any, gathered: Gathered, made: Any) -> None:
    """Its honest score again, by a plain loop: in each fold trials are ordered and chosen by the other examples alone."""
    from scipy.optimize import minimize_scalar

    (sweep, configs), (found, _) = sweeps, made
    kitchen = Kitchen(configs[0])
    for number in range(4):
        kitchen.take(number, trial_folder(sweep.folder, number) / BEST, f"{sweep.uid}/{number}")
    labels = gathered.pool.labels_N
    alone = {number: shares(kitchen.validation([number]), 1.0) for number in range(4)}

    def greedy(rows: Any, in_order: Any = None) -> list[int]:
        def order(number: int) -> tuple[float, float]:
            said = alone[number][rows]
            return -accuracy_score(labels[rows], said.argmax(1)), log_loss(labels[rows], said, labels=range(10))

        first, *others = in_order or sorted(range(4), key=order)
        taken = [first]
        for number in others:
            before, after = ((kitchen.validation(s).argmax(1) == labels)[rows].sum() for s in (taken, [*taken, number]))
            taken = [*taken, number] if after >= before else taken
        return taken

    honest = np.empty((len(labels), 10))
    for held in folds(labels, np.random.default_rng([1, 0])):
        rest = np.setdiff1d(np.arange(len(labels)), held)
        logits = kitchen.validation(greedy(rest))
        hot = minimize_scalar(
            lambda t, z=logits, r=rest: log_loss(labels[r], shares(z[r], np.exp(t)), labels=range(10)), bounds=(-3, 3)
        )
        honest[held] = shares(logits[held], np.exp(hot.x))
    row = rows_of(found)["greedy_soup"]
    assert row["val"]["measures"]["accuracy"] == pytest.approx(accuracy_score(labels, honest.argmax(1)))
    assert row["val"]["measures"]["nll"] == pytest.approx(log_loss(labels, honest), abs=1e-4)
    assert numbers_of(found, "greedy_soup") == greedy(
        np.arange(len(labels)), [int(member.name.rpartition("/")[2]) for member in gathered.pool.members]
    )


def test_no_other_method_sees_the_networks(gathered: Gathered, made: Any) -> None:
    """All other rows are those of a comparison without them, and so is what is said of the best of all trials."""
    found, without = made[0], compare(gathered, methods=["mean", "greedy"], **FEW)
    of_all = ("p_holm", "in_set")  # these depend on all that was tried
    for name, alone in rows_of(without).items():
        beside: Any = rows_of(found)[name]
        assert all(beside[key] == value for key, value in alone.items() if key not in of_all), name
    assert found["members"][:4] == without["members"]
    assert found.get("sizes") == without.get("sizes")
    for key in ("naive", "value", "low", "high"):
        assert found["corrected"][key] == without["corrected"][key]


def test_a_network_costs_what_one_ingredient_does(gathered: Gathered) -> None:
    members = tuple(replace(one, parameters=100, multiply_adds=1_000) for one in gathered.pool.members)
    dear = replace(gathered, pool=replace(gathered.pool, members=members))
    rows = rows_of(compare(dear, methods=METHODS, macs=1_500, **FEW))
    assert (rows["uniform_soup"]["multiply_adds"], rows["uniform_soup"]["parameters"]) == (1_000, 100)
    assert rows["uniform_soup"]["allowed"]
    assert not rows["mean"]["allowed"]


def test_test_images_go_through_it_after_the_winner_is_fixed(
    sweeps: Any, gathered: Gathered, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sweeps[0].folder
    before, asked = looks(folder), []
    computed = Kitchen.logits

    def told(kitchen: Kitchen, tensors: Any, name: str) -> Any:
        asked.append((name, looks(folder) - before))
        return computed(kitchen, tensors, name)

    monkeypatch.setattr(Kitchen, "logits", told)
    compare(gathered, methods=SOUPS, **FEW)
    assert [fixed for name, fixed in asked if name == "test"] == [1, 1], "once each, after one winner was fixed"
    assert {fixed for name, fixed in asked if name == "val"} == {0}


def test_the_journal_names_the_ingredients(tmp_path: Path) -> None:
    """Those of the winner, fixed as if the uniform soup were it."""
    folder = finished(tmp_path / "made-0000aaaa")
    found = comparison("compare-0a1b2c3d", [folder.name], ["made-0000aaaa/0", "made-0000aaaa/1"])
    found["members"] = [*found["members"], {**found["members"][0], "name": "soup", "ingredients": [1, 0]}]
    fix(found, row("uniform_soup", [2], 0.9), [Source(folder.name, "val/accuracy", "max", folder)])
    said = json.loads(read_sweep(folder).published[found["uid"], "comparison"].text or "")
    assert said["members"] == ["soup"]
    assert said["ingredients"] == ["made-0000aaaa/1", "made-0000aaaa/0"]


def test_equal_trials_make_the_same_network(tmp_path: Path) -> None:
    """Without statistics of batches, a soup of equal networks says what they say."""
    with torch_as_before():
        trained_sweep(tmp_path / "same-0000aaaa", config(), config())
    found = compare(gather(["same"], tmp_path), methods=SOUPS, **FEW)
    rows = rows_of(found)
    for method in SOUPS:
        assert rows[method]["test"] == rows["best_single"]["test"]
        assert rows[method]["val"] == rows["best_single"]["val"]
        assert rows[method]["gain_accuracy"]["value"] == 0
        member = network_of(found, method)
        assert member["val_nll"] == pytest.approx(found["members"][0]["val_nll"])


@pytest.mark.slow
def test_the_winner_is_a_model_that_says_the_same(sweeps: Any, gathered: Gathered, made: Any, tmp_path: Path) -> None:
    """From its files, without the sweep: the probabilities of which the recorded scores are."""
    found, networks = copy.deepcopy(made[0]), made[1]
    found["winner"] = "uniform_soup"
    runs = tmp_path / "runs"
    shutil.copytree(sweeps[0].folder.parent, runs)
    path = record.write(found, runs)
    told = [*finish(found, path.parent, gathered.sources, register=None, networks=networks)]
    assert told == [f"page: {path.parent / 'comparison.html'}"], "nothing kept it from being a model"
    shutil.rmtree(runs / "tuned-0000aaaa")
    model = load_model(found["uid"], runs)
    dataset = load(DIGITS)
    ids = dataset.splits["test"]
    said = model.predict(dataset.images[ids].transpose(0, 2, 3, 1)).probabilities
    row = rows_of(found)["uniform_soup"]
    assert row["test"]["measures"]["accuracy"] == accuracy_score(dataset.labels[ids], said.argmax(1))
    assert row["test"]["measures"]["nll"] == pytest.approx(log_loss(dataset.labels[ids], said), abs=1e-5)
    name = network_of(found, "uniform_soup")["name"]
    assert read_regular(path.parent / "network.safetensors") == networks[name]
    read = record.read(path)
    lines = " ".join([*lines_of(read, path), *next_steps(read, path.parent, registered=None)])
    assert "uniform_soup, one network of the averaged weights of 4 trials, wins on validation" in " ".join(
        lines.split()
    )
    assert "4 trials of tuned-0000aaaa" in lines
    assert "orchestrator show" not in lines, "the sweep is gone"


def test_the_page_tells_networks_from_candidates(made: Any) -> None:
    found = copy.deepcopy(made[0])
    found["winner"] = "uniform_soup"
    view = View(found, {})
    assert "combine 4 trained networks" in question(view)
    data = json.loads(page_data(view, []))
    listed = dict(zip(data["trials"]["name"], data["trials"]["rank"], strict=True))
    assert [listed[f"trial {number}"] for number in numbers_of(found, "uniform_soup")] == [1, 2, 3, 4]
    assert listed[network_of(found, "uniform_soup")["name"]] is None
    winner = candidates(view)
    assert winner is not None
    assert winner.text.startswith("uniform_soup takes 4 of 4 candidates")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ingredients": [4]}, r"members\[4\].ingredients names members that are not there"),
        ({"ingredients": [0, 0]}, "names members that are not there, or one twice"),
        ({"ingredients": []}, r"members\[4\].ingredients names members that are not there"),
        ({"ingredients": ["<script>"]}, "ingredients"),
        ({"name": "soup\nof"}, "name is none of a network"),
    ],
)
def test_a_record_of_ingredients_that_makes_no_sense_is_refused(
    made: Any, tmp_path: Path, changes: Any, why: str
) -> None:
    said: Any = copy.deepcopy(made[0])
    said["members"][4].update(changes)
    (tmp_path / "comparison.json").write_text(json.dumps(said))
    with pytest.raises(NotReadyError, match=why):
        record.read(tmp_path / "comparison.json")


def test_damaged_weights_are_left_out_by_name(sweeps: Any, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(sweeps[0].folder.parent, runs)
    best = [trial_folder(runs / "tuned-0000aaaa", number) / BEST for number in range(4)]
    best[0].write_bytes(best[0].read_bytes()[:-4])
    best[1].write_bytes(b"\xff" * 64)
    found = compare(gather(["tuned"], runs), methods=SOUPS, **FEW)
    left_out = dict(found["left_out"])
    assert set(left_out) == {"tuned-0000aaaa/0", "tuned-0000aaaa/1"}
    assert all(why.startswith("of soups alone: its weights cannot be used") for why in left_out.values())
    assert sorted(numbers_of(found, "uniform_soup")) == [2, 3]
    assert len(found["members"]) == 6, "they are members all the same"


def test_where_weights_or_data_are_not_here_it_is_said_what_to_do(
    sweeps: Any, gathered: Gathered, tmp_path: Path
) -> None:
    pool, test = split(4, 100, 100)
    of_server = dict(compare(gathered_of(pool, test), methods=SOUPS, **FEW)["not_tried"])
    assert {"compare where the sweep lies" in why for why in of_server.values()} == {True}

    other_data = replace(gathered, fingerprint="0" * 64)
    assert (
        "another than that of the trials" in dict(compare(other_data, methods=SOUPS, **FEW)["not_tried"])["greedy_soup"]
    )

    other_ids = replace(gathered, ids_N=gathered.ids_N + 1)
    assert "validation examples" in dict(compare(other_ids, methods=SOUPS, **FEW)["not_tried"])["uniform_soup"]

    runs = tmp_path / "runs"
    shutil.copytree(sweeps[0].folder.parent, runs)
    for number in range(1, 4):
        (trial_folder(runs / "tuned-0000aaaa", number) / BEST).unlink()
    few = compare(gather(["tuned"], runs), methods=SOUPS, **FEW)
    assert set(dict(few["not_tried"])) == set(SOUPS)
    assert "1 are kept here; keep_weights=20 keeps more" in dict(few["not_tried"])["uniform_soup"]
    assert [one["method"] for one in few["rows"]] == ["best_single"]

    for number in range(4):
        (trial_folder(runs / "tuned-0000aaaa", number) / AVERAGE).unlink()
    none = compare(gather(["tuned"], runs), methods=["swa"], **FEW)
    assert dict(none["not_tried"]) == {
        "swa": "no trial here kept an average of its epochs; average_from=0.75 makes one of each"
    }


def test_code_of_a_stranger_is_not_run(tmp_path: Path) -> None:
    """A journal names a network outside the catalogue, and gives no right to it."""
    with torch_as_before():
        mine = trained_sweep(tmp_path / "own-0000aaaa", config(), config(seed=1)).folder
    gathered = gather(["own"], tmp_path)
    mine.rename(tmp_path / "before")
    theirs = Sweep(mine, {"kind": "none"})
    for index in range(2):
        own = config(model={"_target_": "os.system", "command": f"touch {tmp_path}/here"})
        theirs.append("suggested", index, params={}, config=own, config_index=index)
    theirs.journal.close()
    (tmp_path / "before" / "trials").rename(mine / "trials")
    not_tried = dict(compare(gathered, methods=SOUPS, **FEW)["not_tried"])
    assert "os.system" in not_tried["uniform_soup"]
    assert not (tmp_path / "here").exists()


def test_so_many_are_looked_at_and_it_is_said(gathered: Gathered) -> None:
    few = Choice("few", "two of them", UniformSoup(most=2))
    cooked = cook([few], gathered.pool, gathered, metric="val/accuracy", temperature="none", seed=1)
    ((found,), (fitted,)) = cooked.networks, cooked.fitted
    assert sorted(found.ingredients) == [0, 1], "the best two by validation"
    assert fitted.choice.described == "two of them; 2 of the best 2 of 4 kept trials of mlp"
    assert found.member.name == f"few of {gathered.pool.members[0].name} and 1 more"


@pytest.mark.parametrize("method", SOUPS)
def test_a_soup_is_of_the_best_trial_and_not_of_the_network_that_most_have(
    sweeps: Any, tmp_path: Path, method: str
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(sweeps[0].folder.parent, runs)
    wider = {"_target_": "models.mlp.mlp", "hidden": 1, "width": 48}
    with torch_as_before():
        finetuned(tmp_path / "wide", 2, name="wide-0000bbbb", model=wider)
    (tmp_path / "wide" / "wide-0000bbbb").rename(runs / "wide-0000bbbb")
    both = gather(["tuned", "wide"], runs)
    accuracies = [float(right_N.mean()) for right_N in both.pool.is_right_MN]
    names = [member.name for member in both.pool.members]
    assert names[accuracies.index(max(accuracies))].startswith("wide-"), "the best is of the network that fewer have"
    found = compare(both, methods=[method], **FEW)
    ingredients = network_of(found, method)["ingredients"]
    assert {found["members"][place]["name"].partition("/")[0] for place in ingredients} == {"wide-0000bbbb"}
    assert f" of 2 kept trials of {found['members'][0]['architecture']}" in rows_of(found)[method]["described"]


def test_greedy_takes_what_does_not_harm() -> None:
    right = {(3,): 5, (3, 1): 4, (3, 2): 5, (3, 2, 0): 7}
    assert GreedySoup().chosen([3, 1, 2, 0], right.__getitem__) == (3, 2, 0)
    with pytest.raises(ValueError, match="most must be from 2 to 1000"):
        GreedySoup(most=1)


@pytest.mark.slow
def test_without_kept_weights_torch_is_not_imported(tmp_path: Path) -> None:
    """A comparison stays as quick as it was."""
    program = """
import sys
from tests.ensembles.candidates import gathered_of, split
from orchestrator.ensembles.catalogue import Choice
from orchestrator.ensembles.comparing import compare
pool, test = split(4, 100, 100)
found = compare(gathered_of(pool, test), methods=["greedy_soup", "mean"], resamples=100)
assert [name for name, _ in found["not_tried"]] == ["greedy_soup"]
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
