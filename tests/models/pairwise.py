"""Few combinations of choices that hold every pair: conformance tests grow with the two largest groups, not with the product."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

Pair = tuple[tuple[int, str], tuple[int, str]]


def pairwise(*groups: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows of one choice from each group; every two choices of different groups meet in a row. The same rows every time.

    Each row starts from a pair that no row has yet and takes from the other groups, one after another, the choice that adds
    most new pairs with what the row holds, of equals the one used least.
    """
    if len(groups) == 1:
        return [(choice,) for choice in groups[0]]
    missing: dict[Pair, None] = {
        ((i, a), (j, b)): None for i, j in combinations(range(len(groups)), 2) for a in groups[i] for b in groups[j]
    }
    used: dict[tuple[int, str], int] = {}
    rows = []
    while missing:
        chosen = dict(next(iter(missing)))
        for place in range(len(groups)):
            if place not in chosen:
                chosen[place] = min(
                    groups[place],
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
    pairs = (sorted([(other, value), (place, choice)]) for other, value in chosen.items())
    return sum((first, second) in missing for first, second in pairs)
