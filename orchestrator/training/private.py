"""Every name of torch and safetensors that they call private, in one place, each with the public way beside it.

The private way is taken where it is there, since the public one costs time: see the figures at each (torch 2.15, one core). A
test runs both and compares the bits; those of the fused updates, which round in another order, to float32 rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

try:
    from safetensors import TensorSpec, serialize
except ImportError:  # an older or newer safetensors
    TensorSpec = serialize = None  # type: ignore[assignment,misc]


# determinism ----------------------------------------------------------------------------------------------------------


def public_set_deterministic(wanted: bool) -> None:
    """Allow only deterministic algorithms, or any; importing torch's compiler costs 6 s of CPU time."""
    torch.use_deterministic_algorithms(wanted, warn_only=True)


def _private_set_deterministic(wanted: bool) -> None:
    torch._C._set_deterministic_algorithms(wanted, warn_only=True)


set_deterministic = (
    _private_set_deterministic if hasattr(torch._C, "_set_deterministic_algorithms") else public_set_deterministic
)


# the backward pass ----------------------------------------------------------------------------------------------------


def public_backward(loss: Tensor, seed: Tensor, keep_graph: bool) -> None:
    """Add the gradient of a scalar on the CPU to the `grad` of its leaves.

    Checking its arguments and handing the compiler's context to the threads of other devices, which the CPU has not, takes 60
    us of the 390 us of a small network's step.

    Args:
        seed: the gradient of the loss by itself, 1.
        keep_graph: whether the gradients can be differentiated again.
    """
    loss.backward(seed, retain_graph=keep_graph, create_graph=keep_graph)  # type: ignore[no-untyped-call]


def _private_backward(loss: Tensor, seed: Tensor, keep_graph: bool) -> None:
    _engine.run_backward((loss,), (seed,), keep_graph, keep_graph, (), allow_unreachable=True, accumulate_grad=True)


def public_gradients(
    ys: Sequence[Tensor], xs: Sequence[Tensor], along: Sequence[Tensor], create_graph: bool
) -> tuple[Tensor | None, ...]:
    """The gradient of sum(y * along) by each x, None where it does not depend on it; the graph is kept.

    Checking its arguments imports sympy: 1 to 3 s.
    """
    return torch.autograd.grad(ys, xs, along, retain_graph=True, create_graph=create_graph, allow_unused=True)


def _private_gradients(
    ys: Sequence[Tensor], xs: Sequence[Tensor], along: Sequence[Tensor], create_graph: bool
) -> tuple[Tensor | None, ...]:
    found: tuple[Tensor | None, ...] = _engine.run_backward(
        tuple(ys), tuple(along), True, create_graph, tuple(xs), allow_unreachable=True, accumulate_grad=False
    )
    return found


_engine: Any = getattr(torch.autograd.Variable, "_execution_engine", None)
backward = public_backward if _engine is None else _private_backward
gradients = public_gradients if _engine is None else _private_gradients


# lists of tensors -----------------------------------------------------------------------------------------------------

Tensors = Sequence[Tensor]


def public_norms(tensors: Tensors, order: float, dtype: torch.dtype) -> list[Tensor]:
    """The length of each tensor, computed in `dtype`."""
    return [torch.linalg.vector_norm(tensor, order, dtype=dtype) for tensor in tensors]


def public_add(tensors: Tensors, others: Tensors, *, alpha: float = 1.0) -> list[Tensor]:
    """tensor + alpha other, for each pair."""
    return [tensor.add(other, alpha=alpha) for tensor, other in zip(tensors, others, strict=True)]


def public_add_(tensors: Tensors, others: Tensors | float, *, alpha: float = 1.0) -> None:
    """tensor += alpha other, for each pair, or one number for all."""
    if isinstance(others, int | float):
        for tensor in tensors:
            tensor.add_(others, alpha=alpha)
    else:
        for tensor, other in zip(tensors, others, strict=True):
            tensor.add_(other, alpha=alpha)


def public_mul_(tensors: Tensors, factor: float) -> None:
    """tensor *= factor, for each."""
    for tensor in tensors:
        tensor.mul_(factor)


def public_addcmul_(tensors: Tensors, ones: Tensors, others: Tensors, *, value: float = 1.0) -> None:
    """tensor += value one other, for each triple."""
    for tensor, one, other in zip(tensors, ones, others, strict=True):
        tensor.addcmul_(one, other, value=value)


def public_addcdiv_(tensors: Tensors, ones: Tensors, others: Tensors, *, value: float = 1.0) -> None:
    """tensor += value one / other, for each triple."""
    for tensor, one, other in zip(tensors, ones, others, strict=True):
        tensor.addcdiv_(one, other, value=value)


def public_sqrt(tensors: Tensors) -> list[Tensor]:
    """The square root of each tensor."""
    return [tensor.sqrt() for tensor in tensors]


norms: Callable[..., Any] = getattr(torch, "_foreach_norm", public_norms)
add: Callable[..., Any] = getattr(torch, "_foreach_add", public_add)
add_: Callable[..., Any] = getattr(torch, "_foreach_add_", public_add_)
mul_: Callable[..., Any] = getattr(torch, "_foreach_mul_", public_mul_)
addcmul_: Callable[..., Any] = getattr(torch, "_foreach_addcmul_", public_addcmul_)
addcdiv_: Callable[..., Any] = getattr(torch, "_foreach_addcdiv_", public_addcdiv_)
sqrt: Callable[..., Any] = getattr(torch, "_foreach_sqrt", public_sqrt)


# fused updates --------------------------------------------------------------------------------------------------------


def public_sgd_(
    params: Tensors,
    grads: Tensors,
    velocities: Tensors,
    *,
    weight_decay: float,
    momentum: float,
    lr: float,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
) -> None:
    """One step of gradient descent for each parameter; `velocities` is empty without momentum.

    Of the kernel's arguments, dampening, maximize and is_first_step are those of the engine alone: 0 and false.
    """
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        grad = grad.add(param, alpha=weight_decay) if weight_decay else grad
        if momentum:
            velocity = velocities[index].mul_(momentum).add_(grad)
            grad = grad.add(velocity, alpha=momentum) if nesterov else velocity
        param.add_(grad, alpha=-lr)


def public_adam_(
    params: Tensors,
    grads: Tensors,
    means: Tensors,
    squares: Tensors,
    max_squares: Tensors,
    steps: Tensors,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
    amsgrad: bool,
    maximize: bool,
) -> None:
    """One step of Adam for each parameter, weight decay being part of the gradient; `steps` are counted already.

    Of the kernel's arguments, max_squares, amsgrad and maximize are those of the engine alone: empty and false.
    """
    for param, grad, mean, square, step in zip(params, grads, means, squares, steps, strict=True):
        grad = grad.add(param, alpha=weight_decay) if weight_decay else grad
        mean.lerp_(grad, 1 - beta1)
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        count = float(step)
        root = (square.sqrt() / (1 - beta2**count) ** 0.5).add_(eps)
        param.addcdiv_(mean, root, value=-lr / (1 - beta1**count))


def public_adamw_(params: Tensors, *lists: Tensors, lr: float, weight_decay: float, **settings: Any) -> None:
    """One step of Adam for each parameter, whose weight decay acts on the parameter itself."""
    for param in params:
        param.mul_(1 - lr * weight_decay)
    public_adam_(params, *lists, lr=lr, weight_decay=0.0, **settings)


sgd_: Callable[..., Any] = getattr(torch, "_fused_sgd_", public_sgd_)
adam_: Callable[..., Any] = getattr(torch, "_fused_adam_", public_adam_)
adamw_: Callable[..., Any] = getattr(torch, "_fused_adamw_", public_adamw_)


# torch.optim.Optimizer ------------------------------------------------------------------------------------------------


def plain(name: str) -> Callable[..., Any]:
    """A method of `torch.optim.Optimizer` without the guard that imports torch's compiler on first use: 6 s of CPU time."""
    method = getattr(torch.optim.Optimizer, name)
    return getattr(method, "__wrapped__", method)  # type: ignore[no-any-return]


# files ----------------------------------------------------------------------------------------------------------------


def public_safetensors(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file of contiguous tensors on the CPU; the search for shared memory costs more than the rest."""
    return safetensors.torch.save(dict(tensors), metadata)


def _private_safetensors(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    specs = {
        name: TensorSpec(
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=tensor.shape,
            data_ptr=tensor.data_ptr(),
            data_len=tensor.nbytes,
        )
        for name, tensor in tensors.items()
    }
    return bytes(serialize(specs, metadata))


to_safetensors = public_safetensors if serialize is None or TensorSpec is None else _private_safetensors
