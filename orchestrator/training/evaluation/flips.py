"""The image and its mirror image."""

from __future__ import annotations

from orchestrator.training.evaluation.base import Evaluation
from orchestrator.training.evaluation.views import View, Views


def flips() -> Evaluation:
    """Two views, so that an image and its mirror image have one prediction.

    Source: Simonyan and Zisserman 2015, Very deep convolutional networks, section 3.2, arXiv:1409.1556.
    """
    return _Flips()


class _Flips(Views):
    def listed(self, height: int, width: int) -> list[View]:
        return [View(height, width, 0, 0, height, width, mirrored) for mirrored in (False, True)]
