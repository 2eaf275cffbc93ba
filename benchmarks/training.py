"""Images per second of the training engine against a plain PyTorch loop, on CIFAR-size images.

    python -m benchmarks.training [--models resnet20 convnet] [--epochs 3] [--images 4096] [--threads 2]

The plain loop is the one of the tutorials: a DataLoader with two workers, torchvision's RandomCrop and RandomHorizontalFlip on
PIL images, ToTensor and Normalize, SGD. Both train the same network on the same made-up photographs, epoch by epoch in turns, so
that a noisy machine hits both; the first epoch of each is not counted. Printed are the median images/s of each, its range, and
the ratio.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from orchestrator.training.augment.crop_flip import crop_flip
from orchestrator.training.batches import DeviceData, batch_sizes, place
from orchestrator.training.data import Dataset, make_dataset
from orchestrator.training.device import autocast, seed_everything, set_up
from orchestrator.training.loop import Learner, train_epoch
from orchestrator.training.losses import cross_entropy
from orchestrator.training.optimizers import sgd
from orchestrator.training.preprocess.standardize import standardize
from orchestrator.training.schedules import constant

BATCH_SIZE = 128
MODELS = {"resnet20": ("resnet_cifar", {"depth": 20}), "convnet": ("convnet", {})}


def photographs(count: int) -> Dataset:
    """Random pixels in the shape of CIFAR-10: their contents do not change the speed."""
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (count + 200, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(count + 200) % 10
    held = {"val": (images[count : count + 100], labels[count : count + 100]), "test": (images[-100:], labels[-100:])}
    return make_dataset("photographs", train=(images[:count], labels[:count]), **held)


def model(name: str) -> nn.Module:
    import models

    seed_everything(0, torch.device("cpu"))
    family, own = MODELS[name]
    return models.create(family, num_classes=10, in_channels=3, image_size=(32, 32), **own)


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


def plain(name: str, dataset: Dataset, device: torch.device) -> Callable[[int], None]:
    """An epoch of the tutorials' loop."""
    net = model(name).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    criterion = nn.CrossEntropyLoss()
    loader = torch.utils.data.DataLoader(
        Photographs(dataset),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )

    def epoch(number: int) -> None:
        net.train()
        running = 0.0
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()

    return epoch


def engine(name: str, dataset: Dataset, device: torch.device, precision: str) -> Callable[[int], None]:
    """An epoch of ours."""
    data: DeviceData = place(dataset, {"_target_": "standardize"}, standardize, device)
    net = model(name).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = Learner(
        model=net,
        optimizer=sgd(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4),
        schedule=constant(epochs=100),
        loss=cross_entropy(),
        penalty=None,
        augment=crop_flip(),
        data=data,
        device=device,
        seed=0,
        sizes=batch_sizes(len(data.splits["train"]), BATCH_SIZE),
        autocast=autocast(device, precision),
        channels_last=True,
    )
    return lambda number: void(train_epoch(learner, number))


def void(result: object) -> None:
    del result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--epochs", type=int, default=3, help="counted, of each")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    set_up(device, options.threads)
    dataset = photographs(options.images)
    hardware = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor() or platform.machine()}"
    )
    bf16 = autocast(device, options.precision) is not None
    print(
        f"torch {torch.__version__}, {hardware}, {options.threads} threads, {'bf16' if bf16 else 'fp32'} in the engine"
    )
    for name in options.models:
        ways = {
            "plain": plain(name, dataset, device),
            "engine": engine(name, dataset, device, options.precision),
        }
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(1, options.epochs + 2):
            for way, epoch in ways.items():
                started = time.perf_counter()
                epoch(number)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                speeds[way].append(options.images / (time.perf_counter() - started))
        medians = {way: statistics.median(values[1:]) for way, values in speeds.items()}
        ratio = medians["engine"] / medians["plain"]
        told = ", ".join(
            f"{way} {medians[way]:.0f} images/s ({min(speeds[way][1:]):.0f} to {max(speeds[way][1:]):.0f})"
            for way in ways
        )
        print(f"{name}: {told}, n={options.epochs} epochs of {options.images}: {ratio:.2f}x")
        print(json.dumps({"benchmark": "training", "model": name, "ratio": round(ratio, 3), **medians}))


if __name__ == "__main__":
    main()
