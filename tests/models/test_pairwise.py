"""The combinations that the conformance tests try."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tests.models.pairwise import Pair, each_choice_once, pairwise


def group(name: str, size: int) -> list[str]:
    return [f"{name}{number}" for number in range(size)]


@pytest.mark.parametrize("sizes", [(3,), (2, 2), (4, 1), (2, 3, 4), (4, 5, 5, 6), (1, 1, 1), (3, 3, 3, 3)])
def test_every_pair_of_choices_meets(sizes: tuple[int, ...]) -> None:
    groups = [group(name, size) for name, size in zip("abcd", sizes, strict=False)]

    rows = pairwise(*groups)

    assert len(set(rows)) == len(rows)
    for row in rows:
        assert all(choice in choices for choice, choices in zip(row, groups, strict=True))
    for one, other in combinations(range(len(groups)), 2):
        assert {(row[one], row[other]) for row in rows} == set(product(groups[one], groups[other]))


def test_two_groups_need_their_product() -> None:
    assert sorted(pairwise(["a", "b"], ["x", "y"])) == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


def test_rows_grow_with_the_two_largest_groups() -> None:
    """45 families, 12 initializations, 11 activations, 9 norms: 53,460 in the product, 540 at the least."""
    rows = pairwise(group("family", 45), group("norm", 9), group("activation", 11), group("init", 12))

    assert 540 <= len(rows) <= 600


def test_a_group_without_choices_gives_no_rows() -> None:
    assert pairwise([], ["a"]) == []


def test_the_rows_are_the_same_every_time() -> None:
    groups = group("a", 4), group("b", 3), group("c", 5)

    assert pairwise(*groups) == pairwise(*groups)


def test_excluded_pairs_are_left_out_and_all_others_meet() -> None:
    groups = group("a", 5), group("b", 4), group("c", 3)

    def excluded(pair: Pair) -> bool:
        return pair in (((0, "a1"), (1, "b2")), ((0, "a1"), (1, "b3")), ((1, "b2"), (2, "c1")))

    rows = pairwise(*groups, excluded=excluded)

    for one, other in combinations(range(3), 2):
        wanted = {(a, b) for a, b in product(groups[one], groups[other]) if not excluded(((one, a), (other, b)))}
        assert {(row[one], row[other]) for row in rows} == wanted


def test_a_part_of_the_rows_holds_every_choice() -> None:
    groups = group("family", 40), group("norm", 8), group("activation", 15)
    rows = pairwise(*groups)

    kept = each_choice_once(rows)

    assert set(kept) <= set(rows)
    assert len(kept) <= 40 + 8 + 15
    for place, choices in enumerate(groups):
        assert {row[place] for row in kept} == set(choices)
