"""FractalNet: the recursion, its columns, and what is dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fractalnet import FractalBlock, FractalNetwork, FractalStage, _sampled, fractalnet
from models.layers.activation import relu
from models.layers.norm import batch_norm, no_norm


def network(columns: int = 3, blocks: int = 2, filters: int = 4, *, size: int = 8, **own: float) -> FractalNetwork:
    torch.manual_seed(0)
    return fractalnet(
        num_classes=3,
        in_channels=2,
        image_size=(size, size),
        columns=columns,
        blocks=blocks,
        filters=filters,
        dropout=own.pop("dropout", 0.0),
        **own,  # type: ignore[arg-type]
    )


def images(batch: int = 3) -> Tensor:
    return torch.randn(batch, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def stage_blocks(model: nn.Module) -> list[FractalBlock]:
    return [module.block for module in model.modules() if isinstance(module, FractalStage)]


def computed(model: FractalNetwork, run: Callable[[], object]) -> Counter[tuple[int, int]]:
    """(block, column) -> how many of its convolutions are computed."""
    found: Counter[tuple[int, int]] = Counter()
    handles = [
        unit.register_forward_hook(lambda *_, place=(number, column): found.update([place]))
        for number, block in enumerate(stage_blocks(model), start=1)
        for column, units in enumerate(block.columns, start=1)
        for unit in units  # type: ignore[attr-defined]
    ]
    run()
    for handle in handles:
        handle.remove()
    return found


def paper(inputs: int, take: Callable[[int], Tensor], z: Tensor) -> list[Tensor]:
    """What the join at the end of f_C gets: conv(z), and what that of the second f_(C-1) gets; `take` applies a convolution."""
    own = conv(take(inputs), z)
    if inputs == 1:
        return [own]
    first = mean(paper(inputs - 1, take, z))
    return [own, *paper(inputs - 1, take, first)]


def conv(weight: Tensor, z: Tensor) -> Tensor:
    return F.conv2d(z, weight, padding=1).relu()


def mean(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).mean(0)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_a_block_is_the_recursion_of_the_paper(columns: int) -> None:
    block = stage_blocks(network(columns, blocks=1).double())[0]
    convs = [[unit[0].weight for unit in units] for units in block.columns]  # type: ignore[union-attr]
    x = images().double()

    def take(size: int) -> Tensor:
        """The next convolution of the column that f_size adds: the innermost is the deepest column."""
        return convs[columns - size].pop(0)  # type: ignore[no-any-return]

    expected = mean(paper(columns, take, x))
    plain = FractalBlock([[ReluConv(unit[0]) for unit in units] for units in block.columns])  # type: ignore[union-attr]

    torch.testing.assert_close(plain(x), expected)
    assert not any(convs)


class ReluConv(nn.Module):
    """A convolution and ReLU, as the reference has them."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight

    def forward(self, x: Tensor) -> Tensor:
        return conv(self.weight, x)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_column_c_has_two_to_the_c_minus_one_convolutions(columns: int) -> None:
    model = network(columns).eval()

    for column in range(1, columns + 1):
        alone = model.only_column(column).eval()
        found = computed(model, lambda alone=alone: alone(images()))
        assert found == {(1, column): 2 ** (column - 1), (2, column): 2 ** (column - 1)}
    assert all(
        [len(units) for units in block.columns] == [2**c for c in range(columns)] for block in stage_blocks(model)
    )  # type: ignore[arg-type]


def test_a_column_alone_is_its_convolutions_in_a_row() -> None:
    model = network().eval()
    x = images()
    for block in stage_blocks(model):
        for unit in block.columns[1]:  # type: ignore[union-attr]
            x = unit(x)
        x = F.max_pool2d(x, 2)
    expected = model.get_submodule("classifier")(x.mean((2, 3)))

    torch.testing.assert_close(model.only_column(2).eval()(images()), expected)


def test_evaluation_computes_all_columns() -> None:
    model = network().eval()

    assert computed(model, lambda: model(images())) == {(b, c): n for b in (1, 2) for c, n in ((1, 1), (2, 2), (3, 4))}


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(ValueError, match=r"column must be one of 1, 2, 3, got 4"):
        network().only_column(4)


def test_a_join_keeps_at_least_one_input() -> None:
    torch.manual_seed(0)
    draws = [_sampled((1, 2, 3), 0.9) for _ in range(2000)]

    assert all(draws)
    alone = Counter(draw for draw in draws if len(draw) == 1)
    assert set(alone) == {(1,), (2,), (3,)}
    assert max(alone.values()) < 1.3 * min(alone.values())
    assert _sampled((3,), 0.9) == (3,)


def test_local_dropping_keeps_each_input_with_its_probability() -> None:
    torch.manual_seed(0)
    draws = [_sampled((1, 2), 0.15) for _ in range(4000)]

    # Both: 0.85^2; the standard deviation of a share of 4000 draws is at most 0.008.
    assert sum(len(draw) == 2 for draw in draws) / 4000 == pytest.approx(0.7225, abs=0.03)


def test_local_dropping_computes_the_expected_number_of_convolutions() -> None:
    """Two columns, 1 and 2 convolutions: both with 0.85^2, either alone with 0.85 * 0.15 + 0.15^2 / 2."""
    model = network(2, blocks=1, filters=1, global_share=0.0)
    alone = 0.85 * 0.15 + 0.15**2 / 2
    expected = 3 * 0.85**2 + (1 + 2) * alone

    torch.manual_seed(0)
    found = [computed(model, lambda: model(images(2))).total() for _ in range(500)]

    assert sum(found) / 500 == pytest.approx(expected, abs=0.1)  # a standard deviation of 0.032
    assert set(found) == {1, 2, 3}


def test_global_dropping_trains_one_column_of_all_blocks() -> None:
    model = network(global_share=1.0)
    torch.manual_seed(0)
    seen = set()
    for _ in range(30):
        found = computed(model, lambda: model(images()))
        ((column,)) = {column for _, column in found}
        assert found == {(b, column): 2 ** (column - 1) for b in (1, 2)}
        seen.add(column)

    assert seen == {1, 2, 3}


def test_a_global_sample_equals_the_column_alone() -> None:
    model = network(global_share=1.0)
    alone = {column: model.only_column(column)(images()) for column in (1, 2, 3)}

    torch.manual_seed(3)
    logits = model(images())
    assert sum(torch.equal(logits, each) for each in alone.values()) == 1


def test_half_of_the_mini_batches_are_global() -> None:
    model = network(2, blocks=4, filters=1, size=16)
    x = torch.randn(2, 2, 16, 16)
    torch.manual_seed(0)
    runs = [computed(model, lambda: model(x)) for _ in range(200)]
    # A local draw that looks like one column in all four blocks has a probability below 0.001.
    one_column = sum(len({column for _, column in found}) == 1 for found in runs)

    assert one_column / 200 == pytest.approx(0.5, abs=0.1)


def test_what_is_dropped_is_not_computed_and_gets_no_gradient() -> None:
    """The join at the end takes column 2 alone, whose second convolution reads the join of row 2, which takes column 3."""
    block = stage_blocks(network(3, blocks=1))[0]
    block(images(), {1: (3,), 2: (3,), 3: (3,), 4: (2,)}).sum().backward()

    with_gradient = {name.rpartition(".affine")[0] for name, p in block.named_parameters() if p.grad is not None}
    assert with_gradient - {""} == {"columns.1.1", "columns.2.0", "columns.2.1"}


def test_a_join_is_the_mean_of_what_it_keeps() -> None:
    block = stage_blocks(network(2, blocks=1))[0].eval()
    first, deep = block.columns
    x = images()

    one, two = first[0](x), deep[1](deep[0](x))  # type: ignore[index]
    torch.testing.assert_close(block(x), (one + two) / 2)
    assert torch.equal(block(x, {1: (2,), 2: (1,)}), one)
    assert torch.equal(block(x, {1: (2,), 2: (2,)}), two)


def test_dropout_grows_over_the_blocks() -> None:
    model = fractalnet(num_classes=3, in_channels=2, image_size=(32, 32), columns=2, filters=1)
    rates = [
        [module.p for module in block.modules() if isinstance(module, nn.Dropout)] for block in stage_blocks(model)
    ]

    assert rates[0] == []  # of rate 0
    assert [rate for block in rates[1:] for rate in block] == pytest.approx(
        [0.1] * 3 + [0.2] * 3 + [0.3] * 3 + [0.4] * 3
    )


def test_channels_of_the_paper_and_parameters_by_hand() -> None:
    """Three columns have seven convolutions in a block, three of which read the block's input."""
    with torch.device("meta"):
        model = fractalnet(num_classes=10, in_channels=3, image_size=(32, 32))
    channels = (3, 64, 128, 256, 512, 512)
    convs = sum(9 * out * (3 * into + 4 * out) + 7 * 2 * out for into, out in pairwise(channels))

    assert sum(p.numel() for p in model.parameters()) == convs + 512 * 10 + 10


def test_width_scales_all_channels() -> None:
    model = network(width=2.0)

    assert model.get_submodule("classifier").in_features == 16


def test_its_own_norm_and_activation_named_give_the_same() -> None:
    torch.manual_seed(0)
    named = fractalnet(
        num_classes=3,
        in_channels=2,
        image_size=(8, 8),
        columns=3,
        blocks=2,
        filters=4,
        dropout=0.0,
        norm=batch_norm(),
        activation=relu(),
    )

    assert torch.equal(named.eval()(images()), network().eval()(images()))


def test_without_a_norm_the_bias_is_back() -> None:
    model = fractalnet(num_classes=3, in_channels=2, image_size=(8, 8), blocks=2, filters=4, norm=no_norm())

    assert all(module.bias is not None for module in model.modules() if isinstance(module, nn.Conv2d))


def test_smallest_image() -> None:
    """Each block halves the image."""
    model = fractalnet(num_classes=3, in_channels=2, image_size=(8, 9), blocks=3, filters=4, global_share=0.0)
    assert model(torch.randn(2, 2, 8, 9)).shape == (2, 3)

    with pytest.raises(ValueError, match="fractalnet of 3 blocks needs at least 8x8 images, got 7x8"):
        fractalnet(num_classes=3, in_channels=2, image_size=(7, 8), blocks=3, filters=4)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        model(torch.randn(2, 2, 7, 8))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"columns": 0}, "columns must be at least 1, got 0"),
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
        ({"filters": 0}, "filters must be at least 1, got 0"),
        ({"width": 0.0}, "width must be positive and finite, got 0.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\), got 1.0"),
        ({"global_share": 1.1}, r"global_share must be in \[0, 1\], got 1.1"),
    ],
)
def test_values_outside_their_range_are_refused(own: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fractalnet(num_classes=3, in_channels=2, image_size=(32, 32), **own)  # type: ignore[arg-type]
