"""An ensemble for use: each image goes through every member as that member was trained, and what they say is pooled.

`load_ensemble` reads the folder that `ensemble.py` wrote. As that of a single model it may come from a stranger: what is read
is plain data within bounds, no path comes from it, and no network is built that nobody allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypedDict

from orchestrator.base.decode import SHA256, DecodeError, Fits, check, read_json
from orchestrator.base.errors import NotReadyError
from orchestrator.base.inputs import unique_names
from orchestrator.base.pooling import Ensemble, Pooling
from orchestrator.base.regular import read_regular
from orchestrator.base.rights import Rights
from orchestrator.serving.images import Size, read_image, single_images
from orchestrator.serving.predictor import AT_ONCE, SHOWN, Predictions, Predictor
from orchestrator.serving.pyfunc import (
    DESCRIPTION,
    DescribedTrial,
    ImageClassifier,
    check_inputs,
    check_network,
    predictor_of,
    read_description,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# m members, N examples, K classes

KIND = "ensemble"
FORMAT = 1
STACKED = "stacked.safetensors"
COEFFICIENTS, INTERCEPT = "coefficients", "intercept"

LARGEST_SHARE_LEFT = 1e-6
"""Weights sum to 1 but for this."""

TEMPERATURE = Fits(
    lambda value: type(value) in (int, float) and 1e-3 <= value <= 1e3, "a temperature from 0.001 to 1000"
)
WEIGHT = Fits(lambda value: type(value) in (int, float) and 0 < value <= 1, "a weight above 0, at most 1")


class Pooled(TypedDict):
    """How what the members say is pooled, see `base.pooling.Ensemble`.

    Args:
        stacked: the SHA-256 of the file with the coefficients; None of other poolings.
    """

    pooling: Pooling
    weights: Sequence[Annotated[float, WEIGHT]]
    temperature: Annotated[float, TEMPERATURE]
    member_temperatures: Sequence[Annotated[float, TEMPERATURE]]
    stacked: Annotated[Any, Fits(lambda value: value is None or SHA256.test(value), "a SHA-256, or null")]


class DescribedEnsemble(TypedDict):
    """What `model.json` of an ensemble says.

    Args:
        members: in the order of the weights; the weights of the first network are in `member_file(0)`.
        sha256: of all the others.
    """

    format: Literal[1]
    kind: Literal["ensemble"]
    name: str
    members: Sequence[DescribedTrial]
    pooled: Pooled
    sha256: Annotated[str, SHA256]


def member_file(place: int) -> str:
    """The file with the weights of a member."""
    return f"member-{place:05d}.safetensors"


class EnsemblePredictor:
    """Several networks, and how what they say is pooled.

    Args:
        name: of the ensemble.
        members: each with its own preprocessing and image size.
        pooled: how; its members are counted in the order of `members`.

    Attributes:
        classes: the names of the classes, the same of all members.
    """

    def __init__(self, name: str, members: Sequence[Predictor], pooled: Ensemble) -> None:
        if len(members) != len(pooled.weights):
            raise ValueError(f"there are {len(members)} members and {len(pooled.weights)} weights")
        differ = [one for one in members if one.classes != members[0].classes]
        if differ:
            raise ValueError(f"{differ[0].name} has other classes than {members[0].name}, or another order of them")
        self.name = name
        self.members = tuple(members)
        self.classes = members[0].classes
        self.pooled = pooled

    def predict(self, images: Any) -> Predictions:
        """Class names and probabilities of images; each is read, brought to size and preprocessed for every member as in its
        training. What is taken, warned of and raised is as of a single `Predictor`.
        """
        import numpy as np

        rows: list[Array] = []
        sizes: list[list[Size | None]] = [[] for _ in self.members]
        waiting = single_images(images, self.members[0].inputs)
        while chunk := list(islice(waiting, AT_ONCE)):
            rows.append(self.pooled.probabilities(self._logits(chunk, sizes)))
        if not rows:
            raise ValueError("there are no images to predict: the list is empty")
        for member, resized in zip(self.members, sizes, strict=True):
            if not member.crops and any(resized):
                member.tell(resized)
                break
        probabilities_NK = np.concatenate(rows)
        if not np.isfinite(probabilities_NK).all():
            raise ValueError("the ensemble gives numbers that are not finite for some of these images")
        anywhere = tuple(next(filter(None, of_one), None) for of_one in zip(*sizes, strict=True))
        return Predictions(probabilities_NK, self.classes, anywhere)

    def __call__(self, *images: Any, **others: Any) -> NoReturn:
        raise TypeError("an EnsemblePredictor is not called: predict(images) takes files, PIL images and uint8 arrays")

    def __repr__(self) -> str:
        classes = ", ".join(self.classes[:SHOWN]) + (", ..." if len(self.classes) > SHOWN else "")
        names = ", ".join(member.name for member in self.members[:SHOWN])
        more = f" and {len(self.members) - SHOWN} more" if len(self.members) > SHOWN else ""
        return (
            f"EnsemblePredictor {self.name}: {len(self.members)} members, {self.pooled.pooling} pooled\n"
            f"  predict(images): to {len(self.classes)} classes ({classes})\n"
            f"  members: {names}{more}"
        )

    def _logits(self, chunk: Sequence[tuple[str, Any]], sizes: list[list[Size | None]]) -> Array:
        """[m, N, K] of some images, whose sizes are added for each member; members that take the same share what is read."""
        import numpy as np

        read: dict[Any, tuple[Array, list[Size]]] = {}
        found = []
        for member, seen in zip(self.members, sizes, strict=True):
            inputs = member.inputs
            takes = (inputs["dtype"], inputs["channels"], member.image_size, member.crops)
            if takes not in read:
                images = [read_image(image, where, inputs, crops=member.crops) for where, image in chunk]
                read[takes] = np.stack([one.pixels for one in images]), [one.size for one in images]
            pixels, had = read[takes]
            found.append(member.logits(pixels, len(seen)))
            seen += [None if size == member.image_size else size for size in had]
        return np.stack(found)


def _load_pyfunc(data_path: str) -> ImageClassifier:
    """The model in a folder; MLflow asks for it by this name, see `load_ensemble`."""
    return ImageClassifier(load_ensemble(Path(data_path)))


def is_ensemble(folder: Path) -> bool:
    """Whether a folder says that it holds an ensemble; whether that is so, `load_ensemble` finds out."""
    try:
        said = read_json(read_regular(folder / DESCRIPTION))
    except (OSError, DecodeError):
        return False
    return isinstance(said, dict) and said.get("kind") == KIND


def load_ensemble(folder: Path, rights: Rights | None = None) -> EnsemblePredictor:
    """The ensemble that was written into a folder.

    Args:
        rights: None for those of the user's settings file.

    Raises:
        NotReadyError: the folder does not hold what was written, or the weights do not fit the networks.
        ConfigError: a network is code that is not allowed here; the message says what to allow.
    """
    from orchestrator.config.rights import read_user_rights

    said: DescribedEnsemble = read_description(folder / DESCRIPTION, check_described)
    rights = read_user_rights() if rights is None else rights
    for member in said["members"]:  # all of them, before anything is built
        check_network(member, rights)
    members = [
        predictor_of(member, folder / member_file(place), rights) for place, member in enumerate(said["members"])
    ]
    return EnsemblePredictor(said["name"], members, _ensemble(said, folder))


def check_described(said: Any) -> None:
    """
    Raises:
        DecodeError: these cannot be the members and weights of an ensemble.
    """
    check(said, DescribedEnsemble)
    members, pooled = said["members"], said["pooled"]
    if not members or len(members) != len(pooled["weights"]):
        raise DecodeError(f"it has {len(members)} members and {len(pooled['weights'])} weights")
    if abs(math.fsum(pooled["weights"]) - 1) > LARGEST_SHARE_LEFT:
        raise DecodeError(f"its weights sum to {math.fsum(pooled['weights'])}, not to 1")
    if len(pooled["member_temperatures"]) not in (0, len(members)):
        raise DecodeError(f"it has {len(pooled['member_temperatures'])} temperatures of {len(members)} members")
    if (pooled["pooling"] == "stacked") != (pooled["stacked"] is not None):
        raise DecodeError("the file of coefficients belongs to the pooling `stacked`, and to no other")
    for place, member in enumerate(members):
        check_inputs(member)
        if unique_names(member["inputs"]["classes"]) != unique_names(members[0]["inputs"]["classes"]):
            raise DecodeError(f"members[{place}] has other classes than the first, or another order of them")
        if member["inputs"]["dtype"] != members[0]["inputs"]["dtype"]:
            raise DecodeError(f"members[{place}] takes {member['inputs']['dtype']}, the first another type of images")


def _ensemble(said: DescribedEnsemble, folder: Path) -> Ensemble:
    pooled = said["pooled"]
    coefficients_mKK, intercept_K = None, None
    if pooled["stacked"] is not None:
        coefficients_mKK, intercept_K = _stacked(said, folder / STACKED, pooled["stacked"])
    return Ensemble(
        members=tuple(range(len(said["members"]))),
        weights=tuple(map(float, pooled["weights"])),
        pooling=pooled["pooling"],
        temperature=float(pooled["temperature"]),
        member_temperatures=tuple(map(float, pooled["member_temperatures"])),
        coefficients_mKK=coefficients_mKK,
        intercept_K=intercept_K,
    )


def _stacked(said: DescribedEnsemble, path: Path, sha256: str) -> tuple[Array, Array]:
    """The coefficients and the intercept of a stacked ensemble.

    Raises:
        NotReadyError: the file is another, or holds something else.
    """
    from orchestrator.training import checkpoint

    m, k = len(said["members"]), len(said["members"][0]["inputs"]["classes"])
    try:
        found = {name: one.numpy() for name, one in checkpoint.load(path, uid=None, sha256=sha256).tensors.items()}
    except (checkpoint.Damaged, TypeError) as error:
        raise NotReadyError(f"{path} cannot be used: {error}") from error
    for name, shape in ((COEFFICIENTS, (m, k, k)), (INTERCEPT, (k,))):
        one = found.get(name)
        if one is None or one.dtype.kind != "f" or one.shape != shape or not abs(one).max() < math.inf:
            what = "nothing" if one is None else f"{one.dtype} {list(one.shape)}"
            raise NotReadyError(f"{path} must hold finite {name} of the shape {list(shape)}, got {what}")
    return found[COEFFICIENTS], found[INTERCEPT]
