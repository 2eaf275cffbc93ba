"""FractalNet: Larsson et al. 2017, FractalNet: Ultra-Deep Neural Networks without Residuals, arXiv:1605.07648.

Joins that follow each other are one: the mean of all columns that end there, each with the same weight, as in the authors'
code. Our deviations: the pooling after a block follows its last join, as in the paper's text (the authors' code pools each
column before), and dropout follows the activation of each convolution.

Without an oracle: neither torchvision nor timm has it. The structure is tested against the paper's recursion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models import checks
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.block import conv_block
from models.layers.norm import Norm, batch_norm
from models.layers.width import scaled
from models.network import Network

Kept = Mapping[int, tuple[int, ...]]
"""Row of a block that ends with a join -> the columns that the join takes the mean of."""


@checks.takes_no(stem="it begins with 3x3 convolutions of stride 1")
def fractalnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    dropout: float = 0.4,
    width: float = 1.0,
    columns: int = 3,
    blocks: int = 5,
    filters: int = 64,
    drop_path: float = 0.15,
    global_share: float = 0.5,
) -> FractalNetwork:
    """The network of section 4: fractal blocks, each followed by 2x2 max pooling, and a linear classifier.

    By default with batch normalization, ReLU and the Kaiming initialization.

    Args:
        dropout: probability with which an output of a convolution is set to 0 in training, in the last block; it grows
            linearly from 0 in the first.
        width: a factor on all channels.
        columns: C; the deepest has 2^(C-1) convolutions in each block.
        blocks: B.
        filters: channels of the first block; each later block doubles them, up to eight times.
        drop_path: probability with which a join drops an input in training, where columns are dropped locally.
        global_share: of the mini-batches, in which one column alone is computed instead, the same in all blocks.
    """
    checks.at_least("columns", columns, 1)
    checks.at_least("blocks", blocks, 1)
    checks.at_least("filters", filters, 1)
    checks.image_at_least(f"fractalnet of {blocks} blocks", image_size, 2**blocks)
    checks.probability("dropout", dropout)
    checks.probability("drop_path", drop_path)
    checks.positive("width", width)
    if not 0 <= global_share <= 1:
        raise ValueError(f"global_share must be in [0, 1], got {global_share}")
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    parts: dict[str, nn.Module] = {}
    channels = in_channels
    for block in range(blocks):
        out_channels = scaled(filters * min(2**block, 8), width)
        rate = dropout * block / max(1, blocks - 1)
        made = fractal_block(channels, out_channels, columns, dropout=rate, norm=norm, activation=activation)
        parts[f"stage{block + 1}"] = FractalStage(made, nn.MaxPool2d(2))
        channels = out_channels
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["classifier"] = nn.Linear(channels, num_classes)
    model = FractalNetwork(parts, columns=columns, drop_path=drop_path, global_share=global_share)
    initialize(model, kaiming(), torch.default_generator)
    return model


class FractalBlock(nn.Module):
    """f_C, where f_1(z) = conv(z) and f_C(z) = the join of (f_(C-1) o f_(C-1))(z) and conv(z): equation 1.

    The convolutions stand in 2^(C-1) rows; those of column c end in every 2^(C-c)-th row, so that it has 2^(c-1). A row is
    the join of the columns that end in it, and what they read further on.

    Args:
        columns: their convolutions, of which column c, counted from 1, has 2^(c-1).
    """

    def __init__(self, columns: Sequence[Sequence[nn.Module]]) -> None:
        super().__init__()
        self.columns = nn.ModuleList(nn.ModuleList(column) for column in columns)
        self.rows = 2 ** (len(columns) - 1)

    def step(self, column: int) -> int:
        """The rows that a convolution of a column spans."""
        return int(2 ** (len(self.columns) - column))

    def joins(self) -> dict[int, tuple[int, ...]]:
        """Row -> the columns that end in it."""
        numbers = range(1, len(self.columns) + 1)
        return {row: tuple(c for c in numbers if row % self.step(c) == 0) for row in range(1, self.rows + 1)}

    def only(self, column: int) -> dict[int, tuple[int, ...]]:
        """Of each join the input by one column alone."""
        return dict.fromkeys(self.joins(), (column,))

    def forward(self, x: Tensor, kept: Kept | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W); only what reaches the output is computed.

        Args:
            kept: None keeps all columns at each join.
        """
        taken = self.joins() if kept is None else kept
        needed = {self.rows}
        for row in range(self.rows, 0, -1):
            if row in needed:
                needed |= {row - self.step(column) for column in taken[row]}
        values = {0: x}
        for row in sorted(needed - {0}):
            values[row] = _mean([self._convolved(column, row, values) for column in taken[row]])
        return values[self.rows]

    def _convolved(self, column: int, row: int, values: Mapping[int, Tensor]) -> Tensor:
        step = self.step(column)
        units: nn.ModuleList = self.columns[column - 1]  # type: ignore[assignment]
        out: Tensor = units[row // step - 1](values[row - step])
        return out


class FractalStage(nn.Module):
    """A block and the pooling after it."""

    def __init__(self, block: FractalBlock, pool: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.pool = pool

    def forward(self, x: Tensor, kept: Kept | None = None) -> Tensor:
        out: Tensor = self.pool(self.block(x, kept))
        return out


class FractalNetwork(Network):
    """A network some of whose parts are `FractalStage`s; in training it drops paths, anew for each mini-batch.

    Args:
        columns: of each block.
        drop_path: as for `fractalnet`, with `global_share`.
    """

    def __init__(self, parts: Mapping[str, nn.Module], *, columns: int, drop_path: float, global_share: float) -> None:
        super().__init__(parts)
        self.columns = columns
        self.drop_path = drop_path
        self.global_share = global_share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.through(x)
        if _uniform() < self.global_share:
            return self.through(x, int(torch.randint(self.columns, (), device="cpu")) + 1)
        return self.through(x, drop_path=self.drop_path)

    def only_column(self, column: int) -> OneColumn:
        """The network in which each block is one column alone, counted from 1, with the weights of this one.

        Raises:
            ValueError: there is no such column.
        """
        checks.one_of("column", column, tuple(range(1, self.columns + 1)))
        return OneColumn(self, column)

    def through(self, x: Tensor, column: int | None = None, *, drop_path: float = 0.0) -> Tensor:
        """The logits by one column alone, or by all, of which each join drops some."""
        for name in self.parts:
            part = self.get_submodule(name)
            x = part(x, self._kept(part.block, column, drop_path)) if isinstance(part, FractalStage) else part(x)
        return x

    def _kept(self, block: FractalBlock, column: int | None, drop_path: float) -> Kept | None:
        if column is not None:
            return block.only(column)
        return {row: _sampled(ends, drop_path) for row, ends in block.joins().items()} if drop_path else None


class OneColumn(nn.Module):
    """A `FractalNetwork` read by one of its columns."""

    def __init__(self, network: FractalNetwork, column: int) -> None:
        super().__init__()
        self.network = network
        self.column = column
        self.train(network.training)

    def forward(self, x: Tensor) -> Tensor:
        return self.network.through(x, self.column)


def fractal_block(
    in_channels: int, out_channels: int, columns: int, *, dropout: float, norm: Norm, activation: Activation
) -> FractalBlock:
    """A block of 3x3 convolutions, each with normalization, activation and dropout."""

    def unit(channels: int) -> nn.Module:
        conv = conv_block(channels, out_channels, 3, norm=norm, activation=activation)
        if dropout:
            conv.add_module("dropout", nn.Dropout(dropout))
        return conv

    return FractalBlock(
        [[unit(out_channels if row else in_channels) for row in range(2**column)] for column in range(columns)]
    )


def _sampled(columns: tuple[int, ...], drop_path: float) -> tuple[int, ...]:
    """Those that a join keeps: each with probability 1 - drop_path, and one at random where that leaves none."""
    if len(columns) == 1:
        return columns
    kept = tuple(column for column in columns if _uniform() >= drop_path)
    return kept or (columns[int(torch.randint(len(columns), (), device="cpu"))],)


def _uniform() -> float:
    return float(torch.rand((), device="cpu"))


def _mean(inputs: Sequence[Tensor]) -> Tensor:
    total = inputs[0]
    for each in inputs[1:]:
        total = total + each
    return total if len(inputs) == 1 else total / len(inputs)
