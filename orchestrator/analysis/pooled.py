"""Ensembles in claims: the mean of members' probabilities on the validation examples, and groups of seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.base.records import State
from orchestrator.config.claims import Reducer
from orchestrator.journal.record import TrialRecord

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# N examples, K classes


class NoMemberError(Exception):
    """A trial cannot be a member; says why."""


@dataclass(frozen=True)
class Predicted:
    """What a trial predicts of the validation examples, with the weights of its best epoch.

    Args:
        fingerprint: of the data set and its split.
    """

    probabilities_NK: Array
    labels_N: Array
    ids_N: Array
    classes: tuple[str, ...]
    fingerprint: str

    def of_same(self, other: Predicted) -> bool:
        """Whether both are of the same examples, in the same order."""
        import numpy as np

        kind = (self.classes, self.fingerprint) == (other.classes, other.fingerprint)
        return kind and np.array_equal(self.ids_N, other.ids_N) and np.array_equal(self.labels_N, other.labels_N)


Predictions = Callable[[TrialRecord], Predicted]
"""Reads what a completed trial predicts, or raises NoMemberError."""


def ensemble(members: Sequence[TrialRecord], predictions: Predictions) -> dict[str, float]:
    """`val/accuracy` and `val/nll` of the mean of the members' probabilities; of equal probabilities the first class is said.

    One file is read after the other, so that no more than two are in memory.

    Raises:
        NoMemberError: a member has no predictions, or they are of other examples than those of the first.
    """
    import numpy as np

    first = _predicted(members[0], predictions)
    total_NK = first.probabilities_NK.copy()
    for trial in members[1:]:
        one = _predicted(trial, predictions)
        if not one.of_same(first):
            raise NoMemberError(f"trials {members[0].index} and {trial.index} predict different examples")
        total_NK += one.probabilities_NK
    mean_NK = total_NK / len(members)
    with np.errstate(divide="ignore"):
        losses_N = -np.log(mean_NK[np.arange(len(mean_NK)), first.labels_N])
    accuracy = (mean_NK.argmax(axis=1) == first.labels_N).mean()
    return {"val/accuracy": float(accuracy), "val/nll": float(losses_N.mean())}


def _predicted(trial: TrialRecord, predictions: Predictions) -> Predicted:
    if not trial.ended:
        raise NoMemberError(f"trial {trial.index} has not ended")
    if trial.state is not State.COMPLETED:
        raise NoMemberError(f"trial {trial.index} is {trial.state}, and an ensemble takes completed trials")
    return predictions(trial)


def groups_of_seeds(by_seed: Mapping[int, Sequence[TrialRecord]], reducer: Reducer) -> dict[int, list[TrialRecord]]:
    """Number of a group -> the trials of its members.

    Seeds are in the order of the repeats. A group takes `reducer.of` of them, its members are the first `reducer.members`;
    one that lacks a member is left out.
    """
    assert reducer.members is not None
    assert reducer.of is not None
    seeds: dict[int, set[int]] = defaultdict(set)
    trials: dict[int, list[TrialRecord]] = defaultdict(list)
    for seed, ran in by_seed.items():
        for trial in ran:
            group, place = divmod(trial.repeat, reducer.of)
            if place < reducer.members:
                seeds[group].add(seed)
                trials[group].append(trial)
    return {group: trials[group] for group in sorted(trials) if len(seeds[group]) == reducer.members}
