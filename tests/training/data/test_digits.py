from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.training.data import Dataset, load
from orchestrator.training.data.loading import forget

TARGET = "orchestrator.training.data.digits.digits"


def digits(cache: Path, **changes: float) -> Dataset:
    forget()
    return load({"_target_": TARGET, **changes}, cache=cache)


def test_it_is_the_known_data_set(tmp_path: Path) -> None:
    data = digits(tmp_path)
    assert data.images.shape == (1797, 1, 8, 8)
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # the first row of the first image in scikit-learn's documentation is 0 0 5 13 9 1 0 0, in sixteenths
    assert data.images[0, 0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


@pytest.mark.slow
def test_it_is_what_scikit_learn_gives(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data, expected = digits(tmp_path), load_digits()
    assert np.array_equal(data.labels, expected.target)
    assert np.array_equal(data.images[:, 0], np.rint(expected.images * 255 / 16))
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert data.classes == tuple("0123456789")


def test_every_split_is_stratified_and_the_test_set_is_fixed(tmp_path: Path) -> None:
    data, other = digits(tmp_path), digits(tmp_path, split_seed=1, val_fraction=0.1)
    assert {name: len(ids) for name, ids in data.splits.items()} == {"train": 1151, "val": 287, "test": 359}
    counts = np.bincount(data.labels)
    for ids, share in ((data.splits["train"], 0.64), (data.splits["val"], 0.16), (data.splits["test"], 0.2)):
        # rounded once or twice, so at most one and a half away
        assert np.abs(np.bincount(data.labels[ids]) - share * counts).max() <= 1.5
    assert np.array_equal(data.splits["test"], other.splits["test"])
    assert not np.array_equal(data.splits["val"][:100], other.splits["val"][:100])
    assert data.fingerprint != other.fingerprint
    assert data.entry == other.entry


def test_neither_scikit_learn_nor_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from orchestrator.training.data import load; "
        f"load({{'_target_': {TARGET!r}}}, cache={str(tmp_path)!r}); "
        "print(sorted({'sklearn', 'scipy', 'torch', 'torchvision', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
