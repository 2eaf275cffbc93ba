"""Which trials may be members: the completed ones of the sweeps named, whose predictions are of the same examples.

Contract, to be filled in by `gather`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.ensembles.pool import Pool

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# m members, N examples, K classes


@dataclass(frozen=True)
class LeftOut:
    """A trial, or a sweep, that is no candidate, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A sweep whose trials are compared.

    Args:
        folder: None of a sweep that is read from a tracking server.
        uri: of the server; None of a sweep that is read from its folder.
    """

    uid: str
    metric: str
    mode: str
    folder: Path | None
    uri: str | None = None


@dataclass(frozen=True)
class Gathered:
    """The candidates.

    Args:
        fingerprint: of the data set and its split.
        ids_N: the rows of the data set that the pool's examples are.
        read_test: of members by their names: logits [m, N, K], labels [N] and ids [N] of the test; read at the call, not before.
    """

    pool: Pool
    left_out: tuple[LeftOut, ...]
    sources: tuple[Source, ...]
    fingerprint: str
    ids_N: Array
    read_test: Callable[[Sequence[str]], tuple[Array, Array, Array]]
