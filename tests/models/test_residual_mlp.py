"""Multi-layer perceptrons of plain, residual and pre-activation units."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.activation import Activation, maxout, prelu, relu
from models.layers.norm import Norm, batch_norm, layer_norm, local_response_norm, no_norm, weight_norm
from models.layers.residual import residual_branches
from models.network import Network
from models.residual_mlp import UNITS, Unit, residual_mlp


def small(
    unit: Unit, *, units: int = 3, norm: Norm | None = None, activation: Activation | None = None, width: int = 8
) -> Network:
    torch.manual_seed(0)
    return residual_mlp(
        num_classes=5,
        in_channels=1,
        image_size=(4, 4),
        unit=unit,
        units=units,
        width=width,
        norm=norm,
        activation=activation,
    )


IMAGES = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("unit", UNITS)
def test_two_layers_a_unit_and_two_more(unit: Unit) -> None:
    """16 pixels, width 8: a weight for each pair, gain and shift for each of the 7 hidden layers, no other bias."""
    model = small(unit)

    assert sum(isinstance(module, nn.Linear) for module in model.modules()) == 2 * 3 + 2
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == 16 * 8 + 6 * 8 * 8 + 7 * 2 * 8 + (8 * 5 + 5)


def test_plain_units_have_no_branches_and_the_others_one_each() -> None:
    assert [len(list(residual_branches(small(unit)))) for unit in UNITS] == [0, 3, 3]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("norm", "activation"),
    list(product([no_norm(), layer_norm(), weight_norm(), local_response_norm()], [relu(), prelu(), maxout(pieces=3)])),
)
def test_every_unit_takes_norms_and_activations_that_are_not_layers(
    unit: Unit, norm: Norm, activation: Activation
) -> None:
    model = small(unit, norm=norm, activation=activation)

    F.cross_entropy(model(IMAGES), torch.arange(6) % 5).backward()  # type: ignore[arg-type, no-untyped-call]

    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def after_units(model: Network) -> list[Tensor]:
    """Features before the first unit and after each."""
    x = model.get_submodule("stem")(IMAGES.double().flatten(1))
    found = [x]
    for unit in model.get_submodule("stage1").children():
        found.append(x := unit(x))
    return found


def test_preactivation_units_telescope_and_original_ones_do_not() -> None:
    """x_l2 = x_l1 + the sum of f_i(x_i): He et al. 2016, arXiv:1603.05027, equation 4."""

    def left_over(unit: Unit) -> float:
        model = small(unit).double().eval()
        features = after_units(model)
        branches = [f(x) for f, x in zip(residual_branches(model), features, strict=False)]
        return (features[-1] - features[0] - torch.stack(branches).sum(0)).abs().max().item()

    assert left_over("preactivation") < 1e-14
    assert left_over("original") > 0.1


def test_a_zero_branch_leaves_the_features_and_a_zero_plain_unit_does_not() -> None:
    def change(unit: Unit) -> float:
        model = small(unit).double().eval()
        for linear in model.get_submodule("stage1").modules():
            if isinstance(linear, nn.Linear):
                nn.init.zeros_(linear.weight)
        first, *_, last = after_units(model)
        return (last - first).abs().max().item()

    assert [change(unit) for unit in UNITS][1:] == [0, 0]
    assert change("plain") > 0.1


@pytest.mark.slow
def test_plain_units_fail_at_a_depth_at_which_residual_ones_train() -> None:
    """21 units on half of the digits for 6 epochs; a pilot of one seed gave a training loss of 1.99 against 0.09."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images[:1000], dtype=torch.float32)[:, None]
    images, labels = (images - images.mean(0)) / images.std(), torch.tensor(digits.target[:1000])

    def loss_after_training(unit: Unit) -> float:
        torch.manual_seed(0)
        model = residual_mlp(num_classes=10, in_channels=1, image_size=(8, 8), unit=unit, units=21)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        for _ in range(6):
            for batch in torch.randperm(1000).split(50):
                optimizer.zero_grad()
                F.cross_entropy(model(images[batch]), labels[batch]).backward()  # type: ignore[arg-type, no-untyped-call]
                optimizer.step()
        with torch.no_grad():
            return F.cross_entropy(model(images), labels).item()  # type: ignore[arg-type]

    plain, *residual = (loss_after_training(unit) for unit in UNITS)
    assert max(residual) <= 0.25 * plain


def test_dropout_is_before_the_classifier() -> None:
    model = residual_mlp(num_classes=5, in_channels=1, image_size=(4, 4), dropout=0.5)

    assert model.parts == ("flatten", "stem", "stage1", "dropout", "classifier")
    assert model.get_submodule("dropout").p == 0.5


def test_the_own_norm_and_activation_may_be_named() -> None:
    named = small("original", norm=batch_norm(), activation=relu())

    torch.testing.assert_close(named.state_dict(), small("original").state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"unit": "dense"}, "unit must be one of plain, original, preactivation, got dense"),
        ({"units": 0}, "units must be at least 1, got 0"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_own_values_are_checked(own: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        residual_mlp(num_classes=10, in_channels=1, image_size=(8, 8), **own)  # type: ignore[arg-type]
