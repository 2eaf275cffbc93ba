"""EfficientNets: Tan and Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv:1905.11946.

One baseline, B0, is scaled in depth, width and resolution together (equation 3): depth alpha^phi, width beta^phi, resolution
gamma^phi, so that the work grows by (alpha beta^2 gamma^2)^phi, about 2^phi (more up to phi 1, since layers are rounded up).
The published B1 to B7 are not exactly of that form: their coefficients are those of the authors' code, rounded by hand; width
1.6 and depth 2.2 of B5 belong to no common phi. So there are two ways to scale, of which one is taken: `phi`, by the
formula, or `depth_coefficient` and `width_coefficient`. The resolution is a recommendation, or, with `resize`, what the
network makes of its images: a sweep has one data set, and its trials may then differ in resolution, too.

Our deviations: weights are drawn with variance 2 / fan-in. As in torchvision, B0 to B4 have the batch normalization of
PyTorch and B5 to B7 that of the paper, with eps 1e-3 and momentum 0.01.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil, isfinite, log
from typing import Literal, NamedTuple

import torch
from torch import nn

from models import checks
from models.foreign import by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, silu
from models.layers.block import conv_block
from models.layers.inverted_residual import inverted_residual, torchvision_rules
from models.layers.norm import Norm, batch_norm
from models.layers.resize import Resize
from models.layers.squeeze_excite import SqueezeExcite
from models.layers.width import scaled_to_eight
from models.network import Network


class Stage(NamedTuple):
    """A row of table 1."""

    expansion: int
    kernel_size: int
    stride: int
    channels: int
    layers: int


BASELINE = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
BASELINE_RESOLUTION = 224

LARGEST = 10_000
"""Of what multiplies depth and width, and of the resolution: beyond is no network that could be built."""


class Scale(NamedTuple):
    """What multiplies the baseline, and the image size that goes with it."""

    depth: float
    width: float
    resolution: int


def compound_scale(
    phi: float, alpha: float, beta: float, gamma: float, base_resolution: int = BASELINE_RESOLUTION
) -> Scale:
    """Equation 3: depth alpha^phi, width beta^phi, resolution gamma^phi times that of the baseline.

    Raises:
        ValueError: phi is below 0, or a base below 1 or not finite.
    """
    checks.at_least("base_resolution", base_resolution, 1)
    for name, value, minimum in (("phi", phi, 0), ("alpha", alpha, 1), ("beta", beta, 1), ("gamma", gamma, 1)):
        if not (value >= minimum and isfinite(value)):
            raise ValueError(f"{name} must be finite and at least {minimum}, got {value}")
    for name, base in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if phi * log(base) > log(LARGEST):
            raise ValueError(f"phi must be smaller: {name}^phi, {base}^{phi}, is above {LARGEST:,}")
    resolution = round(base_resolution * gamma**phi)
    _check_resolution(resolution)
    return Scale(alpha**phi, beta**phi, resolution)


def _check_resolution(resolution: int) -> None:
    if not 1 <= resolution <= LARGEST:
        raise ValueError(f"the resolution must be from 1 to {LARGEST:,}, got {resolution:,}")


class EfficientNet(Network):
    """A network that reports the image size recommended for it to `models.facts`."""

    resolution: int

    def own_facts(self) -> dict[str, int]:
        return {"recommended_image_size": self.resolution}


def efficientnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    phi: float | None = 0.0,
    alpha: float | None = 1.2,
    beta: float | None = 1.1,
    gamma: float | None = 1.15,
    base_resolution: int | None = None,
    depth_coefficient: float | None = None,
    width_coefficient: float | None = None,
    resolution: int | None = None,
    resize: bool = False,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    dropout: float = 0.2,
    drop_path: float = 0.2,
    width: float = 1.0,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
) -> Network:
    """The baseline of table 1, scaled; by default with batch normalization and SiLU (swish).

    Without `resize` the image size is what it is given: `models.facts` has the recommended one.

    Args:
        phi: the compound coefficient, with `alpha`, `beta` and `gamma`; without it all four are None.
        base_resolution: with `phi`: the image size at phi 0; None is the paper's, 224.
        depth_coefficient: without `phi`: multiplies the layers of each stage, rounded up.
        width_coefficient: without `phi`: multiplies all channels, which are multiples of 8.
        resolution: without `phi`: the recommended image size.
        resize: bring the shorter side of images to the recommended size, on their way in.
        stem: the first convolution has stride 2, or 1 for small images.
        dropout: probability with which an input of the classifier is set to 0 in training.
        drop_path: probability of drop-path; unit i of n, from 0, gets `drop_path * i / n`.
        width: multiplies all channels once more.
        norm_eps: of its own batch normalization; a norm that is named has its own.
        norm_momentum: as `norm_eps`.

    Raises:
        ValueError: both ways to scale are mixed, or neither is complete; `resize` leaves images too small.
    """
    scale = _scale(phi, alpha, beta, gamma, base_resolution, depth_coefficient, width_coefficient, resolution)
    checks.one_of("stem", stem, ("imagenet", "cifar"))
    # Padding gives every layer a position of any image; of smaller ones the last stages would see nothing but padding.
    minimum = 32 if stem == "imagenet" else 16
    if resize:
        checks.at_least(f"with resize and the {stem} stem, the resolution", scale.resolution, minimum)
    else:
        checks.image_at_least(f"efficientnet with the {stem} stem", image_size, minimum)
    checks.probability("dropout", dropout)
    checks.probability("drop_path", drop_path)
    checks.positive("width", width)
    norm = batch_norm(eps=norm_eps, momentum=norm_momentum) if norm is None else norm
    activation = silu() if activation is None else activation

    factor = scale.width * width
    channels = scaled_to_eight(32, factor)
    first_stride = 2 if stem == "imagenet" else 1
    parts = OrderedDict[str, nn.Module]()
    if resize:
        parts["resize"] = Resize(scale.resolution)
    parts["stem"] = conv_block(in_channels, channels, 3, stride=first_stride, norm=norm, activation=activation)
    rates = iter(drop_rates(drop_path, sum(layers_of(row, scale.depth) for row in BASELINE)))
    for stage, row in enumerate(BASELINE):
        units, out_channels = [], scaled_to_eight(row.channels, factor)
        for unit in range(layers_of(row, scale.depth)):
            stride = row.stride if unit == 0 else 1
            units.append(_unit(channels, out_channels, row, stride, next(rates), norm=norm, activation=activation))
            channels = out_channels
        parts[f"stage{stage + 1}"] = nn.Sequential(*units)
    parts["head"] = conv_block(channels, 4 * channels, 1, norm=norm, activation=activation)
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    model = EfficientNet(parts | {"classifier": nn.Linear(4 * channels, num_classes)})
    model.resolution = scale.resolution
    initialize(model, kaiming(), torch.default_generator)
    return model


def drop_rates(drop_path: float, units: int) -> list[float]:
    """The rate of each unit: from 0, linearly, to one step below `drop_path`."""
    return [drop_path * unit / units for unit in range(units)]


def layers_of(row: Stage, depth: float) -> int:
    """The layers of a row when the network is scaled in depth: rounded up."""
    return ceil(row.layers * depth)


def _scale(
    phi: float | None,
    alpha: float | None,
    beta: float | None,
    gamma: float | None,
    base_resolution: int | None,
    depth: float | None,
    width: float | None,
    resolution: int | None,
) -> Scale:
    """The scale by the formula or by coefficients, whichever is there; nothing of the other may be."""
    formula, coefficients = (phi, alpha, beta, gamma), (depth, width, resolution)
    if depth is width is resolution is None and not (phi is None or alpha is None or beta is None or gamma is None):
        return compound_scale(
            phi, alpha, beta, gamma, BASELINE_RESOLUTION if base_resolution is None else base_resolution
        )
    if phi is alpha is beta is gamma is None and not (depth is None or width is None or resolution is None):
        checks.positive("depth_coefficient", depth)
        checks.positive("width_coefficient", width)
        _check_resolution(resolution)
        if base_resolution is not None:
            raise ValueError(f"base_resolution goes with phi; set resolution instead, got {base_resolution}")
        return Scale(depth, width, resolution)
    raise ValueError(
        "either phi, alpha, beta and gamma are set, or depth_coefficient, width_coefficient and resolution, and the others "
        f"are None; got {', '.join(map(str, formula))} and {', '.join(map(str, coefficients))}"
    )


def _unit(
    in_channels: int,
    out_channels: int,
    row: Stage,
    stride: int,
    drop_prob: float,
    *,
    norm: Norm,
    activation: Activation,
) -> nn.Module:
    """MBConv: an inverted residual whose squeeze and excitation goes down to a quarter of its input's channels."""
    expanded = scaled_to_eight(in_channels, row.expansion)
    return inverted_residual(
        in_channels,
        expanded,
        out_channels,
        row.kernel_size,
        stride=stride,
        norm=norm,
        activation=activation,
        squeeze=SqueezeExcite(expanded, max(1, in_channels // 4), activation=activation),
        drop_prob=drop_prob,
    )


def _torchvision(model: nn.Module) -> dict[str, str]:
    rules = torchvision_rules(model, "block", in_stages=True)
    return by_rules(*rules, (r"classifier\.(.*)", r"classifier.1.\1"))(model)


FOREIGN = {"efficientnet": {"torchvision": _torchvision}}
