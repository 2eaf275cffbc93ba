"""Pools of simulated members, whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.ensembles.pool import Member, Pool


def made_pool(
    members: int,
    examples: int,
    classes: int = 4,
    *,
    seed: int = 0,
    architectures: Sequence[str] = ("convnet",),
    seeds: int = 1,
) -> Pool:
    """Members that see the truth through noise of their own; the first is the best by accuracy.

    Args:
        architectures: of the members in turn.
        seeds: so many neighbours share a configuration.
    """
    draw = np.random.default_rng(seed)
    labels_N = draw.integers(0, classes, examples)
    truth_NK = draw.normal(size=(examples, classes)) + 2.0 * np.eye(classes)[labels_N]
    skill_M = draw.uniform(0.5, 1.5, members)
    logits_MNK = skill_M[:, None, None] * truth_NK + draw.normal(size=(members, examples, classes))
    logits_MNK = (logits_MNK - logits_MNK.max(axis=2, keepdims=True)).astype(np.float32)
    accuracy_M = (logits_MNK.argmax(axis=2) == labels_N).mean(axis=1)
    order = np.argsort(-accuracy_M, kind="stable")
    found = tuple(
        Member(
            name=f"made-00000000/{place}",
            params={},
            architecture=architectures[place % len(architectures)],
            configuration=f"made-00000000/c{place // seeds}",
            value=float(accuracy_M[order[place]]),
        )
        for place in range(members)
    )
    return Pool(found, logits_MNK[order], labels_N, tuple("abcdefghij"[:classes]))


def pool_of(probabilities_MNK: Any, labels_N: Any) -> Pool:
    """The pool of members that say these probabilities."""
    logits_MNK = np.log(np.maximum(np.asarray(probabilities_MNK, dtype=np.float64), 1e-30)).astype(np.float32)
    logits_MNK -= logits_MNK.max(axis=2, keepdims=True)
    members = tuple(
        Member(f"made-00000000/{place}", {}, "convnet", f"made-00000000/c{place}", 1.0 - place / 100)
        for place in range(len(logits_MNK))
    )
    return Pool(members, logits_MNK, np.asarray(labels_N), tuple("abcdefghij"[: logits_MNK.shape[2]]))
