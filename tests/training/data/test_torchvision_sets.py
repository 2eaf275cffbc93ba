from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import tarfile
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data import Dataset, load, torchvision_sets
from orchestrator.training.data.loading import forget

torchvision_datasets = pytest.importorskip("torchvision.datasets")

NAMES = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")
TRAIN, TEST = 40, 20
"""Examples of the small sets in the true formats; CIFAR-10 has TRAIN / 5 in each of its five files."""


def open_set(name: str, root: Path, *, download: bool = False, **changes: Any) -> Dataset:
    forget()
    target = f"orchestrator.training.data.torchvision_sets.{name}"
    spec = {"_target_": target, "root": str(root), "download": download, "val_fraction": 0.25, **changes}
    return load(spec, cache=root.parent / "cache")


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def examples(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 NCHW images and labels, every class as often as the others."""
    shape = (count, 1, 28, 28) if "mnist" in name else (count, 3, 32, 32)
    images = np.random.RandomState(count).randint(0, 256, shape).astype(np.uint8)
    return images, np.arange(count) % 10


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(header + array.astype(np.uint8).tobytes())


def write_mnist(name: str, root: Path, patch: pytest.MonkeyPatch) -> None:
    kind = getattr(torchvision_datasets, {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[name])
    raw = root / kind.__name__ / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        images, labels = examples(name, count)
        write_idx(raw / f"{prefix}-images-idx3-ubyte.gz", images[:, 0])
        write_idx(raw / f"{prefix}-labels-idx1-ubyte.gz", labels)
    patch.setattr(kind, "resources", [(file, md5(raw / file)) for file, _ in kind.resources])


def write_cifar(name: str, root: Path, patch: pytest.MonkeyPatch) -> None:
    kind = getattr(torchvision_datasets, name.upper())
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    images, labels = examples(name, TRAIN)
    parts = np.array_split(np.arange(TRAIN), len(kind.train_list))
    key = "labels" if name == "cifar10" else "fine_labels"
    for (file, _), rows in zip(kind.train_list, parts, strict=True):
        batch = {"data": images[rows].reshape(len(rows), -1), key: labels[rows].tolist()}
        (folder / file).write_bytes(pickle.dumps(batch))
    images, labels = examples(name, TEST)
    batch = {"data": images.reshape(TEST, -1), key: labels.tolist()}
    (folder / kind.test_list[0][0]).write_bytes(pickle.dumps(batch))
    meta = {kind.meta["key"]: [f"class {label}" for label in range(10)]}
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps(meta))
    with tarfile.open(root / kind.filename, "w:gz") as archive:
        archive.add(folder, kind.base_folder)
    for which in ("train_list", "test_list"):
        patch.setattr(kind, which, [[file, md5(folder / file)] for file, _ in getattr(kind, which)])
    patch.setattr(kind, "meta", {**kind.meta, "md5": md5(folder / kind.meta["filename"])})
    patch.setattr(kind, "tgz_md5", md5(root / kind.filename))
    shutil.rmtree(folder)


def write_svhn(name: str, root: Path, patch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    root.mkdir(parents=True)
    kind = torchvision_datasets.SVHN
    known = {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        images, labels = examples(name, count)
        path = root / f"{split}_32x32.mat"
        # SVHN counts the digit 0 as class 10
        savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        known[split] = [kind.split_list[split][0], path.name, md5(path)]
    patch.setattr(kind, "split_list", known)


WRITE: dict[str, Callable[[str, Path, pytest.MonkeyPatch], None]] = {
    "mnist": write_mnist, "fashion_mnist": write_mnist, "cifar10": write_cifar, "cifar100": write_cifar, "svhn": write_svhn,
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing can be downloaded: the network is away."""

    def away(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", away)
    return tmp_path / "root"


@pytest.mark.parametrize("name", NAMES)
def test_archives_put_there_by_hand_are_read(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITE[name](name, root, monkeypatch)
    data = open_set(name, root)
    for rows, count in ((slice(0, TRAIN), TRAIN), (slice(TRAIN, None), TEST)):
        images, labels = examples(name, count)
        assert np.array_equal(data.images[rows], images)
        assert np.array_equal(data.labels[rows], labels)
    assert {split: len(ids) for split, ids in data.splits.items()} == {"train": 30, "val": 10, "test": 20}
    assert data.num_classes == 10
    assert data.classes[0] == {"mnist": "0", "svhn": "0", "fashion_mnist": "T-shirt/top"}.get(name, "class 0")


@pytest.mark.parametrize("name", NAMES)
def test_the_second_time_torchvision_is_not_asked(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITE[name](name, root, monkeypatch)
    first = open_set(name, root)
    monkeypatch.setattr(torchvision_sets, "_torchvision_class", None)
    assert open_set(name, root).fingerprint == first.fingerprint


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("download", "why"), [(True, "could not be downloaded .*no network"), (False, "download is false")]
)
def test_what_is_missing_is_named_with_the_place_to_put_it(name: str, download: bool, why: str, root: Path) -> None:
    layout = torchvision_sets._LAYOUTS[name]
    with pytest.raises(NotReadyError, match=why) as told:
        open_set(name, root, download=download)
    assert f"put into {root}: {layout.archives[0].path}" in str(told.value)
    assert all(archive.path in str(told.value) for archive in layout.archives)


def archive_of(name: str, root: Path) -> Path:
    return root / torchvision_sets._LAYOUTS[name].archives[0].path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("download", [True, False])
def test_a_truncated_archive_is_named_with_both_sizes(
    name: str, download: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITE[name](name, root, monkeypatch)
    path = archive_of(name, root)
    path.write_bytes(path.read_bytes()[:1000])
    size = f"{torchvision_sets._LAYOUTS[name].archives[0].size:,}"
    with pytest.raises(
        NotReadyError, match=rf"{path.name} is truncated \(has 1,000 of {size} bytes\).*put into {root}"
    ):
        open_set(name, root, download=download)


def test_a_web_page_saved_as_an_archive_is_recognized(root: Path) -> None:
    root.mkdir()
    (root / "cifar-10-python.tar.gz").write_text("<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(NotReadyError, match=r"cifar-10-python\.tar\.gz is a web page, not the data \(35 bytes\)"):
        open_set("cifar10", root)


def test_an_archive_with_one_wrong_byte_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist("mnist", root, monkeypatch)
    path = archive_of("mnist", root)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    layout = torchvision_sets._LAYOUTS["mnist"]
    true = torchvision_sets._Archive(layout.archives[0].path, len(content))
    monkeypatch.setitem(
        torchvision_sets._LAYOUTS,
        "mnist",
        torchvision_sets._Layout("MNIST", (true, *layout.archives[1:]), layout.files),
    )
    with pytest.raises(
        NotReadyError, match=rf"train-images-idx3-ubyte\.gz is damaged \(its MD5 is not .*; {len(content):,} bytes"
    ):
        open_set("mnist", root)


def test_a_truncated_extracted_file_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist("mnist", root, monkeypatch)
    open_set("mnist", root)
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(
        NotReadyError, match=r"train-images-idx3-ubyte is truncated \(has 500 of 31,376 bytes\); remove it"
    ):
        open_set("mnist", root)
    path.unlink()
    assert len(open_set("mnist", root).images) == 60


def test_an_extracted_file_that_is_no_idx_file_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist("mnist", root, monkeypatch)
    open_set("mnist", root)
    (root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(b"?")
    with pytest.raises(NotReadyError, match="t10k-labels-idx1-ubyte is not an IDX file; remove it"):
        open_set("mnist", root)


def test_a_damaged_batch_of_cifar_is_refused_before_it_is_unpickled(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar("cifar10", root, monkeypatch)
    open_set("cifar10", root)
    marker = root / "executed"

    class Malicious:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return Path.touch, (marker,)

    path = root / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(NotReadyError, match=r"data_batch_3 is damaged \(its MD5 is not .*remove what is damaged"):
        open_set("cifar10", root)
    assert not marker.exists()


def test_a_download_extracts_and_is_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar("cifar10", root, monkeypatch)
    served = shutil.move(root / "cifar-10-python.tar.gz", root.parent)
    asked: list[str] = []

    def fetch(url: str, filename: str, **_: object) -> None:
        asked.append(url)
        shutil.copy(served, filename)

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", fetch)
    assert len(open_set("cifar10", root, download=True).images) == 60
    assert asked == [torchvision_datasets.CIFAR10.url]


def test_a_root_that_is_a_file_is_named(root: Path) -> None:
    root.write_text("")
    with pytest.raises(NotReadyError, match="root is a file, not a folder; put into"):
        open_set("svhn", root)


def test_a_server_that_says_nothing_is_given_up() -> None:
    import socket

    with torchvision_sets.timeout(1.5):
        assert socket.getdefaulttimeout() == 1.5
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", NAMES)
def test_layouts_name_what_torchvision_reads(name: str) -> None:
    layout = torchvision_sets._LAYOUTS[name]
    known = [path for path, _ in torchvision_sets._checksums(layout)]
    assert [archive.path for archive in layout.archives] == known[: len(layout.archives)]
    if name.startswith("cifar"):
        assert list(layout.files) == known[1:]
