"""Preprocessing: fitted on the training images alone, then applied to every batch; one method a file.

A target in `conf/preprocess` returns a callable `(images, ids) -> transform`, which may look at `images[ids]` and nothing else
(without ids, at all of `images`).
"""

from orchestrator.training.preprocess.affine import Affine
from orchestrator.training.preprocess.pixelwise import Pixelwise
from orchestrator.training.preprocess.projection import Projection
from orchestrator.training.preprocess.statistics import Preprocess, channel_statistics

__all__ = ["Affine", "Pixelwise", "Preprocess", "Projection", "channel_statistics"]
