"""Networks of named parts, with and without auxiliary classifiers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.mlp import mlp
from models.network import Network, after_part, features_of, part_names
from models.outputs import Outputs

IMAGES = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Counted(nn.Linear):
    """A classifier that counts how often it was asked."""

    asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        return super().forward(x)


def network(*, heads: bool = True, skip: bool = False) -> Network:
    torch.manual_seed(0)
    parts = {
        "stage1": nn.Conv2d(3, 6, 3, padding=1),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(6, 2),
    }
    return Network(parts, heads={"flatten": Counted(6, 2)} if heads else None, skip=skip)


def test_the_parts_are_applied_in_their_order() -> None:
    model = network(heads=False)

    x = IMAGES
    for _, part in model.named_children():
        x = part(x)

    assert torch.equal(model(IMAGES), x)
    assert model.parts == part_names(model) == ("stage1", "pool", "flatten", "classifier")
    assert [name for name, _ in model.named_parameters()] == [
        *("stage1.weight", "stage1.bias"),
        *("classifier.weight", "classifier.bias"),
    ]


def test_heads_give_logits_in_training_and_cost_nothing_in_evaluation() -> None:
    model, without = network(), network(heads=False)

    outputs = model(IMAGES)
    assert isinstance(outputs, Outputs)
    torch.testing.assert_close(outputs.main, without(IMAGES), rtol=0, atol=0)
    features = after_part(model, IMAGES, "flatten")
    torch.testing.assert_close(outputs.auxiliary, (model.heads["flatten"](features),), rtol=0, atol=0)

    asked = model.heads["flatten"].asked
    assert torch.equal(model.eval()(IMAGES), outputs.main)
    assert model.heads["flatten"].asked == asked


@pytest.mark.parametrize("training", [True, False])
def test_skips_add_their_logits_to_the_main_ones(training: bool) -> None:
    model, parts = network(skip=True).train(training), network()
    outputs = parts(IMAGES)

    torch.testing.assert_close(model(IMAGES), outputs.main + outputs.auxiliary[0])


def test_a_head_at_no_part_is_refused() -> None:
    with pytest.raises(ValueError, match="auxiliary heads at stage7, stage9; the parts are stage1, classifier"):
        Network(
            {"stage1": nn.Identity(), "classifier": nn.Identity()},
            heads={"stage9": nn.Identity(), "stage7": nn.Identity()},
        )


def test_features_after_a_part_are_means_over_the_positions() -> None:
    model = network()

    found = after_part(model, IMAGES, "stage1")

    torch.testing.assert_close(found, model.get_submodule("stage1")(IMAGES).flatten(2).mean(2))
    assert torch.equal(after_part(model, IMAGES, "classifier"), model.eval()(IMAGES))


def test_a_part_may_hand_on_a_tuple_whose_last_element_are_the_features() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, 2 * x

    class Sum(nn.Module):
        def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
            return pair[0] + pair[1]

    parts: dict[str, Any] = {"stage1": Pair(), "classifier": Sum()}
    x = torch.ones(2, 3)

    assert torch.equal(after_part(Network(parts), x, "stage1"), 2 * x)
    outputs = Network(parts, heads={"stage1": nn.Identity()})(x)
    assert isinstance(outputs, Outputs)
    assert torch.equal(outputs.main, 3 * x)
    assert torch.equal(outputs.auxiliary[0], 2 * x)
    assert features_of(x) is x


def test_a_plain_sequence_has_its_children_as_parts() -> None:
    model = mlp(num_classes=2, in_channels=3, image_size=(4, 4), hidden=1, width=7)

    assert part_names(model) == ("0", "1", "2", "3")
    assert after_part(model, IMAGES, "2").shape == (5, 7)


def test_an_unknown_part_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(ValueError, match="no part stage2; its parts are stage1, pool, flatten, classifier"):
        after_part(network(), IMAGES, "stage2")
