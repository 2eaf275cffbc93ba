"""Networks of averaged weights, snapshots of a training, and single networks that are asked in several ways, cooked for a
comparison: each is a member of its own behind the candidates, which no other method sees.

Its validation score is honest as that of the others: which weights are averaged is chosen anew without the examples that it is
scored on, over the same folds, and so is its temperature. At most `most` averages are tried in each of six choices, and none
twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import NotReadyError, OrchestratorError
from orchestrator.base.layout import BEST, snapshot
from orchestrator.ensembles.candidates import LeftOut
from orchestrator.ensembles.catalogue import Choice
from orchestrator.ensembles.comparison import MemberRecord
from orchestrator.ensembles.crossfitting import Fitted, Temperature, calibrated_apart, folds
from orchestrator.ensembles.gathering import Gathered
from orchestrator.ensembles.judging import Unseen
from orchestrator.ensembles.larder import Larder
from orchestrator.ensembles.measures import measures
from orchestrator.ensembles.methods import Method, NotPossibleError
from orchestrator.ensembles.methods.fusion import Fusion
from orchestrator.ensembles.methods.snapshots import Snapshots
from orchestrator.ensembles.methods.soup import Soup
from orchestrator.ensembles.pool import Member, Pool
from orchestrator.ensembles.pooling import Ensemble, softmax, temperature_of, uniform
from orchestrator.ensembles.snapshots import Album

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.training.soups import Kitchen

    Array = np.ndarray[Any, Any]

# M members, N examples, K classes


@dataclass(frozen=True)
class Network:
    """A network that a method made.

    Args:
        ingredients: places in the pool.
        tensors: its state.
        logits_NK: of validation.
        evaluate: the spec by which it is asked, where it is asked otherwise than its trial.
        file: of its trial, that has its weights, where it is a snapshot.
    """

    member: Member
    ingredients: tuple[int, ...]
    kitchen: Kitchen
    tensors: Any
    logits_NK: Array
    evaluate: Mapping[str, Any] | None = None
    file: str | None = None

    def packed(self) -> bytes:
        """Its weights as a file."""
        return self.kitchen.packed(self.tensors, self.member.name)

    def record(self, labels_N: Array) -> MemberRecord:
        said = measures(softmax(self.logits_NK, "float64"), labels_N)
        found: MemberRecord = {
            "name": self.member.name,
            "params": {},
            "architecture": self.member.architecture,
            "configuration": self.member.configuration,
            "value": self.member.value,
            "parameters": self.member.parameters,
            "multiply_adds": self.member.multiply_adds,
            "val_accuracy": said["accuracy"],
            "val_nll": said["nll"],
            "ingredients": [*self.ingredients],
        }
        if self.evaluate is not None:
            found |= {"evaluate": self.evaluate, "passes": self.member.passes}
        return found if self.file is None else {**found, "file": self.file}


@dataclass(frozen=True)
class Cooked:
    """What the methods made that take weights.

    Args:
        fitted: the methods, of which a member is a place behind the pool: that of the network.
        not_tried: (method, reason).
        left_out: members whose weights cannot be used.
    """

    networks: tuple[Network, ...] = ()
    fitted: tuple[Fitted, ...] = ()
    not_tried: tuple[tuple[str, str], ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def cook(
    choices: Sequence[Choice], pool: Pool, gathered: Gathered, *, metric: str, temperature: Temperature, seed: int
) -> Cooked:
    """The networks of all methods that take weights.

    Args:
        pool: its members in order, as for `crossfitting.fit`.
    """
    networks: list[Network] = []
    fitted: list[Fitted] = []
    not_tried: list[tuple[str, str]] = []
    larders: dict[str, Larder] = {}
    albums: list[Album] = []
    for choice in choices:
        method, place = choice.method, len(pool) + len(networks)
        try:
            if isinstance(method, Snapshots):
                albums.append(Album(pool, gathered, metric))
                made = _snapshots(choice, albums[-1], pool, place, temperature, seed)
            elif isinstance(method, Soup | Fusion) and takes_weights(method):
                larder = _larder(method, larders, pool, gathered, metric)
                if isinstance(method, Soup):
                    made = _network(choice, method, larder, place, temperature, seed)
                else:
                    made = _fused(choice, method, larder, place, temperature, seed)
            else:
                continue
            networks += made[0]
            fitted.append(made[1])
        except (NotPossibleError, OrchestratorError) as error:
            not_tried.append((choice.name, str(error)))
        except (ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            not_tried.append((choice.name, f"the networks cannot be computed here: {why}"))
    shelves: list[Larder | Album] = [*larders.values(), *albums]
    left_out = {one.name: one for shelf in shelves for one in shelf.left_out}
    return Cooked(tuple(networks), tuple(fitted), tuple(not_tried), tuple(left_out.values()))


def _larder(method: Soup | Fusion, larders: dict[str, Larder], pool: Pool, gathered: Gathered, metric: str) -> Larder:
    """That of which a method takes, which others of its kind share."""
    file, anew = (method.file, method.anew) if isinstance(method, Soup) else (BEST, False)
    key = file + json.dumps(method.evaluate)
    if key not in larders:
        larders[key] = Larder(pool, gathered, metric, file=file, evaluate=method.evaluate, anew=anew)
    return larders[key]


def takes_weights(method: Method) -> bool:
    """Whether a method asks networks, and not a pool of predictions."""
    return isinstance(method, Soup | Snapshots) or (isinstance(method, Fusion) and method.evaluate is not None)


def of_predictions(choices: Sequence[Choice]) -> list[Choice]:
    """The methods that take no weights."""
    return [choice for choice in choices if not takes_weights(choice.method)]


def with_networks(unseen: Unseen, networks: Sequence[Network]) -> Unseen:
    """The test predictions with those of the networks behind the others; computed now.

    An example for which a network gives numbers that are not finite is one of which it says nothing: all classes are equal.

    Raises:
        NotReadyError: the data set has other test examples than the predictions.
    """
    import numpy as np

    if not networks:
        return unseen
    found = []
    for one in networks:
        test = one.kitchen.test
        if not (np.array_equal(test.ids, unseen.ids_N) and np.array_equal(test.labels.numpy(), unseen.labels_N)):
            raise NotReadyError(
                f"the test examples of {one.member.name} are others than those of the predictions; compare again with"
                " --methods and without those that take weights"
            )
        logits_NK = one.kitchen.logits(one.tensors, "test")
        found.append(np.where(np.isfinite(logits_NK).all(axis=1, keepdims=True), logits_NK, np.float32(0)))
    return replace(unseen, logits_MNK=np.concatenate([unseen.logits_MNK, np.stack(found)]))


def _network(
    choice: Choice, soup: Soup, larder: Larder, place: int, temperature: Temperature, seed: int
) -> tuple[list[Network], Fitted]:
    import numpy as np

    labels_N = larder.labels_N
    examples = np.arange(len(labels_N))
    ingredients, logits_NK = _chosen(soup, larder, None)
    held = folds(labels_N, np.random.default_rng([seed, 0]))
    honest_NK = np.empty(logits_NK.shape)
    for held_n in held:
        _, without_NK = _chosen(soup, larder, np.setdiff1d(examples, held_n))
        honest_NK[held_n] = softmax(without_NK[held_n], "float64")
    ensemble = uniform((place,))
    if temperature != "none":
        hot, honest_NK = calibrated_apart(honest_NK, labels_N, held)
        after = temperature == "after"
        ensemble = replace(ensemble, **({"temperature": hot} if after else {"member_temperatures": (hot,)}))
    kitchen = larder.kitchen(ingredients[0])
    described = f"{choice.described}; {larder.said(soup, ingredients)}"
    network = Network(
        larder.member(choice, ingredients, logits_NK),
        ingredients,
        kitchen,
        kitchen.network(ingredients),
        logits_NK,
        soup.evaluate,
    )
    return [network], Fitted(replace(choice, described=described), ensemble, honest_NK)


def _chosen(soup: Soup, larder: Larder, rows_n: Array | None) -> tuple[tuple[int, ...], Array]:
    """What is averaged by these examples, or by all, and the validation logits of the average.

    Raises:
        NotPossibleError: it gives numbers that are not finite, or as `Larder.best`.
    """
    import numpy as np

    order = larder.best(soup, rows_n)
    kitchen = larder.kitchen(order[0])
    chosen = soup.chosen(
        order, lambda places: int(kitchen.right(places)[slice(None) if rows_n is None else rows_n].sum())
    )
    logits_NK = kitchen.validation(chosen)
    if not np.isfinite(logits_NK).all():
        raise NotPossibleError("the network gives numbers that are not finite")
    return chosen, logits_NK


def _snapshots(
    choice: Choice, album: Album, pool: Pool, place: int, temperature: Temperature, seed: int
) -> tuple[list[Network], Fitted]:
    """The snapshots of the best trial, which is chosen anew in each fold; the members stand from `place` on."""
    import numpy as np

    labels_N = pool.labels_N
    examples = np.arange(len(labels_N))
    held = folds(labels_N, np.random.default_rng([seed, 0]))
    honest_NK = np.empty((len(examples), len(pool.classes)))
    for held_n in held:
        rest_n = np.setdiff1d(examples, held_n)
        without_mNK = album.logits_mNK(album.best(rest_n))
        of_fold = _equal(without_mNK[:, rest_n], labels_N[rest_n], temperature)
        honest_NK[held_n] = of_fold.probabilities(without_mNK[:, held_n])
    best = album.best(None)
    logits_mNK, numbers, kitchen = album.logits_mNK(best), album.numbers(best), album.kitchen(best)
    ensemble = _equal(logits_mNK, labels_N, temperature)
    if temperature == "after":
        hot, honest_NK = calibrated_apart(honest_NK, labels_N, held)
        ensemble = replace(ensemble, temperature=hot)
    networks = [
        Network(
            album.member(best, number, logits_NK),
            (best,),
            kitchen,
            kitchen.network((number,)),
            logits_NK,
            file=snapshot(number),
        )
        for number, logits_NK in zip(numbers, logits_mNK, strict=True)
    ]
    ensemble = replace(ensemble, members=tuple(range(place, place + len(networks))))
    described = f"{choice.described}; the {len(numbers)} of one training, {pool.members[best].name}"
    return networks, Fitted(replace(choice, described=described), ensemble, honest_NK)


def _fused(
    choice: Choice, fusion: Fusion, larder: Larder, place: int, temperature: Temperature, seed: int
) -> tuple[list[Network], Fitted]:
    """The best of each architecture, each asked by itself; the members stand from `place` on."""
    import numpy as np

    labels_N = larder.labels_N
    examples = np.arange(len(labels_N))
    members, logits_mNK = _asked(fusion, larder, None)
    ensemble = _equal(logits_mNK, labels_N, temperature)
    held = folds(labels_N, np.random.default_rng([seed, 0]))
    honest_NK = np.empty(logits_mNK.shape[1:])
    for held_n in held:
        rest_n = np.setdiff1d(examples, held_n)
        _, without_mNK = _asked(fusion, larder, rest_n)
        of_fold = _equal(without_mNK[:, rest_n], labels_N[rest_n], temperature)
        honest_NK[held_n] = of_fold.probabilities(without_mNK[:, held_n])
    if temperature == "after":
        hot, honest_NK = calibrated_apart(honest_NK, labels_N, held)
        ensemble = replace(ensemble, temperature=hot)
    networks = [
        Network(
            larder.member(choice, (member,), logits_NK),
            (member,),
            larder.kitchen(member),
            larder.kitchen(member).network((member,)),
            logits_NK,
            fusion.evaluate,
        )
        for member, logits_NK in zip(members, logits_mNK, strict=True)
    ]
    ensemble = replace(ensemble, members=tuple(range(place, place + len(networks))))
    return networks, Fitted(choice, ensemble, honest_NK)


def _asked(fusion: Fusion, larder: Larder, rows_n: Array | None) -> tuple[list[int], Array]:
    """Which members are fused by these examples, or by all, and their validation logits [m, N, K].

    Raises:
        NotPossibleError: one gives numbers that are not finite, or as `Larder.best_of_each`.
    """
    import numpy as np

    members = larder.best_of_each(fusion.top, rows_n)
    logits_mNK = np.stack([larder.kitchen(member).validation((member,)) for member in members])
    if not np.isfinite(logits_mNK).all():
        raise NotPossibleError("a network gives numbers that are not finite")
    return members, logits_mNK


def _equal(logits_mNK: Array, labels_N: Array, temperature: Temperature) -> Ensemble:
    """Equal weights, and temperatures of the members where these come before pooling."""
    found = uniform(tuple(range(len(logits_mNK))))
    if temperature != "before":
        return found
    hot = tuple(temperature_of(softmax(logits_NK, "float64"), labels_N) for logits_NK in logits_mNK)
    return replace(found, member_temperatures=hot)
