"""The contracts carry what no built-in family has yet: a token model with attention and auxiliary classifiers."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.initializers import Role, initialize, named_parameters
from models.initializers.gaussian import gaussian
from models.layers.activation import Activation, maxout, relu
from models.layers.block import linear_block
from models.layers.norm import (
    Norm,
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    no_norm,
    weight_norm,
)
from models.layers.place import Layout, Place, Position
from models.layers.residual import join, residual_branches
from models.outputs import Outputs

CLASSES, TOKENS, WIDTH = 3, 4, 8


class Attention(nn.Module):
    """Pre-normalized self-attention."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm.layer(WIDTH, Place(Layout.TOKENS, Position.NO_ACTIVATION))
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        out: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return out


class TokenModel(nn.Module):
    """2x2 patches of a 4x4 image and a class token; attention and a perceptron in residual branches; two classifiers."""

    parameter_roles: ClassVar = {"class_token": Role.TOKEN, "positions": Role.POSITION}

    def __init__(self, norm: Norm, activation: Activation) -> None:
        super().__init__()
        parts: dict[str, Any] = {"norm": norm, "activation": activation, "layout": Layout.TOKENS}
        self.patches = nn.Conv2d(1, WIDTH, 2, stride=2)
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, TOKENS + 1, WIDTH))
        self.attention = join(Attention(norm), nn.Identity(), WIDTH, norm=norm, activation=None, layout=Layout.TOKENS)
        perceptron = nn.Sequential(
            linear_block(WIDTH, 2 * WIDTH, **parts), linear_block(2 * WIDTH, WIDTH, ends_branch=True, **parts)
        )
        self.perceptron = join(perceptron, nn.Identity(), WIDTH, **parts)
        self.auxiliary = nn.Linear(WIDTH, CLASSES)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Outputs:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), tokens], 1) + self.positions
        middle = self.attention(tokens)
        return Outputs(self.classifier(self.perceptron(middle)[:, 0]), (self.auxiliary(middle[:, 0]),))


NORMS = {
    "none": no_norm(),
    "batch": batch_norm(),
    "layer": layer_norm(),
    "group": group_norm(num_groups=2),
    "instance": instance_norm(),
    "weight": weight_norm(),
    "local response": local_response_norm(),
}


@pytest.mark.parametrize("activation", [relu(), maxout()], ids=["relu", "maxout"])
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_a_token_model_trains_with_every_norm_and_with_maxout(norm: Norm, activation: Activation) -> None:
    torch.manual_seed(0)
    model = TokenModel(norm, activation)
    initialize(model, gaussian(std=0.3), torch.Generator().manual_seed(0))

    outputs = model(torch.randn(5, 1, 4, 4))
    losses = [F.cross_entropy(logits, torch.arange(5) % CLASSES) for logits in (outputs.main, *outputs.auxiliary)]
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]

    assert outputs.main.shape == outputs.auxiliary[0].shape == (5, CLASSES)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_an_initializer_visits_every_parameter_of_a_token_model_and_finds_its_branches() -> None:
    model = TokenModel(layer_norm(), relu())

    visited = {parameter.name: parameter.role for parameter in named_parameters(model)}

    assert visited["class_token"] is Role.TOKEN
    assert visited["positions"] is Role.POSITION
    in_projection = "attention.branch.attention.in_proj_weight"
    assert [name for name in visited if name.startswith(in_projection)] == [f"{in_projection}[{i}]" for i in range(3)]
    assert {name.partition("[")[0] for name in visited} == {name for name, _ in model.named_parameters()}
    assert Role.OTHER not in visited.values()
    assert len(list(residual_branches(model))) == 2


def test_an_initializer_draws_what_attention_and_tokens_start_from() -> None:
    first, again, other = (TokenModel(layer_norm(), relu()) for _ in range(3))
    for model, seed in ((first, 0), (again, 0), (other, 1)):
        initialize(model, gaussian(), torch.Generator().manual_seed(seed))

    for name in ("class_token", "positions", "attention.branch.attention.in_proj_weight", "classifier.weight"):
        assert torch.equal(first.get_parameter(name), again.get_parameter(name)), name
        assert not torch.equal(first.get_parameter(name), other.get_parameter(name)), name
