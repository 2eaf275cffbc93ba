"""Parallel branches whose maps are concatenated, described as data: what the Inception networks are made of.

A branch is a tuple of steps, and a step may fork again:
`Fork((Convolution(64),), (Convolution(48), Convolution(64, 5)), (Pool("average"), Convolution(32)))`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from models.layers.activation import Activation
from models.layers.block import conv_block
from models.layers.norm import Norm
from models.layers.width import scaled


@dataclass(frozen=True)
class Convolution:
    """A convolution with its normalization and activation.

    Args:
        channels: before the width factor.
        padding: None keeps the size at stride 1.
    """

    channels: int
    kernel_size: int | tuple[int, int] = 1
    stride: int = 1
    padding: int | None = None


@dataclass(frozen=True)
class Pool:
    """Pooling over 3x3 positions: padded so that stride 1 keeps the size, unpadded at stride 2.

    Args:
        counts_padding: whether an average at the border counts the zeros beyond it.
    """

    kind: Literal["max", "average"]
    stride: int = 1
    counts_padding: bool = True

    def layer(self) -> nn.Module:
        padding = 1 if self.stride == 1 else 0
        if self.kind == "max":
            return nn.MaxPool2d(3, stride=self.stride, padding=padding)
        return nn.AvgPool2d(3, stride=self.stride, padding=padding, count_include_pad=self.counts_padding)


class Fork:
    """Branches that all read the same map; their outputs are concatenated in this order."""

    def __init__(self, *branches: tuple[Step, ...]) -> None:
        self.branches = branches


Step = Convolution | Pool | Fork


class Branches(nn.Module):
    """The maps of the modules `branch1`, `branch2`, ..., all of the same input, one after the other along the channels."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        for number, branch in enumerate(branches, start=1):
            self.add_module(f"branch{number}", branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


@dataclass(frozen=True)
class Builder:
    """Makes modules of steps; each method returns the module and its number of output channels.

    Args:
        width: factor on the channels of every convolution.
    """

    norm: Norm
    activation: Activation
    width: float = 1.0

    def chain(self, in_channels: int, steps: Mapping[str, Step]) -> tuple[nn.Sequential, int]:
        """The steps one after the other, under their names."""
        layers = OrderedDict[str, nn.Module]()
        channels = in_channels
        for name, step in steps.items():
            layers[name], channels = self.step(channels, step)
        return nn.Sequential(layers), channels

    def step(self, in_channels: int, step: Step) -> tuple[nn.Module, int]:
        if isinstance(step, Pool):
            return step.layer(), in_channels
        if isinstance(step, Fork):
            return self.fork(in_channels, step)
        channels = scaled(step.channels, self.width)
        block = conv_block(
            in_channels,
            channels,
            step.kernel_size,
            stride=step.stride,
            padding=step.padding,
            norm=self.norm,
            activation=self.activation,
        )
        return block, channels

    def fork(self, in_channels: int, fork: Fork) -> tuple[Branches, int]:
        """The steps of branch n are the modules `branchn.0`, `branchn.1`, ..."""
        built = [self.chain(in_channels, numbered(branch)) for branch in fork.branches]
        return Branches([module for module, _ in built]), sum(channels for _, channels in built)


def numbered(steps: Sequence[Step], start: int = 0) -> dict[str, Step]:
    """The steps under the names `start`, `start + 1`, ..."""
    return {str(number): step for number, step in enumerate(steps, start)}


def at_full_size(steps: Mapping[str, Step]) -> dict[str, Step]:
    """The steps of a stem for small images: all of stride 1 and padded; pooling is kept as a branch only."""
    return {name: _unstrided(step) for name, step in steps.items() if not isinstance(step, Pool)}


def _unstrided(step: Step) -> Step:
    if isinstance(step, Fork):
        return Fork(*(tuple(_unstrided(each) for each in branch) for branch in step.branches))
    if isinstance(step, Pool):
        return replace(step, stride=1)
    return replace(step, stride=1, padding=None)
