"""Each method of `conf/ensemble`: what holds of all, and each against an independent oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.optimize import minimize
from sklearn.metrics import accuracy_score, log_loss

from orchestrator.base.build import build
from orchestrator.ensembles.cooking import takes_weights
from orchestrator.ensembles.methods import Method, NotPossibleError
from orchestrator.ensembles.methods.fusion import Fusion
from orchestrator.ensembles.methods.greedy import Greedy, _NegativeLoss, cut, selected
from orchestrator.ensembles.methods.mean import Mean
from orchestrator.ensembles.methods.seeds import Seeds
from orchestrator.ensembles.methods.stacking import Stacking
from orchestrator.ensembles.methods.weighted import Weighted, best_weights
from orchestrator.ensembles.pool import Pool
from orchestrator.ensembles.pooling import calibrated
from tests.conftest import ROOT
from tests.ensembles.made import made_pool, pool_of


def method_of(choice: str) -> Method:
    spec: dict[str, Any] = yaml.safe_load(Path(ROOT / "conf" / "ensemble" / f"{choice}.yaml").read_text())
    made: Method = build(spec)
    return made


ALL = sorted(path.stem for path in (ROOT / "conf" / "ensemble").glob("*.yaml"))
CHOICES = [choice for choice in ALL if not takes_weights(method_of(choice))]
"""Those that build from predictions; `test_soups.py` has the others."""


def drawn() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_builds_an_ensemble(choice: str) -> None:
    pool = made_pool(12, 200, architectures=("mlp", "convnet", "resnet8"), seeds=3)
    built = method_of(choice).build(pool, drawn())
    assert len(set(built.members)) == len(built.members) == len(built.weights)
    assert set(built.members) <= set(range(12))
    assert sum(built.weights) == pytest.approx(1)
    assert min(built.weights) > 0
    found_NK = built.of_pool(pool)
    assert found_NK.shape == (200, 4)
    assert found_NK.sum(axis=1) == pytest.approx(1)
    assert (found_NK >= 0).all()
    assert method_of(choice).build(pool, drawn()).of_pool(pool) == pytest.approx(found_NK, abs=0), "the same again"


@pytest.mark.parametrize("choice", CHOICES)
def test_two_members_are_enough_or_the_reason_is_told(choice: str) -> None:
    pool = made_pool(2, 40)
    if choice in ("seeds", "hyper_deep", "fusion", "top_5"):
        with pytest.raises(NotPossibleError, match=r"\w"):
            method_of(choice).build(pool, drawn())
        return
    assert method_of(choice).build(pool, drawn()).of_pool(pool).shape == (40, 4)


@pytest.mark.parametrize("choice", sorted({*CHOICES} - {"fusion", "hyper_deep", "stacking", "top_5"}))
def test_members_that_are_equal_change_nothing(choice: str) -> None:
    """An ensemble of one network twice says what that network says. Stacking fits, the others take more or other members."""
    pool = made_pool(1, 60, architectures=("mlp",))
    twice = Pool(pool.members * 2, np.repeat(pool.logits_MNK, 2, axis=0), pool.labels_N, pool.classes)
    built = method_of(choice).build(twice, drawn())
    assert (built.of_pool(twice).argmax(1) == pool.logits_MNK[0].argmax(1)).all()


def test_methods_that_look_at_no_label_say_so() -> None:
    """Of other labels they build the same ensemble."""
    pool = made_pool(6, 100)
    other = Pool(pool.members, pool.logits_MNK, (pool.labels_N + 1) % 4, pool.classes)
    for choice in CHOICES:
        method = method_of(choice)
        if not method.fits:
            here, there = (method.build(one, drawn()) for one in (pool, other))
            assert here == there, choice
    assert {choice for choice in CHOICES if not method_of(choice).fits} == {"mean", "geometric_mean", "majority_vote"}


def naive_greedy(pool: Pool, picks: int, criterion: str) -> list[int]:
    """Caruana's algorithm in a few lines over scikit-learn's scores; ties as ours: taken before, then the first."""
    probabilities_MNK, every = pool.probabilities_MNK.astype(np.float64), range(len(pool.classes))
    total_NK, taken = np.zeros(probabilities_MNK.shape[1:]), []
    for count in range(1, picks + 1):
        scores = []
        for member in range(len(pool)):
            mean_NK = (total_NK + probabilities_MNK[member]) / count
            nll = log_loss(pool.labels_N, mean_NK / mean_NK.sum(axis=1, keepdims=True), labels=every)
            right = accuracy_score(pool.labels_N, mean_NK.argmax(1)) if criterion == "accuracy" else 0.0
            scores.append((right, -round(nll, 10), member in taken, -member))
        taken.append(scores.index(max(scores)))
        total_NK += probabilities_MNK[taken[-1]]
    return taken


@pytest.mark.parametrize("criterion", ["nll", "accuracy"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_takes_what_the_naive_algorithm_takes(criterion: Any, seed: int) -> None:
    pool = made_pool(12, 83, seed=seed)  # 83 is no multiple of the factors that are multiplied together
    assert [step.member for step in selected(pool, 15, criterion)] == naive_greedy(pool, 15, criterion)


@pytest.mark.parametrize("criterion", ["nll", "accuracy"])
def test_the_scores_of_the_steps_are_those_of_the_ensembles(criterion: Any) -> None:
    pool = made_pool(20, 150, classes=10, seed=5)
    steps, total_NK = selected(pool, 30, criterion), np.zeros((150, 10))
    for count, step in enumerate(steps, 1):
        total_NK += pool.probabilities_MNK[step.member]
        mean_NK = total_NK / count
        expected = (
            (mean_NK.argmax(1) == pool.labels_N).mean()
            if criterion == "accuracy"
            else np.log(mean_NK[np.arange(150), pool.labels_N]).mean()
        )
        assert step.score == pytest.approx(expected, abs=1e-6)


def test_what_is_settled_early_can_be_undone_later() -> None:
    """One member is right by far, and all later ones wrong: examples that were put aside come back."""
    right, wrong = [[0.98, 0.02]] * 30, [[0.3, 0.7]] * 30
    pool = pool_of([right, wrong], [0] * 30)
    assert [step.score for step in selected(pool.of([1, 1]), 3, "accuracy")] == [0.0] * 3
    mixed = pool_of([[[0.93, 0.07]] * 5 + [[0.11, 0.89]] * 5, [[0.21, 0.79]] * 5 + [[0.617, 0.383]] * 5], [0] * 10)
    assert [step.member for step in selected(mixed, 12, "accuracy")] == naive_greedy(mixed, 12, "accuracy")


def test_the_prefix_with_the_best_score_is_kept() -> None:
    pool = made_pool(8, 60, seed=2)
    steps = selected(pool, 25)
    kept = cut(steps)
    assert kept[-1].score == max(step.score for step in steps)
    assert max((step.score for step in kept[:-1]), default=-np.inf) < kept[-1].score
    built = Greedy(picks=25).build(pool, drawn())
    members = [step.member for step in kept]
    for member, weight in zip(built.members, built.weights, strict=True):
        assert weight == pytest.approx(members.count(member) / len(members))


def test_bags_hold_half_of_the_members_each() -> None:
    pool = made_pool(10, 80)
    built = Greedy(picks=1, bags=200).build(pool, drawn())
    # The best member alone wins in every bag that has it: half of 200, standard deviation 7.
    best = selected(pool, 1)[0].member
    assert dict(zip(built.members, built.weights, strict=True))[best] == pytest.approx(0.5, abs=0.15)
    assert built.members[0] == best


def test_weights_equal_those_of_another_optimizer() -> None:
    pool = made_pool(6, 300, seed=4)

    def loss(weights: np.ndarray) -> float:
        return float(-np.log(weights @ pool.right_MN).mean())

    sums = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    found = minimize(loss, np.full(6, 1 / 6), bounds=[(0, 1)] * 6, constraints=[sums], method="SLSQP", tol=1e-12)
    ours = best_weights(pool.right_MN, 1e-9, 100_000)
    assert loss(ours) == pytest.approx(found.fun, abs=1e-7)
    assert ours == pytest.approx(found.x, abs=2e-3)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_no_more_than_the_tolerance_is_left_to_gain(tolerance: float) -> None:
    pool = made_pool(10, 300, seed=4)
    best = np.log(best_weights(pool.right_MN, 1e-10, 200_000) @ pool.right_MN).mean()
    assert best - np.log(best_weights(pool.right_MN, tolerance, 200_000) @ pool.right_MN).mean() <= tolerance


def test_a_member_that_is_always_better_gets_all_the_weight() -> None:
    pool = pool_of([[[0.9, 0.1]] * 4, [[0.8, 0.2]] * 4], [0] * 4)
    assert Weighted().build(pool, drawn()).members == (0,)


def test_stacking_under_a_strong_pull_is_the_geometric_mean() -> None:
    pool = made_pool(5, 100)
    mean_NK = calibrated(Mean("logits").build(pool, drawn()), pool).of_pool(pool)
    assert Stacking(strength=1e9).build(pool, drawn()).of_pool(pool) == pytest.approx(mean_NK, abs=1e-5)


def test_stacking_learns_what_no_average_can() -> None:
    """Two members that are sure of the wrong class, each in its own way: a permutation puts them right."""
    labels_N = np.arange(300) % 3
    says_NK = 0.05 + 0.85 * np.eye(3)[(labels_N + 1) % 3]
    pool = pool_of([says_NK, says_NK], labels_N)
    built = Stacking(strength=1.0).build(pool, drawn())
    assert (built.of_pool(pool).argmax(1) == labels_N).all()


def test_stacking_minimizes_what_it_says() -> None:
    """The gradient at its solution, by finite differences of the penalized loss."""
    pool = made_pool(2, 50, 3)
    built = Stacking(strength=2.0).build(pool, drawn())
    assert built.coefficients_mKK is not None
    assert built.intercept_K is not None
    start = np.eye(3) / 2 / calibrated(Mean("logits").build(pool, drawn()), pool).temperature

    def loss(coefficients: np.ndarray, intercept: np.ndarray) -> float:
        from scipy.special import log_softmax

        features = log_softmax(pool.logits_MNK.astype(np.float64), axis=2)
        logits = np.einsum("mnk,mkj->nj", features, coefficients) + intercept
        nll = -log_softmax(logits, axis=1)[np.arange(50), pool.labels_N].mean()
        return float(nll + 2.0 / 50 / 2 * (((coefficients - start) ** 2).sum() + (intercept**2).sum()))

    here = loss(built.coefficients_mKK, built.intercept_K)
    draw = np.random.default_rng(0)
    for _ in range(50):
        step, shift = draw.normal(size=(2, 3, 3)) * 1e-2, draw.normal(size=3) * 1e-2
        assert loss(built.coefficients_mKK + step, built.intercept_K + shift) > here - 1e-7


def test_seeds_are_those_of_the_configuration_with_the_best_mean() -> None:
    pool = made_pool(9, 50, seeds=3)
    built = Seeds().build(pool, drawn())
    assert built.members == (0, 1, 2), "members are ordered by their value, and neighbours share a configuration"
    with pytest.raises(NotPossibleError, match="repeat="):
        Seeds().build(made_pool(4, 50), drawn())


def test_fusion_takes_the_best_of_each_architecture() -> None:
    pool = made_pool(9, 50, architectures=("mlp", "convnet", "resnet8"))
    assert Fusion().build(pool, drawn()).members == (0, 1, 2)
    assert Fusion(top=2).build(pool, drawn()).members == (0, 1)
    with pytest.raises(NotPossibleError, match="all members are of one architecture"):
        Fusion().build(made_pool(4, 50), drawn())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mean("median"), "pooling must be one of probabilities, logits, votes, got median"),  # type: ignore[arg-type]
        (lambda: Mean(top=1), "top must be at least 2, got 1"),
        (lambda: Greedy(picks=0), "picks must be at least 1, got 0"),
        (lambda: Greedy(criterion="f1"), "criterion must be one of nll, accuracy, got f1"),  # type: ignore[arg-type]
        (lambda: Greedy(bags=-1), "bags must be at least 0"),
        (lambda: Greedy(bag_fraction=0), r"bag_fraction must be in \(0, 1\]"),
        (lambda: Weighted(tolerance=0), "tolerance must be above 0"),
        (lambda: Weighted(steps=0), "steps must be at least 1"),
        (lambda: Weighted(smallest=0.5), r"smallest must be in \[0, 0.5\)"),
        (lambda: Stacking(top=0), "top must be at least 1"),
        (lambda: Stacking(strength=0), "strength must be above 0"),
        (lambda: Fusion(top=1), "top must be at least 2"),
    ],
)
def test_values_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_stacking_does_not_learn_its_examples_by_heart() -> None:
    """Fifty members and 500 examples, in which nothing is to be learned: hardly worse on others than the geometric mean."""
    pool = made_pool(50, 1_000, 10, seed=3)
    seen, unseen = pool.at(np.arange(500)), pool.at(np.arange(500, 1_000))
    geometric = Mean("logits").build(seen, drawn())
    reference = log_loss(unseen.labels_N, calibrated(geometric, seen).of_pool(unseen), labels=range(10))
    default = log_loss(unseen.labels_N, method_of("stacking").build(seen, drawn()).of_pool(unseen), labels=range(10))
    weak = log_loss(unseen.labels_N, Stacking(strength=1.0).build(seen, drawn()).of_pool(unseen), labels=range(10))
    assert default < reference + 0.06
    assert weak > reference + 0.5


def test_stacking_of_many_classes_takes_fewer_members() -> None:
    draw = np.random.default_rng(0)
    pool = pool_of(draw.dirichlet(np.ones(150), (6, 20)), draw.integers(0, 150, 20))
    assert len(Stacking().build(pool, drawn()).members) == 4, "100,000 // 150 ** 2"
    wide = pool_of(draw.dirichlet(np.ones(300), (2, 5)), draw.integers(0, 300, 5))
    with pytest.raises(NotPossibleError, match="of 300 classes two members have more than 100,000 coefficients"):
        Stacking().build(wide, drawn())


def test_no_score_is_above_its_bound_and_all_that_reach_the_best_are_scored() -> None:
    """Probabilities from 0 to 1, so that the first steps are as steep as can be."""
    right_MN = np.random.default_rng(3).beta(0.2, 0.2, (40, 301))
    right_MN[5, :7] = 0.0
    floored_MN, score = np.maximum(right_MN, 1e-12), _NegativeLoss(right_MN)
    sum_N = np.zeros(301)
    for count, taken in enumerate([5, 5, 2, 11, 30, 2, 2, 17]):
        expected_M = np.log((sum_N + floored_MN) / (count + 1)).mean(axis=1)
        assert (score._bounds(count) >= expected_M - 1e-12).all()
        assert score.of_each(count, np.inf) == pytest.approx(expected_M, abs=1e-10)
        found_M = score.of_each(count, 0.01)
        near_M = expected_M >= expected_M.max() - 0.01
        assert found_M[near_M] == pytest.approx(expected_M[near_M], abs=1e-10)
        score.take(taken)
        sum_N += floored_MN[taken]


def test_bounds_leave_most_members_out() -> None:
    pool = made_pool(200, 400, 10)
    score = _NegativeLoss(pool.right_MN)
    for count in range(6):
        scored_M = np.isfinite(score.of_each(count, 0.0))
        score.take(int(np.flatnonzero(scored_M)[0]))
    assert scored_M.sum() <= 60


def test_rounded_scores_that_tie_are_all_found() -> None:
    """Members that differ by less than the last decimal: any of them may be chosen."""
    draw = np.random.default_rng(0)
    says_NK = draw.dirichlet(np.ones(3), 50)
    pool = pool_of([says_NK, says_NK * (1 - 1e-9), says_NK], draw.integers(0, 3, 50))
    offered: list[int] = []

    def choose(places: np.ndarray) -> int:
        offered.append(len(places))
        return int(places[-1])

    assert [step.member for step in selected(pool, 2, decimals=6, choose=choose)] == [2, 2]
    assert offered[0] >= 2
