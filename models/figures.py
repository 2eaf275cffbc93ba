"""Writes figures.csv, what each architecture costs: `python -m models.figures`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from typing import Any

import models

COLUMNS = (
    "name",
    "image_size",
    "parameters",
    "multiply_adds",
    "activation_bytes",
    "depth",
    "receptive_field",
    "smallest_image",
)


def row(name: str) -> dict[str, Any]:
    """The figures of an architecture, at the images and classes of its paper."""
    found = models.describe(name)
    values = {key: getattr(found, key) for key in COLUMNS[2:]}
    return {"name": name, **values, "image_size": found.image_size[0], "receptive_field": found.receptive_field[0]}


def write(names: Iterable[str], file: Any) -> None:
    """One line an architecture."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row(name) for name in names)


if __name__ == "__main__":
    with models.FIGURES.open("w", encoding="utf-8", newline="") as file:
        write(models.names(), file)
    sys.exit(0)
