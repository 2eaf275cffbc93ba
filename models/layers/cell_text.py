"""A cell as a text: which operation leads from which node to which, in the notation of NAS-Bench-201.

`|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|` adds two nodes to the one input, which is node 0: node 1 is a
convolution of node 0; node 2 is the sum of node 0 and of an average pooling of node 1. With two inputs, nodes 0 and 1,
the first node written is node 2. Blanks and line breaks mean nothing, and a node may be read twice.

Source: Dong and Yang 2020, NAS-Bench-201, arXiv:2001.00326.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

NOTHING = "none"
"""The operation of an edge that is not there; its value is 0."""

MAX_NODES = 16
MAX_EDGES = 16
"""Of one node. The cells of the literature have four to nine nodes and up to three edges a node."""


@dataclass(frozen=True)
class Edge:
    """An operation on the value of an earlier node."""

    operation: str
    source: int


@dataclass(frozen=True)
class CellGraph:
    """What a cell computes.

    Args:
        inputs: how many nodes are given; they are 0, 1, ...
        nodes: the edges that lead to each further node, whose value is the sum of them.
        output: the nodes that are the cell's output, concatenated.
    """

    inputs: int
    nodes: tuple[tuple[Edge, ...], ...]
    output: tuple[int, ...]

    def edges(self, node: int) -> tuple[Edge, ...]:
        """The edges that lead to a node, without those that are not there; inputs have none."""
        written = () if node < self.inputs else self.nodes[node - self.inputs]
        return tuple(edge for edge in written if edge.operation != NOTHING)

    def needed(self) -> tuple[int, ...]:
        """The nodes that the output depends on, in the order of computation; inputs are among them."""
        found = set(self.output)
        for node in range(self.inputs + len(self.nodes) - 1, -1, -1):
            if node in found:
                found |= {edge.source for edge in self.edges(node)}
        return tuple(sorted(found))


def parse_cell(
    name: str, text: str, *, inputs: int, operations: Collection[str], output: Sequence[int] | None = None
) -> CellGraph:
    """The cell that a text describes.

    Args:
        name: of the argument that holds the text, for what is said about mistakes.
        inputs: how many nodes are given.
        operations: the names that may stand in the text.
        output: None are all written nodes that no other reads.

    Raises:
        ValueError: the text is none in this notation, an operation is unknown, or a node takes one that does not come
            before it; with the node, what was received and the nearest name.
    """
    written = re.sub(r"\s", "", text).split("+")
    if len(written) > MAX_NODES:
        raise ValueError(f"{name} has {len(written)} nodes; at most {MAX_NODES} are built")
    nodes = tuple(_edges(f"{name}: node {inputs + i}", part, inputs + i, operations) for i, part in enumerate(written))
    last = inputs + len(nodes) - 1
    if output is None:
        read = {edge.source for edges in nodes for edge in edges if edge.operation != NOTHING}
        output = [node for node in range(inputs, last + 1) if node not in read]
    return CellGraph(inputs, nodes, _checked_output(name, output, last))


def _edges(where: str, text: str, node: int, operations: Collection[str]) -> tuple[Edge, ...]:
    form = "must be written |OPERATION~NODE|OPERATION~NODE|"
    if len(text) < 2 or text[0] != "|" or text[-1] != "|":
        raise ValueError(f"{where} {form}, got {_shown(text)}")
    written = text[1:-1].split("|")
    if len(written) > MAX_EDGES:
        raise ValueError(f"{where} has {len(written)} edges; at most {MAX_EDGES} are built")
    found = []
    for each in written:
        match = re.fullmatch(r"(\w+)~([0-9]{1,3})", each, re.ASCII)
        if match is None:
            raise ValueError(f"{where} {form}, got {_shown(each)}")
        _check_operation(where, match[1], operations)
        if int(match[2]) >= node:
            raise ValueError(f"{where} takes node {int(match[2])}, but only nodes 0 to {node - 1} come before it")
        found.append(Edge(match[1], int(match[2])))
    return tuple(found)


def _check_operation(where: str, operation: str, operations: Collection[str]) -> None:
    if operation in operations:
        return
    nearest = get_close_matches(operation, operations, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(operations)}"
    raise ValueError(f"{where} has the unknown operation {_shown(operation)}; {hint}")


def _checked_output(name: str, output: Sequence[int], last: int) -> tuple[int, ...]:
    if not output:
        raise ValueError(f"{name}: the output holds no node; there are 0 to {last}")
    for node in output:
        if not 0 <= node <= last:
            raise ValueError(f"{name}: the output holds node {node}; there are 0 to {last}")
    if len(set(output)) < len(output):
        raise ValueError(f"{name}: the output holds a node twice: {', '.join(map(str, output))}")
    return tuple(output)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
