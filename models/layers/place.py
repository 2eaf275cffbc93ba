"""Where a layer stands in a network: what its features look like, and what is beside it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Layout(StrEnum):
    """The shape of features; N examples, C features (channels), H x W positions of a map, T tokens."""

    VECTORS = "vectors"  # (N, C)
    MAPS = "maps"  # (N, C, H, W)
    TOKENS = "tokens"  # (N, T, C)

    @property
    def feature_axis(self) -> int:
        """The axis of C."""
        return 2 if self is Layout.TOKENS else 1


class Position(StrEnum):
    """Where a normalization stands relative to the activation."""

    BEFORE_ACTIVATION = "before activation"
    AFTER_ACTIVATION = "after activation"
    BRANCH_END = "branch end"  # the last layer of a residual branch: its output is added to the shortcut
    NO_ACTIVATION = "no activation"  # as before attention, before the classifier, or in a linear bottleneck


@dataclass(frozen=True)
class Place:
    """Where a normalization stands; passed to `Norm.layer`."""

    layout: Layout
    position: Position = Position.BEFORE_ACTIVATION
