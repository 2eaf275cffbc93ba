from __future__ import annotations

import numpy as np
import pytest

from orchestrator.training.preprocess import statistics
from orchestrator.training.preprocess.statistics import channel_statistics


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_chunks_change_nothing(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.RandomState(0).randint(0, 256, (23, 3, 4, 5)).astype(dtype)
    ids = np.arange(23)[3:]
    whole = channel_statistics(images, ids)
    monkeypatch.setattr(statistics, "_CHUNK_PIXELS", 200)
    for one, other in zip(whole, channel_statistics(images, ids), strict=True):
        assert one == pytest.approx(other, rel=1e-12)
    chosen = images[ids].astype(np.float64)
    assert whole[0] == pytest.approx(chosen.mean(axis=(0, 2, 3)), rel=1e-12)
    assert whole[1] == pytest.approx(chosen.std(axis=(0, 2, 3)), rel=1e-9)


def test_floats_far_from_zero_keep_their_deviation() -> None:
    images = (1e6 + np.random.RandomState(0).standard_normal((50, 1, 8, 8))).astype(np.float32)
    assert channel_statistics(images)[1] == pytest.approx([images.astype(np.float64).std()], rel=1e-9)


def test_no_training_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no training images"):
        channel_statistics(np.zeros((3, 1, 2, 2), np.uint8), np.array([], np.int64))
