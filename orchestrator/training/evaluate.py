"""Logits of a model on a split, always in fp32; the metrics that follow from them are in `metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from models.outputs import main_output
from orchestrator.training.batches import Split
from orchestrator.training.evaluation import Evaluation, averaged
from orchestrator.training.preprocess.statistics import Transform

PIXELS_AT_ONCE = 2**19
EXAMPLES_AT_ONCE = 2**13


def logits(
    model: nn.Module,
    split: Split,
    *,
    channels_last: bool = False,
    evaluation: Evaluation | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Tensor:
    """float32 [N, K] on the model's device, the maximum of each row subtracted; the model is left in evaluation mode.

    Subtracting changes no probability and keeps the numbers small enough to be stored; all metrics are computed from these.

    Args:
        evaluation: with one these are logarithms of the mean probabilities over its passes; None is the ordinary inference.
        beat: called after every batch.
    """
    model.eval()
    rows = []
    with torch.inference_mode():
        if evaluation is not None:
            for order in _places(split):
                look = partial(_look, model, split.transform, channels_last)
                rows.append(averaged(evaluation, model, look, split.take_stored(order), int(order[0]), beat))
        else:
            for images in in_slices(split, channels_last=channels_last):
                rows.append(main_output(model(images)).float())
                beat()
        logits_NK = rows[0] if len(rows) == 1 else torch.cat(rows)
        return logits_NK - logits_NK.amax(1, keepdim=True)


def probabilities(
    model: nn.Module,
    stored: Tensor,
    transform: Transform,
    *,
    channels_last: bool,
    evaluation: Evaluation | None = None,
    first: int = 0,
) -> Tensor:
    """Class probabilities, float64 [N, K] on the CPU, of images as they are stored [N, C, H, W], on the model's device.

    Args:
        first: the place of the first image among all that are asked about.

    Raises:
        ValueError: one is not finite.
    """
    with torch.inference_mode():
        outputs = _outputs(model, stored, transform, channels_last, evaluation, first)
        return _finite(torch.cat([torch.softmax(rows.double(), 1).cpu() for rows in outputs]))


def logits_of(
    model: nn.Module,
    stored: Tensor,
    transform: Transform,
    *,
    channels_last: bool,
    evaluation: Evaluation | None = None,
    first: int = 0,
) -> Tensor:
    """What `logits` gives of a split, of images as they are stored: float32 [N, K] on the CPU.

    Raises:
        ValueError: one is not finite.
    """
    with torch.inference_mode():
        outputs = _outputs(model, stored, transform, channels_last, evaluation, first)
        logits_NK = _finite(torch.cat([rows.float().cpu() for rows in outputs]))
        return logits_NK - logits_NK.amax(1, keepdim=True)


def _outputs(
    model: nn.Module,
    stored: Tensor,
    transform: Transform,
    channels_last: bool,
    evaluation: Evaluation | None,
    first: int,
) -> Iterator[Tensor]:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    look = partial(_look, model, transform, channels_last)
    model.eval()
    for images in torch.split(stored.to(device), examples_at_once(*stored.shape[-2:])):
        yield look(images) if evaluation is None else averaged(evaluation, model, look, images, first)
        first += len(images)


def _look(model: nn.Module, transform: Transform, channels_last: bool, stored: Tensor) -> Tensor:
    """The logits of images as they are stored."""
    images = transform(stored)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return main_output(model(images))


def _places(split: Split) -> Iterator[Tensor]:
    """The places of a split in order, as many at a time as for `in_slices`."""
    return iter(torch.split(torch.arange(len(split)), examples_at_once(*split.stored.shape[-2:])))


def _finite(found: Tensor) -> Tensor:
    if not found.isfinite().all():
        raise ValueError("the network gives numbers that are not finite for some of these images")
    return found


def in_slices(split: Split, *, channels_last: bool) -> Iterator[Tensor]:
    """The float32 images of a split in order, as many at a time as their size allows."""
    height, width = split.stored.shape[-2:]
    size = examples_at_once(height, width)
    for start in range(0, len(split), size):
        images = split.slice(start, start + size)
        yield images.contiguous(memory_format=torch.channels_last) if channels_last else images


def examples_at_once(height: int, width: int) -> int:
    return max(1, min(EXAMPLES_AT_ONCE, PIXELS_AT_ONCE // (height * width)))
