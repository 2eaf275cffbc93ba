"""Cells as texts."""

from __future__ import annotations

import pytest

from models.layers.cell_operations import OPERATIONS
from models.layers.cell_text import CellGraph, Edge, parse_cell


def parse(text: str, inputs: int = 1, output: tuple[int, ...] | None = None) -> CellGraph:
    return parse_cell("cell", text, inputs=inputs, operations=OPERATIONS, output=output)


def test_a_text_is_nodes_and_their_edges() -> None:
    assert parse("|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|") == CellGraph(
        1, ((Edge("nor_conv_3x3", 0),), (Edge("skip_connect", 0), Edge("avg_pool_3x3", 1))), (2,)
    )


def test_blanks_and_line_breaks_mean_nothing() -> None:
    assert parse("|skip_connect~0|\n  + |nor_conv_1x1~0| skip_connect~1 |") == parse(
        "|skip_connect~0|+|nor_conv_1x1~0|skip_connect~1|"
    )


def test_the_output_is_what_no_other_node_reads() -> None:
    assert parse("|sep_conv_3x3~0|+|sep_conv_3x3~1|+|sep_conv_3x3~0|none~2|", inputs=1).output == (2, 3)
    assert parse("|sep_conv_3x3~0|+|sep_conv_3x3~1|", inputs=2).output == (2, 3)
    assert parse("|sep_conv_3x3~0|+|sep_conv_3x3~1|", inputs=2, output=(1, 3)).output == (1, 3)


def test_only_what_the_output_depends_on_is_needed() -> None:
    graph = parse("|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|", output=(3,))

    assert graph.needed() == (0, 2, 3)
    assert graph.edges(3) == (Edge("nor_conv_1x1", 2),)
    assert parse("|none~0|").needed() == (1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("|nor_conv_3x4~0|", "^cell: node 1 has the unknown operation 'nor_conv_3x4'; did you mean nor_conv_3x3?"),
        ("|zzz~0|", "^cell: node 1 has the unknown operation 'zzz'; there are none, skip_connect, avg_pool_3x3, "),
        ("|skip_connect~1|", "^cell: node 1 takes node 1, but only nodes 0 to 0 come before it"),
        ("|skip_connect~0|+|skip_connect~7|", "^cell: node 2 takes node 7, but only nodes 0 to 1 come before it"),
        ("|skip_connect~0|+", r"^cell: node 2 must be written \|OPERATION~NODE\|OPERATION~NODE\|, got ''"),
        ("", r"^cell: node 1 must be written \|OPERATION~NODE\|OPERATION~NODE\|, got ''"),
        ("|", r"got '\|'"),
        ("||", "node 1 must be written .*, got ''"),
        ("skip_connect~0", "node 1 must be written .*, got 'skip_connect~0'"),
        ("|skip_connect|", "node 1 must be written .*, got 'skip_connect'"),
        ("|skip_connect~-1|", "node 1 must be written .*, got 'skip_connect~-1'"),
        ("|skip_connect~٠|", "node 1 must be written .*, got 'skip_connect~٠'"),
        ("|skip_connect~99999999999999999999|", "node 1 must be written"),
        ("|skip_connect~0||skip_connect~0|", "node 1 must be written .*, got ''"),
        ("|__import__('os')~0|", "node 1 must be written"),
        ("|" + "x" * 9000 + "~0|", r"unknown operation 'x{60}\.\.\.'"),
        ("|skip_connect" * 17 + "|", "^cell: node 1 has 17 edges; at most 16 are built"),
        ("+".join(["|skip_connect~0|"] * 17), "^cell has 17 nodes; at most 16 are built"),
    ],
)
def test_a_mistake_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((), "cell: the output holds no node; there are 0 to 2"),
        ((3,), "cell: the output holds node 3; there are 0 to 2"),
        ((-1,), "cell: the output holds node -1; there are 0 to 2"),
        ((2, 2), "cell: the output holds a node twice: 2, 2"),
    ],
)
def test_an_output_that_is_not_there_is_refused(output: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse("|skip_connect~0|", inputs=2, output=output)
