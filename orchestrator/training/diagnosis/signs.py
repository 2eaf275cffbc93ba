"""How far the gradients of the weights into one unit of the first layer agree in sign, for one example at a time.

The gradient of a weight is the unit's gradient times the input, so that inputs that are never negative give all weights of a
unit the same sign: they can only grow or shrink together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from orchestrator.training.diagnosis.layers import watched
from orchestrator.training.diagnosis.subject import Subject

EXAMPLES = 32


def sign_agreement(subject: Subject) -> float | None:
    """The mean share of the sign that most weight gradients of a unit have, in [0.5, 1]; gradients of 0 are left out.

    None where the first layer is neither linear nor an ungrouped convolution of maps, or has no gradient at all.
    """
    with subject.at_work(), watched(subject.model) as watch:
        subject.model(subject.batch.images[:2])
    first = subject.model.get_submodule(next(iter(watch.activations()), ""))
    if not is_plain(first):
        return None
    inputs, gradients = _inputs_and_gradients(subject, first)
    return None if gradients is None else agreement_of(first, inputs, gradients)


def agreement_of(layer: nn.Module, inputs: Tensor, gradients: Tensor) -> float | None:
    """The same of what went into a layer that `is_plain`, and the gradients of what came out."""
    return majority_share(per_example(layer, inputs[:EXAMPLES], gradients[:EXAMPLES]))


def majority_share(gradients_NOK: Tensor) -> float | None:
    """Of gradients of examples N, units O and weights K."""
    positive, negative = (gradients_NOK > 0).sum(2), (gradients_NOK < 0).sum(2)
    counted = positive + negative
    some = counted > 0
    if not some.any():
        return None
    return float((torch.maximum(positive, negative)[some].double() / counted[some]).mean())


def per_example(layer: nn.Module, inputs: Tensor, gradients: Tensor) -> Tensor:
    """The gradient of the layer's weight by each example, [N, outputs, weights of an output].

    Args:
        gradients: of the layer's outputs.
    """
    if isinstance(layer, nn.Linear):
        return gradients.unsqueeze(2) * inputs.unsqueeze(1)
    assert isinstance(layer, nn.Conv2d)
    how = (layer.stride, layer.padding, layer.dilation)
    pairs = zip(torch.split(inputs, 1), torch.split(gradients, 1), strict=True)
    each = [conv2d_weight(one, layer.weight.shape, gradient, *how) for one, gradient in pairs]  # type: ignore[no-untyped-call]
    return torch.stack(each).flatten(2)


def is_plain(layer: nn.Module) -> bool:
    """Whether the gradient of its weight by one example can be told."""
    if isinstance(layer, nn.Linear):
        return True
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"


def _inputs_and_gradients(subject: Subject, layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """What goes into a layer, and the gradient of what comes out."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def seen(module: nn.Module, given: tuple[Tensor, ...], given_back: Tensor) -> None:
        inputs.append(given[0].detach())
        outputs.append(given_back)

    handle = layer.register_forward_hook(seen)
    try:
        with subject.at_work():
            loss, _ = subject.forward()
            if inputs[0].ndim not in (2, 4) or not outputs[0].requires_grad:
                return inputs[0], None
            (gradient,) = torch.autograd.grad(loss, outputs[0], allow_unused=True)
            return inputs[0], gradient
    finally:
        handle.remove()
