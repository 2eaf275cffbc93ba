"""The predictions of candidates into one array, a file at a time, so that a thousand need no more memory than their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from orchestrator.base.errors import NotReadyError
from orchestrator.base.stored_predictions import SPLITS, Header, UnfitError, examples, logits, parse_header, read_whole
from orchestrator.ensembles.alike import Read, most_frequent, other_examples
from orchestrator.ensembles.candidates import Candidate, LeftOut

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

READERS = 2
"""Files that are read at a time."""

TIMES = 2
"""A comparison needs the memory of the predictions so often: their probabilities are of the same size."""

# m of M candidates, N examples, K classes


@dataclass(frozen=True)
class Loaded:
    """Validation predictions.

    Args:
        places: of those that could be read, among the ones asked for.
        logits_MNK: of these alone.
    """

    places: tuple[int, ...]
    logits_MNK: Array
    labels_N: Array
    ids_N: Array
    left_out: tuple[LeftOut, ...]


def load_validation(read: Sequence[Read]) -> Loaded:
    """The validation predictions of those whose files are whole and whose examples are those of most.

    Args:
        read: of the same data, classes and numbers of examples.

    Raises:
        NotReadyError: they need more memory than there is.
    """
    import numpy as np

    logits_MNK = _room(len(read), read[0][1])
    seen: dict[str, tuple[Array, ...]] = {}

    def load(place: int) -> str | UnfitError:
        candidate, header = read[place]
        try:
            contents = _same_file(candidate, header)
            found = tuple(array for split in SPLITS for array in examples(contents, header, split))
            logits(contents, header, "val", logits_MNK[place])
        except UnfitError as error:
            return error
        digest = hashlib.sha256(b"".join(array.tobytes() for array in found)).hexdigest()
        if digest not in seen:
            seen[digest] = tuple(array.copy() for array in found)  # the file itself is not kept
        return digest

    with ThreadPoolExecutor(READERS) as pool:
        outcomes = list(pool.map(load, range(len(read))))
    whole = [outcome for outcome in outcomes if isinstance(outcome, str)]
    most = most_frequent(whole) if whole else None
    places = tuple(place for place, outcome in enumerate(outcomes) if outcome == most)
    left_out = [
        LeftOut(
            read[place][0].member.name,
            other_examples(seen[outcome], seen[str(most)]) if isinstance(outcome, str) else str(outcome),
        )
        for place, outcome in enumerate(outcomes)
        if outcome != most
    ]
    for slot, place in enumerate(places):  # within the array, so that it is never there twice
        if slot != place:
            logits_MNK[slot] = logits_MNK[place]
    labels_N, ids_N = seen[str(most)][:2] if whole else (np.empty(0, np.int64), np.empty(0, np.int64))
    return Loaded(places, logits_MNK[: len(places)], labels_N, ids_N, tuple(left_out))


def load_test(
    candidates: Mapping[str, Candidate], like: Header, held: object, names: Sequence[str]
) -> tuple[Array, Array, Array]:
    """Logits [m, N, K], labels [N] and ids [N] of the test, of members by their names.

    Args:
        like: what the files of all of them say.
        held: what the files need to be there.

    Raises:
        NotReadyError: a file cannot be read any more.
    """
    import numpy as np

    found: tuple[Array, Array] = (np.empty(0, np.int64), np.empty(0, np.int64))
    logits_mNK = np.empty((len(names), like.examples[1], len(like.classes)), np.float32)
    for place, name in enumerate(names):
        try:
            contents = _same_file(candidates[name], like)
            header = parse_header(contents)
            logits(contents, header, "test", logits_mNK[place])
            found = examples(contents, header, "test")
        except UnfitError as error:
            raise NotReadyError(f"{name} cannot be a member any more: {error}; compare again without it") from error
    return logits_mNK, found[0].copy(), found[1].copy()


def _same_file(candidate: Candidate, header: Header) -> bytes:
    """The contents of a candidate's file, which say what they said when it was looked at first."""
    contents = read_whole(candidate.path, candidate.sha256)
    now = parse_header(contents)
    if (now.fingerprint, now.classes, now.examples) != (header.fingerprint, header.classes, header.examples):
        raise UnfitError("its predictions changed while they were read")
    return contents


def _room(members: int, header: Header) -> Array:
    """An empty array for the validation logits of so many.

    Raises:
        NotReadyError: there is no memory for it.
    """
    import numpy as np

    shape = (members, header.examples[0], len(header.classes))
    needed, free = TIMES * 4 * np.prod(shape, dtype=float), psutil.virtual_memory().available
    if needed > free:
        raise NotReadyError(
            f"the predictions of {members:,} trials take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free;"
            " name fewer sweeps, or choose trials with --filter"
        )
    return np.empty(shape, np.float32)
