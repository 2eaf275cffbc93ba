"""Augmentation: batched tensor operations that treat every image of a batch differently; one method a file.

A target in `conf/augment` returns a callable `(images, generator) -> images` on NCHW tensors of any dtype; shape, dtype,
device and memory format stay. Random numbers are drawn on the generator's device, so that a CPU generator gives a GPU the
same augmentation. What is padded is 0: black in pixels, the mean after standardization.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Augment = Callable[[Tensor, torch.Generator], Tensor]
