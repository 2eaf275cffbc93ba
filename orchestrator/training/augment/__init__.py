"""Augmentation: batched tensor operations that treat every image of a batch differently; one method a file.

A target in `conf/augment` returns a callable `(images, generator) -> images` on NCHW tensors of any dtype; shape, dtype,
device and memory format stay. Given the uint8 pixels before preprocessing, what is padded is black and the work is least.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Augment = Callable[[Tensor, torch.Generator], Tensor]
