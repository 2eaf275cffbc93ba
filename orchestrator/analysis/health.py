"""What the first training step said of an initialization, in words."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.base.records import InitHealth
from orchestrator.journal.record import TrialRecord


def health_words(health: InitHealth) -> str:
    """In one line: `ok`, or `vanishing: outputs shrink to 1.3e-06 times their strength ..., out of bounds from module fc3 on`."""
    verdict, layer = health["verdict"], health.get("layer")
    if layer is None:
        return verdict
    signal, ratio = health.get("signal"), health.get("ratio")
    way = "back to the first layer" if signal == "gradients" else "on the way to the last layer"
    if ratio is None:
        return f"{verdict}: {signal} at module {layer} were not finite at the first step"
    moved = "shrink" if verdict == "vanishing" else "grow"
    return (
        f"{verdict}: {signal} {moved} to {ratio:.2g} times their strength {way}, out of bounds from module {layer} on"
    )


def unhealthy(trials: Iterable[TrialRecord]) -> dict[str, int]:
    """How many trials began with an initialization that is not ok, by its verdict."""
    found: dict[str, int] = {}
    for trial in trials:
        if trial.init_health is not None and (verdict := trial.init_health["verdict"]) != "ok":
            found[verdict] = found.get(verdict, 0) + 1
    return found
