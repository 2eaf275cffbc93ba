"""Which classes the best single trial takes for which: the confusion matrix of its validation images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from orchestrator.reports.data import SweepData, cut
from orchestrator.reports.figure import Figure
from orchestrator.reports.parts.drawing import TITLE_ABOVE
from orchestrator.reports.parts.images import stored_images
from orchestrator.reports.parts.predictions import Predicted, best_predictions

CLASSES = 40
"""So many are drawn, those with the most mistakes; the counts of up to `NUMBERED` are written out."""

NUMBERED = 25
LONGEST = 24


def counts(found: Predicted) -> Counter[tuple[int, int]]:
    """(true class, said class) -> how many images; pairs of none are left out."""
    return Counter(zip(found.labels.tolist(), found.said.tolist(), strict=True))


def most_confused(pairs: Counter[tuple[int, int]], classes: int, most: int) -> list[int]:
    """The classes with the most mistakes, as true class or as what is said, by their number."""
    if classes <= most:
        return list(range(classes))
    wrong: Counter[int] = Counter()
    for (true, said), count in pairs.items():
        if true != said:
            wrong[true] += count
            wrong[said] += count
    return sorted(sorted(range(classes), key=lambda one: -wrong[one])[:most])


def figure(sweep: SweepData) -> Figure | None:
    """None where no predictions are at hand."""
    found = best_predictions(sweep)
    if found is None:
        return None
    pairs = counts(found)
    shown = most_confused(pairs, len(found.classes), CLASSES)
    return Figure(
        name="confusion",
        title="Which classes does the best trial take for which?",
        text=_text(sweep, found, pairs, shown),
        spec=matrix(found.classes, pairs, shown),
    )


def _text(sweep: SweepData, found: Predicted, pairs: Counter[tuple[int, int]], shown: Sequence[int]) -> str:
    total = sum(pairs.values())
    wrong = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    text = f"Trial {found.trial} gets {total - sum(wrong.values()):,} of {total:,} validation images right."
    if wrong:
        (true, said), count = max(wrong.items(), key=lambda item: (item[1], -item[0][0], -item[0][1]))
        of_true = sum(number for (label, _), number in pairs.items() if label == true)
        text += f" Most often {_name(found, true)} is taken for {_name(found, said)}: {count} of {of_true}."
    if len(shown) < len(found.classes):
        text += f" Of {len(found.classes)} classes the {len(shown)} with the most mistakes are shown."
    images = stored_images(sweep.record.trials[found.trial].config, found.fingerprint)
    if wrong and isinstance(images, str):
        text += f" The images that it gets wrong cannot be shown: {images}."
    return text


def _name(found: Predicted, number: int) -> str:
    return cut(found.classes[number], LONGEST)


# The picture ----------------------------------------------------------------------------------------------------------


def matrix(classes: Sequence[str], pairs: Counter[tuple[int, int]], shown: Sequence[int]) -> dict[str, Any]:
    """The spec of the counts of some of the classes."""
    kept = set(shown)
    totals: Counter[int] = Counter()
    for (true, _), count in pairs.items():
        totals[true] += count
    rows: list[dict[str, Any]] = [
        {"true": true, "said": said, "images": count, "share": count / totals[true], "right": true == said}
        | {"true class": classes[true][:100], "predicted class": classes[said][:100]}
        for (true, said), count in sorted(pairs.items())
        if true in kept and said in kept
    ]
    names = {number: cut(classes[number], LONGEST) for number in shown}
    texts = [names.get(number, "") for number in range(len(classes))]
    axis = {"labelExpr": "classes[datum.value]", "labelLimit": 120, "grid": False}
    size = max(12, min(34, 620 // len(shown)))
    scale = {"domain": list(shown)}
    tooltip = [{"field": name, "type": "nominal"} for name in ("true class", "predicted class", "images")]
    most = max((row["images"] for row in rows if not row["right"]), default=1)
    across = {"field": "said", "type": "ordinal", "title": "predicted class", "scale": scale}
    up = {"field": "true", "type": "ordinal", "title": "true class", "scale": scale}
    layers: list[dict[str, Any]] = [
        {"transform": [{"filter": "datum.right"}], "mark": {"type": "rect", "color": {"expr": "inkGrid"}}},
        {
            "transform": [{"filter": "!datum.right"}],
            "mark": {"type": "rect"},
            "encoding": {
                "color": {
                    "field": "images",
                    "type": "quantitative",
                    "title": "mistakes (images)",
                    "scale": {"domain": [0, max(most, 2)]},
                    "legend": None
                    if len(shown) <= NUMBERED
                    else {"values": sorted({0, 1, most // 2, most}), "format": "d"},
                }
            },
        },
    ]
    if len(shown) <= NUMBERED:
        ink = f"!datum.right && datum.images > {most} * 0.55 ? inkBack : inkText"
        layers.append({"mark": {"type": "text", "fill": {"expr": ink}}, "encoding": {"text": {"field": "images"}}})
    return {
        "params": [{"name": "classes", "value": texts}],
        "data": {"values": rows},
        "width": {"step": size},
        "height": {"step": size},
        "encoding": {
            "x": {**across, "axis": {**axis, "orient": "top", "labelAngle": -45 if max(map(len, texts)) > 3 else 0}},
            "y": {**up, "axis": {**axis, **TITLE_ABOVE}},
            "tooltip": tooltip,
        },
        "layer": layers,
    }
