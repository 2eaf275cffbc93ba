"""What looking at a network costs while it is trained.

    python -m benchmarks.diagnostics [--threads 1] [--repeats 30] [--images 45000] [--epochs 1]

`init_health`: the first training step of a trial watched, against the same step unwatched; target below 2. `diagnostics=true`:
epochs of ResNet-20 on images of CIFAR's size and number, batches of 128, against the same epochs without; target below 1.1. The
first epoch also has the look at the initialization. All are taken in turns, so that a noisy machine hits both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional

import models
from benchmarks.training import photographs, standardized
from models.outputs import main_output
from orchestrator.training.batches import batch_sizes
from orchestrator.training.data import Dataset
from orchestrator.training.device import autocast
from orchestrator.training.diagnosis.at_work import AtWork
from orchestrator.training.health import FirstStep
from orchestrator.training.loop import Learner, train_epoch
from orchestrator.training.losses import cross_entropy
from orchestrator.training.optimizers import sgd
from orchestrator.training.schedules import constant

NETWORKS = {
    "mlp, 8 x 100": lambda: models.create("mlp", num_classes=10, in_channels=1, image_size=(8, 8), hidden=8, width=100),
    "resnet20": lambda: models.create("resnet20", num_classes=10, in_channels=3, image_size=(32, 32)),
    "resnet110": lambda: models.create("resnet110", num_classes=10, in_channels=3, image_size=(32, 32)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--images", type=int, default=45_000)
    parser.add_argument("--epochs", type=int, default=1, help="counted; 0 leaves diagnostics=true out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name, make in NETWORKS.items():
        model = make().to(device).train()
        shape = (1, 8, 8) if name.startswith("mlp") else (3, 32, 32)
        images = torch.randn(128, *shape, device=device)
        labels = torch.randint(10, (128,), device=device)
        watched, plain = alternately(
            partial(watched_step, model, images, labels),
            partial(step, model, images, labels),
            repeats=max(3, options.repeats // (10 if name == "resnet110" else 1)),
        )
        ratios = sorted(one / other for one, other in zip(watched, plain, strict=True))
        middle = statistics.median(ratios)
        print(
            f"{name}: a step {statistics.median(plain) * 1000:.2f} ms on {device}, watched {middle:.2f} times that "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}, n={len(ratios)})"
        )

    dataset = photographs(options.images)
    plain_learner, looked_at = (learner(dataset, device) for _ in range(2))
    looked_at.at_work = AtWork(looked_at.model)
    for epoch in range(1, options.epochs + 1):
        times = [timed(partial(train_epoch, one, epoch)) for one in (looked_at, plain_learner)]
        ratio = times[0] / times[1]
        print(
            f"diagnostics=true, resnet20, epoch {epoch} of {options.images:,} images: {times[1]:.1f} s, {ratio:.3f} times that"
        )


def learner(dataset: Dataset, device: torch.device) -> Learner:
    """ResNet-20, trained as in the tests of speed (`benchmarks.training`), without augmentation."""
    data = standardized(dataset, device)
    torch.manual_seed(0)
    net = NETWORKS["resnet20"]().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(
        model=net,
        optimizer=sgd(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4),
        schedule=constant(epochs=100, steps_per_epoch=1),
        loss=cross_entropy(),
        penalty=None,
        augment=None,
        data=data,
        device=device,
        seed=0,
        sizes=batch_sizes(len(data.splits["train"]), 128),
        autocast=autocast(device, "fp32"),
        channels_last=True,
    )


def step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    loss = functional.cross_entropy(main_output(model(images)), labels)
    loss.backward()  # type: ignore[no-untyped-call]


def watched_step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    first = FirstStep(model)
    with first.watching():
        outputs = model(images)
    loss = functional.cross_entropy(main_output(outputs), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    first.health()


def alternately(one: Callable[[], None], other: Callable[[], None], *, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each, taken in turns; the first of each is not counted."""
    times = [(timed(one), timed(other)) for _ in range(repeats + 1)][1:]
    first, second = zip(*times, strict=True)
    return list(first), list(second)


def timed(run: Callable[[], None]) -> float:
    """Seconds: of the processor where it computes, so that other work on the machine counts for nothing."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    main()
