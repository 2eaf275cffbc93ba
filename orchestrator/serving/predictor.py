"""A trained network that is given images as people have them, and answers with class names and probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, overload

from orchestrator.base.inputs import unique_names
from orchestrator.serving.images import Read, Size, read_image, single_images

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from orchestrator.training.restored import Restored

AT_ONCE = 256
"""Images that are read before the network sees them."""

SHOWN = 10


class ResizedWarning(UserWarning):
    """Images had another size than those that the network was trained on, none of which was ever resized."""


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    Args:
        label: the most probable class.
        probability: its probability.
        probabilities: of every class, by name; they sum to 1.
        resized_from: (height, width) of an image that was scaled and cropped; None of one that was not.
    """

    label: str
    probability: float
    probabilities: dict[str, float] = field(repr=False)
    resized_from: Size | None = None


@dataclass(frozen=True, eq=False)
class Predictions(Sequence[Prediction]):
    """What the network says of each image, in their order.

    Args:
        probabilities: float64 [N, K].
        classes: the names of the columns.
        sizes: (height, width) of each image that was scaled and cropped; None of one that was not.
    """

    probabilities: np.ndarray
    classes: tuple[str, ...]
    sizes: tuple[Size | None, ...] = field(repr=False)

    @property
    def labels(self) -> list[str]:
        """The most probable class of each image; of equals the first."""
        return [self.classes[place] for place in self.probabilities.argmax(1)]

    def __len__(self) -> int:
        return len(self.probabilities)

    @overload
    def __getitem__(self, place: int) -> Prediction: ...
    @overload
    def __getitem__(self, place: slice) -> Predictions: ...
    def __getitem__(self, place: int | slice) -> Prediction | Predictions:
        if isinstance(place, slice):
            return Predictions(self.probabilities[place], self.classes, self.sizes[place])
        row = [float(value) for value in self.probabilities[place]]
        best = row.index(max(row))
        return Prediction(self.classes[best], row[best], dict(zip(self.classes, row, strict=True)), self.sizes[place])

    def __repr__(self) -> str:
        shown = [f"{one.label} {100 * one.probability:.1f} %" for one in islice(self, SHOWN)]
        more = [f"... {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return f"Predictions({len(self)}: {', '.join(shown + more)})"


class Predictor:
    """The network of a trial with the weights of its best epoch, and what it was told of its images.

    It is asked as the trial's `evaluate` says: the same views, and dropout masks that follow from the trial's seed and the place
    of an image in what `predict` is given.

    Args:
        name: of the trial.
        restored: its network, and what that was told of its images.
        crops: whether the data set scaled and cropped its own images.
        described: the trial in a line.

    Attributes:
        network: takes images after the preprocessing; in evaluation mode.
        classes: the names of the classes, in the order of the network's outputs.
        image_size: (height, width) of the images that it takes.
        channels: 1 (grey) or 3 (colour), of most data sets.
        inputs: how its images are stored.
        crops: as given.
    """

    def __init__(self, name: str, restored: Restored, *, crops: bool, described: str = "") -> None:
        self.name = name
        self.network = restored.network
        self.classes = unique_names(restored.inputs["classes"])
        self.image_size: Size = (restored.inputs["height"], restored.inputs["width"])
        self.channels = restored.inputs["channels"]
        self.inputs = restored.inputs
        self._transform = restored.transform
        self._channels_last = restored.channels_last
        self._evaluation = restored.evaluation
        self.crops = crops
        self._described = described

    def predict(self, images: Any) -> Predictions:
        """Class names and probabilities of images, of which each is read, brought to size and preprocessed as in training.

        An image of another size is scaled so that it covers the network's, and cropped at the centre. Where the data set did no
        such thing itself, a `ResizedWarning` says so.

        Args:
            images: a path, the bytes of an image file, a PIL image, a uint8 array or tensor [H, W], [H, W, C] or [N, H, W, C],
                or several of these; of a data set of floating-point images, arrays of such.

        Raises:
            TypeError: these are no images, or no pixels from 0 to 255.
            ValueError: a file is none that can be read, or an array has a shape that may be read in two ways.
        """
        import numpy as np

        rows: list[np.ndarray] = []
        sizes: list[Size | None] = []
        waiting = self._read(images)
        while chunk := list(islice(waiting, AT_ONCE)):
            rows.append(self._probabilities(np.stack([one.pixels for one in chunk]), len(sizes)))
            sizes += [None if one.size == self.image_size else one.size for one in chunk]
        if not rows:
            raise ValueError("there are no images to predict: the list is empty")
        self.tell(sizes)
        return Predictions(np.concatenate(rows), self.classes, tuple(sizes))

    def logits(self, pixels: np.ndarray, first: int = 0) -> np.ndarray:
        """float32 [N, K], the maximum of each row subtracted, of stored images [N, C, H, W]: what a trial's predictions hold.

        Args:
            first: the place of the first image among all that are asked about, which decides its dropout masks.
        """
        from orchestrator.training.evaluate import logits_of

        return self._asked(logits_of, pixels, first)

    @property
    def passes(self) -> int:
        """How often an image goes through the network: once, or more where `evaluate` averages over views or dropout masks."""
        return 1 if self._evaluation is None else self._evaluation.passes(self.image_size)

    def tell(self, sizes: Sequence[Size | None]) -> None:
        """Warns the caller's caller of images that were resized, see `predict`; sizes as in `Predictions`."""
        others = [size for size in sizes if size is not None]
        if not others or self.crops:
            return
        height, width = self.image_size
        warnings.warn(
            f"{len(others)} of {len(sizes)} images are not {height}x{width} as all images in training (the first of them is"
            f" {others[0][0]}x{others[0][1]}): scaled and cropped at the centre, which the network has never seen",
            ResizedWarning,
            stacklevel=3,
        )

    def __call__(self, *images: Any, **others: Any) -> NoReturn:
        raise TypeError(
            "a Predictor is not called: predict(images) takes files, PIL images and uint8 arrays and preprocesses them;"
            " .network(tensor) is the bare network, which takes what is preprocessed already"
        )

    def __repr__(self) -> str:
        height, width = self.image_size
        kind = {1: "grey", 3: "colour"}.get(self.channels, f"{self.channels}-channel")
        classes = ", ".join(self.classes[:SHOWN]) + (", ..." if len(self.classes) > SHOWN else "")
        about = f"\n  {self._described}" if self._described else ""
        return (
            f"Predictor of trial {self.name}{about}\n"
            f"  predict(images): {kind} images, brought to {height}x{width}, to {len(self.classes)} classes ({classes})\n"
            f"  network: {type(self.network).__name__}, takes preprocessed float32"
            f" [N, {self.channels}, {height}, {width}]"
        )

    def _read(self, images: Any) -> Iterator[Read]:
        for where, image in single_images(images, self.inputs):
            yield read_image(image, where, self.inputs, crops=self.crops)

    def _probabilities(self, pixels: np.ndarray, first: int) -> np.ndarray:
        """Class probabilities [N, K] of stored images [N, C, H, W], of which the first has this place among all."""
        from orchestrator.training.evaluate import probabilities

        return self._asked(probabilities, pixels, first)

    def _asked(self, about: Callable[..., Tensor], pixels: np.ndarray, first: int) -> np.ndarray:
        """What a function of `training.evaluate` gives of stored images."""
        import torch

        stored = torch.from_numpy(pixels)
        found = about(
            self.network,
            stored,
            self._transform,
            channels_last=self._channels_last,
            evaluation=self._evaluation,
            first=first,
        )
        return self._checked(found.numpy())

    def _checked(self, found: np.ndarray) -> np.ndarray:
        if found.shape[1] != len(self.classes):
            raise ValueError(
                f"the network gives {found.shape[1]} numbers an image; there are {len(self.classes)} classes"
            )
        return found
