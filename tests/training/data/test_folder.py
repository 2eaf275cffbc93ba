from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data import Dataset, load
from orchestrator.training.data.folder import image_folder, list_images
from orchestrator.training.data.loading import forget

TARGET = "orchestrator.training.data.folder.image_folder"
PHOTOGRAPHS = Path(__file__).parents[4] / "shared" / "data" / "cifar10-jpeg.tar.xz"


def make(
    root: Path, splits: tuple[str, ...] = ("train", "test"), each: int = 5, size: tuple[int, int] = (6, 6)
) -> Path:
    """Classes cat (dark) and dog (bright); image i of a class has the value 10 * i, and dogs 100 more."""
    for split in splits:
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(each):
                Image.new("RGB", size[::-1], (100 * label + 10 * i,) * 3).save(folder / f"{i}.png")
    return root


def open_folder(root: Path, **changes: Any) -> Dataset:
    forget()
    return load({"_target_": TARGET, "root": str(root), **changes}, cache=root.parent / "cache")


def test_images_labels_classes_and_splits(tmp_path: Path) -> None:
    data = open_folder(make(tmp_path / "photos"))
    assert data.classes == ("cat", "dog")
    assert data.images.shape == (20, 3, 6, 6)
    assert {name: len(ids) for name, ids in data.splits.items()} == {"train": 8, "val": 2, "test": 10}
    values = data.images[:, 0, 0, 0].astype(int)
    assert np.array_equal(values, np.tile(np.concatenate([np.arange(5) * 10, 100 + np.arange(5) * 10]), 2))
    assert np.array_equal(data.labels, values // 100)


def test_a_val_folder_is_the_validation_set(tmp_path: Path) -> None:
    data = open_folder(make(tmp_path / "photos", ("train", "val", "test"), each=3), val_fraction=0.5)
    assert {name: len(ids) for name, ids in data.splits.items()} == {"train": 6, "val": 6, "test": 6}


def test_grey_and_resized(tmp_path: Path) -> None:
    data = open_folder(make(tmp_path / "photos", size=(6, 9)), channels=1, image_size=4)
    assert data.images.shape == (20, 1, 4, 4)
    assert open_folder(tmp_path / "photos").image_size == (6, 9)


def test_an_unchanged_folder_is_not_decoded_again_and_a_changed_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "photos")
    first = open_folder(root)
    changed = root / "train" / "cat" / "0.png"
    Image.new("RGB", (6, 6), (77, 77, 77)).save(changed)
    os.utime(changed, (time.time() + 5,) * 2)
    second = open_folder(root)
    assert second.entry != first.entry
    assert second.fingerprint != first.fingerprint
    assert second.images[0, 0, 0, 0] == 77
    monkeypatch.setattr("orchestrator.training.data.folder.decode_files", None)
    assert open_folder(root).entry == second.entry
    assert open_folder(root, split_seed=5, val_fraction=0.4).entry == second.entry


def test_the_same_images_elsewhere_have_the_same_fingerprint(tmp_path: Path) -> None:
    assert open_folder(make(tmp_path / "a")).fingerprint == open_folder(make(tmp_path / "b")).fingerprint


def test_other_files_and_hidden_ones_are_left_out_and_folders_below_a_class_count(tmp_path: Path) -> None:
    root = make(tmp_path / "photos")
    (root / "train" / "cat" / "notes.txt").write_text("")
    (root / "train" / "cat" / "._0.png").write_text("")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "cat" / "more").mkdir()
    Image.new("RGB", (6, 6)).save(root / "train" / "cat" / "more" / "UPPER.PNG")
    assert len(list_images(root)["train"]["cat"]) == 6
    assert list(list_images(root)["train"]) == ["cat", "dog"]


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "photos")
    (root / "test" / "dog" / "3.png").write_bytes(b"")
    with pytest.raises(NotReadyError, match=r"1 of 20 images .*\n  .*/test/dog/3\.png: is empty \(0 bytes\)"):
        open_folder(root)
    (root / "test" / "dog" / "3.png").unlink()
    assert len(open_folder(root).images) == 19


def _nothing(root: Path) -> None:
    del root


def _archive(root: Path) -> None:
    with tarfile.open(root, "w"):
        pass


def _empty(root: Path) -> None:
    root.mkdir()


def _classes_alone(root: Path) -> None:
    (root / "cat").mkdir(parents=True)


def _no_classes(root: Path) -> None:
    make(root, ("train",))
    (root / "test").mkdir()


def _empty_class(root: Path) -> None:
    make(root)
    (root / "train" / "emu").mkdir()


def _extra_class(root: Path) -> None:
    make(root)
    (root / "test" / "dog").rename(root / "test" / "dogs")


def _lacking_class(root: Path) -> None:
    make(root)
    (root / "train" / "emu").mkdir()
    Image.new("RGB", (6, 6)).save(root / "train" / "emu" / "0.png")


def _broken_link(root: Path) -> None:
    make(root)
    (root / "train" / "cat" / "9.png").symlink_to("nowhere.png")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (
            _nothing,
            r"root=.*/photos does not exist\. expected .*/photos/train/<class>/\* and .*/photos/test/<class>/\*",
        ),
        (_archive, r"root=.*/photos is a file, not a folder; unpack it first"),
        (_empty, r"root=.*/photos has no folder train and no folder test; it holds no folder at all"),
        (_classes_alone, r"no folder train and no folder test; it holds cat\. expected"),
        (_no_classes, r"/photos/test has no class folders"),
        (_empty_class, r"/photos/train has no image of emu; images end in \.jpg"),
        (_extra_class, r"/photos/test has classes that train has not: dogs; train has cat, dog"),
        (_lacking_class, r"/photos/test lacks classes that train has: emu"),
        (_broken_link, r"/photos/train/cat/9\.png cannot be read \(No such file or directory\)"),
    ],
)
def test_a_folder_laid_out_wrongly_is_explained(prepare: Any, message: str, tmp_path: Path) -> None:
    prepare(tmp_path / "photos")
    with pytest.raises(NotReadyError, match=message):
        open_folder(tmp_path / "photos")


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "photos")
    scandir = os.scandir

    def refuse(path: Path) -> Any:  # by hand, because tests may run as root, who may read everything
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(NotReadyError, match=r"/photos/train/dog cannot be read \(Permission denied\)"):
        open_folder(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": None}, "root must name a folder that holds train/<class>"),
        ({"root": ""}, "root must be the path of a folder, got ''"),
        ({"image_size": 0}, "image_size must be at least 1, or null"),
        ({"channels": 4}, r"channels must be 1 \(grey\) or 3 \(colour\), got 4"),
        ({"val_fraction": 0.0}, "val_fraction must be more than 0"),
    ],
)
def test_values_out_of_range_are_refused_before_any_file_is_looked_at(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_folder(**{"root": "nowhere", **changes})


def test_a_class_too_small_for_the_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"a split of 0\.2 leaves class 'cat' without a held-out example: it has 2 in all"
    ):
        open_folder(make(tmp_path / "photos", each=2))


def test_a_relative_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    source: Any = image_folder(root="photos")
    assert source.root == tmp_path / "photos"


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason=f"needs {PHOTOGRAPHS.name} in shared/data beside the repository")
def test_60000_photographs(tmp_path: Path) -> None:
    root = tmp_path / "cifar10"
    with tarfile.open(PHOTOGRAPHS) as archive:
        archive.extractall(root, filter="data")
    data = open_folder(root)
    assert data.images.shape == (60_000, 3, 32, 32)
    assert np.bincount(data.labels[data.splits["train"]]).tolist() == [4000] * 10
    # the mean of CIFAR-10's training images, known from the literature, to the rounding of JPEG
    train = np.concatenate([data.splits["train"], data.splits["val"]])
    assert data.images[train].mean(axis=(0, 2, 3)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=2e-3)
