"""Few combinations of choices that hold every pair: conformance tests grow with the two largest groups, not with the product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

Pair = tuple[tuple[int, str], tuple[int, str]]


def pairwise(*groups: Sequence[str], excluded: Callable[[Pair], bool] = lambda pair: False) -> list[tuple[str, ...]]:
    """Rows of one choice from each group; every two choices of different groups meet in a row. The same rows every time.

    Each row starts from a pair that no row has yet and takes from the other groups, one after another, the choice that adds
    most new pairs with what the row holds, of equals the one used least.

    Args:
        excluded: pairs that no row may hold; each group needs one choice that goes with all others.
    """
    if len(groups) == 1:
        return [(choice,) for choice in groups[0]]
    missing: dict[Pair, None] = {
        pair: None
        for i, j in combinations(range(len(groups)), 2)
        for a in groups[i]
        for b in groups[j]
        if not excluded(pair := ((i, a), (j, b)))
    }
    used: dict[tuple[int, str], int] = {}
    rows = []
    while missing:
        chosen = dict(next(iter(missing)))
        for place in range(len(groups)):
            if place not in chosen:
                chosen[place] = min(
                    (c for c in groups[place] if not any(map(excluded, _pairs(chosen, place, c)))),
                    key=lambda choice: (-_new(chosen, place, choice, missing), used.get((place, choice), 0)),
                )
        for first, second in combinations(sorted(chosen.items()), 2):
            missing.pop((first, second), None)
        for item in chosen.items():
            used[item] = used.get(item, 0) + 1
        rows.append(tuple(chosen[place] for place in range(len(groups))))
    return rows


def _new(chosen: dict[int, str], place: int, choice: str, missing: dict[Pair, None]) -> int:
    """How many missing pairs `choice` makes with what is chosen."""
    return sum(pair in missing for pair in _pairs(chosen, place, choice))


def _pairs(chosen: dict[int, str], place: int, choice: str) -> list[Pair]:
    """The pairs that `choice` makes with what is chosen, each in the order of the groups."""
    both = (sorted([(other, value), (place, choice)]) for other, value in chosen.items())
    return [(first, second) for first, second in both]


def each_choice_once(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Few of the rows, in their order, in which every choice still occurs."""
    seen: set[tuple[int, str]] = set()
    kept = []
    for row in rows:
        if new := set(enumerate(row)) - seen:
            seen |= new
            kept.append(row)
    return kept
