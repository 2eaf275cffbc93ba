"""Weights from a file for a network of ours: a state dict of torchvision or timm, or what a trial of ours kept.

Nothing in a file is executed: a safetensors file holds tensors alone, and of a pickle torch reads no more (`weights_only`).
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.foreign import Table
from models.network import part_names

OURS = "orchestrator"

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Under one of these names some programs save a state dict beside other things."""

TORCHVISION_NAMES: Mapping[str, str] = {"alexnet_owt": "alexnet", "googlenet_bn": "googlenet"}
"""Networks of ours that torchvision has under another name."""

AUXILIARY = re.compile(r"(heads|aux\d*|AuxLogits|aux_logits)\.")
"""How the names of auxiliary classifiers begin; evaluation does without them, and so do many files."""

COUNTER = "num_batches_tracked"
"""Batches that a normalization has seen: old files leave it out, and nothing is computed from it."""

OF_OLD_DENSENETS = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")
"""Names in the files that torchvision publishes of DenseNets, and renames on reading: `norm.1.weight` is `norm1.weight`."""

SHOWN = 3


class PretrainedError(ValueError):
    """A file that holds no weights, or not those of this network."""


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file become those of a network.

    Args:
        library: whose names the file has; `OURS` for the network's own.
        names: name in the network -> name in the file.
        replaced: names in the network of the classifier, which stays as it was initialized since the file has none of these
            classes.
        classes: how many the file's classifier tells apart, where it is replaced; None where there is none.
        other_classes: whether it tells as many apart, and they are others.
        left_out: names in the file, of auxiliary classifiers, that the network has not.
        absent: names in the network, of auxiliary classifiers, that the file has not.
        biases: name of a running mean in the network -> name in the file of the bias of the convolution before, which batch
            normalization absorbs: torchvision's VGGs have such biases. The mean is less by it.
    """

    library: str
    names: Mapping[str, str]
    replaced: tuple[str, ...] = ()
    classes: int | None = None
    left_out: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    biases: Mapping[str, str] = field(default_factory=dict)
    other_classes: bool = False


def read_weights(contents: bytes) -> dict[str, Tensor]:
    """The tensors of a `.pth` or `.safetensors` file by name, on the CPU.

    Raises:
        PretrainedError: it is neither, is damaged, or holds something else than the weights of a network.
    """
    found = _read_safetensors(contents) if contents[8:9] == b"{" else _read_pickle(contents)
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    if not isinstance(found, Mapping) or not found:
        raise PretrainedError(
            f"holds {_described(found)} and no state dict; save one with torch.save(model.state_dict(), path)"
        )
    for name, value in found.items():
        if not isinstance(name, str) or not _is_plain(value):
            raise PretrainedError(f"holds {_described(value)} under {name!r:.60}, which is no weight of a network")
    prefix = "module."  # of networks that were trained on several GPUs
    whole = all(name.startswith(prefix) for name in found)
    return {_current(name.removeprefix(prefix) if whole else name): value.detach() for name, value in found.items()}


def fit(
    model: nn.Module, weights: Mapping[str, Tensor], tables: Mapping[str, Table], *, other_classes: bool = False
) -> Fit:
    """How `weights` fit a network; its tensors may be on the meta device.

    The whole network is needed but for its classifier, which is replaced where classes differ, and auxiliary classifiers.

    Args:
        tables: library -> table of foreign names (`foreign.tables`).
        other_classes: the file's classifier is replaced even where it tells as many apart.

    Raises:
        PretrainedError: tensors are missing, are too many, have another shape, or hold what is not finite.
    """
    found = _Matching(model, weights, tables)
    found.check_names()
    replaced, classes = found.replaced_classifier()
    if others := other_classes and not replaced:
        replaced = found.classifier()
    names = {own: theirs for own, theirs in found.there.items() if own not in replaced}
    found.check_shapes(names)
    state = model.state_dict()
    for own, theirs in names.items():
        _check_numbers(own, state[own], theirs, weights[theirs])
    biases = {own: theirs for theirs, own in found.absorbed().items()}
    return Fit(found.library, names, replaced, classes, found.left_out, found.absent, biases, others)


def _check_numbers(name: str, own: Tensor, theirs: str, values: Tensor) -> None:
    """Whether a tensor of a file can stand in the network's: numbers of the same kind, finite in its precision."""
    if own.is_floating_point() != values.is_floating_point():
        raise PretrainedError(f"{theirs} holds {values.dtype}, where the network has {own.dtype} ({name})")
    if not torch.isfinite(values.to(own.dtype)).all():
        raise PretrainedError(f"{theirs} holds numbers that are not finite; the file is damaged, or of no use ({name})")
    if name.endswith("running_var") and (values < 0).any():
        raise PretrainedError(f"{theirs} holds variances below 0; the file is damaged ({name})")


def take_over(model: nn.Module, weights: Mapping[str, Tensor], fitted: Fit) -> None:
    """Copy the tensors of a file into the network that they fit."""
    own = model.state_dict()
    with torch.no_grad():
        for name, theirs in fitted.names.items():
            own[name].copy_(_in_shape_of(own[name], weights[theirs]))
        for name, bias in fitted.biases.items():
            own[name].sub_(weights[bias])


def _current(name: str) -> str:
    return OF_OLD_DENSENETS.sub(r"\1\2", name)


def _in_shape_of(own: Tensor, theirs: Tensor) -> Tensor:
    """A linear layer that the other library writes as a convolution, or the other way round; any other tensor as it is."""
    if own.ndim == 2 and theirs.ndim == 4:
        return theirs.flatten(1)
    if own.ndim == 4 and theirs.ndim == 2:
        return theirs[:, :, None, None]
    return theirs


def described(fitted: Fit, num_classes: int) -> str:
    """What became of a file, in a sentence."""
    parts = [f"{len(fitted.names)} tensors by the names of {fitted.library}"]
    if fitted.replaced:
        there = "has none" if fitted.classes is None else f"is for {fitted.classes} classes"
        there = "is for other ones" if fitted.other_classes else there
        parts.append(f"the classifier begins as initialized: the file {there}, the data have {num_classes}")
    else:
        parts.append(f"its classifier is taken over, too, as it has {num_classes} classes")
    if fitted.left_out:
        parts.append(f"its auxiliary classifiers are left out ({len(fitted.left_out)} tensors)")
    if fitted.absent:
        parts.append(f"the auxiliary classifiers begin as initialized ({len(fitted.absent)} tensors)")
    return "; ".join(parts)


@dataclass
class _Matching:
    """The names of a network beside those of a file, by the table that finds most of them."""

    model: nn.Module
    weights: Mapping[str, Tensor]
    tables: Mapping[str, Table]
    library: str = field(init=False)
    there: dict[str, str] = field(init=False)
    own: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.own = self.model.state_dict()
        candidates = {OURS: {name: name for name in self.own}}
        candidates |= {library: table(self.model) for library, table in self.tables.items()}
        self.library = max(candidates, key=lambda library: len(candidates[library].values() & self.weights.keys()))
        self._names = candidates[self.library]
        self.there = {own: theirs for own, theirs in self._names.items() if theirs in self.weights}
        shaped = {theirs: _in_shape_of(self.own[own], self.weights[theirs]) for own, theirs in self.there.items()}
        self.weights = {**self.weights, **shaped}
        parts = part_names(self.model)
        self._classifier = f"{parts[-1]}." if parts else ""

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self._unexpected() if AUXILIARY.match(name)))

    @property
    def absent(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self._missing() if AUXILIARY.match(name)))

    def absorbed(self) -> dict[str, str]:
        """Name in the file of a bias before a batch normalization -> name in the network of the running mean after it."""
        means = {
            self._names[own].removesuffix("weight") + "bias": own.removesuffix("affine.weight") + "norm.running_mean"
            for own in self.there
            if own.endswith("affine.weight")
        }
        return {name: means[name] for name in self._unexpected() if means.get(name) in self.there}

    def check_names(self) -> None:
        missing = [self._names[own] for own in self._missing() if not self._may_lack(own)]
        absorbed = self.absorbed()
        unexpected = [name for name in self._unexpected() if not AUXILIARY.match(name) and name not in absorbed]
        if any(name.startswith(("model/", "optimizer/")) for name in self.weights):
            raise PretrainedError("is a checkpoint of a trial; name its best.safetensors, or the trial: SWEEP/7")
        if not self.there:
            raise PretrainedError(
                f"has no tensor of this network: it holds {_some(self.weights)}; the network has {_some(self.own)}"
            )
        if missing or unexpected:
            problems = []
            if missing:
                problems.append(f"lacks {len(missing)} of the network's {len(self.own)} tensors ({_some(missing)})")
            if unexpected:
                problems.append(f"holds {len(unexpected)} that the network has not ({_some(unexpected)})")
            raise PretrainedError(
                f"{' and '.join(problems)}: it is of another architecture, or of one with other settings"
                " (depth, width, norm, stem)"
            )

    def classifier(self) -> tuple[str, ...]:
        """The names of its tensors in the network."""
        return tuple(name for name in self.own if name.startswith(self._classifier))

    def replaced_classifier(self) -> tuple[tuple[str, ...], int | None]:
        """The names of the classifier if it is for other classes, with how many the file's has."""
        names = self.classifier()
        there = [name for name in names if name in self.there]
        if not there:
            return names, None
        shapes = [(tuple(self.own[name].shape), tuple(self.weights[self.there[name]].shape)) for name in there]
        differing = [(own, theirs) for own, theirs in shapes if own != theirs]
        counts = {(own[0], theirs[0]) for own, theirs in differing if own and theirs and own[1:] == theirs[1:]}
        if len(counts) == 1 and all(own[1:] == theirs[1:] for own, theirs in differing):
            return names, next(iter(counts))[1]
        return (), None

    def check_shapes(self, names: Mapping[str, str]) -> None:
        wrong = [own for own, theirs in names.items() if self.own[own].shape != self.weights[theirs].shape]
        if not wrong:
            return
        listed = [
            f"{names[own]} is {list(self.weights[names[own]].shape)} there and {list(self.own[own].shape)} here"
            for own in wrong[:SHOWN]
        ]
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise PretrainedError(f"does not fit: {'; '.join(listed)}{more}{self._why(wrong, names)}")

    def _why(self, wrong: Collection[str], names: Mapping[str, str]) -> str:
        """What tells channels and sizes of images apart from an architecture with other settings."""
        first = next((name for name, tensor in self.own.items() if tensor.ndim == 4), None)
        if first in wrong and first is not None:
            own, theirs = self.own[first].shape, self.weights[names[first]].shape
            if len(theirs) == 4 and own[1] != theirs[1] and own[2:] == theirs[2:]:
                return (
                    f": it is for images with {theirs[1]} channels, and the data have {own[1]};"
                    f" data=image_folder data.channels={theirs[1]} reads a folder so"
                )
        if all(
            self.own[name].ndim == 2 and self.own[name].shape[0] == self.weights[names[name]].shape[0] for name in wrong
        ):
            return ": it is for images of another size or number of channels"
        return ": it is of a network with other settings (depth, width, norm, stem)"

    def _missing(self) -> list[str]:
        return [name for name in self.own if name not in self.there and COUNTER not in name]

    def _may_lack(self, own: str) -> bool:
        """Whether a file may be without it: auxiliary heads, and the classifier if it has nothing of it."""
        whole = not any(name.startswith(self._classifier) for name in self.there)
        return AUXILIARY.match(own) is not None or (whole and own.startswith(self._classifier))

    def _unexpected(self) -> list[str]:
        known = set(self._names.values())
        return [name for name in self.weights if name not in known and COUNTER not in name]


def _read_safetensors(contents: bytes) -> Any:
    import safetensors.torch

    try:
        return safetensors.torch.load(contents)
    except Exception as error:  # the header may be anything
        raise PretrainedError(f"is no whole safetensors file ({_first_line(error)})") from error


def _read_pickle(contents: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats of long ago
            return torch.load(io.BytesIO(contents), map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle anything can come
        why = _first_line(error)
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error) or "Unsupported" in why:
            why = "it holds code or objects, and nothing but tensors is read; save model.state_dict() alone"
        raise PretrainedError(f"is no state dict that torch can read ({why})") from error


def _is_plain(value: object) -> bool:
    """Whether it is an ordinary tensor, with numbers, in memory."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_quantized or value.is_complex())
    )


def _described(value: object) -> str:
    return "nothing" if value is None or value == {} else f"an object of type {type(value).__name__}"


def _some(names: Collection[str]) -> str:
    listed = sorted(names)
    return ", ".join(f"{name:.80}" for name in listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")


def _first_line(error: Exception) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.partition(". ")[0][:200]
