"""What a person has goes in, class names and probabilities come out, as the trial itself computed them."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as vision
import yaml
from PIL import Image

import orchestrator
from orchestrator.base.errors import NotReadyError
from orchestrator.base.inputs import unique_names
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.serving.predictor import Predictor, ResizedWarning
from orchestrator.training import checkpoint
from orchestrator.training.data import load
from orchestrator.training.restored import Restored
from tests.conftest import ROOT, SHARED
from tests.serving.trained import DIGITS, OWN, config, photographs, stored_predictions, trained_sweep
from tests.synthetic import Sweep

PHOTOGRAPHS = SHARED / "data" / "cifar10-jpeg.tar.xz"
CONVNET = {"_target_": "models.convnet.convnet", "stages": 2, "width": 4}
PREPROCESSING = ROOT / "conf" / "preprocess"
PREPROCESS = sorted(path.stem for path in PREPROCESSING.glob("*.yaml"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Trials set the threads of the process; give them back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def digits(one_thread: None, cache: str, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A trial for each choice of conf/preprocess."""
    os.environ["ORCHESTRATOR_CACHE"] = cache
    own = [yaml.safe_load((PREPROCESSING / f"{name}.yaml").read_text()) for name in PREPROCESS]
    own = [{key: value for key, value in one.items() if key != "search"} for one in own]
    folder = tmp_path_factory.mktemp("runs") / "digits-0a1b2c3d"
    slower = {
        "optimizer": config()["optimizer"] | {"lr": 1e-5},
        "epochs": 8,
    }  # for bytes as they are, which are 255 times as large
    return trained_sweep(
        folder,
        *(
            config(preprocess=one, **(slower if name == "none" else {}))
            for name, one in zip(PREPROCESS, own, strict=True)
        ),
    )


@pytest.fixture(scope="module")
def folders(one_thread: None, cache: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, list[Path]]:
    """A trial on files of all shapes, and those of its validation split."""
    os.environ["ORCHESTRATOR_CACHE"] = cache
    root = tmp_path_factory.mktemp("pictures")
    files = photographs(root)
    data = {"_target_": f"{OWN}.data.folder.image_folder", "root": str(root), "image_size": 16, "channels": 3}
    folder = tmp_path_factory.mktemp("runs") / "pictures-0a1b2c3d"
    return trained_sweep(folder, config(data=data, model=CONVNET, epochs=2, batch_size=4)), files["val"]


@pytest.fixture(scope="module")
def predictor(digits: Sweep) -> Predictor:
    return loaded(digits, PREPROCESS.index("standardize"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Three of the digits, [N, H, W]."""
    return np.array(load(DIGITS).images[[3, 50, 700], 0])


def loaded(sweep: Sweep, index: int = 0) -> Predictor:
    return orchestrator.load_model(f"{sweep.uid}/{index}", runs_dir=sweep.folder.parent)


@pytest.mark.parametrize("index", range(len(PREPROCESS)), ids=PREPROCESS)
def test_the_stored_predictions_come_out_again(digits: Sweep, index: int) -> None:
    expected, ids, labels = stored_predictions(digits, index)
    predictor = loaded(digits, index)
    found = predictor.predict(load(DIGITS).images[ids][:, 0])
    assert np.abs(found.probabilities - expected).max() < 1e-5
    accuracy = np.mean([int(label) for label in found.labels] == labels)
    metrics = checkpoint.load(trial_folder(digits.folder, index) / BEST, uid=None).state
    assert accuracy == pytest.approx(metrics["value"], abs=1e-12)
    assert accuracy > 0.5


def test_files_are_read_as_the_data_set_reads_them(folders: tuple[Sweep, list[Path]]) -> None:
    sweep, files = folders
    expected, _, labels = stored_predictions(sweep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scaling is what the data set does, too
        found = loaded(sweep).predict(files)
    assert np.abs(found.probabilities - expected).max() < 1e-5
    assert found.labels == [("bright", "dark")[place] for place in expected.argmax(1)]
    assert np.mean([("bright", "dark").index(label) for label in found.labels] == labels) > 0.5
    in_memory = loaded(sweep).predict(path.read_bytes() for path in files)
    assert np.array_equal(in_memory.probabilities, found.probabilities)
    opened = [Image.open(path) for path in files if path.suffix == ".png"]
    sizes = [image.size for image in opened]
    pngs = [place for place, path in enumerate(files) if path.suffix == ".png"]
    assert np.array_equal(loaded(sweep).predict(opened).probabilities, found.probabilities[pngs])
    assert [image.size for image in opened] == sizes, "the caller's images are as they were"
    assert found[0].resized_from == (48, 64)


def test_a_network_that_resizes_answers_as_its_trial_did(
    one_thread: None, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files become the images of the data set, crops are cut from those, and only the network sees another size."""
    monkeypatch.setenv("ORCHESTRATOR_CACHE", cache)
    files = photographs(tmp_path / "pictures")["val"]
    data = {"_target_": f"{OWN}.data.folder.image_folder", "root": str(tmp_path / "pictures"), "image_size": 24}
    scaled = {"stem": "cifar", "width": 0.25, "phi": 1.0, "base_resolution": 16, "resize": True}
    crops = {"_target_": f"{OWN}.evaluation.ten_crops.ten_crops", "size": 20}
    model = {"_target_": "models.efficientnet.efficientnet", **scaled}
    sweep = trained_sweep(tmp_path / "runs" / "scaled-0a1b2c3d", config(data=data, model=model, evaluate=crops))

    predictor = loaded(sweep)

    assert predictor.image_size == (24, 24)
    assert np.abs(predictor.predict(files).probabilities - stored_predictions(sweep)[0]).max() < 1e-5
    network = predictor.network.eval()
    given = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(given), network(vision.resize(given, [18], antialias=True)))


def test_an_image_is_cropped_and_scaled_as_torchvision_does(folders: tuple[Sweep, list[Path]]) -> None:
    predictor = loaded(folders[0])
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 48, 3)).astype(np.uint8))
    smaller = vision.center_crop(vision.resize(image, [16]), [16, 16])
    assert np.array_equal(predictor.predict(image).probabilities, predictor.predict(np.array(smaller)).probabilities)


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.is_file(), reason="the photographs are not here")
def test_of_real_photographs(one_thread: None, tmp_path: Path) -> None:
    with tarfile.open(PHOTOGRAPHS) as archive:
        some = [one for one in archive if one.isdir() or Path(one.name).stem < "0060"]
        archive.extractall(tmp_path / "data", some, filter="data")
    data = {"_target_": f"{OWN}.data.folder.image_folder", "root": str(tmp_path / "data"), "image_size": None}
    sweep = trained_sweep(tmp_path / "runs" / "photos-0a1b2c3d", config(data=data, model=CONVNET, batch_size=64))
    dataset = load(data)
    expected, ids, labels = stored_predictions(sweep)
    paths = sorted((tmp_path / "data" / "train").rglob("*.jpg"))
    assert len(paths) == len(dataset.splits["train"]) + len(dataset.splits["val"]), "the rows before the test"
    found = loaded(sweep).predict([paths[row] for row in ids])
    assert np.abs(found.probabilities - expected).max() < 1e-5
    value = checkpoint.load(trial_folder(sweep.folder, 0) / BEST, uid=None).state["value"]
    assert np.mean([dataset.classes.index(label) for label in found.labels] == labels) == pytest.approx(
        value, abs=1e-12
    )


def png(image: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def tiff(image: np.ndarray) -> bytes:
    return png(image, "TIFF")


def read_to_its_end(contents: bytes) -> io.BytesIO:
    file = io.BytesIO(contents)
    file.read()
    return file


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "[N, H, W]": lambda images: images,
    "[N, H, W, 1]": lambda images: images[..., None],
    "[N, H, W, 3]": lambda images: np.repeat(images[..., None], 3, -1),
    "[N, H, W, 4]": lambda images: np.stack([*[images] * 3, np.full_like(images, 255)], -1),
    "[N, 1, H, W]": lambda images: images[:, None],
    "tensor [N, 1, H, W]": lambda images: torch.from_numpy(images)[:, None],
    "list of [H, W]": list,
    "list of [1, H, W]": lambda images: [image[None] for image in images],
    "list of [H, W, 1]": lambda images: [image[..., None] for image in images],
    "PIL": lambda images: [Image.fromarray(image) for image in images],
    "PIL in colour": lambda images: (Image.fromarray(image).convert("RGB") for image in images),
    "bytes": lambda images: list(map(png, images)),
    "other bytes": lambda images: [bytearray(png(images[0])), memoryview(png(images[1])), io.BytesIO(png(images[2]))],
    "PIL of 16 bits": lambda images: [Image.fromarray(image.astype(np.uint16) << 8) for image in images],
    "16 bits in a file": lambda images: [png(image.astype(np.uint16) << 8) for image in images],
    "32 bits in a file": lambda images: [tiff(image.astype(np.int32) << 8) for image in images],
    "mixed": lambda images: [images[0], Image.fromarray(images[1]), png(images[2])],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_images_is_the_same(predictor: Predictor, images: np.ndarray, form: str) -> None:
    found = predictor.predict(FORMS[form](images))
    assert np.array_equal(found.probabilities, predictor.predict(images).probabilities)


def test_a_single_image_is_one_prediction(predictor: Predictor, images: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    path.write_bytes(png(images[1]))
    several = predictor.predict(images)
    contents = path.read_bytes()
    others = (bytearray(contents), memoryview(contents), io.BytesIO(contents), read_to_its_end(contents))
    for single in (images[1], Image.fromarray(images[1]), path, str(path), contents, *others):
        (found,) = predictor.predict(single)
        assert found.probabilities == pytest.approx(several[1].probabilities, abs=1e-6)
    assert found.label == several.labels[1]
    assert found.probability == max(found.probabilities.values())
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert list(found.probabilities) == [str(digit) for digit in range(10)]
    assert several[1:].labels == several.labels[1:]
    assert repr(found).startswith(f"Prediction(label='{found.label}', probability=0.")
    assert repr(several).startswith("Predictions(3: ")


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        (lambda images: images / 255, TypeError, r"holds float64: predict wants .* uint8 from 0 to 255.*\* 255\)\.round"),
        (lambda images: (images / 255).astype(np.float32) - 0.3, TypeError, r"standardized already nobody knows"),
        (lambda images: torch.from_numpy(images).float()[:, None], TypeError, "holds float32"),
        (lambda images: images.astype(np.int64), TypeError, r"holds int64: .* images.astype\('uint8'\)"),
        (lambda images: images > 3, TypeError, r"holds bool: .* images.astype\('uint8'\) \* 255$"),
        (lambda images: Image.fromarray(images[0].astype(np.int32)), TypeError,
            r"the image is a PIL image of mode I, .* give image.convert\('L'\); of an image file give its path"),
        (lambda images: [images[0], Image.fromarray(images[0] / np.float32(255))], TypeError, "image 1 .* of mode F"),
        (lambda images: io.BufferedReader(io.BytesIO(png(images[0]))), TypeError,
            r"the image is an open file \(BufferedReader\); give its path, or file.read\(\)"),
        (lambda images: [images[0], io.StringIO("a")], TypeError, r"image 1 is an open file \(StringIO\)"),
        (lambda images: bytearray(b"GIF89a"), ValueError, "the image is not an image of a known format"),
        (lambda images: [images], ValueError, "image 0 is an array of 3 images"),
        (lambda images: np.zeros((3, 9, 9, 7), np.uint8), ValueError, r"has the shape \[3, 9, 9, 7\]; predict takes"),
        (lambda images: np.zeros((3, 9, 9), np.uint8), ValueError, "may be read in two ways"),
        (lambda images: np.zeros((0, 8, 8), np.uint8), ValueError, r"has the shape \[0, 8, 8\]"),
        (lambda images: images[0, 0], ValueError, r"has the shape \[8\]"),
        (lambda images: [], ValueError, "the list is empty"),
        (lambda images: {"image": images}, TypeError, "got dict"),
        (lambda images: None, TypeError, "got NoneType"),
        (lambda images: images.tolist(), TypeError, "image 0 is a list"),
        (lambda images: ["no-such-file.png"], ValueError, r"image 0 \(no-such-file.png\) is not there"),
        (lambda images: "\x1b[31m.png", ValueError, r"the image \(\\x1b\[31m.png\) is not there"),
        (lambda images: b"GIF89a", ValueError, "the image "),
        (lambda images: [images[0], b""], ValueError, "image 1 is not an image of a known format"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(
    predictor: Predictor, images: np.ndarray, change: Callable[[np.ndarray], Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        predictor.predict(change(images))


def test_files_of_strangers_are_refused(predictor: Predictor, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 8_001, 8_001, 8, 0, 0, 0, 0)
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "ghost.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    (tmp_path / "empty.png").touch()
    for name, why in (
        ("bomb.png", "claims 8001 x 8001 pixels"),
        ("pipe.png", "is a FIFO, not a file"),
        ("ghost.eps", "not an image of a known format"),
        ("empty.png", "is empty"),
        (".", "is a folder, not a file"),
    ):
        with pytest.raises(ValueError, match=why):
            predictor.predict(tmp_path / name)
    with pytest.raises(ValueError, match="claims 8001 x 8001 pixels"):
        predictor.predict(bomb.read_bytes())


def chunk(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def test_another_size_than_in_training_is_said(predictor: Predictor) -> None:
    with pytest.warns(
        ResizedWarning, match=r"1 of 2 images are not 8x8 as all images in training \(the first .* 20x24\)"
    ):
        found = predictor.predict([np.zeros((8, 8), np.uint8), np.zeros((20, 24), np.uint8)])
    assert [one.resized_from for one in found] == [None, (20, 24)]


def test_the_network_is_bare_and_the_predictor_is_not_called(predictor: Predictor, images: np.ndarray) -> None:
    with pytest.raises(
        TypeError, match=r"is not called: predict\(images\) takes .* \.network\(tensor\) is the bare network"
    ):
        predictor(torch.zeros(1, 1, 8, 8))
    before = predictor.predict(images).probabilities
    predictor.network.train()
    assert np.array_equal(predictor.predict(images).probabilities, before)
    assert not predictor.network.training
    assert predictor.network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    said = repr(predictor)
    assert said.startswith("Predictor of trial digits-0a1b2c3d/")
    assert "predict(images): grey images, brought to 8x8, to 10 classes (0, 1, 2" in said


def test_a_name_alone_is_the_best_trial(digits: Sweep) -> None:
    values = [checkpoint.load(trial_folder(digits.folder, n) / BEST, uid=None).state["value"] for n in range(3)]
    best = values.index(max(values))
    assert orchestrator.load_model("digits", runs_dir=digits.folder.parent).name == f"{digits.uid}/{best}"


def test_a_sweep_without_a_best_trial_says_so(tmp_path: Path) -> None:
    trained_sweep(tmp_path / "none-0a1b2c3d")
    with pytest.raises(NotReadyError, match="none-0a1b2c3d has no best trial yet"):
        orchestrator.load_model("none", runs_dir=tmp_path)


def test_of_weights_of_earlier_versions_the_statistics_are_computed_again(
    folders: tuple[Sweep, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "pictures"
    files = photographs(root)["val"]
    data = {"_target_": f"{OWN}.data.folder.image_folder", "root": str(root), "image_size": 16}
    sweep = trained_sweep(tmp_path / "runs" / "old-0a1b2c3d", config(data=data, model=CONVNET, batch_size=4))
    now = loaded(sweep).predict(files).probabilities
    rewrite(sweep, lambda state: state.pop("inputs"))
    assert np.array_equal(loaded(sweep).predict(files).probabilities, now)
    rewrite(sweep, lambda state: state.update(inputs={"dtype": "uint8", "channels": 3}))
    with pytest.raises(NotReadyError, match="is damaged: inputs lacks height"):
        loaded(sweep)


def test_where_the_data_set_is_gone_the_network_alone_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"num_classes": 2, "in_channels": 3, "image_size": [16, 16]}
    root = tmp_path / "pictures"
    files = photographs(root)["val"]
    data = {"_target_": f"{OWN}.data.folder.image_folder", "root": str(root), "image_size": 16}
    sweep = trained_sweep(
        tmp_path / "runs" / "old-0a1b2c3d", config(data=data, model=CONVNET, batch_size=4), facts=plan
    )
    rewrite(sweep, lambda state: state.pop("inputs"))
    from orchestrator.training.data.loading import forget

    forget()
    root.rename(tmp_path / "elsewhere")
    predictor = loaded(sweep)
    assert predictor.classes == ("bright", "dark"), "by its predictions"
    assert predictor.network(torch.zeros(1, 3, 16, 16)).shape == (1, 2)
    with pytest.raises(
        NotReadyError, match=r"how the images were preprocessed is not kept .*does not exist.* put the data set"
    ):
        predictor.predict(Image.new("RGB", (16, 16)))
    assert files


def rewrite(sweep: Sweep, change: Callable[[dict[str, Any]], Any]) -> None:
    """Trial 0's weights, with other words beside them."""
    path = trial_folder(sweep.folder, 0) / BEST
    found = checkpoint.load(path, uid=None)
    state = dict(found.state)
    change(state)
    path.write_bytes(checkpoint.pack(found.tensors, state, stamp=True))


def test_a_network_of_floating_point_images_takes_such_alone() -> None:
    inputs = {"dtype": "float32", "channels": 2, "height": 3, "width": 5, "scale": [1.0, 2.0], "shift": [0.0, 0.0]}
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30, 2))
    predictor = Predictor(
        "floats/0", Restored(network.eval(), False, inputs | {"classes": ["a", "b"]}, lambda x: x.float()), crops=False
    )
    images = np.random.default_rng(0).normal(size=(4, 3, 5, 2))
    logits = network(torch.from_numpy(images.transpose(0, 3, 1, 2)).float()).detach().double()
    assert np.allclose(predictor.predict(images).probabilities, torch.softmax(logits, 1).numpy(), atol=1e-6)
    for other in (np.zeros((4, 3, 5, 2), np.uint8), Image.new("L", (5, 3)), np.zeros((4, 5, 5, 2))):
        with pytest.raises(TypeError, match="was trained on floating-point images"):
            predictor.predict(other)
    images[2, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image 2 holds numbers that are not finite"):
        predictor.predict(images)


def test_equal_names_of_classes_stay_apart() -> None:
    assert unique_names(["cat", "dog", "cat", "cat (2)"]) == ("cat", "dog", "cat (2)", "cat (2) (3)")
