"""What the check of the initialization costs: the first training step of a trial watched, against the same step unwatched.

    python -m benchmarks.diagnostics [--threads 1] [--repeats 30]

The two are taken in turns, so that a noisy machine hits both. `init_health` may cost two steps' time in all, that is one more
than the step itself.
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
from models.outputs import main_output
from orchestrator.training.health import FirstStep

NETWORKS = {
    "mlp, 8 x 100": lambda: models.create("mlp", num_classes=10, in_channels=1, image_size=(8, 8), hidden=8, width=100),
    "resnet20": lambda: models.create("resnet20", num_classes=10, in_channels=3, image_size=(32, 32)),
    "resnet110": lambda: models.create("resnet110", num_classes=10, in_channels=3, image_size=(32, 32)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
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
