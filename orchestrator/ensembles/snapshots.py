"""The snapshots of members that are here, and what their networks say of the validation examples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.base.layout import BEST, snapshot
from orchestrator.ensembles.candidates import LeftOut
from orchestrator.ensembles.crossfitting import Order
from orchestrator.ensembles.gathering import Gathered
from orchestrator.ensembles.larder import ELSEWHERE, open_kitchen, value_by
from orchestrator.ensembles.measures import measures
from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.methods.snapshots import LACKING
from orchestrator.ensembles.pool import Member, Pool
from orchestrator.ensembles.pooling import softmax
from orchestrator.ensembles.weights import Weights, weights_here

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.training.soups import Kitchen

    Array = np.ndarray[Any, Any]

# m snapshots, N examples, K classes

SCOPE = "of snapshots alone"
"""How a reason begins that keeps the snapshots of a trial from being used, and not the trial from being a member."""


MOST = 1_000
"""Snapshots of a trial, as the root key allows."""


class Album:
    """The snapshots of the members of a pool.

    Args:
        pool: its members in order.
        metric: the objective.

    Attributes:
        left_out: those that turned out to be damaged.
    """

    def __init__(self, pool: Pool, gathered: Gathered, metric: str) -> None:
        found, _ = weights_here(pool, gathered.sources, BEST)  # kept as long as the snapshots
        self._all = {one.place: one for one in found if len(_numbers(one)) > 1}
        self._here = any(source.folder is not None for source in gathered.sources)
        self._pool, self._gathered, self._metric = pool, gathered, metric
        self._kitchens: dict[int, Kitchen | None] = {}
        self.left_out: list[LeftOut] = []

    def best(self, rows_n: Array | None) -> int:
        """The place of the best member by these examples, or by all, whose snapshots can be used.

        Raises:
            NotPossibleError: there is none.
        """
        places = [*self._all]
        if rows_n is not None and places:
            places = [places[at] for at in Order(self._pool.of(places), self._metric).by(rows_n)]
        for place in places:
            if self._kitchen(place) is not None:
                return place
        if self.left_out:
            raise NotPossibleError("the snapshots of each trial are damaged, or are not there: see what was left out")
        raise NotPossibleError(LACKING if self._here else ELSEWHERE)

    def numbers(self, place: int) -> list[int]:
        """Of the snapshots of a member, in their order."""
        return _numbers(self._all[place])

    def kitchen(self, place: int) -> Kitchen:
        """That of the network of a member; its ingredients are the snapshots, by their numbers."""
        found = self._kitchen(place)
        assert found is not None
        return found

    def member(self, place: int, number: int, logits_NK: Array) -> Member:
        """A snapshot as a member; it costs what its trial does."""
        first = self._pool.members[place]
        name = f"snapshot {number} of {first.name}"
        said = measures(softmax(logits_NK, "float64"), self._pool.labels_N)
        return replace(first, name=name, params={}, configuration=name, value=value_by(self._metric, said))

    def logits_mNK(self, place: int) -> Array:
        """What the snapshots of a member say of the validation examples.

        Raises:
            NotPossibleError: numbers that are not finite.
        """
        import numpy as np

        found = np.stack([self.kitchen(place).validation((number,)) for number in self.numbers(place)])
        if not np.isfinite(found).all():
            raise NotPossibleError(f"a snapshot of {self._all[place].name} gives numbers that are not finite")
        return found

    def _kitchen(self, place: int) -> Kitchen | None:
        """None where a snapshot is damaged, or is not there."""
        from orchestrator.training.soups import Unfit

        if place not in self._kitchens:
            one = self._all[place]
            kitchen = open_kitchen(one, self._pool, self._gathered)
            try:
                for number in _numbers(one):
                    path = one.path.with_name(snapshot(number))
                    if path.is_symlink() or not path.is_file():
                        raise Unfit(f"{path.name} is {'a link' if path.is_symlink() else 'not there'}")
                    kitchen.take(number, path, one.uid)
                self._kitchens[place] = kitchen
            except Unfit as error:
                self.left_out.append(LeftOut(one.name, f"{SCOPE}: {error}"))
                self._kitchens[place] = None
        return self._kitchens[place]


def _numbers(one: Weights) -> list[int]:
    """Of the snapshots that a trial was to keep by the epoch with which it ended."""
    if type(one.config.get("snapshots")) is not int or one.config["snapshots"] > MOST:
        return []
    from orchestrator.training.snapshots import snapshot_epochs

    try:
        ends = snapshot_epochs(one.config)
    except (KeyError, TypeError, ValueError):  # no sweep was launched so
        return []
    return [number for number, end in enumerate(ends, 1) if end <= one.epochs]
