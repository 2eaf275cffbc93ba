from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from orchestrator.training import batches as module
from orchestrator.training.batches import DeviceData, batch_sizes, batches, place
from orchestrator.training.data import Dataset, make_dataset
from orchestrator.training.preprocess.standardize import standardize

CPU = torch.device("cpu")


@pytest.fixture
def dataset() -> Dataset:
    pixels = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1).repeat(2, axis=2)
    labels = np.arange(40) % 2
    return make_dataset("numbers", train=(pixels[:30], labels[:30]), test=(pixels[30:], labels[30:]))


@pytest.fixture(autouse=True)
def forget() -> None:
    module._kept.clear()


def placed(dataset: Dataset) -> DeviceData:
    return place(dataset, {}, lambda: None, CPU)


@pytest.mark.parametrize(
    ("examples", "batch_size", "sizes"),
    [
        (6, 3, [3, 3]),
        (8, 3, [3, 3, 2]),
        (7, 3, [3, 4]),  # one alone joins the batch before
        (3, 3, [3]),
        (4, 3, [4]),
        (3, 1, [1, 1, 1]),
        (1, 1, [1]),
    ],
)
def test_batch_sizes_cover_all_examples_and_leave_none_alone(examples: int, batch_size: int, sizes: list[int]) -> None:
    assert batch_sizes(examples, batch_size) == sizes


@pytest.mark.parametrize("batch_size", [0, 31])
def test_batch_size_must_fit_the_training_set(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 and at most the 30 training examples, got {batch_size}"):
        batch_sizes(30, batch_size)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("chunk", [1, 8 * 7, 2**20])
def test_batches_follow_the_order_however_they_are_gathered(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, kept: bool, chunk: int
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(module, "KEEP_FLOATS_BYTES", 2**20 if kept else 0)
    split = placed(dataset).splits["train"]
    assert (split.floats is not None) == kept
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    got = list(batches(split, [5] * 4 + [4], order=order, augment=None, draws=torch.Generator(), channels_last=True))
    assert [len(batch.images) for batch in got] == [5, 5, 5, 5, 4]
    assert torch.equal(torch.cat([batch.indices for batch in got]), order)
    ids = torch.from_numpy(dataset.splits["train"])[order]
    images, labels = (torch.cat([batch[part] for batch in got]) for part in (0, 1))
    torch.testing.assert_close(images[:, 0, 0, 0] * 255, ids.float())
    assert torch.equal(labels, ids % 2)


@pytest.mark.parametrize("kept", [True, False])
def test_augmentation_sees_the_stored_bytes(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    monkeypatch.setattr(module, "KEEP_FLOATS_BYTES", 2**20 if kept else 0)
    data = place(dataset, {"_target_": "standardize"}, standardize, CPU)

    def blacken(images: Tensor, draws: torch.Generator) -> Tensor:
        assert images.dtype == torch.uint8
        return torch.zeros_like(images)

    stream = batches(
        data.splits["train"],
        [24],
        order=torch.arange(24),
        augment=blacken,
        draws=torch.Generator(),
        channels_last=False,
    )
    images = next(iter(stream)).images
    train = dataset.images[dataset.splits["train"]].astype(np.float64)
    torch.testing.assert_close(images, torch.full_like(images, -train.mean() / train.std()))


def test_preprocessing_is_fitted_on_training_images_and_kept_for_the_next_trial(dataset: Dataset) -> None:
    data = place(dataset, {"_target_": "standardize"}, standardize, CPU)
    floats = data.splits["train"].floats
    assert floats is not None
    assert floats.mean().item() == pytest.approx(0, abs=1e-6)
    assert floats.std(correction=0).item() == pytest.approx(1)
    assert place(dataset, {"_target_": "standardize"}, standardize, CPU) is data
    assert placed(dataset) is not data


def test_slices_are_the_same_kept_or_not(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = placed(dataset).splits["test"]
    monkeypatch.setattr(module, "KEEP_FLOATS_BYTES", 0)
    module._kept.clear()
    stored = placed(dataset).splits["test"]
    assert torch.equal(kept.slice(8, 12), stored.slice(8, 12))
    assert len(stored.slice(8, 12)) == 2
