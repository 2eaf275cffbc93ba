"""`--filter`: MLflow's language over the runs that a journal makes; MLflow's own store is the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.base.errors import EXIT_BAD_INPUT, ConfigError
from orchestrator.ensembles.filters import EXAMPLE, check_filter, matching, runs_of
from orchestrator.ensembles.gathering import gather
from tests.ensembles.finished import Made, finished_sweep, ship
from tests.simulated import simulated_sweep

UID = "one-0a1b2c3d"
TRIALS = [
    Made(value=0.95, params={"norm": "batch", "optimizer.lr": 0.1}),
    Made(value=0.91, params={"norm": "none", "optimizer.lr": 0.1}),
    Made(value=0.93, params={"norm": "batch", "optimizer.lr": 0.01}),
    Made(value=0.80, params={"norm": "batch", "optimizer.lr": 0.1}),
    Made(value=0.99, params={"norm": "batch", "optimizer.lr": 0.1}, state="stopped"),
]


def members(folder: Path, filter_string: str) -> list[int]:
    found = gather([UID], folder, filter_string=filter_string).pool.members
    return [int(member.name.rpartition("/")[2]) for member in found]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filtered")
    finished_sweep(folder / UID, TRIALS)
    return folder


@pytest.mark.parametrize(
    ("filter_string", "indices"),
    [
        (EXAMPLE, [0, 2]),
        ("params.norm = 'batch'", [0, 2, 3]),
        ("params.`optimizer.lr` = '0.1'", [0, 1, 3]),
        ("params.optimizer.lr LIKE '0.1%' AND metric.`val/accuracy` >= 0.91", [0, 1]),
        ("attributes.status = 'FINISHED' and tags.reason != 'stopped'", [0, 2, 1, 3]),
        ("params.dropout IS NULL", [0, 2, 1, 3]),
        ("tags.trial != '2' and start_time > 0", [0, 1, 3]),
    ],
)
def test_trials_that_meet_a_filter_are_members(made: Path, filter_string: str, indices: list[int]) -> None:
    assert members(made, filter_string) == indices


def test_only_trials_that_meet_the_filter_are_said_to_be_left_out(made: Path) -> None:
    assert gather([UID], made, filter_string="metrics.`best/val_accuracy` < 0.94").left_out == ()
    left_out = gather([UID], made, filter_string=EXAMPLE).left_out
    assert [(out.name, out.reason) for out in left_out] == [(f"{UID}/4", "not completed: stopped")]


@pytest.mark.parametrize(
    ("filter_string", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("batch", r"Invalid clause\(s\) in filter string: 'batch'"),
        ("params.norm = batch", "Use either single or double quotes"),
        ("params.norm = 'batch' or params.norm = 'none'", r"Invalid clause\(s\) in filter string: 'or'"),
        ("metrics.`best/val_accuracy` > 'a'", "Expected numeric value type for metric"),
        ("metrics.`best/val_accuracy` LIKE 0.9", "Invalid comparator 'LIKE'"),
        ("params.norm RLIKE 'x'", "Invalid comparator 'RLIKE'"),
        ("model.norm = 'batch'", "Invalid entity type 'model'"),
        ("and", "it compares nothing"),
        ("params.norm = 'batch'; drop table runs", "multiple expression"),
        ("(" * 3000, "MLflow's filter language"),
        ("params.norm = '" + "x" * 10_000 + "'", "is longer than 10,000 characters"),
    ],
)
def test_what_mlflow_does_not_understand_is_refused_with_an_example(filter_string: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        check_filter(filter_string)
    assert caught.value.exit_code == EXIT_BAD_INPUT
    assert EXAMPLE in str(caught.value) or "longer" in said
    assert len(str(caught.value)) < 2000


def test_a_wrong_filter_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it compares nothing"):
        gather(["unknown"], tmp_path, filter_string="and")


def test_members_cannot_be_chosen_by_the_test(made: Path) -> None:
    with pytest.raises(ConfigError, match="members cannot be chosen by test/accuracy"):
        gather([UID], made, filter_string="metrics.`test/accuracy` > 0.9")


def test_a_filter_that_no_trial_meets_names_the_keys_that_there_are(made: Path) -> None:
    with pytest.raises(ConfigError, match="no trial of 5 meets it") as caught:
        gather([UID], made, filter_string="params.nrom = 'batch'")
    said = str(caught.value)
    assert "no trial of 5 meets it; none has params.nrom (did you mean params.norm?); there are params.norm" in said
    assert "metrics.`best/val_accuracy`" in said
    assert "test/" not in said
    assert said.count("params.") + said.count("metrics.") <= 2 + 3 + 8, "asked for, nearest, and a few of all"
    with pytest.raises(ConfigError, match=r"no trial of 5 meets it; params\.norm is batch, none$"):
        gather([UID], made, filter_string="params.norm = 'layer'")


def test_a_key_without_its_kind_is_told_how_to_write_it(made: Path) -> None:
    with pytest.raises(ConfigError, match=r"norm is no attribute of a run; did you mean params\.norm\?"):
        gather([UID], made, filter_string="norm = 'batch'")


def test_a_filter_that_one_trial_meets_leaves_too_few(made: Path) -> None:
    with pytest.raises(ConfigError, match="an ensemble takes two trials or more, and one can be a member"):
        gather([UID], made, filter_string="params.norm = 'none'")


ORACLE = [
    EXAMPLE,
    "params.norm != 'batch' and metrics.`val/loss` < 0.9",
    "params.`optimizer.lr` LIKE '0.0%'",
    "params.`optimizer.momentum` = '-'",
    "params.optimizer ILIKE 'SGD' and tags.reason = 'completed'",
    "metrics.`log10/optimizer.lr` < -2",
    "attributes.status != 'FAILED' and metrics.`best/epoch` >= 5",
    "run_name LIKE '%batch%'",
    "tags.detail IS NOT NULL",
    "tags.`mlflow.runName` LIKE '1%'",
    "dataset.name = 'digits'",
    "metrics.`val/accuracy` > 0.5 and metrics.lr <= 0.1",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated")
def test_the_runs_that_meet_a_filter_are_those_that_mlflow_finds(tmp_path: Path, first_store: None) -> None:
    from mlflow import MlflowClient

    folder = simulated_sweep(tmp_path / UID, trials=60, epochs=8, tracking="local")
    runs = runs_of(folder)
    shipper = ship(folder)
    client = MlflowClient(str(shipper.settings["uri"]))
    place = [client.get_experiment_by_name(shipper.experiment).experiment_id]
    empty = 0
    for one in ORACLE:
        found = client.search_runs(place, f"{one} and tags.kind = 'trial'", max_results=1000)
        expected = {run.data.tags["trial_uid"] for run in found}
        empty += not expected
        if expected:
            assert matching(check_filter(one), runs, one) == expected, one
        else:
            with pytest.raises(ConfigError, match="meets it"):
                matching(check_filter(one), runs, one)
    assert empty <= 2
