"""What a network was told of its images, kept with its weights: enough to show it any other image as it saw those of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from orchestrator.base.decode import COUNT, DecodeError, check

LARGEST = 2**25
"""Numbers of an image that a network takes, such as 3,344 x 3,344 pixels in colour; many go through it together."""


class Inputs(TypedDict):
    """Of the data set that a network was trained on.

    `scale` and `shift` are the preprocessing: what each channel was multiplied by and what was added, by the statistics of the
    training split. They are None where it is something else: with `stored`, the tensors of `training.inputs` in the file of the
    weights, of each pixel or as a matrix; without, a method of the user's own that is not kept.
    """

    dtype: Literal["uint8", "float32"]
    channels: Annotated[int, COUNT]
    height: Annotated[int, COUNT]
    width: Annotated[int, COUNT]
    scale: Sequence[float] | None
    shift: Sequence[float] | None
    classes: Sequence[str]
    stored: NotRequired[Literal["pixels", "matrix"]]


def is_complete(inputs: Inputs) -> bool:
    """Whether the preprocessing is kept, so that the network can be shown any other image."""
    return inputs["scale"] is not None or "stored" in inputs


def checked_inputs(found: Any) -> Inputs:
    """What a file says of them.

    Raises:
        DecodeError: it says something else.
    """
    check(found, Inputs, "inputs")
    inputs: Inputs = found
    if not (inputs["channels"] and inputs["height"] and inputs["width"] and inputs["classes"]):
        raise DecodeError("inputs must have at least one channel, row, column and class")
    if inputs["channels"] * inputs["height"] * inputs["width"] > LARGEST:
        raise DecodeError(f"inputs must be of images of at most {LARGEST:,} numbers")
    scale, shift = inputs["scale"], inputs["shift"]
    if (scale is None) != (shift is None):
        raise DecodeError("inputs must have both of scale and shift, or neither")
    if scale is not None and "stored" in inputs:
        raise DecodeError("inputs must have scale and shift or what is stored, not both")
    if scale is not None and shift is not None and not len(scale) == len(shift) == inputs["channels"]:
        raise DecodeError(f"inputs.scale and inputs.shift must have a number for each of {inputs['channels']} channels")
    return inputs


def unique_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of classes, each once: of equal ones, the later have their number behind them."""
    found: dict[str, None] = {}
    for number, name in enumerate(classes):
        while name in found:
            name = f"{name} ({number})"
        found[name] = None
    return tuple(found)
