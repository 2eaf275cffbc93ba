"""The validation images that the best single trial gets wrong with most confidence, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.reports.data import SweepData, cut
from orchestrator.reports.figure import Figure
from orchestrator.reports.parts.drawing import escaped
from orchestrator.reports.parts.images import data_uri, stored_images
from orchestrator.reports.parts.predictions import Predicted, best_predictions

if TYPE_CHECKING:
    from orchestrator.reports.parts.images import Array

SHOWN = 24
SIDE = 96
"""Pixels of the longer side on the page; a smaller image is enlarged, and its pixels stay sharp."""

LONGEST = 24


def worst(found: Predicted, most: int = SHOWN) -> list[int]:
    """The places of the wrong ones in `found`, the most confident first."""
    wrong = [place for place in range(len(found.ids)) if found.labels[place] != found.said[place]]
    return sorted(wrong, key=lambda place: (-float(found.confidence[place]), int(found.ids[place])))[:most]


def figure(sweep: SweepData) -> Figure | None:
    """None where nothing is wrong, or predictions or images are not at hand."""
    found = best_predictions(sweep)
    if found is None or not (places := worst(found)):
        return None
    images = stored_images(sweep.record.trials[found.trial].config, found.fingerprint)
    if isinstance(images, str):
        return None
    if not all(0 <= found.ids[place] < len(images) for place in places):
        return None
    wrong = int((found.labels != found.said).sum())
    shown = "all of them" if wrong == len(places) else f"the {len(places)} of which it is surest"
    return Figure(
        name="mistakes",
        title="Which images does the best trial get wrong?",
        text=(
            f"Trial {found.trial} gets {wrong:,} of {len(found.ids):,} validation images wrong; here are {shown}, with "
            "the true class, and what it says with which probability."
        ),
        html=_html(found, places, images),
    )


def _html(found: Predicted, places: Sequence[int], images: Array) -> str:
    cells = "".join(_cell(found, place, images[int(found.ids[place])]) for place in places)
    return f'<div style="display:flex;flex-wrap:wrap;gap:14px">{cells}</div>'


def _cell(found: Predicted, place: int, image_CHW: Array) -> str:
    address, width, height = data_uri(image_CHW)
    factor = SIDE / max(width, height)
    true, said = (escaped(cut(found.classes[int(one[place])], LONGEST)) for one in (found.labels, found.said))
    sharp = "image-rendering:pixelated;" if factor > 1 else ""
    return (
        f'<figure style="margin:0;width:{SIDE + 24}px;font-size:0.85rem">'
        f'<img src="{address}" alt="an image of {true}" width="{round(width * factor)}" height="{round(height * factor)}" '
        f'style="{sharp}border:1px solid var(--line)">'
        f"<figcaption>{true}, it says<br><b>{said}</b> ({float(found.confidence[place]):.0%})<br>"
        f"<small>image {int(found.ids[place])}</small></figcaption></figure>"
    )
