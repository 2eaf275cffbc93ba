"""The EfficientNets against torchvision and the totals of its documentation, and compound scaling."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from torch import nn

import models
from models import foreign
from models.checks import ImageTooSmallError
from models.efficientnet import compound_scale, drop_rates, efficientnet
from models.layers.activation import relu, silu
from models.layers.drop_path import DropPath
from models.layers.norm import batch_norm, no_norm
from models.network import part_names
from tests.models.oracle import assert_same, assert_same_tensors

# Tan and Le 2019, table 2 (5.3M to 66M), and to the unit the documentation of torchvision; resolutions of the authors' code.
MEMBERS = {
    "efficientnet_b0": (5_288_548, 224),
    "efficientnet_b1": (7_794_184, 240),
    "efficientnet_b2": (9_109_994, 260),
    "efficientnet_b3": (12_233_232, 300),
    "efficientnet_b4": (19_341_616, 380),
    "efficientnet_b5": (30_389_784, 456),
    "efficientnet_b6": (43_040_704, 528),
    "efficientnet_b7": (66_347_960, 600),
}


def create(name: str = "efficientnet_b0", size: int = 32, **own: Any) -> nn.Module:
    return models.create(name, num_classes=own.pop("num_classes", 10), in_channels=3, image_size=(size, size), **own)


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", *(pytest.param(f"efficientnet_b{n}", marks=pytest.mark.slow) for n in (1, 2, 3, 4))]
)
def test_equals_torchvision(name: str) -> None:
    import torchvision

    theirs = getattr(torchvision.models, name)(num_classes=10)

    assert_same(create(name), theirs, foreign.tables(efficientnet)["torchvision"], 32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b5", "efficientnet_b6", "efficientnet_b7"])
def test_tensors_equal_torchvisions(name: str) -> None:
    """The same function with other numbers computes what B0 to B4 do."""
    import torchvision

    with torch.device("meta"):
        ours, theirs = create(name), getattr(torchvision.models, name)(num_classes=10)

    assert_same_tensors(ours, theirs, foreign.tables(efficientnet)["torchvision"])


@pytest.mark.parametrize("name", MEMBERS)
def test_published_totals_and_resolutions(name: str) -> None:
    total, resolution = MEMBERS[name]
    with torch.device("meta"):
        model = create(name, num_classes=1000)

    assert sum(parameter.numel() for parameter in model.parameters()) == total
    assert models.facts(model)["recommended_image_size"] == [resolution]


@pytest.mark.parametrize("name", MEMBERS)
def test_dropout_drop_path_and_norm_of_each_equal_torchvisions(name: str) -> None:
    import torchvision

    with torch.device("meta"):
        ours, theirs = create(name), getattr(torchvision.models, name)()

    def rates(model: nn.Module, kind: type[nn.Module], attribute: str) -> list[float]:
        return [getattr(module, attribute) for module in model.modules() if isinstance(module, kind)]

    units = [unit for stage in theirs.features for unit in stage if hasattr(unit, "stochastic_depth")]
    used = [unit.stochastic_depth.p for unit in units if unit.use_res_connect and unit.stochastic_depth.p]
    assert rates(ours, DropPath, "drop_prob") == pytest.approx(used)
    assert rates(ours, nn.Dropout, "p") == rates(theirs, nn.Dropout, "p")
    for attribute in ("eps", "momentum"):
        assert rates(ours, nn.BatchNorm2d, attribute) == rates(theirs, nn.BatchNorm2d, attribute)


def test_the_bases_of_the_paper_about_double_the_work() -> None:
    """Section 3.3: alpha beta^2 gamma^2 is about 2 at 1.2, 1.1, 1.15."""
    scale = compound_scale(1, 1.2, 1.1, 1.15)

    assert scale.depth * scale.width**2 * (1.15) ** 2 == pytest.approx(2, abs=0.1)
    assert scale.depth * scale.width**2 * (1.15) ** 2 == pytest.approx(1.920, abs=5e-4)
    assert scale.resolution == 258


@pytest.mark.parametrize(("phi", "published"), [(0.0, 0.39e9), (1.0, 1.0e9), (2.0, 1.8e9)])
def test_work_of_the_paper(phi: float, published: float) -> None:
    """Table 2: B0, and B2 and B3, which are those of phi 1 and 2."""
    assert work(phi) == pytest.approx(published, rel=0.02)


def test_work_grows_as_two_to_the_phi() -> None:
    """Over six doublings; not from 0 on, where rounding up the few layers of a stage adds a third."""
    assert work(7.0) / work(1.0) == pytest.approx((1.2 * 1.1**2 * 1.15**2) ** 6, rel=0.25)


def work(phi: float) -> float:
    """Multiply-adds of one image, counted by hooks on the meta device."""
    size = compound_scale(phi, 1.2, 1.1, 1.15).resolution
    total = 0

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += module.weight.numel() * prod(output.shape[2:])

    with torch.device("meta"):
        model = create(size=size, phi=phi).eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        model(torch.zeros(1, 3, size, size))
    return total


def test_phi_of_nothing_is_the_baseline() -> None:
    with torch.device("meta"):
        baseline = shapes(create())
        formula = shapes(create(phi=0.0, alpha=7.0, beta=3.0, gamma=2.0))
        deeper = shapes(create(phi=1.0, beta=1.0))
        published = shapes(create("efficientnet_b2"))
        second = shapes(create(phi=1.0))

    assert baseline == formula
    assert deeper != baseline
    assert second == published, "B2 is phi 1"


@pytest.mark.parametrize(("phi", "size"), [(0.0, 16), (2.0, 21)])  # 16 x 1.15^2 = 21.16
def test_resizing_equals_images_that_were_resized_before(phi: float, size: int) -> None:
    """Bit for bit; torchvision's own resizing. The weights are the same, so that either can go on from the other's."""
    from torchvision.transforms.v2.functional import resize

    own: dict[str, Any] = {"stem": "cifar", "width": 0.25, "phi": phi, "base_resolution": 16}
    plain, resizing = create(size=size, **own).eval(), create(resize=True, **own).eval()
    resizing.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    smaller = resize(images, [size], antialias=True)

    with torch.no_grad():
        assert torch.equal(resizing(images), plain(smaller))
        assert torch.equal(resizing(smaller), plain(smaller)), "what has the size already stays as it is"
    assert models.facts(resizing) == {"recommended_image_size": [size], "resized_to": [size]}


@pytest.mark.parametrize("scaling", [{"phi": 1.0, "base_resolution": 20}, {}])
def test_multiply_adds_and_layers_are_those_of_the_resized_images(scaling: dict[str, Any]) -> None:
    own: dict[str, Any] = {"stem": "cifar", "width": 0.25, **scaling}
    size = 23 if scaling else 224  # 20 x 1.15, and the paper's where no base is named

    found = models.describe("efficientnet_b0", num_classes=10, image_size=(32, 32), resize=True, **own)
    resized = models.describe("efficientnet_b0", num_classes=10, image_size=(size, size), **own)

    assert found.multiply_adds == resized.multiply_adds
    assert found.parameters == resized.parameters
    assert (found.image_size, found.smallest_image) == ((32, 32), 1), "it takes images of any size"
    assert (found.layers[0].kind, found.layers[0].volume) == ("resize", (3, size, size))
    assert [layer.volume for layer in found.layers[1:]] == [layer.volume for layer in resized.layers]


def test_the_resolution_of_coefficients_resizes_too() -> None:
    with torch.device("meta"):
        assert models.facts(create("efficientnet_b1", resize=True, resolution=48))["resized_to"] == [48]


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        (
            "efficientnet_b0",
            {"resize": True, "stem": "cifar", "base_resolution": 15},
            "with resize and the cifar stem, the resolution must be at least 16, got 15",
        ),
        ("efficientnet_b0", {"base_resolution": 0}, "base_resolution must be at least 1, got 0"),
        (
            "efficientnet_b1",
            {"base_resolution": 32},
            "base_resolution goes with phi; set resolution instead, got 32",
        ),
    ],
)
def test_resolutions_are_checked(name: str, own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create(name, **own)


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in model.state_dict().values()]


def test_depth_is_rounded_up_and_width_to_eight() -> None:
    with torch.device("meta"):
        model = create("efficientnet_b3")

    layers = [len(list(model.get_submodule(f"stage{n}").children())) for n in range(1, 8)]
    assert layers == [2, 3, 3, 5, 5, 6, 2]  # 1, 2, 2, 3, 3, 4, 1 times 1.4, up
    assert model.get_submodule("stem.affine").out_channels == 40  # 38.4
    assert model.get_submodule("head.affine").out_channels == 1536  # 1280 x 1.2


@pytest.mark.parametrize(
    "own",
    [
        {"phi": 1.0, "depth_coefficient": 1.2},
        {"phi": None},
        {"phi": None, "alpha": None, "beta": None, "gamma": None},
        {"phi": None, "alpha": None, "beta": None, "gamma": None, "depth_coefficient": 1.2, "width_coefficient": 1.1},
        {"phi": None, "depth_coefficient": 1.2, "width_coefficient": 1.1, "resolution": 260},
        {"resolution": 224},
    ],
)
def test_one_way_to_scale(own: dict[str, Any]) -> None:
    message = "either phi, alpha, beta and gamma are set, or depth_coefficient, width_coefficient and resolution, and the others"
    with pytest.raises(ValueError, match=message):
        create(**own)


def test_drop_rates_rise_from_zero() -> None:
    assert drop_rates(0.2, 4) == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_without_drop_path_there_is_none() -> None:
    with torch.device("meta"):
        model = create(drop_path=0.0)

    assert not any(isinstance(module, DropPath) for module in model.modules())


def test_drop_path_works_in_training_alone() -> None:
    model = create(width=0.25, drop_path=0.9, dropout=0.0, norm=no_norm())
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    torch.manual_seed(0)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_its_own_norm_and_activation_named_change_nothing() -> None:
    for name, norm in (("efficientnet_b0", batch_norm()), ("efficientnet_b5", batch_norm(eps=1e-3, momentum=0.01))):
        with torch.device("meta"):
            assert str(create(name)) == str(create(name, norm=norm, activation=silu()))


def test_a_named_activation_stands_everywhere() -> None:
    with torch.device("meta"):
        kinds = {type(module) for module in create(activation=relu()).modules()}

    assert nn.ReLU in kinds
    assert nn.SiLU not in kinds
    assert nn.Sigmoid in kinds, "the gate stays"


def test_parts_of_the_network() -> None:
    with torch.device("meta"):
        parts = part_names(create())

    stages = tuple(f"stage{n}" for n in range(1, 8))
    assert parts == ("stem", *stages, "head", "pool", "flatten", "dropout", "classifier")


@pytest.mark.parametrize(("stem", "minimum"), [("imagenet", 32), ("cifar", 16)])
def test_smallest_image(stem: str, minimum: int) -> None:
    """All strides together: every position of the last maps then stands for pixels of its own."""
    model = create(size=minimum, stem=stem, width=0.25)
    x = torch.randn(2, 3, minimum, minimum)
    assert model(x).shape == (2, 10)
    for part in part_names(model)[:9]:
        x = model.get_submodule(part)(x)
    assert x.shape[2:] == (1, 1)

    message = f"efficientnet with the {stem} stem needs at least {minimum}x{minimum} images, got 40x{minimum - 1}"
    with pytest.raises(ImageTooSmallError, match=message) as caught:
        models.create("efficientnet_b0", num_classes=10, in_channels=3, image_size=(40, minimum - 1), stem=stem)
    assert caught.value.minimum == minimum


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"width": -1.0}, "width must be positive and finite, got -1.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\), got 1.0"),
        ({"stem": "vgg"}, "stem must be one of imagenet, cifar, got vgg"),
        ({"phi": -1.0}, "phi must be finite and at least 0, got -1.0"),
        ({"alpha": 0.5}, "alpha must be finite and at least 1, got 0.5"),
        ({"beta": float("inf")}, "beta must be finite and at least 1, got inf"),
        ({"phi": 1e9}, r"phi must be smaller: alpha\^phi, 1.2\^1000000000.0, is above 10,000"),
        ({"base_resolution": 100_000}, "the resolution must be from 1 to 10,000, got 100,000"),
        ({"gamma": float("nan")}, "gamma must be finite and at least 1, got nan"),
        ({"norm_eps": 0.0}, "eps must be positive and finite, got 0.0"),
    ],
)
def test_values_are_checked(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create(**own)


def test_coefficients_are_checked() -> None:
    with pytest.raises(ValueError, match=r"depth_coefficient must be positive and finite, got 0\.0"):
        create("efficientnet_b1", depth_coefficient=0.0)
