"""What a claim can measure of a trial, and which way is better."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.base.records import METRICS

OF_NETWORK = {"parameters": "min", "macs": "min"}
"""What a trial's network is: its parameters, and the multiply-adds of one image. Counted while the sweep is planned."""

MEASURED = {
    **METRICS,
    "test/accuracy": "max",
    "test/loss": "min",
    "test/nll": "min",
    "test/top5_accuracy": "max",
    "gap": "min",
    "grad_norm": "min",
    "images_per_s": "max",
    "epochs": "min",
    **OF_NETWORK,
}
"""What every trial has, and which way is better. `gap` is training less validation accuracy, `epochs` how many it was trained."""

OF_LAYER = {
    "activation_mean": None,
    "activation_std": None,
    "dead": "min",
    "saturated": "min",
    "gradient_mean": None,
    "gradient_std": None,
    "update_ratio": None,
}
"""What trials with `diagnostics=true` have of each layer, as `layers/<layer>/dead` in each epoch and `init/<layer>/dead` of the
first step. None: neither way is better."""

OF_STEP = {"init/sign_agreement": None, "layers/sign_agreement": None, "layers/small_weights": None}
"""What they have of the whole network."""

FIRST, LAST = "first", "last"
"""Names of a layer that every network has, in the order of computation."""


class OfLayer(NamedTuple):
    """A metric of one layer: of the first step (`init`) or of each epoch (`layers`)."""

    prefix: str
    layer: str
    name: str

    def __str__(self) -> str:
        return "/".join(self)


def of_layer(metric: str) -> OfLayer | None:
    """The parts of a metric of one layer; None where it is another."""
    prefix, _, rest = metric.partition("/")
    layer, _, name = rest.rpartition("/")
    known = prefix in ("init", "layers") and layer and name in OF_LAYER
    return OfLayer(prefix, layer, name) if known else None


def is_measured(metric: object) -> bool:
    return isinstance(metric, str) and (metric in MEASURED or needs_diagnostics(metric))


def needs_diagnostics(metric: str) -> bool:
    return metric in OF_STEP or of_layer(metric) is not None


def better(metric: str) -> str | None:
    """`max` or `min`; None where neither is better."""
    if (one := of_layer(metric)) is not None:
        return OF_LAYER[one.name]
    return MEASURED.get(metric)


def has_epochs(metric: str) -> bool:
    """Whether it has a value in each epoch."""
    return not metric.startswith(("test/", "init/")) and metric not in OF_NETWORK and metric != "epochs"


EXAMPLES = (*MEASURED, *OF_STEP, *(f"layers/last/{name}" for name in OF_LAYER), "init/last/activation_std")
"""Names to be told where another is not known."""
