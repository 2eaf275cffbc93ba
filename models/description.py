"""What an architecture costs, in all and layer by layer, worked out on the meta device: nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.initializers.parameters import Weight, named_parameters
from models.layers.residual import Residual
from models.layers.resize import Resize
from models.outputs import main_output
from models.tracing import Call, Reach, Tracer, saved_bytes, trace

Convention = Literal["plain", "lecture_vgg", "lecture_resnet"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
BATCH = 2  # batch normalization in training cannot take one example


@dataclass(frozen=True)
class Layer:
    """A layer with parameters, or a pooling or normalization layer, or one that resizes.

    Args:
        name: of the module.
        kind: class and settings in short, such as `conv 3x3, stride 2`.
        inputs: shape of one example's input: (C, H, W) or (features,).
        volume: the same of its output.
        weights: numbers in the matrices and kernels.
        parameters: all of them: weights, biases, gains, shifts, slopes.
        multiply_adds: for one image, without biases.
        unit: the residual unit that it belongs to; "" outside of all.
    """

    name: str
    kind: str
    module: nn.Module
    inputs: tuple[int, ...]
    volume: tuple[int, ...]
    weights: int
    parameters: int
    multiply_adds: int
    unit: str = ""


@dataclass(frozen=True)
class Unit:
    """A residual unit, as it ran."""

    name: str
    inputs: tuple[int, ...]
    volume: tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """What a network costs.

    Args:
        parameters: all that training changes, auxiliary classifiers included.
        multiply_adds: of one image in evaluation; convolutions and matrix products, without biases.
        activation_bytes: what a training step keeps of one image for the backward pass, in 32-bit precision.
        depth: layers with weights on the longest way from image to logits, without those of squeeze-excite.
        receptive_field: (height, width) in pixels that one position of the last map depends on, which may be more than
            there are; what reaches it by way of a global mean (squeeze-excite) is left out.
        smallest_image: the smallest height and width that it takes with these settings.
        layers: in the order in which they ran.
        units: the residual units.
    """

    num_classes: int
    in_channels: int
    image_size: tuple[int, int]
    parameters: int
    multiply_adds: int
    activation_bytes: int
    depth: int
    receptive_field: tuple[int, int]
    smallest_image: int
    layers: tuple[Layer, ...] = field(repr=False)
    units: tuple[Unit, ...] = field(repr=False)


def describe_network(
    model: nn.Module, *, in_channels: int, image_size: tuple[int, int], smallest_image: int = 1
) -> Description:
    """What a network costs that was built on the meta device."""
    training = model.training
    with torch.random.fork_rng(devices=[]):  # dropped branches are drawn, the same ones each time
        torch.manual_seed(0)
        kept = saved_bytes(model.train(), _images(BATCH, in_channels, image_size)) // BATCH
    outputs, tracer, calls = trace(model.eval(), _images(1, in_channels, image_size))
    model.train(training)
    logits = main_output(outputs)
    reach = tracer.reach(logits)
    with Tracer():  # weights that are computed, as in weight normalization
        layers = tuple(_layers(calls, tracer, {call.name for call in calls if isinstance(call.module, Residual)}))
    units = tuple(
        Unit(c.name, tuple(c.inputs[1:]), tuple(c.outputs[1:])) for c in calls if isinstance(c.module, Residual)
    )
    return Description(
        num_classes=logits.shape[1],
        in_channels=in_channels,
        image_size=image_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=sum(affine.multiply_adds for affine in tracer.affine),
        activation_bytes=kept,
        depth=reach.depth if reach else 0,
        receptive_field=_pixels(reach) if reach else (0, 0),
        smallest_image=smallest_image,
        layers=layers,
        units=units,
    )


def _pixels(reach: Reach) -> tuple[int, int]:
    """The whole pixels of its field."""
    height, width = (ceil(round(length, 6)) for length in reach.field)
    return height, width


def _images(batch: int, in_channels: int, image_size: tuple[int, int]) -> Tensor:
    return torch.zeros(batch, in_channels, *image_size, device="meta")


def _layers(calls: list[Call], tracer: Tracer, units: set[str]) -> Iterator[Layer]:
    multiply_adds: dict[str, int] = {}
    for affine in tracer.affine:
        multiply_adds[affine.module] = multiply_adds.get(affine.module, 0) + affine.multiply_adds
    counted = set()
    for call in calls:
        own = [] if call.name in counted else list(_own(call.module))
        counted.add(call.name)
        operations = multiply_adds.pop(call.name, 0)
        if not (own or operations or isinstance(call.module, (*POOLS, nn.LocalResponseNorm, Resize))):
            continue
        yield Layer(
            call.name,
            kind_of(call.module),
            call.module,
            tuple(call.inputs[1:]),
            tuple(call.outputs[1:]),
            sum(p.tensor.numel() for p in own if isinstance(p, Weight)),
            sum(p.tensor.numel() for p in own),
            operations,
            next((above for above in _above(call.name) if above in units), ""),
        )


def _above(name: str) -> Iterator[str]:
    """The modules that hold one, the innermost first."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _own(module: nn.Module) -> Iterator[Any]:
    """The parameters of a module itself, not of those within it; of a weight-normalized one what it computes from them."""
    if not (module._parameters or parametrize.is_parametrized(module)):
        return
    for parameter in named_parameters(module):
        if "." not in parameter.name or parametrize.is_parametrized(module):
            yield parameter


def kind_of(module: nn.Module) -> str:
    """A layer in short: `conv 3x3, stride 2, 32 groups`, `max pool 3x3, stride 2`, `linear`, or the name of its class."""
    if isinstance(module, nn.Conv2d):
        groups = f", {module.groups} groups" if module.groups > 1 else ""
        return f"conv {_size(module.kernel_size)}{_stride(module.stride)}{groups}"
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kind = "max" if isinstance(module, nn.MaxPool2d) else "average"
        return f"{kind} pool {_size(module.kernel_size)}{_stride(module.stride)}"
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return "global average pool" if module.output_size in (1, (1, 1)) else "average pool"
    if isinstance(module, Resize):
        return "resize"
    return "local response norm" if isinstance(module, nn.LocalResponseNorm) else type(module).__name__


def _size(kernel: Any) -> str:
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return f"{height}x{width}"


def _stride(stride: Any) -> str:
    height, width = stride if isinstance(stride, tuple) else (stride, stride)
    return "" if height == width == 1 else f", stride {height}" if height == width else f", stride {height}x{width}"


@dataclass(frozen=True)
class Row:
    """A row of a per-layer table; numbers are those of the table's convention."""

    layer: str
    volume: str
    activations: int
    parameters: int
    operations: int


def rows(found: Description, convention: Convention = "plain") -> list[Row]:
    """The per-layer table of a network.

    - `plain`: parameters as they are; operations are multiply-adds, without biases.
    - `lecture_vgg`: the same without biases and other parameters than weights; only convolutions, poolings and linear layers, and
      normalizations without parameters.
    - `lecture_resnet`: each convolution and linear layer has a bias, and normalizations have nothing; an operation is a
      multiply-add or the addition of a bias; poolings take one an input, softmax one a class, and the shortcut of a unit
      with stride one for each element of its subsampled input. A residual unit is one row, and equal rows that follow
      each other are one.
    """
    if convention == "lecture_resnet":
        return list(_by_unit(found))
    of_weights = convention == "lecture_vgg"
    image = (found.in_channels, *found.image_size)
    table = [Row("input", _volume(image), prod(image), 0, 0)]
    for layer in found.layers:
        if of_weights and layer.parameters and not layer.weights:
            continue
        parameters = layer.weights if of_weights else layer.parameters
        kind = layer.kind if not layer.weights else f"{layer.kind}, {layer.volume[0]}"
        shown = kind if of_weights else f"{layer.name}: {kind}"
        table.append(Row(shown, _volume(layer.volume), prod(layer.volume), parameters, layer.multiply_adds))
    beside = found.parameters - sum(layer.parameters for layer in found.layers)
    if beside and not of_weights:
        table.append(Row("what runs in training alone: auxiliary classifiers", "", 0, beside, 0))
    return table


def _volume(shape: tuple[int, ...]) -> str:
    """Height x width x channels, as tables of architectures give it."""
    return "x".join(map(str, (*shape[1:], shape[0])))


def _by_unit(found: Description) -> Iterator[Row]:
    size, channels = found.image_size, found.in_channels
    table = [Row(f"input({size[0]}, {channels})", _volume((channels, *size)), prod((channels, *size)), 0, 0)]
    units = {unit.name: unit for unit in found.units}
    waiting = {name: [layer for layer in found.layers if layer.unit == name] for name in units}
    for layer in found.layers:
        if layer.unit:
            if layers := waiting.pop(layer.unit, None):
                table.append(_unit_row(units[layer.unit], layers))
        elif layer.weights or isinstance(layer.module, POOLS):
            table.append(_layer_row(layer))
    table.append(Row("softmax", str(found.num_classes), found.num_classes, 0, found.num_classes))
    yield from _merged(table)


def _layer_row(layer: Layer) -> Row:
    parameters, operations = _with_bias(layer)
    module, outputs = layer.module, layer.volume[0]
    name = f"fc({outputs})"
    if isinstance(module, nn.Conv2d):
        name = f"conv({', '.join([str(module.kernel_size[0]), str(outputs), *_details(module)])})"
    elif isinstance(module, nn.AdaptiveAvgPool2d):
        name = f"avg({layer.inputs[-1]})"
    elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        stride = _first(module.stride)
        kind = "pool" if isinstance(module, nn.MaxPool2d) else "avg"
        padding = [f"p{_first(module.padding)}"] if _first(module.padding) else []
        name = f"{kind}({', '.join([str(_first(module.kernel_size)), str(stride), *padding])})"
    volume = layer.volume if prod(layer.volume[1:]) > 1 else layer.volume[:1]
    return Row(name, _volume(volume), prod(layer.volume), parameters, operations)


def _with_bias(layer: Layer) -> tuple[int, int]:
    """Parameters and operations where each affine map has a bias."""
    if not layer.weights:
        return 0, prod(layer.inputs)
    return layer.weights + layer.volume[0], layer.multiply_adds + prod(layer.volume)


def _details(module: nn.Conv2d) -> list[str]:
    padding, stride = _first(module.padding), _first(module.stride)
    return ([f"p{padding}"] if padding else []) + ([f"s{stride}"] if stride > 1 else [])


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _unit_row(unit: Unit, layers: list[Layer]) -> Row:
    affine = [layer for layer in layers if layer.weights]
    parameters = sum(_with_bias(layer)[0] for layer in affine)
    operations = sum(_with_bias(layer)[1] for layer in affine)
    stride = unit.inputs[1] // unit.volume[1]
    if stride > 1:
        operations += unit.inputs[0] * prod(unit.volume[1:])
    kernel = max(_first(layer.module.kernel_size) for layer in affine if isinstance(layer.module, nn.Conv2d))
    name = f"res({kernel}, {unit.volume[0]}{f', s{stride}' if stride > 1 else ''})"
    return Row(name, _volume(unit.volume), prod(unit.volume), parameters, operations)


def _merged(table: list[Row]) -> Iterator[Row]:
    """Equal rows that follow each other as one, with their number before the name."""
    start = 0
    for end in range(1, len(table) + 1):
        if end < len(table) and table[end] == table[start]:
            continue
        row, times = table[start], end - start
        name = row.layer if times == 1 else f"{times}x {row.layer}"
        yield Row(name, row.volume, row.activations, times * row.parameters, times * row.operations)
        start = end


def total(table: list[Row]) -> Row:
    """The sum of the rows."""
    return Row(
        "total",
        "",
        sum(row.activations for row in table),
        sum(row.parameters for row in table),
        sum(row.operations for row in table),
    )
