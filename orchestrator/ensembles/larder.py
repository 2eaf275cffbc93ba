"""The weights of members that are here, and the kitchens in which they are averaged or asked, made when they are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from orchestrator.base.groups import OF_COSTS
from orchestrator.base.rights import granted, in_force
from orchestrator.ensembles.candidates import LeftOut
from orchestrator.ensembles.catalogue import Choice
from orchestrator.ensembles.crossfitting import Order
from orchestrator.ensembles.gathering import Gathered
from orchestrator.ensembles.measures import measures
from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.methods.soup import Soup
from orchestrator.ensembles.pool import Member, Pool
from orchestrator.ensembles.pooling import softmax
from orchestrator.ensembles.weights import ASKED, SCOPE, Weights, weights_here

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.training.soups import Kitchen

    Array = np.ndarray[Any, Any]

# N examples, K classes

ELSEWHERE = "it takes weights, which a server does not bring: compare where the sweep lies"
SETTINGS = "allowed_targets: {targets} to your settings file (~/.config/orchestrator/settings.yaml), and import_paths: [FOLDER]"


class Larder:
    """What methods take from that need weights.

    Args:
        pool: its members in order.
        metric: the objective.
        file: of a trial, that has its weights.
        evaluate: the spec by which networks are asked, each trial's by itself; None asks as their trials were.
        anew: as for `Kitchen`.

    Attributes:
        left_out: those that turned out to be damaged.
    """

    def __init__(
        self,
        pool: Pool,
        gathered: Gathered,
        metric: str,
        *,
        file: str,
        evaluate: Mapping[str, Any] | None,
        anew: bool,
    ) -> None:
        self._evaluate = evaluate
        self._all, self.left_out = weights_here(pool, gathered.sources, file, each=evaluate is not None)
        self._here = any(source.folder is not None for source in gathered.sources)
        self._by_place = {one.place: one for one in self._all}
        self._kept = Counter(one.network for one in self._all)
        self._pool, self._gathered, self._metric = pool, gathered, metric
        self._anew = anew
        self._unasked: list[str] = []
        self._kitchens: dict[str, Kitchen] = {}
        self._sound: dict[int, bool] = {}
        self._order: Order | None = None

    @property
    def labels_N(self) -> Array:
        """Of the validation examples."""
        return self._pool.labels_N

    def best(self, soup: Soup, rows_n: Array | None) -> list[int]:
        """The places of at most `most` members of one network whose weights can be used, the best by these examples first.

        The network is that of the best member which has enough others beside it.

        Args:
            rows_n: None for all, by which the pool is in order.

        Raises:
            NotPossibleError: there are too few of every network.
        """
        if (most := max(self._kept.values(), default=0)) < soup.fewest:
            raise NotPossibleError(soup.lacking(most) if self._here else ELSEWHERE)
        by_network: dict[str, list[Weights]] = {}
        for place in self._ordered(rows_n):
            one = self._by_place[place]
            by_network.setdefault(one.network, []).append(one)
        usable = 0
        for weights in by_network.values():
            if len(weights) < soup.fewest:
                continue
            found = [*islice((one.place for one in weights if self._is_sound(one)), soup.most)]
            if len(found) >= soup.fewest:
                return found
            usable = max(usable, len(found))
        if self._unasked and self._evaluate is not None:
            raise NotPossibleError(f"the network of the best kept trial {self._unasked[0]}")
        raise NotPossibleError(f"{soup.lacking(usable)}; the others cannot be used")

    def best_of_each(self, top: int | None, rows_n: Array | None) -> list[int]:
        """The places of the best members with weights of at most `top` architectures, the best by these examples first.

        Raises:
            NotPossibleError: there are fewer than two.
        """
        if not self._here:
            raise NotPossibleError(ELSEWHERE)
        found: dict[str, int] = {}
        for place in self._ordered(rows_n):
            architecture = self._pool.members[place].architecture
            if architecture not in found and len(found) != top and self._is_sound(self._by_place[place]):
                found[architecture] = place
        if len(found) < 2:
            kept = ", ".join(found) or "none"
            raise NotPossibleError(
                f"it takes kept weights of two architectures, and there are those of {kept}; keep_weights=20 keeps more"
            )
        return [*found.values()]

    def _ordered(self, rows_n: Array | None) -> list[int]:
        places = [one.place for one in self._all]
        if rows_n is None:
            return places
        if self._order is None:
            self._order = Order(self._pool.of(places), self._metric)
        return [places[at] for at in self._order.by(rows_n)]

    def kitchen(self, place: int) -> Kitchen:
        """That of a member's network.

        Raises:
            OrchestratorError, NotPossibleError: the data are not here, or others; or the network is code that is not allowed.
        """
        one = self._by_place[place]
        if one.network not in self._kitchens:
            self._kitchens[one.network] = open_kitchen(
                one, self._pool, self._gathered, evaluate=self._evaluate, anew=self._anew
            )
        return self._kitchens[one.network]

    def _is_sound(self, one: Weights) -> bool:
        from orchestrator.training.soups import Unasked, Unfit

        if one.place not in self._sound:
            try:
                self.kitchen(one.place).take(one.place, one.path, one.uid)
                self._sound[one.place] = True
            except Unasked as error:
                self._unasked.append(str(error))
                self._sound[one.place] = False
            except Unfit as error:
                self.left_out.append(LeftOut(one.name, f"{SCOPE}: {error}"))
                self._sound[one.place] = False
        return self._sound[one.place]

    def member(self, choice: Choice, ingredients: Sequence[int], logits_NK: Array) -> Member:
        """The average as a member; it costs what each of its ingredients does, as often as it is asked."""
        first = self._pool.members[ingredients[0]]
        passes = self.kitchen(ingredients[0]).passes
        adds = None if first.multiply_adds is None else first.multiply_adds // first.passes * passes
        name = f"{choice.name} of {first.name}"
        if len(ingredients) > 1:
            name += f" and {len(ingredients) - 1} more"
        said = measures(softmax(logits_NK, "float64"), self.labels_N)
        return replace(
            first,
            name=name,
            params={},
            configuration=name,
            value=value_by(self._metric, said),
            multiply_adds=adds,
            passes=passes,
        )

    def said(self, soup: Soup, ingredients: Sequence[int]) -> str:
        """What was taken of what is kept, in words."""
        first = ingredients[0]
        kept = self._kept[self._by_place[first].network] if soup.fewest > 1 else len(self._all)
        return soup.said(len(ingredients), kept, self._pool.members[first].architecture)


def open_kitchen(
    one: Weights,
    pool: Pool,
    gathered: Gathered,
    *,
    evaluate: Mapping[str, Any] | None = None,
    anew: bool = False,
) -> Kitchen:
    """The kitchen of a member's network.

    Args:
        evaluate: the spec by which it is asked; None asks as its trial was.
        anew: as for `Kitchen`.

    Raises:
        OrchestratorError, NotPossibleError: the data are not here, or others; or the network is code that is not allowed.
    """
    import numpy as np

    from orchestrator.config.rights import check_recorded, read_user_rights
    from orchestrator.training.soups import Kitchen

    rights = in_force() | read_user_rights()
    config = one.config if evaluate is None else {**one.config, "evaluate": evaluate}
    parts = {part: config[part] for part in (*OF_COSTS, *ASKED)}  # network and data
    check_recorded(one.name, parts, rights, how=SETTINGS)
    with granted(rights):
        kitchen = Kitchen(config, fingerprint=gathered.fingerprint, anew=anew)
    ids_N, labels_N = kitchen.val.ids, kitchen.val.labels.numpy()
    if not (np.array_equal(ids_N, gathered.ids_N) and np.array_equal(labels_N, pool.labels_N)):
        raise NotPossibleError("the validation examples of the data set are others than those of the predictions")
    return kitchen


def value_by(metric: str, said: Mapping[str, float]) -> float:
    """The objective, as far as it is one of validation; the accuracy for others."""
    if metric in ("val/loss", "val/nll"):
        return said["nll"]
    return 1 - said["top5_error"] if metric == "val/top5_accuracy" else said["accuracy"]
