"""Model soups: the weights of several trials of one network are averaged to one network, which costs no more than one to run.

Uniform and greedy soups: Wortsman et al. 2022, Model soups, arXiv:2203.05482, recipes 1 and 2. The statistics of batch
normalization are those of none of the networks averaged, so they are computed anew from the training split, as stochastic
weight averaging does: Izmailov et al. 2018, arXiv:1803.05407, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.base.build import build
from orchestrator.training import checkpoint
from orchestrator.training.batches import DeviceData, place
from orchestrator.training.build import build_model, load_data
from orchestrator.training.device import set_up
from orchestrator.training.evaluate import in_slices, logits
from orchestrator.training.restored import generators_kept

# N examples, K classes


@dataclass(frozen=True)
class Soup:
    """A network of averaged weights.

    Args:
        members: places of those averaged, in the order in which they were taken.
        tensors: its state.
        val_logits_NK: of the validation split, float32, the maximum of each row subtracted.
    """

    members: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    val_logits_NK: Tensor


class Kitchen:
    """The network that all ingredients share, and its data, on the CPU.

    Args:
        config: of one of the trials; all have its model, data and preprocessing.
        files: the weights of each, the best trial first, with the uid that its file names.

    Raises:
        checkpoint.Damaged: a file is not whole, or of another trial.
        RuntimeError: its weights do not fit the model.
        NotReadyError: the data set is not there.
    """

    def __init__(self, config: Mapping[str, Any], files: Sequence[tuple[Path, str]]) -> None:
        device = torch.device("cpu")
        set_up(device, config["cpus_per_trial"])
        dataset = load_data(config)
        self._data: DeviceData = place(dataset, config["preprocess"], lambda: build(config["preprocess"]), device)
        with generators_kept():
            self._model, self._channels_last = build_model({**config, "init": {}}, dataset, device)
        self._states = [checkpoint.load(path, uid=uid).tensors for path, uid in files]
        for state in self._states:
            self._model.load_state_dict(state)

    def uniform(self) -> Soup:
        """All of them with equal weights."""
        return self._cooked(tuple(range(len(self._states))))

    def greedy(self) -> Soup:
        """Begins with the first and takes each of the others, in order, unless the validation accuracy falls."""
        best = self._cooked((0,))
        for place_ in range(1, len(self._states)):
            tried = self._cooked((*best.members, place_))
            if self._right(tried) >= self._right(best):
                best = tried
        return best

    def test_logits(self, soup: Soup) -> Tensor:
        """Of the test split, float32 [N, K]; to be called when nothing is chosen any more."""
        return self._logits(soup.tensors, "test")

    def _cooked(self, members: tuple[int, ...]) -> Soup:
        tensors = self._with_statistics(averaged([self._states[member] for member in members]), count=len(members))
        return Soup(members, tensors, self._logits(tensors, "val"))

    def _right(self, soup: Soup) -> int:
        return int((soup.val_logits_NK.argmax(1) == self._data.splits["val"].labels).sum())

    def _logits(self, tensors: Mapping[str, Tensor], split: str) -> Tensor:
        self._model.load_state_dict(tensors)
        return logits(self._model, self._data.splits[split], channels_last=self._channels_last)

    def _with_statistics(self, tensors: dict[str, Tensor], *, count: int) -> dict[str, Tensor]:
        """The state with statistics of its own; a single trial keeps those that it was scored with."""
        if count == 1 or not _norms(self._model):
            return tensors
        self._model.load_state_dict(tensors)
        with torch.inference_mode(), _gathering(self._model):
            for images in in_slices(self._data.splits["train"], channels_last=self._channels_last):
                self._model(images)
        return {name: tensor.clone() for name, tensor in self._model.state_dict().items()}


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
            total = torch.stack([state[name].double() for state in states]).mean(0)
            found[name] = total.to(tensor.dtype)
        else:
            found[name] = tensor.clone()
    return found


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
