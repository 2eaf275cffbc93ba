"""Logits of a model on a split, always in fp32; the metrics that follow from them are in `metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from models.outputs import main_output
from orchestrator.training.batches import Split

PIXELS_AT_ONCE = 2**19
EXAMPLES_AT_ONCE = 2**13


def logits(
    model: nn.Module, split: Split, *, channels_last: bool = False, beat: Callable[[], None] = lambda: None
) -> Tensor:
    """float32 [N, K] on the model's device, the maximum of each row subtracted; the model is left in evaluation mode.

    Subtracting changes no probability and keeps the numbers small enough to be stored; all metrics are computed from these.

    Args:
        beat: called after every batch.
    """
    model.eval()
    rows = []
    with torch.inference_mode():
        for images in in_slices(split, channels_last=channels_last):
            rows.append(main_output(model(images)).float())
            beat()
        logits_NK = rows[0] if len(rows) == 1 else torch.cat(rows)
        return logits_NK - logits_NK.amax(1, keepdim=True)


def in_slices(split: Split, *, channels_last: bool) -> Iterator[Tensor]:
    """The float32 images of a split in order, as many at a time as their size allows."""
    height, width = split.stored.shape[-2:]
    size = max(1, min(EXAMPLES_AT_ONCE, PIXELS_AT_ONCE // (height * width)))
    for start in range(0, len(split), size):
        images = split.slice(start, start + size)
        yield images.contiguous(memory_format=torch.channels_last) if channels_last else images
