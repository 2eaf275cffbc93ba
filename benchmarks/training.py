"""Images per second of the training engine against a plain PyTorch loop, for a network of each family, on CIFAR-size images.

    python -m benchmarks.training [--families resnet densenet] [--epochs 3] [--images 1024] [--threads 2] [--in-memory]

The plain loop is the one of the tutorials: a DataLoader with two workers, torchvision's RandomCrop and RandomHorizontalFlip on
PIL images, ToTensor and Normalize, SGD. With `--in-memory` it has the normalized images as one tensor and neither of the two
augments, so that the step alone is compared. Both train the same network on the same made-up photographs, epoch by epoch in
turns, so that a noisy machine hits both; the first epoch of each is not counted. Printed are the median images/s of each, and
median and range of the ratios of the epochs: 1 and above is an engine that is not slower.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.outputs import Outputs, main_output
from orchestrator.training.augment import Augment
from orchestrator.training.augment.crop_flip import crop_flip
from orchestrator.training.batches import DeviceData, batch_sizes, place
from orchestrator.training.data import Dataset, make_dataset
from orchestrator.training.device import autocast, derive_seed, seed_everything, set_up
from orchestrator.training.loop import Learner, train_epoch
from orchestrator.training.losses import cross_entropy
from orchestrator.training.optimizers import sgd
from orchestrator.training.preprocess.standardize import standardize
from orchestrator.training.schedules import constant

LR = 0.01
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear", {}),
    "mlp": ("mlp", {}),
    "perceptron": ("cross_coupled", {}),
    "residual_mlp": ("residual_mlp", {}),
    "convnet": ("convnet", {}),
    "alexnet": ("alexnet", {"stem": "cifar", "width": 0.25}),
    "vgg": ("vgg11", {"width": 0.5}),
    "googlenet": ("googlenet", {"stem": "cifar", "width": 0.125}),
    "inception": ("inception_v3", {"stem": "cifar", "width": 0.125}),
    "inception_v4": ("inception_v4", {"stem": "cifar", "width": 0.125}),
    "inception_resnet": ("inception_resnet_v2", {"stem": "cifar", "width": 0.125}),
    "resnet": ("resnet20", {}),
    "stochastic_depth": ("resnet20", {"survival": 0.5}),
    "resnext": ("resnext29_8x64d", {"width": 0.125}),
    "se_resnet": ("se_resnet50", {"width": 0.5}),
    "plain": ("plain20", {}),
    "preact": ("preact_cifar", {"depth": 20}),
    "wide_resnet": ("wrn", {"depth": 10, "widening_factor": 2}),
    "densenet": ("densenet_cifar", {"depth": 22}),
    "fractalnet": ("fractalnet", {"filters": 16}),
    "squeezenet": ("squeezenet1_1", {"stem": "cifar", "width": 0.5}),
    "mobilenet": ("mobilenet_v3_small", {"stem": "cifar"}),
    "efficientnet": ("efficientnet_b0", {"stem": "cifar", "width": 0.5}),
    "nasnet": ("nasnet_a_cifar", {"cells": 1, "filters": 8}),
    "nasbench201": ("nasbench201", {"cells": 2}),
}
"""Family -> a network of it and the arguments that make it small enough to train for minutes on two cores."""


def photographs(count: int) -> Dataset:
    """Random pixels in the shape of CIFAR-10: their contents do not change the speed."""
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (count + 200, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(count + 200) % 10
    held = {"val": (images[count : count + 100], labels[count : count + 100]), "test": (images[-100:], labels[-100:])}
    return make_dataset("photographs", train=(images[:count], labels[:count]), **held)


def model(family: str) -> nn.Module:
    import models

    seed_everything(0, torch.device("cpu"))
    name, own = FAMILIES[family]
    return models.create(name, num_classes=10, in_channels=3, image_size=(32, 32), **own)


class Photographs(torch.utils.data.Dataset[Any]):
    """Single examples as PIL images, as torchvision's data sets give them."""

    def __init__(self, dataset: Dataset) -> None:
        from torchvision import transforms

        ids = dataset.splits["train"]
        self.images = np.ascontiguousarray(dataset.images[ids].transpose(0, 2, 3, 1))
        self.labels = dataset.labels[ids]
        mean, std = (0.5, 0.5, 0.5), (0.29, 0.29, 0.29)
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def loader(dataset: Dataset, device: torch.device, batch_size: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches as the tutorials make them."""
    return torch.utils.data.DataLoader(
        Photographs(dataset),
        batch_size=batch_size,
        shuffle=True,
        generator=torch.Generator(),
        num_workers=2,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )


class InMemory:
    """Batches of images that are normalized already and lie in the device's memory."""

    def __init__(self, dataset: Dataset, device: torch.device, batch_size: int) -> None:
        self.batch_size = batch_size
        train = standardized(dataset, device).splits["train"]
        self.images, self.labels = train.take(torch.arange(len(train))), train.labels

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.labels), generator=torch.Generator()).to(self.labels.device)
        for places in torch.split(order, self.batch_size):
            yield self.images[places], self.labels[places]


def standardized(dataset: Dataset, device: torch.device) -> DeviceData:
    return place(dataset, {"_target_": "standardize"}, standardize, device)


def plain(
    family: str, dataset: Dataset, device: torch.device, batches: Iterable[tuple[Tensor, Tensor]]
) -> Callable[[int], None]:
    """An epoch of the tutorials' loop."""
    net = model(family).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)

    def epoch(number: int) -> None:
        seed_everything(derive_seed(0, "model", number), device)  # so that both drop the same branches
        net.train()
        running = 0.0
        for images, labels in batches:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = objective(net(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            running += loss.item()

    return epoch


def objective(outputs: Tensor | Outputs, labels: Tensor) -> Tensor:
    """The cross-entropy, of auxiliary classifiers as well."""
    loss = functional.cross_entropy(main_output(outputs), labels)
    if isinstance(outputs, Outputs):
        for logits in outputs.auxiliary:
            loss = loss + outputs.auxiliary_weight * functional.cross_entropy(logits, labels)
    return loss


def engine(
    family: str, dataset: Dataset, device: torch.device, augment: Augment | None, options: argparse.Namespace
) -> Callable[[int], None]:
    """An epoch of ours."""
    data = standardized(dataset, device)
    net = model(family)
    channels_last = any(isinstance(module, nn.Conv2d) for module in net.modules())
    net = net.to(device, memory_format=torch.channels_last) if channels_last else net.to(device)  # type: ignore[call-overload]
    learner = Learner(
        model=net,
        optimizer=sgd(net.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4),
        schedule=constant(epochs=100, steps_per_epoch=1),
        loss=cross_entropy(),
        penalty=None,
        augment=augment,
        data=data,
        device=device,
        seed=0,
        sizes=batch_sizes(len(data.splits["train"]), options.batch_size),
        autocast=autocast(device, options.precision),
        channels_last=channels_last,
    )
    return lambda number: void(train_epoch(learner, number))


def void(result: object) -> None:
    del result


@dataclass(frozen=True)
class Result:
    """Images/s of each epoch that counts, by who trained it."""

    family: str
    speeds: Mapping[str, list[float]]

    def median(self, way: str) -> float:
        return statistics.median(self.speeds[way])

    @property
    def ratios(self) -> list[float]:
        """Of each pair of epochs."""
        return [mine / theirs for mine, theirs in zip(self.speeds["engine"], self.speeds["plain"], strict=True)]

    def told(self) -> str:
        """A row of the table."""
        name, own = FAMILIES[self.family]
        network = " ".join([name, *(f"{key}={value}" for key, value in own.items())])
        ratios = self.ratios
        return (
            f"| {self.family} | {network} | {self.median('plain'):.0f} | {self.median('engine'):.0f} |"
            f" {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


def measure(family: str, dataset: Dataset, device: torch.device, options: argparse.Namespace) -> Result:
    """Trains both in turns; which of the two begins changes from epoch to epoch."""
    batches = (InMemory if options.in_memory else loader)(dataset, device, options.batch_size)
    augment = None if options.in_memory else crop_flip()
    ways = {
        "plain": plain(family, dataset, device, batches),
        "engine": engine(family, dataset, device, augment, options),
    }
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(1, options.epochs + 2):
        for way in sorted(ways, reverse=number % 2 == 0):
            started = time.perf_counter()
            ways[way](number)
            if device.type == "cuda":
                torch.cuda.synchronize()
            speeds[way].append(options.images / (time.perf_counter() - started))
    return Result(family, {way: values[1:] for way, values in speeds.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--epochs", type=int, default=3, help="counted, of each")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--in-memory", action="store_true", help="without loading and augmentation: the step alone")
    options = parser.parse_args()
    device = torch.device(options.device)
    set_up(device, options.threads)
    dataset = photographs(options.images)
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    precision = "bf16" if autocast(device, options.precision) is not None else "fp32"
    print(f"torch {torch.__version__}, {hardware}, {options.threads} threads, {precision} in the engine,", end=" ")
    print(f"n={options.epochs} epochs of {options.images} images", end="\n\n")
    print("| family | network | plain, images/s | engine, images/s | ratio |\n|---|---|---|---|---|")
    results = []
    for family in options.families:
        results.append(measure(family, dataset, device, options))
        print(results[-1].told(), flush=True)
    print()
    for result in results:
        medians = {way: round(result.median(way), 1) for way in result.speeds}
        ratio = round(statistics.median(result.ratios), 3)
        print(json.dumps({"benchmark": "training", "family": result.family, "ratio": ratio, **medians}))


if __name__ == "__main__":
    main()
