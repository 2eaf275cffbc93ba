"""All that is diagnosed of one network, as plain numbers and a few arrays of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orchestrator.training.diagnosis.first_step import first_step
from orchestrator.training.diagnosis.layers import LayerStatistics, watched
from orchestrator.training.diagnosis.neighbours import accuracy, features, nearest
from orchestrator.training.diagnosis.products import Product, products
from orchestrator.training.diagnosis.signs import sign_agreement
from orchestrator.training.diagnosis.statistics import Summary, summary
from orchestrator.training.diagnosis.subject import Subject
from orchestrator.training.evaluate import logits

FILTERS = 64
"""Filters of the first layer that are shown."""

QUERIES, NEIGHBOURS = 8, 6
"""Images whose neighbours are shown, and how many of each."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""An image, or images one after the other: (..., channels, height, width)."""


@dataclass(frozen=True)
class Layer:
    """A layer of the network.

    Args:
        number: in the order of computation, from 1.
        update_ratio: the length of its weight's first update over that of the weight; None of a trained network.
        neighbours: the share of images whose nearest other image by its features is of the same class.
    """

    number: int
    statistics: LayerStatistics
    update_ratio: float | None
    neighbours: float

    @property
    def label(self) -> str:
        """Its number, and its module's name: `2 (stage1.0)`."""
        return f"{self.number} ({self.statistics.name})"


@dataclass(frozen=True)
class Neighbours:
    """The images nearest to some, by the features of a layer.

    Args:
        layer: its name.
        pixels: the share of images whose nearest other one by its pixels, as the network sees them, is of the same class.
        labels: of each image, the one that is asked about first.
        images: [query, image, C, H, W]; None where they are no pictures.
    """

    layer: str
    pixels: float
    labels: tuple[tuple[int, ...], ...]
    images: Pixels | None = field(repr=False)


@dataclass(frozen=True)
class Classes:
    """What a trained network makes of the validation images.

    Args:
        confusion: how many images of each true class (row) it takes for which (column).
    """

    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Diagnosis:
    """A network looked at.

    Args:
        examples: training images in the batch.
        loss: of the batch.
        inputs: the images of the batch as the network sees them.
        layers: in the order of computation.
        sign_agreement: see `signs`; None where it says nothing.
        filters: of the first layer, each stretched to the whole range; None where they are no pictures.
        classes: None at initialization.
    """

    examples: int
    trained: bool
    loss: float
    parameters: int
    inputs: Summary
    layers: tuple[Layer, ...]
    products: tuple[Product, ...]
    sign_agreement: float | None
    neighbours: Neighbours
    filters: Pixels | None = field(repr=False)
    classes: Classes | None = None


def diagnosed(subject: Subject, layer: str | None = None) -> Diagnosis:
    """Looks at the network; a network at its initialization has taken a step afterwards.

    Args:
        layer: whose nearest neighbours are shown; by default the one before the classifier.

    Raises:
        ValueError: the network has no such layer, or none at all.
    """
    with subject.at_work(), watched(subject.model) as watch:
        loss, _ = subject.forward()
        loss.backward()  # type: ignore[no-untyped-call]
        rows = watch.statistics()
        chosen = _chosen([row.name for row in rows], layer)
        by_features = {name: features(outputs) for name, outputs in watch.activations().items()}
    labels = subject.batch.labels
    weights = [watch.layers[row.name].tensor for row in rows]
    close = _neighbours(subject, chosen, by_features[chosen])
    found = Diagnosis(
        examples=len(labels),
        trained=subject.trained,
        loss=loss.item(),
        parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
        inputs=summary(subject.batch.images),
        layers=(),
        products=tuple(products(weights)),
        sign_agreement=sign_agreement(subject),
        neighbours=close,
        filters=_filters(subject, weights[0]),
        classes=_classes(subject) if subject.trained else None,
    )
    ratios = {} if subject.trained else first_step(subject)
    layers = tuple(
        Layer(number, row, ratios.get(row.weight), accuracy(by_features[row.name], labels))
        for number, row in enumerate(rows, 1)
    )
    return Diagnosis(**{**vars(found), "layers": layers})


def _chosen(names: Sequence[str], layer: str | None) -> str:
    if not names:
        raise ValueError(
            "the network has no layer to look at: no module with a `weight` of its own, such as nn.Linear or nn.Conv2d,"
            " was computed; use modules in place of functions on plain parameters"
        )
    if layer is None:
        return names[-2] if len(names) > 1 else names[0]
    if layer not in names:
        raise ValueError(f"the network has no layer {layer}; the modules of its layers are {', '.join(names)}")
    return layer


def _neighbours(subject: Subject, layer: str, vectors: Tensor) -> Neighbours:
    labels = subject.batch.labels
    first_of_class = [int((labels == label).nonzero()[0]) for label in sorted(set(labels.tolist()))]
    queries = torch.tensor(first_of_class[:QUERIES])
    found = nearest(vectors, NEIGHBOURS).cpu()[queries]
    places = torch.cat([queries[:, None], found], 1)
    return Neighbours(
        layer,
        accuracy(subject.batch.images.flatten(1), labels),
        tuple(map(tuple, labels.cpu()[places].tolist())),
        _pictures(subject, places),
    )


def _pictures(subject: Subject, places: Tensor) -> Pixels | None:
    """The images of the batch at these places, as they are stored."""
    train = subject.data.splits["train"]
    channels, height, width = train.stored.shape[1:]
    if channels not in (1, 3) or min(height, width) < 2:
        return None
    stored = train.take_stored(subject.batch.indices[places.flatten()]).cpu()
    if stored.dtype != torch.uint8:
        stored = _stretched(stored)
    pixels: Pixels = stored.reshape(*places.shape, channels, height, width).numpy()
    return pixels


def _filters(subject: Subject, weight: Tensor) -> Pixels | None:
    """Of a convolution its kernels, of a linear layer on images its weights as an image."""
    channels, height, width = subject.data.splits["train"].stored.shape[1:]
    kernels = weight.detach().cpu()
    if kernels.ndim == 2 and kernels.shape[1] == channels * height * width:
        kernels = kernels.reshape(-1, channels, height, width)
    if kernels.ndim != 4 or kernels.shape[1] not in (1, 3) or min(kernels.shape[2:]) < 2:
        return None
    pixels: Pixels = _stretched(kernels[:FILTERS]).numpy()
    return pixels


def _stretched(images: Tensor) -> Tensor:
    """uint8, each image from its smallest to its largest value."""
    images = images.nan_to_num().double()
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return ((images - low) / (high - low).clamp_min(1e-300) * 255).round().to(torch.uint8)


def _classes(subject: Subject) -> Classes:
    names, split = subject.data.dataset.classes, subject.data.splits["val"]
    said = logits(subject.model, split, channels_last=subject.channels_last).argmax(1)
    pairs = (split.labels * len(names) + said).cpu()
    counts = torch.bincount(pairs, minlength=len(names) ** 2).reshape(len(names), len(names))
    return Classes(tuple(names), tuple(map(tuple, counts.tolist())))
