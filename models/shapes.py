"""Shapes of what torch's operations return, for tensors of the meta device.

torch's own meta kernels import its compiler first, which takes 3 to 8 s (torch 2.15). What is not in the table here goes
to them and is right, too, only later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Size, Tensor

aten = torch.ops.aten


def answer(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What `func` returns, without numbers; NotImplemented where no rule is known or an argument is no meta tensor."""
    rule = RULES.get(func)
    if rule is None:
        return NotImplemented
    tensors = args[0] if isinstance(args[0], list | tuple) else args
    on_meta = any(isinstance(tensor, Tensor) and tensor.is_meta for tensor in tensors)
    return rule(*args, **kwargs) if on_meta else NotImplemented


def _like(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return _empty(x, x.shape)


def _empty_like(x: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _empty(x, x.shape) if dtype in (None, x.dtype) else torch.empty(x.shape, dtype=dtype, device="meta")


def _itself(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _broadcast(x: Any, y: Any, *_: Any, **__: Any) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_meta:
        x, y = y, x  # a number first, or a tensor of one that is not on the meta device
    if not isinstance(y, Tensor) or y.shape == x.shape:
        return _empty(x, x.shape)
    one, other = ((1,) * (max(x.dim(), y.dim()) - t.dim()) + tuple(t.shape) for t in (x, y))
    if any(a != b and 1 not in (a, b) for a, b in zip(one, other, strict=True)):
        raise RuntimeError(f"shapes {tuple(x.shape)} and {tuple(y.shape)} do not fit together")
    return _empty(x, [b if a == 1 else a for a, b in zip(one, other, strict=True)])


def _convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, _t: Any, _o: Any, groups: int
) -> Tensor:
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    out = [(size + 2 * pad - d * (kernel - 1) - 1) // s + 1 for size, kernel, s, pad, d in sizes]
    if min(out) < 1 or x.shape[1] != weight.shape[1] * groups:
        raise RuntimeError(f"a convolution with weights {tuple(weight.shape)} cannot take {tuple(x.shape)}")
    return _empty(x, (len(x), len(weight), *out))


def _max_pool(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, Tensor]:
    shape = _pooled(x, kernel, stride, padding, dilation, ceil_mode)
    return _empty(x, shape), torch.empty(shape, dtype=torch.int64, device="meta")


def _average_pool(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False, *_: Any
) -> Tensor:
    return _empty(x, _pooled(x, kernel, stride, padding, 1, ceil_mode))


def _average_pool_3d(x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0, 0, 0), *_: Any) -> Tensor:
    steps = zip(x.shape[-3:], kernel, stride or kernel, padding, strict=True)  # of local response normalization
    return _empty(x, (*x.shape[:-3], *((size + 2 * p - k) // s + 1 for size, k, s, p in steps)))


def _pooled(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> list[int]:
    sizes = []
    steps = (pair(kernel), pair(stride or kernel), pair(padding), pair(dilation))
    for size, k, s, p, d in zip(x.shape[-2:], *steps, strict=True):
        span = size + 2 * p - d * (k - 1) - 1
        out = span // s + 1
        if ceil_mode and span % s and out * s < size + p:  # the last window begins inside
            out += 1
        if out < 1:
            raise RuntimeError(f"a pooling of {k} positions cannot take maps of {tuple(x.shape[-2:])}")
        sizes.append(out)
    return [*x.shape[:-2], *sizes]


def _to_size(x: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    return _empty(x, (*x.shape[:-2], *size))


def _padded(x: Tensor, pad: Sequence[int], *_: Any) -> Tensor:
    shape = list(x.shape)
    for place, amount in enumerate(pad):  # of the last axis first, before and after
        shape[-1 - place // 2] += amount
    return _empty(x, shape)


def _reduced(x: Tensor, axes: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    chosen = {axis % x.dim() for axis in ([axes] if isinstance(axes, int) else axes or range(x.dim()))}
    shape = [1 if axis in chosen else size for axis, size in enumerate(x.shape) if keepdim or axis not in chosen]
    return torch.empty(shape, dtype=x.dtype, device="meta")


def _norm(x: Tensor, p: Any, axes: Sequence[int], keepdim: bool = False, **_: Any) -> Tensor:
    return _reduced(x, axes, keepdim)


def _weight_norm(v: Tensor, g: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _empty(v, v.shape), _empty(g, g.shape)


def _cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    return _empty(tensors[0], shape)


def _addmm(bias: Tensor, x: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return _mm(x, weight)


def _mm(x: Tensor, y: Tensor) -> Tensor:
    if x.shape[-1] != y.shape[-2]:
        raise RuntimeError(f"matrices of {tuple(x.shape)} and {tuple(y.shape)} cannot be multiplied")
    return torch.empty((*x.shape[:-1], y.shape[-1]), dtype=x.dtype, device="meta")


def _batch_norm(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(x, x.shape), _numbers(x.shape[1]), _numbers(x.shape[1])


def _group_norm(x: Tensor, _w: Any, _b: Any, batch: int, _c: Any, _hw: Any, groups: int, _e: Any) -> tuple[Tensor, ...]:
    return _empty(x, x.shape), _numbers(batch, groups), _numbers(batch, groups)


def _layer_norm(x: Tensor, shape: Sequence[int], *_: Any) -> tuple[Tensor, ...]:
    kept = (*x.shape[: x.dim() - len(shape)], *(1 for _ in shape))
    return _empty(x, x.shape), _numbers(*kept), _numbers(*kept)


def _dropout(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _empty(x, x.shape), torch.empty(x.shape, dtype=torch.bool, device="meta")


def _empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    channels_last = like.dim() == len(shape) == 4 and _is_channels_last(like)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(Size(shape), dtype=like.dtype, device="meta", memory_format=layout)


def _numbers(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def pair(value: Any) -> Sequence[int]:
    """(height, width) of a kernel or stride, which torch writes as one number, a list of one, or of two."""
    if isinstance(value, int):
        return (value, value)
    return value if len(value) == 2 else (value[0], value[0])


ELEMENTWISE = (
    *(aten.relu, aten.elu, aten.leaky_relu, aten.gelu, aten.silu, aten.sigmoid, aten.tanh, aten.softplus),
    *(aten.hardswish, aten.hardsigmoid, aten.hardtanh, aten.clamp, aten.abs, aten.neg, aten.exp, aten.log, aten.sqrt),
    *(aten._softmax, aten._log_softmax, aten.clone, aten._prelu_kernel, aten.pow, aten.rsqrt, aten.reciprocal),
)
BROADCAST = (aten.add, aten.sub, aten.mul, aten.div, aten.maximum, aten.minimum)
IN_PLACE = (
    *(aten.add_, aten.sub_, aten.mul_, aten.div_, aten.bernoulli_, aten.zero_, aten.fill_, aten.normal_, aten.uniform_),
    *(aten.relu_, aten.clamp_, aten.floor_, aten.copy_),
)


def _overloads(packets: Sequence[Any], rule: Callable[..., Any]) -> dict[Any, Callable[..., Any]]:
    # `out=` overloads write into an argument, and overloads of Scalar first argument have no tensor there.
    names = ("default", "Tensor", "Scalar", "Tensor_Scalar", "float", "using_ints")
    return {getattr(packet, name): rule for packet in packets for name in names if name in packet.overloads()}


RULES: Mapping[Any, Callable[..., Any]] = {
    **_overloads(ELEMENTWISE, _like),
    **_overloads(BROADCAST, _broadcast),
    **_overloads(IN_PLACE, _itself),
    **_overloads((aten.empty_like, aten.zeros_like, aten.ones_like), _empty_like),
    aten.convolution.default: _convolution,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.avg_pool2d.default: _average_pool,
    aten.avg_pool3d.default: _average_pool_3d,
    aten._adaptive_avg_pool2d.default: _to_size,
    aten._upsample_bilinear2d_aa.default: _to_size,
    aten.constant_pad_nd.default: _padded,
    aten.mean.dim: _reduced,
    aten.sum.dim_IntList: _reduced,
    aten.amax.default: _reduced,
    aten.norm.ScalarOpt_dim: _norm,
    aten._weight_norm_interface.default: _weight_norm,
    aten.cat.default: _cat,
    aten.addmm.default: _addmm,
    aten.mm.default: _mm,
    aten.bmm.default: _mm,
    aten.native_batch_norm.default: _batch_norm,
    aten.native_group_norm.default: _group_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_dropout.default: _dropout,
}
