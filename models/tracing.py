"""What a network computes, operation by operation, without computing it: shapes, multiply-adds, depth, receptive field.

It runs on the meta device, where tensors have shapes but no numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from models.layers.squeeze_excite import SqueezeExcite
from models.shapes import answer, pair

aten = torch.ops.aten


@dataclass(frozen=True)
class Reach:
    """How a tensor hangs together with the image.

    Args:
        depth: affine maps with weights on the longest way from the image; those within squeeze-excite stand beside it.
        field: (height, width) in pixels of what one position depends on, by convolutions and local pooling.
        stride: (height, width) in pixels between neighboring positions; not whole where images were resized, as is `field`.
    """

    depth: int = 0
    field: tuple[float, float] = (1, 1)
    stride: tuple[float, float] = (1, 1)

    def through(self, kernel: Sequence[float], stride: Sequence[float], dilation: Sequence[int]) -> Reach:
        """After a window that is moved over the positions."""
        (height, width), (down, across) = self.field, self.stride
        field = (height + dilation[0] * (kernel[0] - 1) * down, width + dilation[1] * (kernel[1] - 1) * across)
        return replace(self, field=field, stride=(down * stride[0], across * stride[1]))

    def joined(self, other: Reach) -> Reach:
        """Of the sum or concatenation of two."""
        return Reach(
            max(self.depth, other.depth),
            (max(self.field[0], other.field[0]), max(self.field[1], other.field[1])),
            (max(self.stride[0], other.stride[0]), max(self.stride[1], other.stride[1])),
        )


@dataclass(frozen=True)
class Affine:
    """A convolution or matrix product that ran.

    Args:
        module: the innermost module in which it ran, by its dotted name.
        multiply_adds: of the whole batch, without biases.
    """

    module: str
    multiply_adds: int


@dataclass(frozen=True)
class Call:
    """A module that ran.

    Args:
        inputs: shape of its first input, with the batch.
        outputs: shape of what it returned, of a tuple the last.
    """

    name: str
    module: nn.Module
    inputs: torch.Size
    outputs: torch.Size


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, notes the affine maps that run, and how far each tensor reaches."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inside: list[str] = [""]
        self.beside = 0  # how many squeeze-excites the running module is in
        self.affine: list[Affine] = []
        self.reaches: dict[int, tuple[Tensor, Reach]] = {}  # the tensor is kept, so that its id is not given again

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # its default wraps the method below in what imports the compiler

    def reach(self, tensor: object) -> Reach | None:
        """Of a tensor that depends on the image; None for any other."""
        kept = self.reaches.get(id(tensor))
        return kept[1] if kept and kept[0] is tensor else None

    def note(self, tensor: Tensor, reach: Reach) -> None:
        self.reaches[id(tensor)] = tensor, reach

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = answer(func, args, kwargs or {}) if args else NotImplemented
        if out is NotImplemented:
            out = func(*args, **(kwargs or {}))
        reaches = [reach for tensor in _tensors((args, kwargs or {})) if (reach := self.reach(tensor))]
        if reaches:
            reach = reaches[0]
            for other in reaches[1:]:
                reach = reach.joined(other)
            reach = self._after(func, reach, args, out)
            for tensor in _tensors(out):
                self.note(tensor, reach)
        return out

    def _after(self, func: Any, reach: Reach, args: tuple[Any, ...], out: Any) -> Reach:
        if func is aten.convolution.default:
            weight = args[1]
            self.affine.append(Affine(self.inside[-1], out.numel() * weight[0].numel()))
            return replace(reach.through(weight.shape[2:], args[3], args[5]), depth=reach.depth + (not self.beside))
        if func in PRODUCTS:
            self.affine.append(Affine(self.inside[-1], out.numel() * args[PRODUCTS[func]].shape[-1]))
            return replace(reach, depth=reach.depth + (not self.beside))
        if func in POOLS:
            kernel, stride = args[1], args[2] if len(args) > 2 and args[2] else args[1]
            return reach.through(pair(kernel), pair(stride), pair(args[4]) if len(args) > 4 and func is MAX else (1, 1))
        if func is RESIZE:
            steps = [before / after for before, after in zip(args[0].shape[2:], out.shape[2:], strict=True)]
            return reach.through([2 * max(step, 1) for step in steps], steps, (1, 1))  # a triangle, antialiased
        return reach


PRODUCTS = {aten.addmm.default: 1, aten.mm.default: 0, aten.bmm.default: 0}
"""Operation -> which of its arguments has the summed axis last."""
MAX = aten.max_pool2d_with_indices.default
POOLS = frozenset({MAX, aten.avg_pool2d.default})
RESIZE = aten._upsample_bilinear2d_aa.default


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def trace(model: nn.Module, images: Tensor) -> tuple[Any, Tracer, list[Call]]:
    """What `model` returns for `images`, what was noted on the way, and the modules that ran, in the order of their ends."""
    tracer, calls = Tracer(), list[Call]()
    with torch.no_grad(), tracer, _hooks(model, tracer, calls):
        tracer.note(images, Reach())
        out = model(images)
    return out, tracer, calls


@contextmanager
def _hooks(model: nn.Module, tracer: Tracer, calls: list[Call]) -> Iterator[None]:
    handles = []

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            tracer.inside.append(name)
            tracer.beside += isinstance(module, SqueezeExcite)

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
            tracer.inside.pop()
            tracer.beside -= isinstance(module, SqueezeExcite)
            if (given := list(_tensors(inputs))) and (returned := list(_tensors(outputs))):
                calls.append(Call(name, module, given[-1].shape, returned[-1].shape))

        return hook

    for name, module in model.named_modules():
        handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave(name))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass in training keeps for the backward pass, beside the parameters."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # kept alive, so that its address is not given again

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.enable_grad(), Tracer(), saved_tensors_hooks(pack, lambda tensor: tensor):
        model(images)
    return sum(storage.nbytes() for storage in kept.values())
