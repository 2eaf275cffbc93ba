"""What the architectures cost, for `orchestrator list model` and `--plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import models
from orchestrator.base.build import build
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.text import short

if TYPE_CHECKING:
    from models.description import Convention, Description

HEADER = ["choice", "parameters", "multiply-adds", "depth", "images", "from", "what it is"]


def overview(choices: Sequence[tuple[str, str]]) -> list[list[str]]:
    """A row for each (choice, what it is), under `HEADER`; figures are known of the catalogue's own, at the paper's images."""
    known = models.figures()
    table = []
    for name, text in choices:
        figures = known.get(name)
        cells = [""] * 5
        if figures:
            sizes = (figures["parameters"], figures["multiply_adds"])
            cells = [*map(short, sizes), *(str(figures[key]) for key in ("depth", "image_size", "smallest_image"))]
        table.append([name, *cells, text])
    return table


def summary(found: Description) -> list[str]:
    """A network in a few lines."""
    height, width = found.image_size
    down, across = found.receptive_field
    return [
        f"images           {height}x{width}, {found.in_channels} channels, {found.num_classes:,} classes",
        f"parameters       {found.parameters:,}",
        f"multiply-adds    {found.multiply_adds:,} an image",
        f"activations      {found.activation_bytes / 1e6:,.1f} MB an image, kept for the backward pass in fp32",
        f"depth            {found.depth} layers with weights on the longest way",
        f"receptive field  {down}x{across} pixels",
        f"smallest image   {found.smallest_image}x{found.smallest_image}",
    ]


def layer_table(found: Description, convention: Convention) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the per-layer table, with the sum as the last row."""
    from models.description import rows, total

    table = rows(found, convention)
    header = ["layer", "volume", "activations", "parameters", "operations"]
    return header, [
        [row.layer, row.volume, f"{row.activations:,}", f"{row.parameters:,}", f"{row.operations:,}"]
        for row in [*table, total(table)]
    ]


def describe_example(name: str) -> Description | None:
    """What a part of a network costs that the lectures work out; None where there is none of that name."""
    return models.describe_example(name) if name in models.EXAMPLES else None


def describe(
    config: Mapping[str, Any],
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    image_size: tuple[int, int] | None = None,
) -> Description:
    """What the network of a trial's configuration costs.

    Args:
        num_classes, image_size: those of the paper where absent, or 10 classes of 32x32 images.

    Raises:
        ConfigError: the architecture refuses a value.
    """
    import torch

    from models.checks import ImageTooSmallError
    from models.description import describe_network

    paper = models.paper(config["choices"]["model"])
    size = image_size or (paper.get("image_size", 32),) * 2
    provided = {"num_classes": num_classes or paper.get("num_classes", 10), "in_channels": in_channels}

    def made(size: tuple[int, int]) -> Any:
        parts = {key: build(config[key]) for key in ("norm", "activation")}
        return build(config["model"], image_size=size, **provided, **parts)

    smallest = 1
    with torch.device("meta"):
        try:
            made((1, 1))
        except ImageTooSmallError as error:
            smallest = error.minimum
        except ValueError:
            pass  # said below, for the images that were asked for
        try:
            model = made(size)
        except ValueError as error:
            raise ConfigError(Problem("model", str(error), config["choices"]["model"])) from error
    return describe_network(model, in_channels=in_channels, image_size=size, smallest_image=smallest)
