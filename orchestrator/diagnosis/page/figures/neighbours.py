"""Which images a layer takes for alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.diagnosis.page.figures.layers import by_layer
from orchestrator.reports.figure import Figure
from orchestrator.reports.parts.images import data_uri

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis, Neighbours


def figure(found: Diagnosis) -> Figure:
    near = found.neighbours
    names = [layer.label for layer in found.layers]
    shares: list[float | None] = [100 * layer.neighbours for layer in found.layers]
    chosen = next(layer for layer in found.layers if layer.statistics.name == near.layer)
    text = (
        f"By the features of layer {chosen.label} the nearest other image is of the same class for"
        f" {100 * chosen.neighbours:.1f} % of {found.examples:,} images, by pixels for {100 * near.pixels:.1f} %."
    )
    if near.images is None:
        spec = by_layer(names, {"1-NN accuracy": shares}, "nearest neighbour of the same class (%)")
        return Figure(name="neighbours", title="Which images does it take for alike?", text=text, spec=spec)
    text += " Each row: an image, and behind it its nearest by these features; those of another class are framed."
    return Figure(name="neighbours", title="Which images does it take for alike?", text=text, html=_strips(near))


def _strips(near: Neighbours) -> str:
    assert near.images is not None
    rows = []
    for labels, images in zip(near.labels, near.images, strict=True):
        kinds = ["asked", *("same" if label == labels[0] else "other" for label in labels[1:])]
        pictures = zip(kinds, images, strict=True)
        rows.append("".join(f'<img class="{kind}" alt="{kind}" src="{data_uri(one)[0]}">' for kind, one in pictures))
    return "".join(f'<div class="near">{row}</div>' for row in rows)
