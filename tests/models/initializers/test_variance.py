"""The lectures' analysis of variances, held against networks of the initializations: inventory, section 5, and its tables."""

from __future__ import annotations

import csv
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.initializers import Scheme, initialize
from models.initializers.gaussian import gaussian
from models.initializers.kaiming import kaiming
from models.initializers.lecun import lecun
from models.initializers.orthogonal import orthogonal
from tests.conftest import SHARED

TABLES = SHARED / "lectures" / "tables"
WIDTH = 500


def rows(name: str) -> list[dict[str, str]]:
    if not TABLES.is_dir():
        pytest.skip("the tables of the lectures are not here")
    lines = (TABLES / name).read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def chain(scheme: Scheme, depth: int, *, width: int = WIDTH, seed: int = 0) -> list[Tensor]:
    """The weights of linear layers of one width."""
    layers = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth)))
    initialize(layers, scheme, torch.Generator().manual_seed(seed))
    return [layer.weight.detach() for layer in layers]  # type: ignore[misc, union-attr]


def features(weights: list[Tensor], unit: str, count: int = 1000) -> list[Tensor]:
    """Standard normal inputs, and what each layer makes of them."""
    apply = {"linear": lambda x: x, "relu": torch.relu, "tanh": torch.tanh}[unit]
    found = [torch.randn(count, weights[0].shape[1], generator=torch.Generator().manual_seed(1000))]
    for weight in weights:
        found.append(apply(found[-1] @ weight.T))
    return found


RUNS: dict[str, tuple[str, Scheme]] = {
    "tanh_0.01": ("tanh", gaussian(std=0.01)),
    "tanh_1.0": ("tanh", gaussian(std=1.0)),
    "relu_xavier": ("relu", lecun()),
}


@pytest.mark.parametrize("run", RUNS)
def test_number_activation_stats_of_the_printed_runs(run: str) -> None:
    """Standard deviations of ten layers of 500 units, within four of the spread that the table gives, as it says to."""
    unit, scheme = RUNS[run]
    found = features(chain(scheme, 10), unit)
    expected = [row for row in rows("activation_stats.csv") if row["run"] == run and row["sim_std_sd"]]
    assert len(expected) == 10
    for row in expected:
        tolerance = max(4 * float(row["sim_std_sd"]), 1e-6)
        assert found[int(row["layer"])].std().item() == pytest.approx(float(row["sim_std_avg"]), abs=tolerance)


def test_number_tanh_with_one_over_fan_in_is_the_mean_field() -> None:
    """The run tanh_xavier: q becomes E[tanh(sqrt(q) z)^2] in each layer, by Gauss and Hermite's quadrature."""
    points, shares = np.polynomial.hermite_e.hermegauss(80)
    moment = 1.0
    for found in features(chain(lecun(), 10), "tanh")[1:]:
        moment = float((np.tanh(np.sqrt(moment) * points) ** 2 * shares).sum() / shares.sum())
        assert found.std().item() == pytest.approx(moment**0.5, rel=0.03)


def test_number_relu_with_two_over_fan_in_keeps_std_sqrt_1_minus_1_over_pi() -> None:
    """The run relu_he: mean 1/sqrt(pi), standard deviation 0.825645 at every layer; a draw drifts, by 0.11 at the tenth."""
    runs = [features(chain(kaiming(), 10, seed=seed), "relu", 200) for seed in range(12)]
    for layer in range(1, 11):
        found = torch.stack([run[layer].std() for run in runs]).mean().item()
        mean = torch.stack([run[layer].mean() for run in runs]).mean().item()
        assert found == pytest.approx((1 - 1 / np.pi) ** 0.5, abs=4 * 0.11 / 12**0.5)
        assert mean == pytest.approx(np.pi**-0.5, abs=4 * 0.11 / 12**0.5)


@pytest.mark.parametrize("factor", [2 / 3, 1, 3 / 2])
@pytest.mark.parametrize("unit", ["linear", "relu"])
def test_property_forward_variance_is_multiplied_by_k_sigma_squared_in_each_layer(unit: str, factor: float) -> None:
    """Second moments are r^layer with r = k sigma^2, of ReLU half of that: weight_scale_diagnostic.csv."""
    std = (factor * {"linear": 1, "relu": 2}[unit] / WIDTH) ** 0.5
    runs = [features(chain(gaussian(std=std), 8, seed=seed), unit, 200) for seed in range(6)]
    for layer in range(9):
        moment = sum(run[layer].square().mean().item() for run in runs) / len(runs)
        # the spread of a layer's moment over draws grows to 15 % at the eighth of 500 ReLU units; of six draws 6 %
        assert moment == pytest.approx(factor**layer, rel=0.2)


def test_property_variance_of_a_product_of_independent_variables() -> None:
    draws = torch.Generator().manual_seed(0)
    x = 2 + 3 * torch.randn(1_000_000, generator=draws, dtype=torch.float64)
    y = -1 + 0.5 * torch.randn(1_000_000, generator=draws, dtype=torch.float64)
    expected = x.var() * y.var() + x.var() * y.mean() ** 2 + y.var() * x.mean() ** 2
    assert (x * y).var().item() == pytest.approx(expected.item(), rel=0.01)


def gradients(weights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Of a random function of the outputs of linear layers: those of the features of each layer, and of its weights."""
    draws = torch.Generator().manual_seed(2000)
    own = [weight.clone().requires_grad_() for weight in weights]
    states = [torch.randn(200, weights[0].shape[1], generator=draws)]
    for weight in own:
        states.append(states[-1] @ weight.T)
    direction = torch.randn(states[-1].shape, generator=draws)
    found = torch.autograd.grad(states[-1], [*states[1:-1], *own], direction)
    return list(found[: len(own) - 1]), list(found[len(own) - 1 :])


def test_property_backward_variance_is_multiplied_by_the_outputs_times_sigma_squared() -> None:
    """Var(dx) = k' sigma^2 Var(dx') for layers of k' outputs."""
    std = (1.5 / WIDTH) ** 0.5
    of_features, _ = gradients(chain(gaussian(std=std), 6))
    for below, above in pairwise(of_features):
        assert below.var().item() == pytest.approx(1.5 * above.var().item(), rel=0.05)


def test_property_weight_gradient_variance_is_that_of_inputs_times_that_of_output_gradients() -> None:
    """It is stable over layers while the features' own grows: 17-fold over eight layers, the gradients' at most 1.3-fold."""
    weights = chain(gaussian(std=(1.5 / WIDTH) ** 0.5), 8)
    of_features, of_weights = gradients(weights)
    variances = torch.stack([one.var() for one in of_weights])
    spread = torch.stack([one.var() for one in features(weights, "linear", 200)[:-1]])
    assert (spread.max() / spread.min()).item() > 12
    assert (variances.max() / variances.min()).item() < 1.3
    # summed over 200 examples that are independent
    inputs = features(weights, "linear", 200)[3]
    assert of_weights[3].var().item() == pytest.approx(200 * (inputs.var() * of_features[3].var()).item(), rel=0.1)


@pytest.mark.parametrize(("unit", "critical"), [("linear", 1.0), ("relu", 2.0)])
def test_property_features_vanish_below_the_critical_k_sigma_squared_and_explode_above(
    unit: str, critical: float
) -> None:
    sizes = {
        factor: features(chain(gaussian(std=(factor * critical / WIDTH) ** 0.5), 20), unit, 100)[-1]
        .square()
        .mean()
        .item()
        for factor in (0.5, 1.0, 2.0)
    }
    assert sizes[0.5] < 1e-4
    assert 0.2 < sizes[1.0] < 5
    assert sizes[2.0] > 1e4


@pytest.mark.parametrize("layers", [1, 2, 4, 8])
@pytest.mark.parametrize("factor", [2 / 3, 1, 3 / 2])
def test_number_singular_values_of_products(factor: float, layers: int) -> None:
    """Their root mean square is (k sigma^2)^(l/2) of a product of l matrices: singular_values.csv, within 5 % over 20 draws."""
    squares = []
    for seed in range(20):
        matrices = chain(gaussian(std=(factor / 100) ** 0.5), layers, width=100, seed=seed)
        product = torch.eye(100)
        for matrix in matrices:
            product = matrix @ product
        squares.append(
            product.square().sum() / 100
        )  # the sum of squared singular values is that of the squared entries
    assert torch.stack(squares).mean().sqrt().item() == pytest.approx(factor ** (layers / 2), rel=0.05)


def test_property_gaussian_products_are_ill_conditioned_and_orthogonal_ones_are_not() -> None:
    """At k sigma^2 = 1 and eight layers the largest singular value is over twenty times the median; orthogonal ones are 1."""
    products = []
    for scheme in (lecun(), orthogonal()):
        matrices = [one.double() for one in chain(scheme, 8, width=100)]
        products.append(torch.linalg.svdvals(torch.linalg.multi_dot(matrices[::-1])))
    assert (products[0].max() / products[0].median()).item() > 20
    torch.testing.assert_close(products[1], torch.ones(100, dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("inputs", "outputs"), [(30, 50), (50, 30)])
def test_property_orthogonal_matrices_are_semi_orthogonal_on_the_shorter_side(inputs: int, outputs: int) -> None:
    layer = nn.Linear(inputs, outputs)
    initialize(layer, orthogonal(), torch.Generator().manual_seed(0))
    weight = layer.weight.detach()
    product = weight.T @ weight if outputs >= inputs else weight @ weight.T
    torch.testing.assert_close(product, torch.eye(30), atol=1e-6, rtol=0)


def test_property_the_literal_line_of_the_slide_is_250_times_too_large() -> None:
    """`/ sqrt(2 / fan_in)` for `* sqrt(2 / fan_in)`: 15.8 at 500 inputs, where Kaiming has 0.063."""
    (weight,) = chain(kaiming(), 1)
    literal = 1 / (2 / WIDTH) ** 0.5
    assert literal == pytest.approx(15.81, abs=0.01)
    assert literal / weight.std().item() == pytest.approx(250, rel=0.01)
