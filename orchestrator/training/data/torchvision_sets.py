"""MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN: downloaded, checked and read by torchvision, then cached here.

torchvision is imported only when there is something to download or to decode, because that takes seconds.
"""

from __future__ import annotations

import os
import socket
import tarfile
import urllib.error
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data.files import absolute, megabytes, stamps
from orchestrator.training.data.source import SPLITS, Allocate, Contents, Progress, Source

DOWNLOAD_TIMEOUT_S = 30.0
"""Without any byte; torchvision itself would wait for ever."""


@dataclass(frozen=True)
class _Archive:
    """A file as it is downloaded: path below root, and bytes of the true one for messages (the check is torchvision's MD5)."""

    path: str
    size: int


@dataclass(frozen=True)
class _Layout:
    """What torchvision keeps where for one data set.

    Args:
        class_name: in torchvision.datasets.
        files: paths below root that are read; extracted from the archives unless they are the archives.
    """

    class_name: str
    archives: tuple[_Archive, ...]
    files: tuple[str, ...]


def _idx_layout(class_name: str, sizes: tuple[int, int, int, int]) -> _Layout:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    paths = tuple(f"{class_name}/raw/{name}" for name in names)
    archives = tuple(_Archive(f"{path}.gz", size) for path, size in zip(paths, sizes, strict=True))
    return _Layout(class_name, archives, paths)


def _cifar_layout(class_name: str, archive: _Archive, folder: str, files: tuple[str, ...]) -> _Layout:
    return _Layout(class_name, (archive,), tuple(f"{folder}/{name}" for name in files))


_SVHN = (_Archive("train_32x32.mat", 182_040_794), _Archive("test_32x32.mat", 64_275_384))
_LAYOUTS = {
    "mnist": _idx_layout("MNIST", (9_912_422, 28_881, 1_648_877, 4_542)),
    "fashion_mnist": _idx_layout("FashionMNIST", (26_421_880, 29_515, 4_422_102, 5_148)),
    "cifar10": _cifar_layout(
        "CIFAR10",
        _Archive("cifar-10-python.tar.gz", 170_498_071),
        "cifar-10-batches-py",
        (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
    ),
    "cifar100": _cifar_layout(
        "CIFAR100", _Archive("cifar-100-python.tar.gz", 169_001_437), "cifar-100-python", ("train", "test", "meta")
    ),
    "svhn": _Layout("SVHN", _SVHN, tuple(archive.path for archive in _SVHN)),
}


def mnist(
    *,
    root: str = "data",
    download: bool = True,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    label_noise: float = 0.0,
    classes: list[str | int] | None = None,
    examples_per_class: int | None = None,
) -> Source:
    """MNIST: 70,000 grey 28x28 images of digits. Source: LeCun et al. 1998, Gradient-Based Learning."""
    return _source("mnist", root, download, _Taken(val_fraction, split_seed, label_noise, classes, examples_per_class))


def fashion_mnist(
    *,
    root: str = "data",
    download: bool = True,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    label_noise: float = 0.0,
    classes: list[str | int] | None = None,
    examples_per_class: int | None = None,
) -> Source:
    """Fashion-MNIST: 70,000 grey 28x28 images of clothes. Source: Xiao et al. 2017, arXiv:1708.07747."""
    return _source(
        "fashion_mnist", root, download, _Taken(val_fraction, split_seed, label_noise, classes, examples_per_class)
    )


def cifar10(
    *,
    root: str = "data",
    download: bool = True,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    label_noise: float = 0.0,
    classes: list[str | int] | None = None,
    examples_per_class: int | None = None,
) -> Source:
    """CIFAR-10: 60,000 colour 32x32 images in 10 classes. Source: Krizhevsky 2009, Learning Multiple Layers of Features."""
    return _source(
        "cifar10", root, download, _Taken(val_fraction, split_seed, label_noise, classes, examples_per_class)
    )


def cifar100(
    *,
    root: str = "data",
    download: bool = True,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    label_noise: float = 0.0,
    classes: list[str | int] | None = None,
    examples_per_class: int | None = None,
) -> Source:
    """CIFAR-100: as CIFAR-10, in 100 (fine) classes. Source: Krizhevsky 2009, Learning Multiple Layers of Features."""
    return _source(
        "cifar100", root, download, _Taken(val_fraction, split_seed, label_noise, classes, examples_per_class)
    )


def svhn(
    *,
    root: str = "data",
    download: bool = True,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    label_noise: float = 0.0,
    classes: list[str | int] | None = None,
    examples_per_class: int | None = None,
) -> Source:
    """SVHN: 99,289 colour 32x32 images of house numbers (without `extra`). Source: Netzer et al. 2011, Reading Digits."""
    return _source("svhn", root, download, _Taken(val_fraction, split_seed, label_noise, classes, examples_per_class))


@dataclass(frozen=True)
class _Taken:
    """What of a data set is taken for what; see `Source`."""

    val_fraction: float
    split_seed: int
    label_noise: float
    classes: list[str | int] | None
    examples_per_class: int | None


def _source(name: str, root: str, download: bool, taken: _Taken) -> Source:
    return _TorchvisionSet(name=name, root=absolute(root), download=download, **vars(taken))


@dataclass(frozen=True, kw_only=True)
class _TorchvisionSet(Source):
    root: Path
    download: bool

    @property
    def layout(self) -> _Layout:
        return _LAYOUTS[self.name]

    def ready(self) -> bool:
        return all(os.path.isfile(self.root / file) for file in self.layout.files)

    def fetch(self) -> None:
        if os.path.isfile(self.root):
            raise NotReadyError(f"data.root={self.root} is a file, not a folder; {self._what_to_do()}")
        damage = self._damage()
        have_all = all(os.path.isfile(self.root / archive.path) for archive in self.layout.archives)
        if not self.download and (damage or not have_all):
            raise NotReadyError(
                f"{damage or f'{self.name} is not there'}, and data.download is false; {self._what_to_do()}"
            )
        try:
            with timeout(DOWNLOAD_TIMEOUT_S):
                self._open(download=True)
        except _FAILURES as error:
            found = f"{damage}; " if damage else ""
            raise NotReadyError(
                f"{found}{self.name} could not be downloaded ({_one_line(error)}); {self._what_to_do()}"
            ) from error

    def key(self) -> str:
        return repr((self.name, 1, stamps(self.root / file for file in self.layout.files)))

    def decode(self, allocate: Allocate, progress: Progress) -> Contents:
        if self.name in ("mnist", "fashion_mnist"):
            for file in self.layout.files:
                _check_idx(self.root / file)
        try:
            sets = self._open(download=False)
        except _FAILURES as error:
            damage = self._damage() or f"the files of {self.name} below {self.root} cannot be read ({_one_line(error)})"
            raise NotReadyError(f"{damage}; remove what is damaged. {self._what_to_do()}") from error
        arrays = [_nchw(found.data) for found in sets]
        labels = [np.asarray(found.labels if self.name == "svhn" else found.targets) for found in sets]
        images = allocate((sum(map(len, arrays)), *arrays[0].shape[1:]))
        np.concatenate(arrays, out=images)
        progress(len(images), len(images))
        part = [np.full(len(a), SPLITS.index(s), np.uint8) for a, s in zip(arrays, ("train", "test"), strict=True)]
        named = getattr(sets[0], "classes", None) if self.name != "mnist" else None
        classes = tuple(named) if named else tuple(str(digit) for digit in range(10))
        return Contents(images, np.concatenate(labels), np.concatenate(part), classes)

    def _open(self, *, download: bool) -> list[Any]:
        kind = _torchvision_class(self.layout.class_name)
        choices: list[dict[str, Any]] = [{"train": True}, {"train": False}]
        if self.name == "svhn":
            choices = [{"split": "train"}, {"split": "test"}]
        return [kind(root=str(self.root), download=download, **choice) for choice in choices]

    def _damage(self) -> str:
        """The files that are there but not the true ones, by path, size and what is wrong; "" where none is."""
        found = []
        for path, md5 in _checksums(self.layout):
            if (
                md5
                and (self.root / path).is_file()
                and (why := _difference(self.root / path, md5, self._size_of(path)))
            ):
                found.append(f"{self.root / path} {why}")
        return "; ".join(found)

    def _size_of(self, path: str) -> int | None:
        return next((archive.size for archive in self.layout.archives if archive.path == path), None)

    def _what_to_do(self) -> str:
        wanted = ", ".join(f"{archive.path} ({megabytes(archive.size)})" for archive in self.layout.archives)
        return f"put into {self.root}: {wanted}"


_FAILURES = (
    RuntimeError, urllib.error.URLError, OSError, EOFError, ValueError, AssertionError, TypeError, zlib.error, tarfile.TarError,
)  # fmt: skip
"""What torchvision raises where a download fails or a file is not as it should be."""


def _torchvision_class(name: str) -> Any:
    import torchvision.datasets  # type: ignore[import-untyped]

    return getattr(torchvision.datasets, name)


def _checksums(layout: _Layout) -> Iterator[tuple[str, str | None]]:
    """(path below root, MD5 that torchvision expects) of archives and of extracted files where it has one."""
    kind = _torchvision_class(layout.class_name)
    if layout.class_name == "SVHN":
        for _, name, md5 in (kind.split_list[split] for split in ("train", "test")):
            yield name, md5
    elif layout.class_name.startswith("CIFAR"):
        yield kind.filename, kind.tgz_md5
        for name, md5 in (*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])):
            yield f"{kind.base_folder}/{name}", md5
    else:
        for name, md5 in kind.resources:
            yield f"{layout.class_name}/raw/{name}", md5


def _difference(path: Path, md5: str, size: int | None) -> str | None:
    """Why a file is not the one with this MD5; None where it is."""
    from torchvision.datasets.utils import check_md5  # type: ignore[import-untyped]

    try:
        if check_md5(path, md5):
            return None
        with open(path, "rb") as file:
            begins = file.read(64).lstrip().lower()
        has = path.stat().st_size
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if begins.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"is a web page, not the data ({megabytes(has)})"
    if size is not None and has < size:
        return f"is truncated (has {has:,} of {size:,} bytes)"
    if size is not None and has > size:
        return f"is not the original (has {has:,} bytes instead of {size:,})"
    return f"is damaged (its MD5 is not {md5}; {has:,} bytes)"


def _check_idx(path: Path) -> None:
    """Raises NotReadyError unless an IDX file is as long as its header says."""
    with open(path, "rb") as file:
        header = file.read(16)
    dimensions = header[3] if len(header) >= 4 and header[:3] == b"\0\0\x08" else 0
    if dimensions not in (1, 3) or len(header) < 4 + 4 * dimensions:
        raise NotReadyError(
            f"{path} is not an IDX file; remove it, it is extracted again from {path.name}.gz beside it"
        )
    shape = np.frombuffer(header, ">u4", dimensions, 4).astype(np.int64)
    expected, has = 4 + 4 * dimensions + int(shape.prod()), path.stat().st_size
    if has != expected:
        raise NotReadyError(
            f"{path} is {'truncated' if has < expected else 'damaged'} (has {has:,} of {expected:,} bytes); "
            f"remove it, it is extracted again from {path.name}.gz beside it, or downloaded"
        )


def _nchw(data: Any) -> np.ndarray:
    """What a torchvision set holds (NHW tensor, NHWC or NCHW array) as uint8 NCHW."""
    array = np.asarray(data)
    if array.ndim == 3:
        return array[:, None]
    return array if array.shape[1] == 3 else array.transpose(0, 3, 1, 2)


@contextmanager
def timeout(seconds: float) -> Iterator[None]:
    """Sockets opened inside give up after `seconds` of silence; torchvision has no setting for it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
