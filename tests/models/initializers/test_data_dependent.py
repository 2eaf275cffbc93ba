"""LSUV, within-layer, between-layer, PCA and k-means: what they make of a mini-batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import models
from models.checks import RefusedError
from models.initializers import Scheme, initialize
from models.initializers.between_layer import between_layer
from models.initializers.kmeans import centroids, kmeans
from models.initializers.lsuv import lsuv
from models.initializers.observed import as_in_training
from models.initializers.pca import pca, principal_directions
from models.initializers.within_layer import within_layer
from models.network import Network
from models.resnet import resnet_cifar

SCHEMES = [lsuv(), within_layer(), between_layer(), pca(), kmeans()]


def digits(count: int = 128) -> Tensor:
    return torch.from_numpy(load_digits().images[:count].astype("float32")).unsqueeze(1) / 16


def mlp(norm: str = "none", activation: str = "relu") -> nn.Module:
    return models.create(
        "mlp", num_classes=10, in_channels=1, image_size=(8, 8), hidden=4, width=50, norm=norm, activation=activation
    )


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return resnet_cifar(num_classes=10, in_channels=1, image_size=(8, 8), depth=8, width=8)


def outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Of every convolution and linear layer, with the statistics of the mini-batch; seen by hooks of the test's own."""
    found: list[Tensor] = []
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_hook(lambda _, __, output: found.append(output)) for layer in layers]
    with torch.no_grad():
        model.train()(images)
    for handle in handles:
        handle.remove()
    assert len(found) == len(layers)
    return found


@pytest.mark.parametrize("model", [mlp("none"), mlp("none", "tanh"), mlp("batch"), mlp("none", "maxout"), resnet()])
def test_property_lsuv_gives_every_layer_an_output_std_in_0_9_to_1_1(model: nn.Module) -> None:
    initialize(model, lsuv(), torch.Generator().manual_seed(0), digits())

    for output in outputs(model, digits()):
        assert 0.9 <= output.std().item() <= 1.1
    assert all(not value.any() for name, value in model.named_parameters() if name.endswith("affine.bias"))


def test_property_lsuv_keeps_the_directions_of_its_orthogonal_matrices() -> None:
    model = mlp()
    initialize(model, lsuv(), torch.Generator().manual_seed(0), digits())
    for layer in (one for one in model.modules() if isinstance(one, nn.Linear)):
        values = torch.linalg.svdvals(layer.weight.detach())
        torch.testing.assert_close(values, values[:1].expand_as(values))


class Stubborn(nn.Linear):
    """Its output has standard deviation 3 whatever its weights are."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.calls = getattr(self, "calls", 0) + 1
        return 3 * (y - y.mean()) / y.std()


def test_lsuv_ends_after_its_iterations() -> None:
    layer = Stubborn(64, 10)
    initialize(layer, lsuv(iterations=4), torch.Generator(), digits().flatten(1))

    # once by the network, once in each iteration, once for the layers after it
    assert layer.calls == 1 + 4 + 1
    assert layer.weight.isfinite().all()


def test_lsuv_with_a_scale_gives_that_std() -> None:
    model = mlp()
    initialize(model, lsuv(scale=0.5), torch.Generator().manual_seed(0), digits())
    for output in outputs(model, digits()):
        assert output.std().item() == pytest.approx(0.5, rel=0.1)


def test_a_gain_multiplies_the_std_wanted() -> None:
    model = mlp("none", "tanh")
    initialize(model, lsuv(gain="tanh"), torch.Generator().manual_seed(0), digits())
    for output in outputs(model, digits()):
        assert output.std().item() == pytest.approx(5 / 3, rel=0.1)
    initialize(model, within_layer(scale=2.0, gain=0.25), torch.Generator().manual_seed(0), digits())
    for output in outputs(model, digits()):
        varying = output.std(0) > 1e-3
        torch.testing.assert_close(output.std(0, unbiased=False)[varying], torch.full((int(varying.sum()),), 0.5))


@pytest.mark.parametrize("make", [lsuv, pca, kmeans])
def test_biases_follow_their_rule(make: Callable[..., Scheme]) -> None:
    model = mlp("none")
    initialize(model, make(bias="constant", bias_value=0.25), torch.Generator().manual_seed(0), digits())
    biases = [value for name, value in model.named_parameters() if name.endswith("bias")]
    assert len(biases) > 1
    assert all((value == 0.25).all() for value in biases)


@pytest.mark.parametrize("model", [mlp("none"), mlp("none", "tanh")])
def test_property_within_layer_gives_every_feature_mean_0_and_variance_1(model: nn.Module) -> None:
    initialize(model, within_layer(), torch.Generator().manual_seed(0), digits())

    for features in outputs(model, digits()):
        torch.testing.assert_close(features.mean(0), torch.zeros(features.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(features.var(0, unbiased=False), torch.ones(features.shape[1]), atol=1e-3, rtol=0)


def test_within_layer_normalizes_the_features_of_maps_over_positions() -> None:
    model = resnet_cifar(
        num_classes=10, in_channels=1, image_size=(8, 8), depth=8, width=8, norm=models.layers.norm.no_norm()
    )
    initialize(model, within_layer(), torch.Generator().manual_seed(0), digits())
    for output in outputs(model, digits()):
        features = output.movedim(1, 0).flatten(1)
        torch.testing.assert_close(features.std(1, unbiased=False), torch.ones(len(features)), atol=1e-3, rtol=0)
        torch.testing.assert_close(features.mean(1), torch.zeros(len(features)), atol=1e-4, rtol=0)


def rates(model: nn.Module, images: Tensor) -> Tensor:
    """Root mean square of gradients over that of the weights, for ten random functions of the logits of the test's own."""
    draws, weights = torch.Generator().manual_seed(1), [one for one in model.parameters() if one.ndim > 1]
    squares = torch.zeros(len(weights))
    for _ in range(10):
        model.zero_grad()
        (model(images) * torch.randn(len(images), 10, generator=draws)).sum().backward()  # type: ignore[no-untyped-call]
        squares += torch.stack([one.grad.square().sum() for one in weights if one.grad is not None])
    return (squares / torch.stack([one.detach().square().sum() for one in weights])).sqrt()


def test_property_between_layer_equalizes_the_relative_sizes_of_gradients() -> None:
    images, model = digits(), mlp()
    initialize(model, within_layer(), torch.Generator().manual_seed(0), images)
    before = rates(model, images)
    logits = model(images).detach()
    initialize(model, between_layer(), torch.Generator().manual_seed(0), images)
    after = rates(model, images)

    assert (before.max() / before.min()).item() > 1.8, "or there would be nothing to do"
    assert (after.max() / after.min()).item() < 1.2  # for other functions than the scheme's eight
    # f(a x) = a f(x) for ReLU and the factors' product is 1: what is computed stays
    torch.testing.assert_close(model(images).detach(), logits, atol=1e-3, rtol=1e-3)


def test_between_layer_refuses_branches_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = resnet()
    with pytest.raises(
        RefusedError, match="between_layer needs a plain chain of layers, and Residual computes branches"
    ):
        initialize(model, between_layer(), torch.Generator())


def first_linear(model: nn.Module) -> Tensor:
    return next(one for one in model.parameters() if one.ndim == 2).detach()


def test_property_pca_filters_are_orthonormal() -> None:
    model = mlp()
    initialize(model, pca(), torch.Generator().manual_seed(0), digits())
    for weight in (one.detach() for one in model.parameters() if one.ndim == 2):
        filters = weight[:30]  # the mini-batch varies in more directions than these at every layer
        torch.testing.assert_close(filters @ filters.T, torch.eye(len(filters)), atol=1e-5, rtol=0)


def test_property_pca_filters_are_those_of_numpy_up_to_sign() -> None:
    images = digits()
    model = mlp()
    initialize(model, pca(), torch.Generator().manual_seed(0), images)

    flat = images.flatten(1).double().numpy()
    _, _, expected = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    along = np.abs((first_linear(model).double().numpy()[:20] * expected[:20]).sum(1))
    np.testing.assert_allclose(along, 1, atol=1e-4)


def test_pca_filters_of_a_convolution_are_those_of_its_patches() -> None:
    images = digits(32)
    conv = nn.Conv2d(1, 5, 3, stride=2, padding=1)
    initialize(conv, pca(), torch.Generator().manual_seed(0), images)

    patches = nn.functional.unfold(images, 3, stride=2, padding=1).movedim(1, 2).flatten(0, 1).double()  # 512
    _, _, expected = torch.linalg.svd(patches - patches.mean(0), full_matrices=False)
    along = (conv.weight.detach().flatten(1).double() * expected[:5]).sum(1).abs()
    torch.testing.assert_close(along, torch.ones(5, dtype=torch.float64), atol=1e-4, rtol=0)


def test_pca_of_fewer_samples_than_filters_goes_on_with_random_ones() -> None:
    samples = torch.randn(10, 40, generator=torch.Generator().manual_seed(0))
    centred = samples - samples.mean(0)
    filters = principal_directions(centred, 50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(filters.norm(dim=1), torch.ones(50))
    # nine directions hold all of ten centred samples
    torch.testing.assert_close(filters[:9] @ filters[:9].T, torch.eye(9), atol=1e-5, rtol=0)
    torch.testing.assert_close((centred @ filters[:9].T).norm(), centred.norm(), atol=1e-4, rtol=0)
    assert ((centred @ filters[9:].T).std(0) > 0.01).all(), "none is dead"


def test_property_kmeans_centroids_have_unit_norm() -> None:
    for model in (mlp(), resnet()):
        initialize(model, kmeans(), torch.Generator().manual_seed(0), digits())
        for weight in (one.detach().flatten(1) for one in model.parameters() if one.ndim > 1):
            torch.testing.assert_close(weight.norm(dim=1), torch.ones(len(weight)))


def test_kmeans_finds_the_directions_that_samples_gather_around() -> None:
    draws = torch.Generator().manual_seed(0)
    centers = torch.eye(8)[:3]
    samples = 5 * centers[torch.arange(300) % 3] + 0.1 * torch.randn(300, 8, generator=draws)
    found = centroids(samples, 3, draws, iterations=10)
    torch.testing.assert_close((found @ centers.T).amax(0), torch.ones(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("make", [pca, kmeans])
def test_normalized_filters_give_features_of_mean_0_and_the_std_that_is_asked_for(make: type, scale: float) -> None:
    model = mlp()
    initialize(model, make(normalize=True, scale=scale), torch.Generator().manual_seed(0), digits())
    for features in outputs(model, digits()):
        varying = features.std(0) > 1e-3
        assert varying.float().mean() > 0.8
        expected = torch.full((int(varying.sum()),), scale)
        torch.testing.assert_close(features.std(0, unbiased=False)[varying], expected, atol=1e-2 * scale, rtol=0)
        torch.testing.assert_close(features.mean(0)[varying], torch.zeros_like(expected), atol=1e-3 * scale, rtol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_images_have_to_be_there(scheme: Scheme) -> None:
    with pytest.raises(ValueError, match="looks at images; give a mini-batch"):
        initialize(mlp(), scheme, torch.Generator())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_modes_statistics_and_gradients_are_as_before(scheme: Scheme) -> None:
    model = mlp("batch").eval()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    initialize(model, scheme, torch.Generator().manual_seed(0), digits())

    assert not any(module.training or module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert all(one.grad is None and one.requires_grad for one in model.parameters())


@pytest.mark.parametrize("scheme", [lsuv(), within_layer(), between_layer()])
def test_weight_normalized_layers_are_reached(scheme: Scheme) -> None:
    plain, normalized = nn.Linear(64, 10), weight_norm(nn.Linear(64, 10))
    for layer in (plain, normalized):
        initialize(layer, scheme, torch.Generator().manual_seed(0), digits().flatten(1))
    torch.testing.assert_close(normalized.weight, plain.weight)


def test_auxiliary_heads_are_reached() -> None:
    parts = {"flatten": nn.Flatten(), "stage1": nn.Linear(64, 20), "classifier": nn.Linear(20, 5)}
    head = nn.Linear(20, 5)
    model = Network(parts, heads={"stage1": head})
    initialize(model, lsuv(scale=7.0), torch.Generator().manual_seed(0), digits())
    (logits,) = model(digits()).auxiliary
    assert logits.std().item() == pytest.approx(7, rel=0.1)


def test_nothing_is_dropped_while_a_network_is_looked_at() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 64), nn.BatchNorm1d(64))
    with as_in_training(model):
        torch.testing.assert_close(model[:2](digits()), digits().flatten(1))
        assert model[3].training
