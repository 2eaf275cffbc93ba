"""Muon: the momentum of each hidden matrix orthogonalized, so that a step has all singular values near 1; AdamW for the rest.

Source: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks, with the coefficients of there; its scale is
that of Liu et al. 2025, Muon is scalable for LLM training, arXiv:2502.16982, section 2.2 (torch's match_rms_adamw), with which
one learning rate fits both parts. Our deviations: matrices of one shape are stacked and orthogonalized together, in fp32 on the
CPU (a Newton-Schulz step in bf16 is slow there); only weights decay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from orchestrator.training import private
from orchestrator.training.optimizers.adam import settings as adam_settings
from orchestrator.training.optimizers.adamw import AdamW
from orchestrator.training.optimizers.lists import Group, require
from orchestrator.training.optimizers.parameters import NamedParameter, decay_groups

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a x + b x^3 + c x^5 that a Newton-Schulz step applies to every singular value."""

NEWTON_SCHULZ_STEPS = 5


def muon(
    named_params: Sequence[NamedParameter],
    *,
    lr: float = 1e-3,
    momentum: float = 0.95,
    nesterov: bool = True,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> Muon:
    """w = w - lr 0.2 sqrt(max(rows, columns)) orthogonalized(momentum) for hidden weights, and AdamW for all else.

    Convolutions are matrices of one row for each output. The first and the last layer, biases and norms are AdamW's.

    Args:
        betas, eps: AdamW's.
        weight_decay: decoupled, of both.

    Raises:
        ValueError: a setting is outside its range.
    """
    require("momentum", momentum, low=0, below=1)
    shared = adam_settings(lr, betas, eps, weight_decay)
    return Muon(muon_groups(named_params, weight_decay), {**shared, "momentum": momentum, "nesterov": nesterov})


def muon_groups(named: Sequence[NamedParameter], weight_decay: float) -> list[Group]:
    """Parameter groups: hidden weights with a true `orthogonal`, and the others by whether they decay.

    Hidden are the weights of all layers but the first and the last.
    """
    hidden = [p for p in named if p.role == "weight" and 0 < p.layer < p.layers - 1]
    others = [p for p in named if p not in hidden]
    groups = [{**group, "orthogonal": True} for group in decay_groups(hidden, weight_decay)]
    return groups + [{**group, "orthogonal": False} for group in decay_groups(others, weight_decay)]


class Muon(AdamW):
    slots = ("exp_avg", "exp_avg_sq")

    def used(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["orthogonal"] else self.slots

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *slots: list[Tensor]) -> None:
        if not group["orthogonal"]:
            super().update(group, params, grads, *slots)
            return
        momentum = group["momentum"]
        private.mul_(slots[0], momentum)
        private.add_(slots[0], grads)
        steps = private.add(grads, slots[0], alpha=momentum) if group["nesterov"] else slots[0]
        if group["weight_decay"]:
            private.mul_(params, 1 - group["lr"] * group["weight_decay"])
        for param, step in zip(params, orthogonalized(steps), strict=True):
            scale = 0.2 * max(len(param), param.numel() // len(param)) ** 0.5
            param.add_(step.reshape(param.shape), alpha=-group["lr"] * scale)


def orthogonalized(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each tensor as the matrix [N, -1] with its singular vectors, and singular values between about 0.7 and 1.2."""
    matrices = [tensor.reshape(len(tensor), -1) for tensor in tensors]
    by_shape: dict[Any, list[int]] = {}
    for place, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(place)
    for places in by_shape.values():
        stacked = newton_schulz(torch.stack([matrices[place] for place in places]))
        for place, matrix in zip(places, stacked, strict=True):
            matrices[place] = matrix
    return matrices


def newton_schulz(matrices: Tensor) -> Tensor:
    """The same of a stack of matrices [M, R, C]; in bf16 on a GPU."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x: Tensor = wide.to(torch.bfloat16) if matrices.is_cuda else wide
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]  # no singular value is above 1
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.to(matrices.dtype)
    return x if wide is matrices else x.mT
