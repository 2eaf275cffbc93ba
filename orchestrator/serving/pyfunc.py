"""A served model: what `mlflow.pyfunc.load_model` finds in the folder that `mlmodel.py` wrote.

The folder may come from a stranger: what is read is plain data within bounds, the weights must have the shapes of the network,
and the network's `_target_` must be of the catalogue, or one that the user's own settings file allows.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

from orchestrator.base.decode import SHA256, DecodeError, check, read_json
from orchestrator.base.errors import NotReadyError
from orchestrator.base.inputs import Inputs, checked_inputs, is_complete
from orchestrator.base.layout import BEST
from orchestrator.base.recorded import Spec
from orchestrator.base.regular import read_regular
from orchestrator.base.rights import Rights, granted

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from orchestrator.serving.pooled import EnsemblePredictor
    from orchestrator.serving.predictor import Predictor

DESCRIPTION = "model.json"
FORMAT = 1
IMAGE = "image"
"""The column, or the name, of the images."""


class Network(TypedDict):
    model: Spec
    norm: Spec
    activation: Spec
    transfer: Spec
    seed: int  # fmt: skip
    evaluate: NotRequired[Spec]


class DescribedTrial(TypedDict):
    """What makes the predictor of a trial, beside its weights.

    Args:
        network: what of the trial's configuration makes it.
        crops: whether the data set scaled and cropped its own images.
        weights: the SHA-256 of their file.
    """

    trial: str
    network: Network
    inputs: Inputs
    crops: bool
    weights: Annotated[str, SHA256]


class Described(DescribedTrial):
    """What `model.json` says.

    Args:
        sha256: of all the others.
    """

    format: Literal[1]
    sha256: Annotated[str, SHA256]


def stamp(said: Mapping[str, Any]) -> str:
    """The SHA-256 of a description, without itself."""
    plain = {key: value for key, value in said.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class ImageClassifier:
    """The model that MLflow calls.

    Attributes:
        predictor: the same for Python, which takes more kinds of images.
    """

    def __init__(self, predictor: Predictor | EnsemblePredictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """The probability of each class (columns) for each image (rows).

        Args:
            model_input: uint8 pixels [N, H, W, C], or the bytes of image files (as they are, or in base64), as they are or as the
                column `image`. A text is never a path: a server would open its own files.

        Raises:
            TypeError, ValueError: these are no such images; the message names the first that is not.
        """
        import pandas as pd

        del params
        found = self.predictor.predict(_images(model_input))
        return pd.DataFrame(found.probabilities, columns=list(found.classes))


def _load_pyfunc(data_path: str) -> ImageClassifier:
    """The model in a folder; MLflow asks for it by this name.

    Raises:
        NotReadyError: the folder does not hold what was written, or the weights do not fit the network.
        ConfigError: the network is code that is not allowed here; the message says what to allow.
    """
    return ImageClassifier(load_folder(Path(data_path)))


def load_folder(folder: Path, rights: Rights | None = None) -> Predictor:
    """The predictor of the model in a folder, see `_load_pyfunc`.

    Args:
        rights: None for those of the user's settings file.
    """
    from orchestrator.config.rights import read_user_rights

    said = _read(folder / DESCRIPTION)
    rights = read_user_rights() if rights is None else rights
    check_network(said, rights)
    return predictor_of(said, folder / BEST, rights)


def check_network(said: DescribedTrial, rights: Rights) -> None:
    """
    Raises:
        ConfigError: its network is code that these rights do not allow.
    """
    from orchestrator.config.rights import check_recorded

    how = (
        "allowed_targets: {targets} to your settings file (~/.config/orchestrator/settings.yaml, or what"
        " ORCHESTRATOR_SETTINGS names), and import_paths: [FOLDER] where that code lies; it is not part of the model"
    )
    check_recorded(f"the model of trial {said['trial']}", said["network"], rights, how=how)


def predictor_of(said: DescribedTrial, weights: Path, rights: Rights) -> Predictor:
    """The predictor that a checked description and a file of weights make.

    Raises:
        NotReadyError: the file is another, or does not fit the network.
    """
    from orchestrator.serving.predictor import Predictor
    from orchestrator.training.checkpoint import Damaged
    from orchestrator.training.restored import restored

    try:
        if hashlib.sha256(read_regular(weights)).hexdigest() != said["weights"]:
            raise Damaged("it is not the file of which the model was made")
        with granted(rights):
            found = restored({**said["network"]}, weights, uid=None, inputs=said["inputs"])
    except (Damaged, OSError) as error:
        raise NotReadyError(f"{weights} cannot be used: {error}") from error
    except (
        RuntimeError,
        ValueError,
        TypeError,
        OverflowError,
        MemoryError,
    ) as error:  # torch's, of numbers that cannot be
        why = " ".join(str(error).split())[:300]
        raise NotReadyError(f"{weights} does not fit the network of {weights.parent / DESCRIPTION} ({why})") from error
    return Predictor(said["trial"], found, crops=said["crops"])


def _read(path: Path) -> Described:
    said: Described = read_description(path, _check)
    return said


def _check(said: Any) -> None:
    check(said, Described)
    check_inputs(said)


def check_inputs(said: DescribedTrial) -> None:
    """
    Raises:
        DecodeError: the network cannot have been told that of its images.
    """
    checked_inputs(said["inputs"])
    if not is_complete(said["inputs"]):
        raise DecodeError("inputs.scale must be there")


def read_description(path: Path, check_it: Callable[[Any], None]) -> Any:
    """What a `model.json` says, with a stamp that fits.

    Args:
        check_it: raises DecodeError where it is not what it should be.

    Raises:
        NotReadyError: it cannot be read, is something else, or was changed.
    """
    try:
        said = read_json(read_regular(path))
        check_it(said)
    except OSError as error:
        raise NotReadyError(f"{path} cannot be read ({error.strerror})") from error
    except DecodeError as error:
        raise NotReadyError(f"{path} is not the description of a model: {error}") from error
    if said["sha256"] != stamp(said):
        raise NotReadyError(f"{path} was changed since it was written; take the model from the store again")
    return said


def _images(model_input: Any) -> Any:
    """What MLflow gives as what a predictor takes."""
    import numpy as np
    import pandas as pd

    if isinstance(model_input, Mapping | pd.DataFrame):
        if IMAGE not in model_input:
            raise ValueError(f"the images are looked for in the column {IMAGE}; got {list(map(str, model_input))[:10]}")
        model_input = model_input[IMAGE]
    if isinstance(model_input, np.ndarray) and model_input.dtype != object:
        return model_input if model_input.dtype.kind not in "US" else list(_each(model_input.ravel()))
    if isinstance(model_input, np.ndarray) and model_input.ndim > 1:
        return _pixels(model_input.tolist(), "the image array")
    return list(_each([model_input] if isinstance(model_input, str | bytes) else model_input))


def _each(values: Iterable[Any]) -> Iterable[Any]:
    for place, value in enumerate(values):
        where = f"image {place}"
        if isinstance(value, str):
            yield _decoded(value, where)
        elif isinstance(value, list):
            yield _pixels(value, where)
        else:
            yield value


def _decoded(text: str, where: str) -> bytes:
    """The bytes of base64, which may be broken into lines, or stand in a `data:` address."""
    compact = "".join(text.rpartition(",")[2].split() if text.startswith("data:") else text.split())
    try:
        return base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"{where} is a text that is not base64 of an image file (a path is not opened here)"
        ) from error


def _pixels(values: list[Any], where: str) -> np.ndarray:
    """Nested lists of whole numbers from 0 to 255, as JSON brings them."""
    import numpy as np

    try:
        array = np.array(values)
    except ValueError as error:
        raise ValueError(f"{where} has rows of different lengths") from error
    if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu":
        raise ValueError(f"{where} holds whole numbers outside of 0 to 255")
    return array
