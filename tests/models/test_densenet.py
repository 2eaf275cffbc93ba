"""The DenseNets against torchvision, the totals of the paper, and what dense connections are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from models import foreign
from models.checks import ImageTooSmallError
from models.densenet import DenseBlock, densenet, layers_of_depth
from models.layers.activation import Activation, relu
from models.layers.norm import batch_norm, no_norm
from models.layers.place import Layout
from models.network import part_names
from tests.models.oracle import assert_same

NAMES = ("densenet121", "densenet161", "densenet169", "densenet201")


def create(name: str = "densenet_cifar", size: int = 32, **own: Any) -> nn.Module:
    return models.create(name, num_classes=own.pop("num_classes", 10), in_channels=3, image_size=(size, size), **own)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_equals_torchvision(name: str) -> None:
    import torchvision

    theirs = getattr(torchvision.models, name)(num_classes=10)

    assert_same(create(name), theirs, foreign.tables(densenet)["torchvision"], 32)


def test_a_small_one_equals_torchvision() -> None:
    from torchvision.models import DenseNet

    theirs = DenseNet(growth_rate=6, block_config=(3, 1, 2, 2), num_init_features=12, num_classes=10)

    ours = create("densenet121", growth=6, blocks=[3, 1, 2, 2])
    assert_same(ours, theirs, foreign.tables(densenet)["torchvision"], 32)


@pytest.mark.parametrize(
    ("name", "total", "features"),
    # Counted by hand from table 1 for 121 and 201; the documentation of torchvision has all.
    [
        ("densenet121", 7_978_856, 1024),
        ("densenet161", 28_681_000, 2208),
        ("densenet169", 14_149_480, 1664),
        ("densenet201", 20_013_928, 1920),
    ],
)
def test_totals_and_features(name: str, total: int, features: int) -> None:
    with torch.device("meta"):
        model = create(name, num_classes=1000)

    assert parameters(model) == total
    assert model.get_submodule("classifier").in_features == features


@pytest.mark.parametrize(
    ("own", "total"),
    [
        # By hand: batch norm affine, no bias of convolutions, 10 classes.
        ({"depth": 40, "growth": 12}, 1_019_722),
        # Table 2 in millions: 7.0, 27.2, 0.8, 15.3, 25.6.
        ({"depth": 100, "growth": 12}, 7.0e6),
        ({"depth": 100, "growth": 24}, 27.2e6),
        ({"depth": 100, "growth": 12, "bottleneck": True, "compression": 0.5}, 0.8e6),
        ({"depth": 250, "growth": 24, "bottleneck": True, "compression": 0.5}, 15.3e6),
        ({"depth": 190, "growth": 40, "bottleneck": True, "compression": 0.5}, 25.6e6),
    ],
)
def test_totals_of_the_networks_for_cifar(own: dict[str, Any], total: float) -> None:
    with torch.device("meta"):
        found = parameters(create(**own))

    assert found == total if isinstance(total, int) else found == pytest.approx(total, abs=0.05e6)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("depth", [10, 16, 40])
def test_depth_counts_the_layers_with_weights(depth: int, bottleneck: bool) -> None:
    with torch.device("meta"):
        model = create(depth=depth, bottleneck=bottleneck)

    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


@pytest.mark.parametrize(
    ("depth", "bottleneck", "message"),
    [
        (41, False, r"3n\+4 without bottleneck \(7, 10, ...\), got 41; nearest: 40 and 43$"),
        (13, True, r"6n\+4 with bottleneck \(10, 16, ...\), got 13; nearest: 10 and 16$"),
        (4, False, r"3n\+4 without bottleneck \(7, 10, ...\), got 4; nearest: 7$"),
        (-3, True, r"6n\+4 with bottleneck \(10, 16, ...\), got -3; nearest: 10$"),
    ],
)
def test_other_depths_are_refused_with_the_nearest(depth: int, bottleneck: bool, message: str) -> None:
    with pytest.raises(ValueError, match="depth must be " + message):
        create(depth=depth, bottleneck=bottleneck)


def test_layers_of_depth() -> None:
    assert [layers_of_depth(depth, bottleneck=False) for depth in (7, 40, 100)] == [1, 12, 32]
    assert [layers_of_depth(depth, bottleneck=True) for depth in (10, 40, 100, 190, 250)] == [1, 6, 16, 31, 41]


def test_later_layers_get_earlier_maps_unchanged() -> None:
    """Each layer's input begins with the input of the layer before, bit for bit, and so does the block's result."""
    model = create("densenet121", growth=12)
    block = model.get_submodule("stage1")
    assert isinstance(block, DenseBlock)
    seen: list[Tensor] = []
    for layer in block.layers:
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    x = torch.randn(2, 24, 8, 8)

    seen.append(block(x))

    assert [len(maps[0]) for maps in seen] == [24 + 12 * n for n in range(7)]
    assert torch.equal(seen[0], x)
    for before, after in pairwise(seen):
        assert torch.equal(after[:, : before.shape[1]], before)


def test_the_gradient_comes_back_to_the_first_maps_from_every_layer() -> None:
    """With all layers but one silent it is that layer's and the identity's."""
    block = DenseBlock([Times(2.0), Times(3.0)], pieces=1)
    x = torch.ones(1, 1, 1, 1, requires_grad=True)

    out = block(x)

    assert out.flatten().tolist() == [1, 2, 9]  # x, 2x, 3 (x + 2x)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.item() == 1 + 2 + 9


class Times(nn.Module):
    """The sum of all maps, times a factor: one map."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.sum(1, keepdim=True)


def test_transitions_compress_and_halve() -> None:
    with torch.device("meta"):
        model = create("densenet121", size=64)
        x = torch.zeros(1, 3, 64, 64)
        shapes = {}
        for name in part_names(model):
            x = model.get_submodule(name)(x)
            shapes[name] = tuple(x.shape[1:])

    assert shapes["stem"] == (64, 16, 16)
    assert shapes["stage1"] == (256, 16, 16)
    assert shapes["transition1"] == (128, 8, 8)
    assert shapes["stage4"] == shapes["end"] == (1024, 2, 2)


def test_activations_of_pieces_get_theirs_of_all_maps() -> None:
    """Whichever way pieces travel, feature f of a block's input is feature f of its result."""
    model = create(depth=10, growth=2, activation=largest(3), norm=no_norm())
    block = model.get_submodule("stage1")
    x = torch.randn(2, 3 * 16, 8, 8)

    out = block(x)

    assert out.shape == (2, 3 * (16 + 2 * 2), 8, 8)
    assert torch.equal(out.unflatten(1, (3, 20))[:, :, :16], x.unflatten(1, (3, 16)))
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def largest(pieces: int) -> Activation:
    return Activation(lambda num_features, layout: Largest(num_features), pieces)


class Largest(nn.Module):
    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] % self.num_features == 0
        return x.reshape(len(x), -1, self.num_features, *x.shape[2:]).amax(1)


@pytest.mark.parametrize("name", ["densenet121", "densenet_cifar"])
def test_its_own_norm_and_activation_named_change_nothing(name: str) -> None:
    with torch.device("meta"):
        assert str(create(name)) == str(create(name, norm=batch_norm(), activation=relu()))


@pytest.mark.parametrize("name", ["densenet121", "densenet_cifar"])
def test_without_a_norm_every_convolution_has_its_bias(name: str) -> None:
    with torch.device("meta"):
        plain, bare = create(name), create(name, norm=no_norm())

    assert all(module.bias is None for module in plain.modules() if isinstance(module, nn.Conv2d))
    assert all(module.bias is not None for module in bare.modules() if isinstance(module, nn.Conv2d))


def test_dropout_follows_every_convolution_but_the_first() -> None:
    with torch.device("meta"):
        model = create(depth=16, bottleneck=True, dropout=0.2)

    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.2] * (16 - 2)  # neither the first convolution nor the classifier
    with torch.device("meta"):
        assert not any(isinstance(module, nn.Dropout) for module in create().modules())


def test_width_and_growth_scale_the_maps() -> None:
    with torch.device("meta"):
        narrow = create("densenet121", width=0.25).get_submodule("classifier").in_features
        halved = create("densenet121", growth=8).get_submodule("classifier").in_features
        cifar = create(width=2.0)

    assert narrow == halved == 1024 // 4
    assert cifar.get_submodule("stem").out_channels == 32
    assert cifar.get_submodule("classifier").in_features == 2 * (16 + 36 * 12)


def test_bc_begins_with_twice_the_growth_rate() -> None:
    with torch.device("meta"):
        stems = [
            create(bottleneck=bottleneck, compression=compression).get_submodule("stem").out_channels
            for bottleneck, compression in ((False, 1.0), (False, 0.5), (True, 1.0), (True, 0.5))
        ]

    assert stems == [16, 16, 16, 24]


@pytest.mark.parametrize(
    ("name", "stem", "minimum"),
    [("densenet121", "imagenet", 29), ("densenet121", "cifar", 8), ("densenet_cifar", None, 4)],
)
def test_smallest_image(name: str, stem: str | None, minimum: int) -> None:
    own: dict[str, Any] = {"growth": 12} | ({} if stem is None else {"stem": stem})
    model = create(name, minimum, **own)
    assert model(torch.randn(2, 3, minimum, minimum)).shape == (2, 10)

    with pytest.raises(RuntimeError, match="Output size is too small"):
        model(torch.randn(2, 3, minimum - 1, minimum))
    with pytest.raises(
        ImageTooSmallError, match=f"needs at least {minimum}x{minimum} images, got {minimum - 1}x40"
    ) as caught:
        models.create(name, num_classes=10, in_channels=3, image_size=(minimum - 1, 40), **own)
    assert caught.value.minimum == minimum


@pytest.mark.parametrize("blocks", [(1,), (2, 1), [1, 1, 1, 1, 1]])
def test_any_number_of_blocks(blocks: tuple[int, ...]) -> None:
    minimum = 4 * 2 ** (len(blocks) - 1) - 3
    model = create("densenet121", minimum, blocks=blocks, growth=8)

    assert model(torch.randn(2, 3, minimum, minimum)).shape == (2, 10)
    if minimum > 1:
        with pytest.raises(RuntimeError, match="Output size is too small"):
            model(torch.randn(2, 3, minimum - 1, minimum - 1))


def test_the_cifar_stem_keeps_the_size() -> None:
    x = torch.zeros(1, 3, 32, 32)

    assert create("densenet121", stem="cifar").get_submodule("stem")(x).shape[2:] == (32, 32)
    assert create("densenet121").get_submodule("stem")(x).shape[2:] == (8, 8)


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("densenet121", {"width": 0.0}, r"width must be positive and finite, got 0\.0"),
        ("densenet121", {"growth": 0}, "growth must be at least 1, got 0"),
        ("densenet121", {"blocks": ()}, "blocks must be at least 1, got 0"),
        ("densenet121", {"blocks": (3, 0)}, "each of blocks must be at least 1, got 0"),
        ("densenet121", {"compression": 0.0}, r"compression must be in \(0, 1\], got 0\.0"),
        ("densenet_cifar", {"compression": 2.0}, r"compression must be in \(0, 1\], got 2\.0"),
        ("densenet_cifar", {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1\.0"),
        ("densenet121", {"stem": "vgg"}, "stem must be one of imagenet, cifar, got vgg"),
        ("densenet_cifar", {"stem": "cifar"}, "densenet_cifar takes no stem: it begins with a 3x3 convolution"),
    ],
)
def test_values_are_checked(name: str, own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create(name, **own)


def test_final_features_are_normalized_and_activated() -> None:
    model = create(depth=10)
    end = model.get_submodule("end")

    assert [type(layer) for layer in end.children()] == [nn.BatchNorm2d, nn.ReLU]
    assert relu().layer(1, Layout.MAPS)(torch.tensor(-1.0)) == 0
