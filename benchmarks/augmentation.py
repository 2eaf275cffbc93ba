"""Augmented batches per second without a network: batched tensors against torchvision, image by image, with two loader workers.

    python -m benchmarks.augmentation [--images 8192] [--epochs 5] [--batch-size 128] [--threads 2]

Both crop, flip and standardize the same made-up photographs of CIFAR's size; with `resized` in place of `crop` both take boxes of
random area and change contrast and brightness, too. Epochs are taken in turns, so that a noisy machine hits both; the first of
each is not counted, and the workers stay between epochs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torchvision import transforms

from benchmarks.training import photographs, standardized
from orchestrator.training.augment.sequence import sequence
from orchestrator.training.batches import DeviceData, batch_sizes, batches

JITTER = transforms.ColorJitter(brightness=0.4, contrast=0.4)
PIPELINES: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
    "crop, flip": (["crop_flip"], [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]),
    "resized crop, flip, colour": (
        ["random_resized_crop", "flip", "contrast_and_brightness"],
        [transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), JITTER],
    ),
}


class Images(torch.utils.data.Dataset[Any]):
    def __init__(self, data: DeviceData, transform: Callable[[Any], Any]) -> None:
        train = data.splits["train"]
        pick = transforms.ToPILImage()
        self.images = [pick(image) for image in train.take_stored(torch.arange(len(train)))]
        self.labels, self.transform = train.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> Any:
        return self.transform(self.images[place]), self.labels[place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--epochs", type=int, default=5, help="counted, of each")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = standardized(photographs(options.images), torch.device("cpu"))
    train = data.splits["train"]
    sizes = batch_sizes(len(train), options.batch_size)
    for name, (steps, theirs) in PIPELINES.items():
        augment = sequence(steps=steps)
        statistics_of = (0.5,) * 3, (0.25,) * 3
        pipeline = transforms.Compose([*theirs, transforms.ToTensor(), transforms.Normalize(*statistics_of)])
        loader = torch.utils.data.DataLoader(
            Images(data, pipeline), options.batch_size, shuffle=True, num_workers=2, persistent_workers=True
        )

        def ours(augment: Any = augment) -> None:
            order, draws = torch.randperm(len(train)), torch.Generator().manual_seed(0)
            for _ in batches(train, sizes, order=order, augment=augment, draws=draws, channels_last=False):
                pass

        def by_image(loader: Any = loader) -> None:
            for _ in loader:
                pass

        times: list[tuple[float, float]] = []
        for _ in range(options.epochs + 1):
            times.append((timed(ours), timed(by_image)))
        del times[0]
        ratios = sorted(slow / fast for fast, slow in times)
        fast, slow = (statistics.median(one) for one in zip(*times, strict=True))
        print(
            f"{name}: {len(train) / fast:,.0f} images/s batched, {len(train) / slow:,.0f} by torchvision; "
            f"{statistics.median(ratios):.1f} times ({ratios[0]:.1f} to {ratios[-1]:.1f}, n={len(ratios)})"
        )


def timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
