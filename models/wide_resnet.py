"""Wide residual networks: Zagoruyko and Komodakis 2016, Wide Residual Networks, arXiv:1605.07146.

Pre-activation units of k times the channels of the CIFAR residual networks, with dropout between their convolutions. The wide
bottleneck networks for ImageNet are `models.resnet.resnet` with `width_per_group` 64 k: wide_resnet50_2, wide_resnet101_2 and
wrn_68_3. The last is named in Shao et al. 2016's ensemble without more; 68 is not 6n + 4, so that we take it as a bottleneck
network of 2 + 3 * 22 layers, stages of 3, 4, 12 and 3 units.

Our deviation: the classifier's weights, too, are normal with variance 2 / fan-in.

No other library that we compare with has `wrn`; its parameters are counted against the paper.
"""

from __future__ import annotations

from models import checks
from models.layers import units
from models.layers.activation import Activation, relu
from models.layers.norm import Norm, batch_norm
from models.layers.preact_units import PreStyle
from models.network import Network
from models.preact import preact_network


def wrn(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    depth: int = 16,
    widening_factor: int = 4,
    width: int = 16,
    dropout: float = 0.0,
    survival: float = 1.0,
    decay: units.Decay = "linear",
    stem: units.Stem = "cifar",
) -> Network:
    """WRN-depth-k of table 1: a 3x3 convolution, three stages of n basic units, a linear classifier.

    By default with batch normalization, ReLU and the Kaiming initialization.

    Args:
        depth: convolutions, 6n + 4: two in each unit, the first one, and the projections of three stages.
        widening_factor: k; the stages have k, 2k and 4k times `width` channels.
        width: channels of the first convolution.
        dropout: probability with which an input of a unit's second convolution is set to 0 in training.
        survival: probability with which the last unit is computed in a step of training; 1 is no stochastic depth.
        decay: whether the earlier units survive linearly more often, or all alike.
    """
    num_blocks = units.blocks_of_depth(depth, others=4)
    checks.at_least("widening_factor", widening_factor, 1)
    checks.at_least("width", width, 1)
    units.check_common("wrn", image_size, 4, stem, dropout)  # as resnet_cifar
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    return preact_network(
        in_channels,
        width,
        [width * widening_factor * 2**stage for stage in range(3)],
        [num_blocks] * 3,
        num_classes,
        PreStyle(norm, activation, "B", activated_stem=False, dropout=dropout),
        basic=True,
        survivals=units.survivals(3 * num_blocks, survival, decay),
        stem=stem,
        dropout=0.0,
    )
