"""Cells: a module that computes a `CellGraph`, and those of NASNet, which take the outputs of the two cells before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.layers.cell_operations import OPERATIONS, Conv, FactorizedReduction, Style, concatenated
from models.layers.cell_text import CellGraph
from models.layers.drop_path import DropPath

States = tuple[Tensor, Tensor]
"""The output of the cell before the last, and of the last."""


class Cell(nn.Module):
    """The graph of a cell on its inputs, (N, C, H, W) each, of which the first is the one that strides refer to.

    Only what the output depends on is built and computed.

    Args:
        graph: its nodes and their edges.
        channels: of each node.
        operations: (node, which of its edges) -> the module of each edge of a node that is needed.
        prepare: input -> what is done to it before the edges read it; an input that is not needed has none.
        conclude: node -> what is done to it before it is concatenated.
        stride: how far the positions of the nodes are apart, in positions of the input.
        drop_prob: of drop-path after each operation but `skip_connect`.
        pieces: channels of each feature, as the activation needs them.
    """

    def __init__(
        self,
        graph: CellGraph,
        channels: int,
        operations: Mapping[tuple[int, int], nn.Module],
        *,
        prepare: Mapping[int, nn.Module],
        conclude: Mapping[int, nn.Module],
        stride: int = 1,
        drop_prob: float = 0.0,
        pieces: int = 1,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.channels = channels
        self.pieces = pieces
        self.stride = stride
        self.prepare = nn.ModuleDict({str(node): module for node, module in prepare.items()})
        self.edges = nn.ModuleDict({f"{node}_{edge}": module for (node, edge), module in operations.items()})
        self.conclude = nn.ModuleDict({str(node): module for node, module in conclude.items()})
        self.drop_path = DropPath(drop_prob)
        self.needed = graph.needed()

    def forward(self, *inputs: Tensor) -> Tensor:
        states: dict[int, Tensor] = {}
        for node in self.needed:
            states[node] = (
                self.prepare[str(node)](inputs[node]) if node < len(inputs) else self._sum(node, states, inputs)
            )
        outputs = [
            self.conclude[str(node)](states[node]) if str(node) in self.conclude else states[node]
            for node in self.graph.output
        ]
        return outputs[0] if len(outputs) == 1 else concatenated(outputs, self.pieces)

    def _sum(self, node: int, states: Mapping[int, Tensor], inputs: Sequence[Tensor]) -> Tensor:
        total: Tensor | None = None
        for i, edge in enumerate(self.graph.edges(node)):
            value = self.edges[f"{node}_{i}"](states[edge.source])
            if edge.operation != "skip_connect":
                value = self.drop_path(value)
            total = value if total is None else total + value
        return self._zeros(inputs[0]) if total is None else total

    def _zeros(self, x: Tensor) -> Tensor:
        """The value of a node to which no edge leads."""
        height, width = (-(-size // self.stride) for size in x.shape[2:])
        return x.new_zeros(len(x), self.pieces * self.channels, height, width)


def summing_cell(graph: CellGraph, channels: int, style: Style) -> Cell:
    """A cell of one input, whose nodes have as many channels as that: the cell of NAS-Bench-201."""
    operations = {
        (node, i): _operation(edge.operation, channels, channels, 1, style)
        for node in graph.needed()
        for i, edge in enumerate(graph.edges(node))
    }
    prepare = {0: nn.Identity()} if 0 in graph.needed() else {}
    return Cell(graph, channels, operations, prepare=prepare, conclude={}, pieces=style.activation.pieces)


@dataclass(frozen=True)
class Source:
    """The output of an earlier cell: its channels, and how often the image was halved before it."""

    channels: int
    halvings: int


def nasnet_cell(
    graph: CellGraph,
    channels: int,
    current: Source,
    previous: Source | None,
    *,
    reduces: bool,
    style: Style,
    drop_prob: float,
) -> Cell:
    """A cell of two inputs: node 0 is the output of the cell before, node 1 that of the one before that.

    Both are brought to the cell's channels and size first, but for the very first cell, where both are the output of the
    stem's convolution, which node 1 is as it is. In a reducing cell the operations on the two have stride 2.

    Args:
        previous: None for the first cell.
    """
    needed = graph.needed()
    widths = {0: channels, 1: current.channels if previous is None else channels}
    inputs = {0: _prepared(current, current, channels, style), 1: _prepared(previous, current, channels, style)}
    operations = {}
    for node in needed:
        for i, edge in enumerate(graph.edges(node)):
            stride = 2 if reduces and edge.source < graph.inputs else 1
            width = widths.get(edge.source, channels)
            operations[node, i] = _operation(edge.operation, width, channels, stride, style)
    conclude = {
        node: _concluded(widths[node], channels, reduces=reduces, style=style)
        for node in graph.output
        if node < graph.inputs and (reduces or widths[node] != channels)
    }
    return Cell(
        graph,
        channels,
        operations,
        prepare={node: inputs[node] for node in needed if node in inputs},
        conclude=conclude,
        stride=2 if reduces else 1,
        drop_prob=drop_prob,
        pieces=style.activation.pieces,
    )


def _operation(name: str, in_channels: int, out_channels: int, stride: int, style: Style) -> nn.Module:
    operation = OPERATIONS[name]
    assert operation is not None  # an edge that is not there is not among those of a graph
    return operation(in_channels, out_channels, stride, style)


def _prepared(source: Source | None, current: Source, channels: int, style: Style) -> nn.Module:
    if source is None:
        return nn.Identity()
    if source.halvings != current.halvings:
        return FactorizedReduction(source.channels, channels, style, activated_first=True)
    if source is not current and source.channels == channels:
        return nn.Identity()
    return style.chain(Conv(source.channels, channels, (1, 1)))


def _concluded(in_channels: int, channels: int, *, reduces: bool, style: Style) -> nn.Module:
    if reduces:
        return FactorizedReduction(in_channels, channels, style, activated_first=False)
    return style.projection(in_channels, channels)


class NasnetStem(nn.Module):
    """A convolution and cells: images -> `States`."""

    def __init__(self, conv: nn.Module, cells: Sequence[Cell]) -> None:
        super().__init__()
        self.conv = conv
        self.cells = nn.ModuleList(cells)

    def forward(self, images: Tensor) -> States:
        current = self.conv(images)
        previous = current
        for cell in self.cells:
            previous, current = current, cell(current, previous)
        return previous, current


class NasnetStage(nn.Module):
    """A reducing cell, but in the first stage, and normal cells: `States` -> `States`.

    Args:
        skips: whether the first normal cell gets the two outputs before the reducing cell's last input, rather than that.
    """

    def __init__(self, reduction: Cell | None, cells: Sequence[Cell], *, skips: bool) -> None:
        super().__init__()
        if reduction is not None:
            self.reduction = reduction
        self.reduces = reduction is not None
        self.cells = nn.ModuleList(cells)
        self.skips = skips

    def forward(self, states: States) -> States:
        previous, current = states
        if self.reduces:
            reduced = self.reduction(current, previous)
            previous, current = (previous if self.skips else current), reduced
        for cell in self.cells:
            previous, current = current, cell(current, previous)
        return previous, current


class LastState(nn.Module):
    """The output of the last cell, activated: `States` -> (N, C, H, W)."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, states: States) -> Tensor:
        out: Tensor = self.activation(states[-1])
        return out
