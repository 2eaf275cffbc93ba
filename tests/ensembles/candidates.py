"""Candidates of a comparison made by hand: simulated members, whose truth is known, on validation and test examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.ensembles.gathering import Gathered, LeftOut, Source
from orchestrator.ensembles.pool import Pool
from tests.ensembles.made import made_pool

METRIC = "val/accuracy"


def gathered_of(
    pool: Pool,
    test: tuple[Any, Any, Any],
    *,
    folders: Sequence[Path] = (),
    metric: str = METRIC,
    left_out: Sequence[LeftOut] = (),
    asked: list[list[str]] | None = None,
) -> Gathered:
    """Candidates of these sweeps.

    Args:
        test: logits of all members in the order of the pool, labels and ids.
        asked: is told each time the test is read.
    """
    logits_MNK, labels_N, ids_N = test
    place = {member.name: index for index, member in enumerate(pool.members)}

    def read_test(names: Sequence[str]) -> tuple[Any, Any, Any]:
        if asked is not None:
            asked.append([*names])
        return logits_MNK[[place[name] for name in names]], labels_N, ids_N

    mode = "min" if metric in ("val/loss", "val/nll") else "max"
    sources = [Source(folder.name, metric, mode, folder) for folder in folders]
    if not sources:
        sources = [Source("made-00000000", metric, mode, None, "http://127.0.0.1:1")]
    return Gathered(pool, tuple(left_out), tuple(sources), "ab" * 32, np.arange(len(pool.labels_N)), read_test)


def split(members: int, val: int, test: int, classes: int = 4, **made: Any) -> tuple[Pool, tuple[Any, Any, Any]]:
    """A pool of validation examples, and the test of the same members, whose order follows from validation."""
    whole = made_pool(members, val + test, classes, **made)
    labels_N, logits_MNK = whole.labels_N, whole.logits_MNK
    accuracy_M = (logits_MNK[:, :val].argmax(axis=2) == labels_N[:val]).mean(axis=1)
    order = np.argsort(-accuracy_M, kind="stable")
    pool = replace(
        whole.of(order.tolist()).at(np.arange(val)),
        members=tuple(
            replace(whole.members[place], value=float(accuracy_M[place]), parameters=1_000, multiply_adds=2_000)
            for place in order
        ),
    )
    return pool, (logits_MNK[order][:, val:], labels_N[val:], np.arange(val, val + test))
