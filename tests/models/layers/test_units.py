"""The units of residual networks, and the stages made of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from models.layers.squeeze_excite import SqueezeExcite
from models.layers.units import blocks_of_depth, survivals
from models.resnet import resnet


def small(**own: Any) -> nn.Module:
    """A network of 16 channels for 8x8 images."""
    torch.manual_seed(0)
    values = {"blocks": (1,), "stem": "cifar", "width": 0.25} | own
    return resnet(num_classes=3, in_channels=3, image_size=(8, 8), **values)


def test_a_shortcut_that_subsamples_first_is_the_same_exactly() -> None:
    """The two forms of the skip in the lecture: every second position then 1x1, and 1x1 with stride 2."""
    model = small(blocks=(1, 1))
    shortcut = model.get_submodule("stage2.0.shortcut").double().eval()
    subsampled = nn.Conv2d(16, 32, 1, bias=False).double()
    subsampled.weight = shortcut.get_submodule("affine").weight
    x = torch.randn(2, 16, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        expected = shortcut.get_submodule("norm")(subsampled(x[:, :, ::2, ::2]))
        assert torch.equal(shortcut(x), expected)


def test_a_grouped_convolution_is_the_sum_of_its_paths() -> None:
    """Xie et al. 2017, figure 3: (c), 1x1, grouped 3x3, 1x1, equals (a), a sum over paths of their own three convolutions."""
    model = small(unit="bottleneck", groups=4, width_per_group=8)
    branch = model.get_submodule("stage1.0.branch").double().eval()
    first, middle, last = (branch.get_submodule(f"{index}.affine").weight for index in range(3))
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)

    conv = nn.functional.conv2d
    paths = []
    for c in (slice(2 * path, 2 * path + 2) for path in range(4)):  # 8 / 64 of 16 channels are 2
        paths.append(conv(conv(conv(x, first[c]).relu(), middle[c], padding=1).relu(), last[:, c]))

    for index in range(
        3
    ):  # new statistics are 0 and 1, so that in evaluation this is all that batch normalization does
        branch.get_submodule(f"{index}.norm").eps = 0.0
    assert middle.shape == (8, 2, 3, 3)
    torch.testing.assert_close(branch(x), torch.stack(paths).sum(0), rtol=0, atol=1e-14)


def test_squeeze_and_excitation_ends_the_branch() -> None:
    """Hu et al. 2018, figure 3: before the sum; each channel of the branch times a factor in (0, 1)."""
    model = small(unit="bottleneck", se_reduction=4)
    branch = model.get_submodule("stage1.0.branch").eval()
    x = torch.randn(2, 16, 8, 8)

    factors = branch(x) / branch[:3](x)  # type: ignore[index]

    assert isinstance(branch[-1], SqueezeExcite)  # type: ignore[index]
    assert branch[-1].factors.reduce.out_channels == 64 // 4  # type: ignore[index,union-attr]
    torch.testing.assert_close(factors, factors[:, :, :1, :1].expand_as(factors))
    assert 0 < factors.min() < factors.max() < 1


@pytest.mark.parametrize(("stride_in", "strides"), [("first", [2, 1, 1]), ("middle", [1, 2, 1]), (None, [1, 2, 1])])
def test_stride_is_in_the_convolution_that_is_asked_for(stride_in: str | None, strides: list[int]) -> None:
    branch = small(unit="bottleneck", blocks=(1, 1), stride_in=stride_in).get_submodule("stage2.0.branch")

    assert [module.stride[0] for module in branch.modules() if isinstance(module, nn.Conv2d)] == strides


def test_survival_falls_linearly_to_that_of_the_last_unit_or_is_constant() -> None:
    assert survivals(4, 0.5, "linear") == [0.875, 0.75, 0.625, 0.5]
    assert survivals(3, 0.8, "constant") == [0.8] * 3
    assert survivals(3, 1.0, "linear") == [1.0] * 3


def test_expected_number_of_units_of_the_paper() -> None:
    """Huang et al. 2016, section 3: (3 L - 1) / 4, which is about 40 of the 54 units of a network of 110 layers."""
    assert sum(survivals(54, 0.5, "linear")) == pytest.approx((3 * 54 - 1) / 4)


@pytest.mark.parametrize(
    ("layers", "others", "depths"), [(6, 2, (8, 20, 110, 1202)), (9, 2, (11, 164, 1001)), (6, 4, (10, 16, 28))]
)
def test_blocks_of_depth_for_each_kind_of_network(layers: int, others: int, depths: tuple[int, ...]) -> None:
    assert [layers * blocks_of_depth(depth, layers=layers, others=others) + others for depth in depths] == list(depths)
