"""Dropout at test time against sums over all masks, and against the network whose training does not scale."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from orchestrator.training import evaluate
from orchestrator.training.batches import Split
from orchestrator.training.evaluation.drawn import BLOCK
from orchestrator.training.evaluation.dropout_unscaled import dropout_unscaled
from orchestrator.training.evaluation.monte_carlo_dropout import monte_carlo_dropout

RATE = 0.3


def split_of(images: Tensor) -> Split:
    count = len(images)
    return Split(
        np.arange(count),
        torch.zeros(count, dtype=torch.int64),
        images,
        torch.arange(count),
        lambda batch: batch,
        images,
    )


def images_of(count: int, *shape: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(3))


def linear(features: int, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(RATE), nn.Linear(features, classes)).eval()


def all_masks(features: int) -> list[tuple[float, Tensor]]:
    """(probability, mask) of each."""
    found = []
    for bits in itertools.product((0.0, 1.0), repeat=features):
        kept = sum(bits)
        found.append(((1 - RATE) ** kept * RATE ** (features - kept), torch.tensor(bits, dtype=torch.float64)))
    return found


def test_the_output_at_test_is_the_expected_output_in_training_exactly_for_one_linear_layer() -> None:
    """Scaled dropout, which is the ordinary inference, against the sum over all 2^8 masks of torch's training pass."""
    model, x = linear(8).double(), images_of(5, 1, 2, 4).double()
    with torch.no_grad():
        expected = sum(p * model[2](x.flatten(1) * mask / (1 - RATE)) for p, mask in all_masks(8))
        torch.testing.assert_close(model(x), expected, atol=1e-12, rtol=0)


def test_unscaled_is_the_test_without_factor_of_a_network_whose_training_does_not_scale() -> None:
    """Such a network multiplies by masks alone; it computes the same in training with its weights divided by keep."""
    model, x = linear(8), images_of(5, 1, 2, 4)
    keep = 1 - RATE
    plain_weight = model[2].weight / keep
    mask = (torch.rand(5, 8, generator=torch.Generator().manual_seed(1)) < keep).float()
    with torch.no_grad():
        inverted = model[2](x.flatten(1) * mask / keep)
        torch.testing.assert_close((x.flatten(1) * mask) @ plain_weight.T + model[2].bias, inverted)
        expected = torch.log_softmax(x.flatten(1) @ plain_weight.T + model[2].bias, 1)
    said = evaluate.logits(model, split_of(x), evaluation=dropout_unscaled())
    torch.testing.assert_close(said, expected - expected.amax(1, keepdim=True), atol=1e-5, rtol=0)
    with torch.no_grad():
        assert torch.equal(model(x), model[2](x.flatten(1))), "nothing is left in the model"


def test_monte_carlo_dropout_nears_the_mean_over_all_masks() -> None:
    model, x = linear(8), images_of(4, 1, 2, 4)
    with torch.no_grad():
        expected = sum(
            p * torch.softmax(model[2](x.flatten(1) * mask.float() / (1 - RATE)).double(), 1)
            for p, mask in all_masks(8)
        )
    said = evaluate.logits(model, split_of(x), evaluation=monte_carlo_dropout(masks=4_000, seed=5))
    # a probability has a standard deviation of at most 1/2, the mean of 4,000 of at most 0.008
    torch.testing.assert_close(torch.softmax(said.double(), 1), expected, atol=0.032, rtol=0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.Dropout2d(0.5),
        nn.Flatten(),
        nn.Dropout(RATE),
        nn.Linear(96, 3),
    )


@pytest.mark.parametrize("at_once", [1, 7, BLOCK, 1_000])
def test_masks_are_the_same_bit_for_bit_however_images_are_divided(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the dropout layers return; and, up to the last digits of a product of another size, what the network says."""
    model, x, evaluation = network(), images_of(2 * BLOCK + 5, 1, 4, 4), monte_carlo_dropout(masks=2, seed=1)

    def dropped(size: int) -> tuple[Tensor, Tensor]:
        returned: list[Tensor] = []
        ones = nn.Sequential(nn.Flatten(), nn.Dropout(RATE), _Told(returned))
        monkeypatch.setattr(evaluate, "EXAMPLES_AT_ONCE", size)
        evaluate.logits(ones, split_of(torch.ones_like(x)), evaluation=evaluation)
        passes = [torch.cat(returned[number::2]) for number in range(2)]
        return torch.stack(passes), evaluate.logits(model, split_of(x), evaluation=evaluation)

    (masks, said), (again, said_again) = dropped(at_once), dropped(len(x))
    assert torch.equal(masks, again)
    torch.testing.assert_close(said, said_again, atol=1e-5, rtol=0)
    assert not torch.equal(masks[0], masks[1]), "each pass has masks of its own"
    assert not torch.equal(masks[0][0], masks[0][1]), "and each image"
    assert masks.unique().tolist() == pytest.approx([0, 1 / (1 - RATE)])


class _Told(nn.Module):
    """Keeps what it is given."""

    def __init__(self, returned: list[Tensor]) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, x: Tensor) -> Tensor:
        self.returned.append(x.clone())
        return x


def test_only_dropout_drops_and_nothing_is_drawn_from_the_global_generator() -> None:
    model, x = network().train(), images_of(9, 1, 4, 4)
    state, before = {name: one.clone() for name, one in model.state_dict().items()}, torch.get_rng_state()
    one, other = (evaluate.logits(model, split_of(x), evaluation=monte_carlo_dropout(masks=3, seed=2)) for _ in "ab")
    assert torch.equal(one, other), "the same numbers again"
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, state[name]) for name, one in model.state_dict().items()), "norms gather nothing"
    assert not torch.equal(one, evaluate.logits(model, split_of(x), evaluation=monte_carlo_dropout(masks=3, seed=4)))
    plain = evaluate.logits(model, split_of(x))
    with torch.no_grad():
        expected = model.eval()(x)
    torch.testing.assert_close(plain, expected - expected.amax(1, keepdim=True))


def test_layers_that_drop_channels_drop_them_whole() -> None:
    returned: list[Tensor] = []
    model = nn.Sequential(nn.Dropout2d(0.5), _Told(returned), nn.Flatten())
    evaluate.logits(model, split_of(torch.ones(20, 6, 3, 3)), evaluation=monte_carlo_dropout(masks=1))
    whole = returned[0].flatten(2)
    assert torch.equal(whole, whole[..., :1].expand_as(whole))
    assert whole[..., 0].unique().tolist() == [0.0, 2.0]


@pytest.mark.parametrize("evaluation", [monte_carlo_dropout(), dropout_unscaled()], ids=["monte_carlo", "unscaled"])
@pytest.mark.parametrize(
    ("model", "why"),
    [
        (nn.Linear(2, 2), "needs a network with dropout, and this one has none; model.dropout=0.5"),
        (nn.Sequential(nn.Dropout(0.0)), "this one has none"),
        (nn.Sequential(nn.AlphaDropout(0.5)), "this network has AlphaDropout"),
    ],
)
def test_a_network_without_dropout_is_refused(evaluation: Any, model: nn.Module, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        evaluation.check(model, (1, 8, 8))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="masks must be from 1 to 10000, got 0"):
        monte_carlo_dropout(masks=0)
    with pytest.raises(ValueError, match=r"keeps nothing \(rate 1\)"):
        dropout_unscaled().check(nn.Sequential(nn.Dropout(1.0)), (1, 8, 8))


def test_a_layer_of_4096_units_has_about_10_to_the_1233_masks() -> None:
    """The lectures' number of thinned networks, and that the masks drawn are of so many: about half of 4,096 units are kept."""
    assert round(4096 * math.log10(2), 2) == 1233.02
    assert len(str(2**4096)) == 1234
    returned: list[Tensor] = []
    model = nn.Sequential(nn.Dropout(0.5), _Told(returned), nn.Flatten())
    evaluate.logits(model, split_of(torch.ones(3, 4096, 1, 1)), evaluation=monte_carlo_dropout(masks=2))
    masks = {tuple(row.tolist()) for one in returned for row in one.flatten(1)}
    assert len(masks) == 6
    assert all(abs(sum(row) / 2 - 2048) < 6 * 32 for row in masks), "32 is the standard deviation"
