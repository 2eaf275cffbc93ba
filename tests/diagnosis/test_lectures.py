"""`diagnose` beside the numbers that the lectures print, or that follow from their formulas."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.diagnosis.subjects import configured
from orchestrator.training.diagnosis.layers import LayerStatistics, watched
from orchestrator.training.diagnosis.products import Product, products
from orchestrator.training.diagnosis.signs import sign_agreement
from orchestrator.training.diagnosis.statistics import Summary, summary

TABLES = Path(__file__).parents[3] / "shared" / "lectures" / "tables"
needs_tables = pytest.mark.skipif(
    not TABLES.exists(), reason="needs the lectures' tables in shared/ beside the repository"
)


def rows(name: str) -> list[dict[str, str]]:
    lines = (TABLES / name).read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def looked_at(*overrides: str, examples: int = 1000) -> tuple[Summary, list[LayerStatistics]]:
    """The inputs, and the layers from the first on, the classifier last."""
    with configured(overrides).built(examples) as subject, subject.at_work(), watched(subject.model) as watch:
        subject.forward()[0].backward()
        return summary(subject.batch.images), watch.statistics()


TEN_LAYERS = ("model=mlp", "model.hidden=10", "model.width=500", "data=gaussian")
RUNS = {
    "tanh_0.01": ("activation=tanh", "init=gaussian", "init.std=0.01"),
    "tanh_1.0": ("activation=tanh", "init=gaussian", "init.std=1.0"),
    "tanh_xavier": ("activation=tanh", "init=lecun"),  # the slides' Xavier is 1/fan_in
    "relu_xavier": ("activation=relu", "init=lecun"),
    "relu_he": ("activation=relu", "init=kaiming"),
}


@needs_tables
@pytest.mark.parametrize("run", ["tanh_0.01", "tanh_1.0", "relu_xavier"])
def test_activations_of_the_printed_runs(run: str) -> None:
    """Within four standard deviations of the simulated replicas, as the table says."""
    expected = [row for row in rows("activation_stats.csv") if row["run"] == run and int(row["layer"]) > 0]
    _, layers = looked_at(*TEN_LAYERS, *RUNS[run])
    assert len(layers) == len(expected) + 1 == 11
    for row, layer in zip(expected, layers, strict=False):
        tolerance = max(4 * float(row["sim_std_sd"]), 1e-6)
        assert layer.activations.std == pytest.approx(float(row["sim_std_avg"]), abs=tolerance), layer.name


def mean_field(act: np.ufunc, variance: float, layers: int) -> list[float]:
    """The standard deviation after each of infinitely wide layers: q -> E[act(sqrt(variance q) z)^2], by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(201)
    weights = weights / weights.sum()
    q, found = 1.0, []
    for _ in range(layers):
        values = act(np.sqrt(variance * q) * nodes)
        q = float(weights @ values**2)
        found.append(math.sqrt(q - float(weights @ values) ** 2))
    return found


@pytest.mark.parametrize(
    ("run", "slide"),
    [
        ("tanh_0.01", {1: 0.213081, 2: 0.047551, 5: 0.000532}),
        ("tanh_1.0", {1: 0.981879, 10: 0.981736}),
        ("tanh_xavier", dict(enumerate(mean_field(np.tanh, 1.0, 10), 1))),
        ("relu_he", {1: math.sqrt(1 - 1 / math.pi)}),
    ],
)
def test_activations_on_the_slides_and_of_the_mean_field(run: str, slide: dict[int, float]) -> None:
    _, layers = looked_at(*TEN_LAYERS, *RUNS[run])
    for number, std in slide.items():
        assert layers[number - 1].activations.std == pytest.approx(std, rel=0.02)


def test_he_keeps_the_activations_of_relu() -> None:
    """At every layer as at the first, within four standard deviations of the drift: 0.11 at the tenth."""
    _, layers = looked_at(*TEN_LAYERS, *RUNS["relu_he"])
    for number, layer in enumerate(layers[:10], 1):
        assert layer.activations.std == pytest.approx(0.825645, abs=4 * 0.11 * math.sqrt(number / 10))


def test_tanh_saturates_under_large_weights_and_relu_is_half_zero() -> None:
    _, large = looked_at(*TEN_LAYERS, *RUNS["tanh_1.0"])
    _, relu = looked_at(*TEN_LAYERS, *RUNS["relu_he"])
    # |tanh(z)| > 0.98 where |z| > 2.298, z of variance 500: two-sided normal tail
    assert large[0].saturated == pytest.approx(math.erfc(2.298 / math.sqrt(2 * 500)), abs=0.005)
    assert relu[0].saturated is None
    first = relu[0].activations
    assert (first.mean, first.std) == pytest.approx((1 / math.sqrt(math.pi), math.sqrt(1 - 1 / math.pi)), rel=0.01)


SIX_LAYERS = ("model=mlp", "model.hidden=6", "model.width=4096", "data=gaussian", "data.dimensions=4096")
WIDE = {
    "tanh 0.01": ("activation=tanh", "init=gaussian", "init.std=0.01"),
    "tanh 0.05": ("activation=tanh", "init=gaussian", "init.std=0.05"),
    "tanh Xavier": ("activation=tanh", "init=lecun"),
    "relu Xavier": ("activation=relu", "init=lecun"),
    "relu He": ("activation=relu", "init=kaiming"),
}


@pytest.mark.slow
@needs_tables
@pytest.mark.parametrize("run", WIDE)
def test_activations_of_six_layers_of_4096(run: str) -> None:
    """The table is one run of 16 vectors, so that relu's drift by a few per cent."""
    (expected,) = (row for row in rows("activation_stats_4096.csv") if row["run"] == run)
    _, layers = looked_at(*SIX_LAYERS, *WIDE[run], "data.num_examples=200", examples=16)
    tolerance = 0.08 if run.startswith("relu") else 0.02
    for number, layer in enumerate(layers[:6], 1):
        assert layer.activations.std == pytest.approx(float(expected[f"std_{number}"]), rel=tolerance), number
    assert layers[5].activations.mean == pytest.approx(float(expected["mean_6"]), rel=tolerance, abs=0.005)


EIGHT_LAYERS = ("model=mlp", "model.hidden=8", "model.width=500", "data=gaussian")
SCALES = {"2/3": 2 / 3, "1": 1.0, "3/2": 1.5, "2 x 2/3": 4 / 3, "2": 2.0, "2 x 3/2": 3.0}


def second_moments(unit: str, k_sigma2: float) -> list[float]:
    """Of the input and of eight layers, relative to the input."""
    activation = {"linear": "identity", "relu": "relu"}[unit]
    std = math.sqrt(k_sigma2 / 500)
    inputs, layers = looked_at(*EIGHT_LAYERS, f"activation={activation}", "init=gaussian", f"init.std={std}")
    return [1.0, *(layer.activations.second_moment / inputs.second_moment for layer in layers[:8])]


@pytest.mark.parametrize(("unit", "scale"), [("linear", "2/3"), ("linear", "3/2"), ("relu", "2"), ("relu", "2 x 3/2")])
def test_second_moments_follow_r_to_the_layer(unit: str, scale: str) -> None:
    """r = k sigma^2, of relu half of it; within 15 % over eight layers of 500."""
    ratio = SCALES[scale] / (2 if unit == "relu" else 1)
    assert second_moments(unit, SCALES[scale]) == pytest.approx([ratio**layer for layer in range(9)], rel=0.15)


@pytest.mark.slow
@needs_tables
def test_second_moments_of_the_table() -> None:
    for row in rows("weight_scale_diagnostic.csv"):
        expected = [float(row[f"layer_{layer}"]) for layer in range(9)]
        found = second_moments(row["unit"], SCALES[row["k_sigma2"]])
        assert found == pytest.approx(expected, rel=0.15), row


HUNDRED = ("model=mlp", "model.hidden=8", "model.width=100", "data=gaussian", "data.dimensions=100")


def products_of(*overrides: str) -> list[Product]:
    with configured((*HUNDRED, "activation=identity", *overrides)).built(2) as subject, watched(subject.model) as watch:
        subject.model(subject.batch.images)
        return products([watch.layers[row.name].tensor for row in watch.statistics()])[:8]


@pytest.mark.parametrize("scale", ["2/3", "1", "3/2"])
def test_rms_of_the_singular_values_of_products(scale: str) -> None:
    """(k sigma^2)^(l/2) within 5 % in the mean over four draws, and of 0.985 to 1 in the table, over ten."""
    k_sigma2 = SCALES[scale]
    draws = [products_of("init=gaussian", f"init.std={math.sqrt(k_sigma2 / 100)}", f"seed={seed}") for seed in range(4)]
    for number in range(8):
        square = sum(draw[number].rms ** 2 for draw in draws) / len(draws)
        assert math.sqrt(square) == pytest.approx(k_sigma2 ** ((number + 1) / 2), rel=0.05)
        assert draws[0][number].predicted == pytest.approx(k_sigma2 ** ((number + 1) / 2), rel=0.05)
    if scale == "1":
        last = draws[0][7]
        assert last.most is not None
        assert last.median is not None
        assert last.most / last.median > 20


def test_products_of_orthogonal_matrices_keep_all_singular_values_at_1() -> None:
    for product in products_of("init=orthogonal"):
        assert product.values == pytest.approx([1.0] * 100, abs=1e-5)


@pytest.mark.parametrize("scale", ["2/3", "3/2"])
def test_weight_gradients_have_one_variance_where_activations_vary(scale: str) -> None:
    """E38: max/min of Var(dW) over eight layers at most 1.5 while Var(x) ranges tenfold or more.

    Var(dW) = Var(x) Var(dx') is about gradients that do not depend on the activations, so that they are drawn here.
    """
    std = math.sqrt(SCALES[scale] / 500)
    named = configured((*EIGHT_LAYERS, "activation=identity", "init=gaussian", f"init.std={std}"))
    with named.built(1000) as subject, watched(subject.model) as watch:
        logits = subject.model(subject.batch.images)
        (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert spread_of_gradients(watch.statistics()[:8]) <= 1.5
    activations = [layer.activations.std**2 for layer in watch.statistics()[:8]]
    assert max(activations) / min(activations) >= 10


def test_cross_entropy_has_gradients_of_one_variance_only_where_logits_are_small() -> None:
    """At 2/3 the probabilities are all alike; at 3/2 the gradients follow the activations, and E38 does not hold."""
    spread = {}
    for scale in ("2/3", "3/2"):
        std = math.sqrt(SCALES[scale] / 500)
        _, layers = looked_at(*EIGHT_LAYERS, "activation=identity", "init=gaussian", f"init.std={std}")
        spread[scale] = spread_of_gradients(layers[:8])
    assert spread["2/3"] <= 1.5 < 2 < spread["3/2"]


def spread_of_gradients(layers: list[LayerStatistics]) -> float:
    variances = [layer.weight_gradient.std**2 for layer in layers if layer.weight_gradient is not None]
    assert len(variances) == len(layers)
    return max(variances) / min(variances)


@pytest.mark.parametrize("model", [("mlp",), ("convnet",)])
def test_gradients_of_a_first_layer_unit_agree_in_sign_where_the_input_is_not_negative(model: tuple[Any, ...]) -> None:
    """E21: 1.0 exactly, and below 0.75 where the input is centered."""
    found = {}
    for preprocess in ("unit", "center"):
        with configured((f"model={model[0]}", f"preprocess={preprocess}")).built(64) as subject:
            found[preprocess] = sign_agreement(subject)
    assert found["center"] is not None
    if model == ("mlp",):
        assert found["unit"] == 1.0
        assert found["center"] < 0.75
    else:  # a kernel's gradient is a sum over positions, whose gradients have both signs
        assert found["unit"] is not None
        assert found["center"] <= found["unit"] < 1.0
