"""Part of a data set: some of its classes, and so many training images of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.base.errors import nearest


def check_classes(chosen: Sequence[str | int] | None) -> None:
    """Raises ValueError unless at least two classes are chosen, none of them twice."""
    if chosen is None:
        return
    if len(chosen) < 2:
        raise ValueError(f"classes must be at least 2, or null for all, got {list(chosen)}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"classes must be different ones, got {list(chosen)}")


def check_examples_per_class(count: int | None) -> None:
    """Raises ValueError unless `count` is at least 1, or None."""
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"examples_per_class must be at least 1, or null for all, got {count}")


def class_numbers(chosen: Sequence[str | int] | None, names: Sequence[str]) -> list[int]:
    """The numbers of chosen classes, in their order.

    Args:
        chosen: names, or numbers from 0; None takes all.
        names: of all classes.

    Raises:
        ValueError: there is no such class, one is meant twice, or a number is also the name of another class.
    """
    check_classes(chosen)
    numbers = list(range(len(names))) if chosen is None else [_number(one, names) for one in chosen]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"classes must be different ones, got {list(chosen or ())}")
    return numbers


def _number(one: str | int, names: Sequence[str]) -> int:
    if isinstance(one, str):
        if one in names:
            return list(names).index(one)
        near = nearest(one, names)
        meant = f"did you mean {near}?" if near else f"there are {', '.join(names[:10])}" + " ..." * (len(names) > 10)
        raise ValueError(f"classes has {one!r}, which is no class of these data; {meant}")
    if not 0 <= one < len(names):
        raise ValueError(f"classes must be from 0 to {len(names) - 1}, or names, got {one}")
    if str(one) in names and names[one] != str(one):
        raise ValueError(
            f"classes has {one}, which may mean the class called {str(one)!r} or number {one} of all, {names[one]!r}; write the"
            " name in quotes"
        )
    return one


def first_of_each_class(
    labels: np.ndarray, ids: np.ndarray, count: int | None, seed: int, classes: Sequence[str], numbers: Sequence[int]
) -> np.ndarray:
    """The ids, sorted, of the first `count` examples of each class in an order that `seed` decides; None takes all.

    Fewer are a subset of more, and those of a class do not depend on which other classes there are.

    Args:
        labels: class ids of all examples, indexed by `ids`.
        numbers: the number of each class in the whole data set.

    Raises:
        ValueError: a class has fewer examples.
    """
    if count is None:
        return ids
    members = [ids[labels[ids] == label] for label in range(len(classes))]
    if len(fewest := min(members, key=len)) < count:
        name = classes[labels[fewest[0]]]
        raise ValueError(
            f"examples_per_class must be at most {len(fewest)}, the training images that class {name!r} has, got {count}"
        )
    # a new RandomState for each class: numpy promises never to change its stream
    orders = [np.random.RandomState([seed, _STREAM, number]) for number in numbers]
    return np.sort(np.concatenate([order.permutation(of)[:count] for order, of in zip(orders, members, strict=True)]))


_STREAM = 0x66657700
"""Apart from what the seed decides by itself, the split, and from the noise of labels."""
