"""What a network was told of its images, kept with its weights: enough to show it any other image as it saw those of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from orchestrator.base.decode import COUNT, DecodeError, check
from orchestrator.training.data import Dataset
from orchestrator.training.preprocess import Affine
from orchestrator.training.preprocess.statistics import Transform


class Inputs(TypedDict):
    """Of the data set that a network was trained on.

    `scale` and `shift` are the preprocessing: what each channel was multiplied by and what was added, by the statistics of the
    training split. They are None where a method of the user's own does something else.
    """

    dtype: Literal["uint8", "float32"]
    channels: Annotated[int, COUNT]
    height: Annotated[int, COUNT]
    width: Annotated[int, COUNT]
    scale: Sequence[float] | None
    shift: Sequence[float] | None
    classes: Sequence[str]


def inputs_of(dataset: Dataset, transform: Transform) -> Inputs:
    """What is kept of a data set and the transform that was fitted on its training split."""
    affine = transform if type(transform) is Affine else None
    return {
        "dtype": "uint8" if dataset.images.dtype == "uint8" else "float32",
        "channels": dataset.in_channels,
        "height": dataset.image_size[0],
        "width": dataset.image_size[1],
        "scale": None if affine is None else list(affine.scale),
        "shift": None if affine is None else list(affine.shift),
        "classes": list(dataset.classes),
    }


def checked_inputs(found: Any) -> Inputs:
    """What a file says of them.

    Raises:
        DecodeError: it says something else.
    """
    check(found, Inputs, "inputs")
    inputs: Inputs = found
    if not (inputs["channels"] and inputs["height"] and inputs["width"] and inputs["classes"]):
        raise DecodeError("inputs must have at least one channel, row, column and class")
    scale, shift = inputs["scale"], inputs["shift"]
    if (scale is None) != (shift is None):
        raise DecodeError("inputs must have both of scale and shift, or neither")
    if scale is not None and shift is not None and not len(scale) == len(shift) == inputs["channels"]:
        raise DecodeError(f"inputs.scale and inputs.shift must have a number for each of {inputs['channels']} channels")
    return inputs


def transform_of(inputs: Mapping[str, Any]) -> Affine | None:
    """The preprocessing; None where it is a method of the user's own."""
    if inputs["scale"] is None:
        return None
    return Affine(tuple(map(float, inputs["scale"])), tuple(map(float, inputs["shift"])))
