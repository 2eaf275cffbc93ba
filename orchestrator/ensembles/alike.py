"""Which candidates are of the same data, classes and examples: those of what most have; the others differ, and it is said how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.base.stored_predictions import Header
from orchestrator.ensembles.candidates import Candidate, LeftOut

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

FINGERPRINT_SHOWN = 12
CLASS_SHOWN = KEY_SHOWN = 40
"""Letters of a fingerprint, and of the name of a class or a key, or of its value, in a reason."""

SPLIT = ("val_fraction", "split_seed")
MOST_KEYS = 4
"""Keys of the data that are told first, and how many are told."""

Read = tuple[Candidate, Header]


def of_one_kind(read: list[Read]) -> tuple[list[Read], list[LeftOut]]:
    """Those of the data that most share, with the classes and the numbers of examples that most of these share."""
    left_out: list[LeftOut] = []
    kinds: tuple[tuple[Callable[[Header], Hashable], Callable[[Read, Read], str]], ...] = (
        (lambda header: header.fingerprint, _other_data),
        (lambda header: header.classes, _other_classes),
        (lambda header: header.examples, _other_sizes),
    )
    for kind, why in kinds:
        if not read:
            break
        most = most_frequent([kind(header) for _, header in read])
        like = next(one for one in read if kind(one[1]) == most)
        left_out += [LeftOut(one[0].member.name, why(one, like)) for one in read if kind(one[1]) != most]
        read = [(one, header) for one, header in read if kind(header) == most]
    return read, left_out


def most_frequent(kinds: Sequence[Hashable]) -> Hashable:
    """Of equally many the first, which is of the first sweep."""
    counts = Counter(kinds)
    return max(counts, key=counts.__getitem__)


def _other_data(read: Read, most: Read) -> str:
    """By what was configured and how many examples there are; only where both are the same by the fingerprint."""
    (own, header), (others, of_most) = read, most
    keys = [
        key for key in dict.fromkeys([*SPLIT, *own.data, *others.data]) if own.data.get(key) != others.data.get(key)
    ]
    differ = [f"data.{key[:KEY_SHOWN]} is {_shown(own, key)}, not {_shown(others, key)}" for key in keys[:MOST_KEYS]]
    if header.examples != of_most.examples:
        counts = [" and ".join(map(str, one.examples)) for one in (header, of_most)]
        differ.append(f"it has {counts[0]} examples of validation and test, most have {counts[1]}")
    if not differ:
        shown = [one.fingerprint[:FINGERPRINT_SHOWN] for one in (header, of_most)]
        differ = [f"fingerprint {shown[0]}, that of most is {shown[1]}"]
    return f"other data, or another split of them: {'; '.join(differ)}"


def _shown(one: Candidate, key: str) -> str:
    return str(one.data[key])[:CLASS_SHOWN] if key in one.data else "set"


def _other_classes(read: Read, of_most: Read) -> str:
    header, most = read[1], of_most[1]
    if sorted(header.classes) == sorted(most.classes):
        place = next(k for k, names in enumerate(zip(header.classes, most.classes, strict=True)) if len(set(names)) > 1)
        own, other = (one.classes[place][:CLASS_SHOWN] for one in (header, most))
        return f"its classes are in another order: number {place} is {own!r}, that of most is {other!r}"
    if len(header.classes) != len(most.classes):
        return f"it has {len(header.classes)} classes, most have {len(most.classes)}"
    own = next(iter(sorted(set(header.classes) - set(most.classes))), "")[:CLASS_SHOWN]
    return f"its classes are others: {own!r} is none of most" if own else "its classes are others"


def _other_sizes(read: Read, most: Read) -> str:
    own, other = (" and ".join(map(str, header.examples)) for _, header in (read, most))
    return f"it has predictions of {own} examples of validation and test, most have {other}"


def other_examples(own: Sequence[Array], most: Sequence[Array]) -> str:
    """How examples differ.

    Args:
        own, most: labels and ids of validation, then of the test.
    """
    import numpy as np

    for split, at in (("validation", 0), ("test", 2)):
        (labels, ids), (other_labels, other_ids) = own[at : at + 2], most[at : at + 2]
        if np.array_equal(ids, other_ids):
            if not np.array_equal(labels, other_labels):
                return f"{int((labels != other_labels).sum())} of its {split} labels are others than those of most"
        elif np.array_equal(np.sort(ids), np.sort(other_ids)):
            return f"its {split} examples are in another order than those of most"
        else:
            return f"{len(np.setdiff1d(ids, other_ids))} of its {split} examples are others than those of most"
    return "its examples are others than those of most"
