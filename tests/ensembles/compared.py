"""Comparisons of simulated members, made by the real methods and measures, for what is drawn of them; and hostile ones."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.ensembles.comparison import Comparison, Estimate, Row, Scores, Worst
from orchestrator.ensembles.measures import disagreement, is_right, losses, measures, per_class_accuracy, reliability
from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.methods.best_single import BestSingle
from orchestrator.ensembles.methods.fusion import Fusion
from orchestrator.ensembles.methods.greedy import Greedy
from orchestrator.ensembles.methods.mean import Mean
from orchestrator.ensembles.pool import Pool
from orchestrator.ensembles.pooling import Ensemble
from orchestrator.ensembles.statistics.bootstrap import interval, resampled_means
from tests.ensembles.made import made_pool
from tests.reports.hostile import NASTY

Array = np.ndarray[Any, Any]

ARCHITECTURES = ("resnet20", "convnet", "mobilenet_v1", "densenet40")
ADDS = {"resnet20": 41_000_000, "convnet": 9_500_000, "mobilenet_v1": 12_000_000, "densenet40": 280_000_000}
METHODS: Mapping[str, Any] = {
    "best_single": BestSingle(),
    "mean": Mean("probabilities", None),
    "geometric_mean": Mean("logits", None),
    "majority_vote": Mean("votes", None),
    "top_5": Mean("probabilities", 5),
    "greedy": Greedy(picks=25),
    "greedy_50": Greedy(picks=50),
    "fusion": Fusion(None),
}
DESCRIBED = {"best_single": "the best member alone", "greedy": "forward selection with replacement, 25 picks"}


def comparison(
    members: int = 16,
    examples: int = 400,
    classes: int = 10,
    *,
    methods: Sequence[str] = tuple(METHODS),
    seed: int = 3,
    looks: int = 2,
) -> Comparison:
    """A finished comparison; half of the examples are the validation's."""
    pool = _pool(members, examples, classes, seed)
    val, test = pool.at(np.arange(examples // 2)), pool.at(np.arange(examples // 2, examples))
    built, not_tried = _built(methods, val, seed)
    rows = [_row(name, one, built["best_single"], val, test) for name, one in built.items()]
    winner = min(rows, key=lambda row: row["val"]["measures"]["nll"])["method"]
    rows.sort(key=lambda row: -row["test"]["measures"]["accuracy"])
    best = built[winner]
    said_NK = best.of_pool(test)
    right = [bool(one) for one in is_right(said_NK, test.labels_N)]
    confusion = np.zeros((classes, classes), dtype=int)
    np.add.at(confusion, (test.labels_N, said_NK.argmax(1)), 1)
    found: Comparison = {
        "format": 1,
        "uid": "cifar-0a1b2c3d",
        "created_ms": 1_700_000_000_000,
        "command": ["orchestrator", "compare", "photos"],
        "settings": {"seed": seed, "resamples": 1000},
        "sweeps": [{"uid": "made-00000000", "metric": "val/accuracy", "mode": "max", "look": looks}],
        "classes": _classes(classes),
        "fingerprint": "0" * 16,
        "examples": {"val": len(val.labels_N), "test": len(test.labels_N)},
        "members": _members(val),
        "left_out": [(f"made-00000000/{members + n}", "it diverged") for n in range(3)]
        + [("old-11111111", "its split differs")],
        "not_tried": [("seeds", "no configuration has two seeds"), *not_tried],
        "rows": rows,
        "winner": winner,
        "corrected": {"naive": 0.915, "value": 0.903, "low": 0.89, "high": 0.92, "seeds": 0.004},
        "confusion": confusion.tolist(),
        "worst": _worst(best, test, said_NK, right),
        "sizes": _sizes(built.get("greedy"), test),
        "environment": {"python": "3.11"},
    }
    if len(best.members) > 1:
        found["agreement"] = _agreement(best, test)
    return found


def pictures(comparison: Comparison) -> dict[int, bytes | None]:
    """A picture of 32 by 32 pixels for each of the worst examples but every seventh."""
    return {
        one["id"]: None if place % 7 == 6 else png(one["id"]) for place, one in enumerate(comparison.get("worst", ()))
    }


def png(seed: int, side: int = 32) -> bytes:
    from PIL import Image

    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def bare(whole: Comparison, *names: str) -> Comparison:
    """The comparison without these keys, in itself or in each row."""
    found: Any = copy.deepcopy(whole)
    for part in (found, *found["rows"]):
        for name in names:
            part.pop(name, None)
    return found  # type: ignore[no-any-return]


def untested(whole: Comparison) -> Comparison:
    """As it was before the test was read."""
    of_test = ("test", "accuracy", "nll", "gain_accuracy", "gain_nll", "gain_over_mean", "p_value", "p_holm", "in_set")
    return bare(whole, *of_test, "sizes", "agreement", "confusion", "worst")


def hostile(whole: Comparison) -> Comparison:
    """Every free text tries to be code, and numbers are at their limits."""
    found: Any = copy.deepcopy(whole)
    nasty = lambda number: NASTY[number % len(NASTY)]  # noqa: E731
    winner = found["winner"]
    names = {row["method"]: f"{nasty(n)}{n}" for n, row in enumerate(found["rows"]) if row["method"] != "best_single"}
    found["winner"] = names.get(winner, winner)
    found["uid"], found["classes"] = NASTY[0], [nasty(n) for n in range(len(found["classes"]))]
    found["sweeps"] = [{"uid": text, "metric": text, "mode": "max", "look": 10**9} for text in NASTY]
    for number, member in enumerate(found["members"]):
        member |= {"name": f"{nasty(number)}/{number}", "architecture": nasty(number + 1), "val_nll": float("nan")}
        member["params"] = {text: [text, number] for text in NASTY} | {"__proto__": float("inf")}
    for number, row in enumerate(found["rows"]):
        row |= {
            "method": names.get(row["method"], row["method"]),
            "described": nasty(number + 2),
            "pooling": nasty(number),
        }
    found["rows"][-1]["multiply_adds"] = 10**30
    found["rows"][-1]["nll"] = {"value": float("inf"), "low": float("-inf"), "high": float("nan")}
    found["left_out"] = [(text, text) for text in NASTY]
    found["not_tried"] = [(text, text) for text in NASTY]
    found["sizes"] = [(text, n + 1, value, value) for text in NASTY for n, value in enumerate((0.5, float("nan"), 0.7))]
    found["corrected"] = {"naive": float("nan"), "value": 1e308, "seeds": float("inf")}
    return found  # type: ignore[no-any-return]


def _built(methods: Sequence[str], val: Pool, seed: int) -> tuple[dict[str, Ensemble], list[tuple[str, str]]]:
    built, not_tried = {}, []
    for name in methods:
        try:
            built[name] = METHODS[name].build(val, np.random.default_rng(seed))
        except NotPossibleError as error:
            not_tried.append((name, str(error)))
    return built, not_tried


def _pool(members: int, examples: int, classes: int, seed: int) -> Pool:
    """As `made_pool`, of any number of classes."""
    pool = made_pool(members, examples, classes, seed=seed, architectures=ARCHITECTURES)
    return Pool(pool.members, pool.logits_MNK, pool.labels_N, tuple(_classes(classes)))


def _classes(count: int) -> list[str]:
    named = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    return named[:count] if count <= len(named) else [f"n{number:05d}" for number in range(count)]


def _members(val: Pool) -> list[Any]:
    return [
        {
            "name": member.name,
            "params": {"model": member.architecture, "optimizer.lr": 0.1 / (place + 1)},
            "architecture": member.architecture,
            "configuration": member.configuration,
            "value": member.value,
            "parameters": ADDS[member.architecture] // 150,
            "multiply_adds": ADDS[member.architecture],
            "val_accuracy": float(is_right(val.probabilities_MNK[place], val.labels_N).mean()),
            "val_nll": float(losses(val.probabilities_MNK[place], val.labels_N).mean()),
        }
        for place, member in enumerate(val.members)
    ]


def _scores(said_NK: Array, labels_N: Array) -> Scores:
    return {
        "measures": measures(said_NK, labels_N),
        "per_class_accuracy": per_class_accuracy(said_NK, labels_N),
        "reliability": reliability(said_NK, labels_N),
    }


def _estimate(scores_N: Array) -> Estimate:
    low, high = interval(resampled_means(scores_N[None].astype(float), np.random.default_rng(0), 500)[:, 0])
    return {"value": float(scores_N.mean()), "low": low, "high": high}


def _row(name: str, built: Ensemble, single: Ensemble, val: Pool, test: Pool) -> Row:
    said_NK, single_NK = built.of_pool(test), single.of_pool(test)
    right_N, single_N = is_right(said_NK, test.labels_N), is_right(single_NK, test.labels_N)
    loss_N, single_loss_N = losses(said_NK, test.labels_N), losses(single_NK, test.labels_N)
    gain = _estimate(right_N.astype(float) - single_N)
    adds = sum(ADDS[val.members[place].architecture] for place in built.members)
    shares_MM = disagreement(test.logits_MNK[[*built.members]].argmax(2))
    return {
        "method": name,
        "described": DESCRIBED.get(name, name.replace("_", " ")),
        "members": list(built.members),
        "weights": list(built.weights),
        "pooling": built.pooling,
        "temperature": 1.0,
        "steps": [(step.member, step.score) for step in built.steps],
        "val": _scores(built.of_pool(val), val.labels_N),
        "test": _scores(said_NK, test.labels_N),
        "accuracy": _estimate(right_N),
        "nll": _estimate(loss_N),
        "gain_accuracy": gain,
        "gain_nll": _estimate(single_loss_N - loss_N),
        "gain_over_mean": 0.01,
        "p_value": 0.01 if (gain["low"] or 0) > 0 else 0.4,
        "p_holm": 0.03 if (gain["low"] or 0) > 0 else 1.0,
        "in_set": bool(loss_N.mean() < single_loss_N.mean()),
        "parameters": adds // 150,
        "multiply_adds": adds,
        "latency_ms": None,
        "disagreement": float(shares_MM.mean()),
        "q_statistic": None,
        "kl": None,
    }


def _worst(best: Ensemble, test: Pool, said_NK: Array, right: Sequence[bool]) -> list[Worst]:
    wrong = sorted((n for n, one in enumerate(right) if not one), key=lambda n: -float(said_NK[n].max()))[:24]
    of_members = test.probabilities_MNK[[*best.members]]
    return [
        {
            "id": n,
            "label": int(test.labels_N[n]),
            "said": (int(said_NK[n].argmax()), float(said_NK[n].max())),
            "members": [(int(one.argmax()), float(one.max())) for one in of_members[:, n]],
        }
        for n in wrong
    ]


def _agreement(best: Ensemble, test: Pool) -> tuple[list[int], list[list[float]]]:
    shares_MM = disagreement(test.logits_MNK[[*best.members]].argmax(2))
    order = np.argsort(shares_MM.mean(axis=1), kind="stable")
    return [best.members[place] for place in order], shares_MM[np.ix_(order, order)].tolist()


def _sizes(greedy: Ensemble | None, test: Pool) -> list[tuple[str, int, float, float]]:
    found = []
    picks = [step.member for step in greedy.steps] if greedy else []
    for size in range(1, len(picks) + 1):
        said_NK = test.probabilities_MNK[picks[:size]].mean(axis=0)
        found.append(("greedy", size, *_two(said_NK, test)))
    total_NK = np.zeros(test.logits_MNK.shape[1:])
    for size, said_NK in enumerate(test.probabilities_MNK, 1):
        total_NK += said_NK
        found.append(("ranking", size, *_two(total_NK / size, test)))
    return found


def _two(said_NK: Array, test: Pool) -> tuple[float, float]:
    return float(is_right(said_NK, test.labels_N).mean()), float(losses(said_NK, test.labels_N).mean())
