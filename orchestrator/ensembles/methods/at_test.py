"""An ensemble from one trial: the answers of its network about several views of an image, or under several dropout masks.

They take what the network says of images, which a pool does not know; `ensembles.cooking` asks it for them. That takes as many
passes as there are answers, so that these methods are tried where they are named alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.ensembles.methods.soup import Right, Soup

ROOM = "orchestrator.training.evaluation"


class AtTest(Soup):
    """The best trial whose weights are kept and whose network can be asked so.

    Args:
        evaluate: the spec of a choice of `conf/evaluate`.
    """

    fewest = 1
    on_request = True

    def __init__(self, evaluate: Mapping[str, Any]) -> None:
        super().__init__(most=1)
        self.evaluate = evaluate

    def lacking(self, found: int) -> str:
        del found
        return "it takes the weights of a trial, and none are kept here; keep_weights=20 keeps some"

    def said(self, taken: int, kept: int, architecture: str) -> str:
        del taken
        return f"of the best of {kept} kept trials that can be asked so, of {architecture}"

    def chosen(self, order: Sequence[int], right: Right) -> tuple[int, ...]:
        del right
        return (order[0],)


class MultiCrop(AtTest):
    """The mean over scales, corners and center, and mirror images, as `evaluate=multi_scale`."""

    def __init__(self, scales: Sequence[float] = (1.0, 256 / 224, 384 / 224, 480 / 224, 640 / 224)) -> None:
        super().__init__({"_target_": f"{ROOM}.multi_scale.multi_scale", "scales": [*scales]})


class MonteCarloDropout(AtTest):
    """The mean over random dropout masks, as `evaluate=monte_carlo_dropout`. Gal and Ghahramani 2016, arXiv:1506.02142."""

    def __init__(self, masks: int = 100) -> None:
        super().__init__({"_target_": f"{ROOM}.monte_carlo_dropout.monte_carlo_dropout", "masks": masks})
