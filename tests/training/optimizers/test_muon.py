from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.training.optimizers import muon, named_parameters
from orchestrator.training.optimizers.muon import muon_groups, newton_schulz, orthogonalized
from orchestrator.training.optimizers.state import load_optimizer_state, split_optimizer_state


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 6), nn.ReLU(),
        nn.Linear(6, 6), nn.Linear(6, 3),
    )  # fmt: skip


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    images = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(images).square().mean().backward()
    optimizer.step()


def test_hidden_weights_are_orthogonalized_and_the_rest_is_adamws() -> None:
    model = network()
    names = {id(p): name for name, p in model.named_parameters()}
    groups = muon_groups(named_parameters(model), 0.1)
    found = [([names[id(p)] for p in g["params"]], g["orthogonal"], g["weight_decay"]) for g in groups]
    assert found == [
        (["2.weight", "5.weight", "7.weight"], True, 0.1),
        (["0.weight", "8.weight"], False, 0.1),
        (["0.bias", "2.bias", "3.weight", "3.bias", "5.bias", "7.bias", "8.bias"], False, 0.0),
    ]


def test_singular_values_near_one_and_the_singular_vectors_kept() -> None:
    """Against the singular value decomposition: of U S V^T it is nearly U V^T."""
    draws = torch.Generator().manual_seed(0)
    for shape in ((6, 10), (10, 6), (5, 3, 2, 2)):
        tensor = torch.randn(shape, generator=draws)
        (found,) = orthogonalized([tensor])
        u, _, vh = torch.linalg.svd(tensor.reshape(len(tensor), -1), full_matrices=False)
        within = u.mT @ found @ vh.mT
        assert ((within.diagonal() > 0.6) & (within.diagonal() < 1.25)).all()
        torch.testing.assert_close(within, torch.diag(within.diagonal()), rtol=0, atol=1e-4)


def test_newton_schulz_by_numpy() -> None:
    matrix = np.random.default_rng(0).normal(size=(7, 4))
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    np.testing.assert_allclose(newton_schulz(torch.tensor(matrix)[None])[0].numpy(), x, atol=1e-10)


def test_matrices_of_one_shape_are_orthogonalized_together_as_if_alone() -> None:
    draws = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=draws) for shape in ((4, 6), (6, 4), (4, 6), (4, 3, 2, 1))]
    for together, tensor in zip(orthogonalized(tensors), tensors, strict=True):
        torch.testing.assert_close(together, orthogonalized([tensor])[0], rtol=1e-5, atol=1e-6)


def test_ten_steps_equal_torchs_muon_and_adamw() -> None:
    ours, theirs = network(), network()
    settings: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1}
    optimizer = muon(named_parameters(ours), **settings)
    hidden = [p for name, p in theirs.named_parameters() if name in ("5.weight", "7.weight")]
    kernel = theirs[2].weight
    others = [p for p in theirs.parameters() if p is not kernel and all(p is not h for h in hidden)]
    matrix = nn.Parameter(kernel.detach().reshape(6, -1).clone())  # torch's takes no convolutions
    twins = [
        torch.optim.Muon([*hidden, matrix], **settings, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([p for p in others if p.ndim > 1], **settings),
        torch.optim.AdamW([p for p in others if p.ndim == 1], lr=0.01, weight_decay=0.0),
    ]
    for seed in range(10):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            # in each step from the same gradient: torch's rounds to bf16, which would be carried on
            a.grad = b.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(seed))
        assert kernel.grad is not None
        matrix.grad = kernel.grad.reshape(6, -1)
        optimizer.step()
        for twin in twins:
            twin.step()
    kernel.data.copy_(matrix.detach().view_as(kernel))
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        by_muon = name in ("2.weight", "5.weight", "7.weight")
        # ten steps of about 0.01 * 0.2: bf16 has 8 bits
        torch.testing.assert_close(a, b, rtol=0, atol=5e-4 if by_muon else 1e-6)


def test_state_taken_and_given_back_continues_bit_for_bit() -> None:
    model = network()
    optimizer = muon(named_parameters(model))
    for seed in range(3):
        step(model, optimizer, seed)
    tensors, rest = split_optimizer_state(optimizer)
    kept, rest = {name.removeprefix("optimizer/"): t.clone() for name, t in tensors.items()}, copy.deepcopy(rest)
    twin = copy.deepcopy(model)
    again = muon(named_parameters(twin))
    load_optimizer_state(again, kept, rest)
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(twin, again, seed)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_model_without_hidden_layers_is_adamws() -> None:
    model = nn.Linear(3, 2)
    optimizer = muon(named_parameters(model))
    assert [group["orthogonal"] for group in optimizer.param_groups] == [False, False]


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="momentum must be at least 0 and less than 1, got 1"):
        muon(named_parameters(nn.Linear(2, 2)), momentum=1.0)
