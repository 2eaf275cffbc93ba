from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from orchestrator.training.optimizers import decay_groups, named_parameters


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.temperature = nn.Parameter(torch.ones(()))
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 2)
        self.tied = self.head


def test_names_roles_and_layers() -> None:
    found = [(p.name, p.role, p.layer) for p in named_parameters(Net())]
    assert found == [
        ("token", "weight", 0),
        ("temperature", "other", 0),
        ("conv.weight", "weight", 1),
        ("conv.bias", "bias", 1),
        ("norm.weight", "norm", 2),
        ("norm.bias", "norm", 2),
        ("head.weight", "weight", 4),
        ("head.bias", "bias", 4),
    ]


def test_weight_normalization_is_of_its_layer_and_its_lengths_do_not_decay() -> None:
    parametrized = weight_norm(nn.Linear(3, 2))
    for model, before in ((nn.Sequential(parametrized, nn.Linear(2, 2)), "0."), (parametrized, "")):
        found = [(p.name, p.role, p.layer, p.layers) for p in named_parameters(model)][:3]
        layers = len(model) if isinstance(model, nn.Sequential) else 1
        assert found == [
            (f"{before}bias", "bias", 0, layers),
            (f"{before}parametrizations.weight.original0", "norm", 0, layers),
            (f"{before}parametrizations.weight.original1", "weight", 0, layers),
        ]
        assert {p.module for p in named_parameters(model)[:3]} == {parametrized}


def test_order_is_that_of_the_parameters_and_the_classifier_is_last() -> None:
    model = Net()
    named = named_parameters(model)
    assert [id(p.parameter) for p in named] == [id(p) for p in model.parameters() if p.requires_grad]
    assert [p.name for p in named if p.layer == p.layers - 1] == ["head.weight", "head.bias"]
    assert named[-1].module is model.head


def test_weights_decay_and_nothing_else() -> None:
    model = Net()
    decayed, free = decay_groups(named_parameters(model), 0.01)
    assert [tuple(p.shape) for p in decayed["params"]] == [(1, 1, 4), (4, 3, 3, 3), (2, 4)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    assert len(free["params"]) == 5


def test_a_group_without_parameters_is_left_out() -> None:
    (group,) = decay_groups(named_parameters(nn.Linear(2, 2, bias=False)), 0.1)
    assert group["weight_decay"] == 0.1
