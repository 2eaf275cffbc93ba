"""What is diagnosed: a network built as its trial builds it, with the images that it looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.initializers.observed import as_in_training
from models.outputs import Outputs
from orchestrator.base.build import build
from orchestrator.training import checkpoint, pretrained
from orchestrator.training.batches import DeviceData, place
from orchestrator.training.build import build_loss, build_model, init_images, load_data, prepare_transfer
from orchestrator.training.device import choose_device, derive_seed, generator, set_up
from orchestrator.training.inputs import of_network
from orchestrator.training.losses import Loss
from orchestrator.training.losses.base import Batch

EXAMPLES = 1000
"""As many vectors as on the slides."""

POSITIONS = 2**17
"""Of all images together, at each of which a convolution's activations are kept: 128 images of 32x32."""

LEAST = 16


@dataclass(frozen=True)
class Subject:
    """A network in fp32 on its device.

    Args:
        config: of the trial.
        batch: training images, as they are stored and preprocessed, without augmentation.
        trained: whether it has the weights of a trial.
    """

    config: Mapping[str, Any]
    model: nn.Module
    data: DeviceData
    loss: Loss
    batch: Batch
    channels_last: bool
    trained: bool

    @property
    def device(self) -> torch.device:
        return self.batch.images.device

    def forward(self) -> tuple[Tensor, Tensor | Outputs]:
        """Loss and outputs of the batch."""
        outputs = self.model(self.batch.images)
        return self.loss(outputs, self.batch.labels, self.batch), outputs

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it a network at its initialization normalizes by the statistics of the batch, as its first step would, and a
        trained one by its running statistics, as its predictions do; nothing is dropped."""
        if self.trained:
            self.model.eval()
            yield
        else:
            with as_in_training(self.model):
                yield


def subject(
    config: Mapping[str, Any], *, weights: Path | None = None, uid: str | None = None, examples: int | None = None
) -> Subject:
    """The network of a trial's configuration at its initialization, or with the weights of a file.

    Args:
        uid: of the trial that the file must be of.
        examples: how many training images are looked at; by default 1,000, or fewer where a network keeps maps of them.

    Raises:
        Damaged: the file is not whole, or of another trial.
        RuntimeError: the weights do not fit the model.
        ValueError: a part refused its settings, or there are not so many training images.
        NotReadyError: the data are not there.
    """
    device = choose_device(config)
    set_up(device, config["cpus_per_trial"])
    dataset = load_data(config)
    data = place(dataset, config["preprocess"], lambda: build(config["preprocess"]), device)
    seed = config["seed"]
    if weights is None:
        begin = partial(pretrained.take_over, config)
        model, channels_last = build_model(config, dataset, device, lambda: init_images(data, seed), begin)
    else:
        model, channels_last = build_model({**config, "init": {}}, dataset, device)
        model.load_state_dict(of_network(checkpoint.load(weights, uid=uid).tensors))
    prepare_transfer({**config, "augment": {}}, model)
    batch = _batch(data, model, seed, examples, channels_last=channels_last)
    return Subject(config, model, data, build_loss(config), batch, channels_last, weights is not None)


def _batch(data: DeviceData, model: nn.Module, seed: int, examples: int | None, *, channels_last: bool) -> Batch:
    train = data.splits["train"]
    if examples is None:
        height, width = train.stored.shape[-2:]
        maps = any(isinstance(module, nn.Conv2d) for module in model.modules())
        examples = min(EXAMPLES, len(train), max(LEAST, POSITIONS // (height * width)) if maps else EXAMPLES)
    if not 2 <= examples <= len(train):
        raise ValueError(f"examples must be from 2 to the {len(train)} training images, got {examples}")
    places = torch.randperm(len(train), generator=generator(derive_seed(seed, "diagnosis")))[:examples]
    images = train.take(places)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return Batch(images, train.labels.index_select(0, places.to(train.labels.device)), places)
