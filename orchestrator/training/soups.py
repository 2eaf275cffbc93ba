"""Model soups: the weights of several trials of one network are averaged to one network, which costs no more than one to run.

Uniform and greedy soups: Wortsman et al. 2022, Model soups, arXiv:2203.05482, recipes 1 and 2. The statistics of batch
normalization are those of none of the networks averaged, so they are computed anew from the training split, as stochastic
weight averaging does: Izmailov et al. 2018, arXiv:1803.05407, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.base.build import build
from orchestrator.base.errors import NotReadyError
from orchestrator.base.targets import catalogue_targets
from orchestrator.training import checkpoint
from orchestrator.training.batches import DeviceData, Split, batch_sizes, place
from orchestrator.training.build import build_evaluation, build_model, load_data
from orchestrator.training.device import set_up_here
from orchestrator.training.evaluate import examples_at_once, logits
from orchestrator.training.inputs import inputs_of, of_network, tensors_of
from orchestrator.training.preprocess.projection import MOST_DIMENSIONS
from orchestrator.training.restored import generators_kept, without_download

# N examples, K classes

Array = np.ndarray[Any, Any]

LARGEST_BESIDE = 2**25 + 4 * MOST_DIMENSIONS**2
"""Bytes that a file of weights may have beside them, a matrix of the preprocessing included."""

MOST_BYTES = 2**31
"""Of all ingredients together, which are kept in memory."""

LOGITS_KEPT = 2**25
"""Numbers: the newest validation logits are kept as far as they are no more."""


class Unfit(Exception):  # noqa: N818 - a finding about a file
    """A file is no ingredient; the message says why."""


class Unasked(Unfit):
    """The network of a file cannot be asked as is wanted; the message says why, and continues "the network ..."."""


class Kitchen:
    """The network that all ingredients share, and its data, on the CPU.

    Args:
        config: of one of the trials; all have its model, data and preprocessing.
        fingerprint: of the data that they were trained on; None for any.
        anew: statistics of batch normalization are computed for a single ingredient, too: it is an average itself.

    Raises:
        NotReadyError: the data set is not there, or another by now.
        ValueError: a part refuses its settings.
        Unasked: `evaluate` makes no sense for this network.
    """

    def __init__(self, config: Mapping[str, Any], *, fingerprint: str | None = None, anew: bool = False) -> None:
        self._device = torch.device("cpu")
        self._config = {**config, "init": {}}
        dataset = load_data(without_download(config))
        if fingerprint is not None and dataset.fingerprint != fingerprint:
            raise NotReadyError(f"the data set {dataset.name} here is another than that of the trials; put it back")
        with self._set_up():
            self._data: DeviceData = place(
                dataset, config["preprocess"], lambda: build(config["preprocess"]), self._device
            )
        self._anew = anew
        self._states: dict[int, Mapping[str, Tensor]] = {}
        self._known: dict[frozenset[int], Array] = {}
        self._said: dict[frozenset[int], Array] = {}
        self._model, self._channels_last = self._built(
            torch.device("meta") if config["model"].get("_target_") in catalogue_targets() else self._device
        )
        self._evaluation = build_evaluation(config)
        if self._evaluation is not None:
            try:
                self._evaluation.check(self._model, (dataset.in_channels, *dataset.image_size))
            except ValueError as error:
                raise Unasked(str(error)) from error

    @property
    def passes(self) -> int:
        """How often an image goes through the network."""
        return 1 if self._evaluation is None else self._evaluation.passes(self._data.dataset.image_size)

    @property
    def val(self) -> Split:
        return self._data.splits["val"]

    @property
    def test(self) -> Split:
        return self._data.splits["test"]

    def take(self, number: int, path: Path, uid: str) -> None:
        """Takes the weights of a trial as an ingredient, under a number.

        Raises:
            Unfit: they are damaged, not finite, of another trial or of another network.
        """
        wanted = self._model.state_dict()
        size = sum(tensor.nbytes for tensor in wanted.values())
        try:
            if path.stat().st_size > size + LARGEST_BESIDE:
                raise Unfit("its weights are more than the network has")
            state = of_network(checkpoint.load(path, uid=uid).tensors)
        except (checkpoint.Damaged, OSError) as error:
            raise Unfit(f"its weights cannot be used: {error}") from error
        _check_same(state, wanted)
        if size * (len(self._states) + 1) > MOST_BYTES:
            raise Unfit(f"with it the weights would take more than {MOST_BYTES / 1e9:.1f} GB of memory")
        self._states[number] = state
        if next(
            iter(wanted.values())
        ).is_meta:  # what is claimed of the network is backed by a file, so that it has room
            self._model, self._channels_last = self._built(self._device)

    def network(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """The state of the network with the averaged weights; of the same ingredients the same bits."""
        tensors = averaged([self._states[number] for number in sorted(numbers)])
        if (len(numbers) == 1 and not self._anew) or not _norms(self._model):
            return tensors
        self._model.load_state_dict(tensors)
        with self._set_up(), torch.inference_mode(), _gathering(self._model):
            for images in self._training_images():
                self._model(images)
        return {name: tensor.clone() for name, tensor in self._model.state_dict().items()}

    def logits(self, tensors: Mapping[str, Tensor], split: str) -> Array:
        """Of a network in this state: float32 [N, K], the maximum of each row subtracted; maybe not finite."""
        self._model.load_state_dict(tensors)
        with self._set_up():
            said_NK = logits(
                self._model,
                self._data.splits[split],
                channels_last=self._channels_last,
                evaluation=self._evaluation,
            )
        found: Array = said_NK.numpy()
        return found

    def validation(self, numbers: Sequence[int]) -> Array:
        """The validation logits of the average of these."""
        key = frozenset(numbers)
        if key not in self._said:
            found = self.logits(self.network(numbers), "val")
            while self._said and found.size * (len(self._said) + 1) > LOGITS_KEPT:
                self._said.pop(next(iter(self._said)))
            self._said[key] = found
        return self._said[key]

    def right(self, numbers: Sequence[int]) -> Array:
        """Which validation examples the average of these gets right, bool [N]; none whose logits are not finite."""
        key = frozenset(numbers)
        if key not in self._known:
            said_NK = self.validation(numbers)
            self._known[key] = (said_NK.argmax(1) == self.val.labels.numpy()) & np.isfinite(said_NK).all(1)
        return self._known[key]

    def packed(self, tensors: Mapping[str, Tensor], name: str) -> bytes:
        """A network as a file of weights that says how images are preprocessed."""
        transform = self._data.splits["train"].transform
        state = {"uid": name, "inputs": inputs_of(self._data.dataset, transform)}
        return checkpoint.pack({**tensors, **tensors_of(transform)}, state, stamp=True)

    def _set_up(self) -> AbstractContextManager[None]:
        """Within it the CPU computes the same bits every time, as it does in a trial."""
        return set_up_here(self._device, self._config["cpus_per_trial"])

    def _built(self, device: torch.device) -> tuple[nn.Module, bool]:
        with generators_kept():
            return build_model(self._config, self._data.dataset, device)

    def _training_images(self) -> Iterator[Tensor]:
        """The training split in large batches, as it is in evaluation; a last one of one image joins the one before."""
        train = self._data.splits["train"]
        start = 0
        for size in batch_sizes(len(train), min(len(train), examples_at_once(*train.stored.shape[-2:]))):
            images = train.slice(start, start + size)
            start += size
            yield images.contiguous(memory_format=torch.channels_last) if self._channels_last else images


def averaged(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor, summed in float64; what is no floating-point number is that of the first.

    Raises:
        ValueError: the states have other names or shapes.
    """
    first = states[0]
    for state in states[1:]:
        if state.keys() != first.keys() or any(state[name].shape != first[name].shape for name in first):
            raise ValueError("networks of different shapes have no average")
    found = {}
    for name, tensor in first.items():
        if tensor.is_floating_point():
            total = torch.zeros(tensor.shape, dtype=torch.float64)
            for state in states:
                total += state[name]
            found[name] = (total / len(states)).to(tensor.dtype)
        else:
            found[name] = tensor.clone()
    return found


def _check_same(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name in sorted(wanted.keys() ^ state.keys()):
        raise Unfit(
            f"its weights do not fit the network: {name} is {'missing' if name in wanted else 'of no part of it'}"
        )
    for name, tensor in state.items():
        if (tensor.shape, tensor.dtype) != (wanted[name].shape, wanted[name].dtype):
            raise Unfit(f"its weights do not fit the network: {name} is {tensor.dtype} {list(tensor.shape)}")
        if tensor.is_floating_point() and not math.isfinite(float(tensor.abs().amax() if tensor.numel() else 0)):
            raise Unfit(f"its weights are not finite: {name}")


def _norms(model: nn.Module) -> list[Any]:
    """The layers that keep statistics of what they saw: those with torch's `reset_running_stats` that keep any."""
    modules: list[Any] = [module for module in model.modules() if hasattr(module, "reset_running_stats")]
    return [module for module in modules if module.running_mean is not None]


@contextmanager
def _gathering(model: nn.Module) -> Iterator[None]:
    """Within the block these layers gather the mean of all batches anew; everything else runs as in evaluation."""
    norms = _norms(model)
    before = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
        model.eval()
