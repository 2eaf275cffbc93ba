"""Where the ensemble still errs: the test images that it gets wrong with most confidence, with what each member said."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence

from orchestrator.ensembles.comparison import Worst
from orchestrator.ensembles.page.view import View, counted
from orchestrator.reports.figure import Figure
from orchestrator.reports.parts.drawing import escaped

SHOWN, FIRST, MEMBERS, CLASSES = 24, 10, 8, 4
"""Images, and those that are open; members with a line of their own; and classes, where more members are counted."""

SIDE = 112
"""Pixels of the longer side on the page; a smaller picture is enlarged, and its pixels stay sharp."""

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 200_000
"""Bytes of a picture that is put into the page."""


def figure(view: View) -> Figure | None:
    """None where nothing is wrong, or was kept of it."""
    found = list(view.comparison.get("worst", ()))
    if not found or view.winner is None:
        return None
    return Figure(
        name="worst",
        title="Where does the winner still err?",
        text=_text(view, found[:SHOWN]),
        html=_html(view, found[:SHOWN]),
    )


def _text(view: View, shown: Sequence[Worst]) -> str:
    text = (
        f"The {counted(len(shown), 'test image')} that it gets wrong with most confidence, with what its members said and how "
        "sure they are."
    )
    assert view.winner is not None
    kept, members = max(len(one["members"]) for one in shown), len(view.rows[view.winner]["members"])
    if kept < members:
        text += f" Of its {members:,} members {kept} are asked."
    alone = sum(not any(said == one["label"] for said, _ in one["members"]) for one in shown)
    if alone and kept == members:
        text += f" For {alone} of them no member says the true class: no weighting of these members would do much better there."
    missing = sum(picture(view.images.get(one["id"])) is None for one in shown)
    if missing:
        of = "all of them" if missing == len(shown) else f"{missing} of them"
        text += f" The pictures of {of} are not at hand."
    return text


def picture(data: bytes | None) -> tuple[str, int, int] | None:
    """The address of a picture, its width and its height in pixels; None of what is no small PNG."""
    if data is None or data[:8] != PNG or not 33 <= len(data) <= LARGEST or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    if not (0 < width <= 4096 and 0 < height <= 4096):
        return None
    return f"data:image/png;base64,{base64.b64encode(data).decode()}", width, height


def _html(view: View, shown: Sequence[Worst]) -> str:
    cards = [_card(view, one) for one in shown]
    rest = len(cards) - FIRST
    more = f"<details><summary>{rest} more</summary>{_grid(cards[FIRST:])}</details>" if rest > 0 else ""
    return _grid(cards[:FIRST]) + more


def _grid(cards: Sequence[str]) -> str:
    return f'<div class="worst">{"".join(cards)}</div>'


def _card(view: View, one: Worst) -> str:
    true = escaped(view.class_name(one["label"]))
    said, sure = one["said"]
    return (
        f'<figure><div class="shown">{_image(view, one, true)}<figcaption><small>it is</small><b>{true}</b>'
        f'<small>the winner says</small><b class="said">{escaped(view.class_name(said))}</b>{_share(sure)}'
        f"<small>image {int(one['id'])}</small></figcaption></div>"
        f"{_votes(view, one)}</figure>"
    )


def _image(view: View, one: Worst, true: str) -> str:
    found = picture(view.images.get(one["id"]))
    if found is None:
        return f'<div class="nothing" style="width:{SIDE}px;height:{SIDE}px">no picture</div>'
    address, width, height = found
    factor = SIDE / max(width, height)
    sharp = ' class="sharp"' if factor > 1 else ""
    wide, high = max(1, round(width * factor)), max(1, round(height * factor))
    return f'<img src="{address}" alt="an image of {true}" width="{wide}" height="{high}"{sharp}>'


def _votes(view: View, one: Worst) -> str:
    assert view.winner is not None
    members = view.rows[view.winner]["members"]
    said = list(zip(members, one["members"], strict=False))
    if len(said) > MEMBERS:
        return _counted(view, one)
    lines = "".join(
        _line(view, one["label"], number, view.name(place, 18), sure, f' data-trial="{view.number(place)}"')
        for place, (number, sure) in said
    )
    return f'<div class="votes">{lines}</div>'


def _counted(view: View, one: Worst) -> str:
    """Of many members: how many say each class, the most first, and always the true one."""
    counts: dict[int, int] = {one["label"]: 0}
    for said, _ in one["members"]:
        counts[said] = counts.get(said, 0) + 1
    order = sorted(counts, key=lambda number: (-counts[number], number))
    shown = order[:CLASSES] if one["label"] in order[:CLASSES] else [*order[: CLASSES - 1], one["label"]]
    total = max(1, len(one["members"]))
    lines = "".join(
        _line(
            view,
            one["label"],
            number,
            counted(counts[number], "member says", "members say"),
            counts[number] / total,
            "",
        )
        for number in shown
    )
    rest = len(order) - len(shown)
    more = f"<small>and {counted(rest, 'more class', 'more classes')}</small>" if rest else ""
    return f'<div class="votes">{lines}{more}</div>'


def _line(view: View, label: int, said: int, who: str, share: float, linked: str) -> str:
    """A member, or several, with a bar: how sure, or how many."""
    inside = min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
    kind = "right" if said == label else "wrong"
    mark = "\N{CHECK MARK} " if said == label else ""
    told = escaped(f"{who}: {view.class_name(said)} ({_share(share)})")
    return (
        f'<div class="vote {kind}"{linked} title="{told}">'
        f'<i style="width:{100 * inside:.0f}%"></i><span>{escaped(who)}</span>'
        f"<span>{mark}{escaped(view.class_name(said, 14))}</span></div>"
    )


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if math.isfinite(share) else "?"
