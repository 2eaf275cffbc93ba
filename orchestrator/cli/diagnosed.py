"""What diagnose says on the terminal: a row a layer, and a few lines of what is about the network as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.base.text import short, table

if TYPE_CHECKING:
    from orchestrator.diagnosis.subjects import Named
    from orchestrator.training.diagnosis.study import Classes, Diagnosis, Layer

NONE = "-"
CLASSES = 10
"""Classes that are named, the worst ones."""


def lines_of(named: Named, found: Diagnosis) -> Iterator[str]:
    """The whole of it."""
    yield " ".join([f"{named.title}:", *named.words])
    when = "with its trained weights" if found.trained else "at initialization"
    yield f"{short(found.parameters)} parameters {when}, {found.examples} training images, loss {found.loss:.4g}"
    yield ""
    yield from table(HEADER, [_inputs(found), *map(_layer, found.layers)])
    yield ""
    yield from _products(found)
    if found.sign_agreement is not None:
        share = f"{100 * found.sign_agreement:.1f} %"
        yield f"sign agreement in the first layer: {share} of a unit's weight gradients have one sign, for one image"
    if found.classes is not None:
        yield from classes_of(found.classes)


HEADER = [
    *("layer", "module", "activation", "features", "mean", "std", "dead", "saturated"),
    *("gradient std", "Var(dW)", "update/weight", "1-NN", "ends in"),
]


def _inputs(found: Diagnosis) -> list[str]:
    rest = [NONE] * 5
    moments = [f"{found.inputs.mean:.6f}", number(found.inputs.std)]
    return ["input", "", "", "", *moments, *rest, percent(found.neighbours.pixels), ""]


def _layer(layer: Layer) -> list[str]:
    one = layer.statistics
    gradient, weight = one.gradients, one.weight_gradient
    return [
        str(layer.number),
        one.name,
        one.activation,
        str(one.features),
        f"{one.activations.mean:.6f}" + ("" if not one.activations.nonfinite else " (not all finite)"),
        number(one.activations.std),
        percent(one.dead),
        NONE if one.saturated is None else percent(one.saturated),
        NONE if gradient is None else number(gradient.std),
        NONE if weight is None else number(weight.std**2),
        NONE if layer.update_ratio is None else number(layer.update_ratio),
        percent(layer.neighbours),
        one.end,
    ]


def _products(found: Diagnosis) -> Iterator[str]:
    if len(found.products) < 2:
        return
    last = found.products[-1]
    values = "" if last.most is None else f", largest {number(last.most)}, median {number(last.median or 0.0)}"
    yield (
        f"singular values of the product of the first {last.layers} weights: rms {number(last.rms)}"
        f" (independent weights: {number(last.predicted)}){values}"
    )


def classes_of(classes: Classes) -> Iterator[str]:
    """Accuracy on the validation images, and of the worst classes."""
    total = sum(map(sum, classes.confusion))
    right = sum(row[place] for place, row in enumerate(classes.confusion))
    yield f"validation accuracy {percent(right / total)} of {total} images; by class, the worst first:"
    shares = sorted((row[place] / max(1, sum(row)), place) for place, row in enumerate(classes.confusion))
    rows = []
    for share, place in shares[:CLASSES]:
        row = classes.confusion[place]
        wrong = [(count, -said) for said, count in enumerate(row) if said != place and count]
        most = max(wrong, default=None)
        taken = "" if most is None else f"{classes.names[-most[1]]} ({most[0]} of {sum(row)})"
        rows.append([classes.names[place], percent(share), taken])
    yield from table(["class", "right", "most often taken for"], rows)
    if len(shares) > CLASSES:
        yield f"and {len(shares) - CLASSES} more"


def number(value: float) -> str:
    """In four digits; large and small ones with a power of ten."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4g}" if value == 0 or 1e-4 <= abs(value) < 1e5 else f"{value:.3e}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
