"""The page of a network that was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.base.text import short
from orchestrator.diagnosis.page.build import Table, page
from orchestrator.diagnosis.page.figures import figures
from orchestrator.reports.data import cut

if TYPE_CHECKING:
    from orchestrator.diagnosis.subjects import Named
    from orchestrator.training.diagnosis.study import Diagnosis, Layer

COLUMNS = [
    ("number", "layer", "number"),
    ("name", "module", "name"),
    ("activation", "activation", "text"),
    ("features", "features", "number"),
    ("mean", "mean", "number"),
    ("std", "std", "number"),
    ("dead", "dead (%)", "number"),
    ("saturated", "saturated (%)", "number"),
    ("gradient", "gradient std", "number"),
    ("variance", "Var(dW)", "number"),
    ("update", "update/weight", "number"),
    ("neighbours", "1-NN (%)", "number"),
    ("end", "ends in", "name"),
]

ABOUT = (
    "In the order of computation, each under the name of its module in the network. A layer's activations are what the last"
    " normalization or activation returned before the next layer was computed: the module in which it ends. 1-NN: images whose"
    " nearest other image by these features is of their class."
    " A click on a row chooses the layer; a click on a column's name sorts."
)


def network_page(named: Named, found: Diagnosis) -> str:
    """As HTML."""
    when = "with its trained weights" if found.trained else "at initialization"
    lines = [
        " ".join(named.words),
        f"{short(found.parameters)} parameters {when}, looked at with {found.examples:,} training images; loss {found.loss:.4g}.",
    ]
    rows = [row(layer) for layer in found.layers]
    columns = [column for column in COLUMNS if any(one[column[0]] not in (None, "") for one in rows)]
    table = Table("Layers", ABOUT, columns, rows)
    title = f"{cut(named.title, 100)}: diagnosis"
    return page(title, [line for line in lines if line], figures(found), table)


def row(layer: Layer) -> dict[str, Any]:
    """Of the table."""
    one = layer.statistics
    return {
        "number": layer.number,
        "name": one.name,
        "activation": one.activation,
        "end": one.end,
        "features": one.features,
        "mean": one.activations.mean,
        "std": one.activations.std,
        "dead": 100 * one.dead,
        "saturated": None if one.saturated is None else 100 * one.saturated,
        "gradient": None if one.gradients is None else one.gradients.std,
        "variance": None if one.weight_gradient is None else one.weight_gradient.std**2,
        "update": layer.update_ratio,
        "neighbours": 100 * layer.neighbours,
    }
