"""Which configurations get more seeds, and the hyper-deep ensemble that is selected from them."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.base.layout import JOURNAL, PREDICTIONS
from orchestrator.ensembles.deepening import Deepening, deepenings, size_of
from orchestrator.ensembles.gathering import Gathered, gather
from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.methods.hyper_deep import HyperDeep
from orchestrator.journal.events import Published, SweepClosed, SweepResumed, event_from
from orchestrator.journal.file import Journal
from orchestrator.journal.record import read_sweep
from tests.ensembles.finished import Made, finished_sweep
from tests.ensembles.made import made_pool

UID = "small-0a1b2c3d"


@pytest.mark.parametrize(
    ("trainings", "budget", "size"),
    [
        (1, None, 1),
        (2, None, 2),
        (5, None, 2),
        (6, None, 3),
        (12, None, 4),
        (19, None, 4),
        (20, None, 5),
        (12, 3, 3),
        (1, 9, 1),
    ],
)
def test_k_picks_with_k_seeds_take_k_times_k_minus_1_trainings(trainings: int, budget: int | None, size: int) -> None:
    assert size_of(trainings, budget) == size


def sweep(tmp_path: Path, trials: int = 8) -> Path:
    """Finished trials that err independently of each other, so that a greedy selection takes all of them."""
    return finished_sweep(
        tmp_path / "runs" / UID,
        [Made({"optimizer.lr": 0.1 + index}, skill=1.5) for index in range(trials)],
        val=300,
        test=40,
    )


def wanted(tmp_path: Path, trainings: int, **others: Any) -> list[Deepening]:
    return deepenings(gathered(tmp_path), trainings, **others)


def gathered(tmp_path: Path) -> Gathered:
    return gather([UID], tmp_path / "runs")


def resumed(folder: Path, repeats_of: dict[str, int], ended: list[tuple[int, int]], closed: str | None = None) -> None:
    """A resume that asked for seeds, of which these trials (configuration, repeat) have ended."""
    with contextlib.closing(Journal(folder / JOURNAL)) as journal:
        at = 8
        changes = {f"seeds of configuration {key}": [1, count] for key, count in repeats_of.items()}
        journal.append(SweepResumed(repeats_of=repeats_of, changes=changes))
        for configuration, repeat in ended:
            config = {"seed": repeat, "epochs": 1, "metric": "val/accuracy", "mode": "max"}
            data = {"params": {}, "config": config, "config_index": configuration, "repeat": repeat}
            journal.append(event_from("suggested", data, at), trial=at)
            end = {"state": "completed", "epoch": 1, "value": 0.5, "best_epoch": 1, "metrics": {}, "artifacts": []}
            journal.append(event_from("terminal", end, at), trial=at, attempt=1)
            at += 1
        if closed:
            journal.append(SweepClosed(closed, {}, None, 1.0, []))
        journal.commit()


def test_four_configurations_get_three_more_seeds_each(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    (found,) = wanted(tmp_path, 12)
    assert (found.folder, found.trainings) == (folder, 12)
    assert len(found.seeds) == 4
    assert set(found.seeds.values()) == {4}
    assert next(iter(found.seeds)) == best_by_loss(folder), "a greedy selection begins with the best"


def best_by_loss(folder: Path) -> int:
    from safetensors.numpy import load_file
    from scipy.special import log_softmax

    losses = []
    for path in sorted((folder / "trials").glob(f"*/{PREDICTIONS}")):
        said = load_file(path)
        rows = np.arange(len(said["val_labels"]))
        losses.append(-log_softmax(said["val_logits"], axis=1)[rows, said["val_labels"]].mean())
    return int(np.argmin(losses))


def test_what_is_left_over_goes_to_the_first_picks(tmp_path: Path) -> None:
    sweep(tmp_path)
    (found,) = wanted(tmp_path, 14)
    assert [*found.seeds.values()] == [5, 5, 4, 4]
    (found,) = wanted(tmp_path, 14, budget=2)
    assert [*found.seeds.values()] == [8, 8]
    (found,) = wanted(tmp_path, 1)
    assert [*found.seeds.values()] == [2]


def test_the_same_command_trains_nothing_twice(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    resumed(folder, {"3": 3, "5": 3}, [(3, 1), (5, 1), (3, 2), (5, 2)], "finished")
    assert wanted(tmp_path, 4) == []
    (more,) = wanted(tmp_path, 6)
    picks = [*more.seeds]
    assert len(picks) == 1, "of three picks the third has none yet"
    assert picks[0] not in (3, 5)
    assert (more.seeds[picks[0]], more.trainings) == (3, 2)


@pytest.mark.parametrize("closed", [None, "stopped"])
def test_seeds_that_were_cut_off_are_trained_at_the_next_call(tmp_path: Path, closed: str | None) -> None:
    folder = sweep(tmp_path)
    resumed(folder, {"3": 3, "5": 3}, [(3, 1), (5, 1)], closed)
    (found,) = wanted(tmp_path, 4)
    assert (found.seeds, found.trainings) == ({3: 3, 5: 3}, 2)


def test_an_unfinished_sweep_is_not_picked_from(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    with contextlib.closing(Journal(folder / JOURNAL)) as journal:
        journal.append(SweepResumed())
        journal.commit()
    with pytest.raises(NotReadyError, match=r"was interrupted.*orchestrator resume small-0a1b2c3d.*trials=8"):
        wanted(tmp_path, 4)
    with contextlib.closing(Journal(folder / JOURNAL)) as journal:
        journal.append(Published("comparison", "x", "0" * 64))
        journal.append(SweepClosed("stopped", {}, None, 1.0, []))
        journal.commit()
    with pytest.raises(NotReadyError, match=r"ended early \(stopped\)"):
        wanted(tmp_path, 4)


def test_one_that_is_much_better_does_not_get_all_the_seeds(tmp_path: Path) -> None:
    finished_sweep(
        tmp_path / "runs" / UID,
        [Made({"optimizer.lr": 0.1 + index}, skill=9.0 if index == 3 else 0.5) for index in range(8)],
        val=300,
    )
    (found,) = wanted(tmp_path, 12)
    assert next(iter(found.seeds)) == 3
    assert [*found.seeds.values()] == [4, 4, 4, 4]


def test_a_sweep_that_was_given_more_trials_and_cut_off_is_not_picked_from(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    resumed(folder, {"3": 3}, [(3, 1), (3, 2)], "finished")
    with contextlib.closing(Journal(folder / JOURNAL)) as journal:
        journal.append(SweepResumed(changes={"trials": [8, 12]}, trials=12))
        journal.commit()
    with pytest.raises(NotReadyError, match="was interrupted"):
        wanted(tmp_path, 4)


def test_what_cannot_be_trained_is_told_before_anything_is(tmp_path: Path) -> None:
    sweep(tmp_path)
    other = finished_sweep(
        tmp_path / "runs" / "other-0a1b2c3d", [Made({"seed": n}, skill=9.0) for n in range(3)], val=300, test=40
    )
    with contextlib.closing(Journal(other / JOURNAL)) as journal:
        plan = json.loads(read_sweep(other).plan)
        plan["space"] = [
            {"key": "seed", "domain": {"kind": "range", "start": 0, "stop": 3, "step": 1}, "conditions": []}
        ]
        journal.append(SweepResumed(plan=json.dumps(plan)))
        journal.append(SweepClosed("finished", {}, None, 1.0, []))
        journal.commit()
    both = gather([UID, "other-0a1b2c3d"], tmp_path / "runs")
    with pytest.raises(ConfigError, match="the seed is searched in other-0a1b2c3d"):
        deepenings(both, 6)
    with pytest.raises(ConfigError, match="at most 1000 seeds of a configuration"):
        wanted(tmp_path, 10_000)


def test_wrong_numbers_and_sweeps_of_a_server_are_refused(tmp_path: Path) -> None:
    sweep(tmp_path)
    for wrong in (0, -3, 10_001):
        with pytest.raises(ConfigError, match=r"--deepen.*from 1 to 10000"):
            wanted(tmp_path, wrong)
    found = gathered(tmp_path)
    served = replace(found, sources=tuple(replace(one, folder=None, uri="http://x") for one in found.sources))
    with pytest.raises(ConfigError, match="is read from a server"):
        deepenings(served, 4)


# The method -----------------------------------------------------------------------------------------------------------


def naive(pool: Any, places: list[int], size: int, picks: int = 50) -> tuple[dict[int, int], list[int]]:
    """Wenzel et al., algorithm 1, by the book: (member -> count of the best prefix of at most `size` distinct members, all)."""
    shifted = np.exp(pool.logits_MNK.astype(np.float64))
    said = shifted / shifted.sum(axis=2, keepdims=True)
    right = said[:, np.arange(len(pool.labels_N)), pool.labels_N]
    taken: list[int] = []
    losses: list[float] = []
    for _ in range(picks):
        tried = {place: -np.log(right[[*taken, place]].mean(axis=0)).mean() for place in places}
        best = min(places, key=lambda place: (round(tried[place], 12), place not in taken, place))
        taken.append(best)
        losses.append(tried[best])
    within = [count for count in range(1, picks + 1) if len({*taken[:count]}) <= size]
    count = min(within, key=lambda one: round(losses[one - 1], 12))
    return dict(Counter(taken[:count])), [*dict.fromkeys(taken)]


@pytest.mark.parametrize("seed", range(4))
def test_a_hyper_deep_ensemble_is_that_of_the_naive_algorithm(seed: int) -> None:
    pool = made_pool(18, 150, seed=seed, seeds=3)  # six configurations with three seeds each
    built = HyperDeep().build(pool, np.random.default_rng(0))
    _, order = naive(pool, [*range(0, 18, 3)], 18)
    members = [place for first in order[:3] for place in range(first, first + 3)]
    counts, _ = naive(pool, sorted(members), 3)
    total = sum(counts.values())
    assert dict(zip(built.members, built.weights, strict=True)) == pytest.approx(
        {member: count / total for member, count in counts.items()}
    )
    assert len(built.members) <= 3


def test_only_configurations_with_several_seeds_are_taken() -> None:
    pool = made_pool(12, 150, seeds=2)
    lone = tuple(
        replace(member, configuration=f"made-00000000/c{place if place >= 4 else place // 2}")
        for place, member in enumerate(pool.members)
    )
    built = HyperDeep().build(replace(pool, members=lone), np.random.default_rng(0))
    assert {*built.members} <= {0, 1, 2, 3}
    assert len(built.members) <= 2
    with pytest.raises(NotPossibleError, match="--deepen 12"):
        HyperDeep().build(made_pool(12, 150), np.random.default_rng(0))
    with pytest.raises(ValueError, match="picks must be at least 1"):
        HyperDeep(0)


def test_the_records_of_seeds_are_plain_json(tmp_path: Path) -> None:
    event = SweepResumed(repeats_of={"3": 4})
    assert event_from("sweep_resumed", json.loads(json.dumps(event.to_data()))) == event
    assert "repeats_of" not in SweepResumed().to_data(), "an earlier version reads what it wrote"
