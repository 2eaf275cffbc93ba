"""Files of weights for networks of ours: read safely, matched by name, refused with what differs."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import models
from models import foreign
from models.alexnet import alexnet_owt
from models.densenet import densenet
from models.foreign import by_rules
from models.layers.block import conv_block
from models.layers.norm import batch_norm
from models.network import Network
from models.pretrained import PretrainedError, described, fit, read_weights, take_over
from models.resnet import resnet
from models.squeezenet import squeezenet
from models.vgg import vgg

THEIRS = by_rules((r"stem\.(.*)", r"features.\1"), (r"classifier\.(.*)", r"fc.\1"))


def network(classes: int = 3, channels: int = 3, width: int = 4, **more: nn.Module) -> Network:
    stem = nn.Sequential(nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network({"stem": stem, **more, "classifier": nn.Linear(width, classes)})


def foreign_state(model: nn.Module) -> dict[str, Tensor]:
    names = THEIRS(model)
    state = {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in model.state_dict().items()}
    return {names[name]: t.abs() if name.endswith("running_var") else t for name, t in state.items()}


def pth(value: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def taken(model: nn.Module, contents: bytes) -> nn.Module:
    weights = read_weights(contents)
    take_over(model, weights, fit(model, weights, {"theirs": THEIRS}))
    return model


@pytest.mark.parametrize(
    "write",
    [
        safetensors.torch.save,
        pth,
        lambda state: pth(state, _use_new_zipfile_serialization=False),
        lambda state: pth({"epoch": 3, "state_dict": state}),
        lambda state: pth({"model": state, "optimizer": {}}),
        lambda state: pth({f"module.{name}": value for name, value in state.items()}),
        lambda state: pth({name: nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()}),
        lambda state: pth({name: value for name, value in state.items() if "num_batches" not in name}),
        lambda state: pth({name: t.double() if t.is_floating_point() else t for name, t in state.items()}),
    ],
    ids=["safetensors", "pth", "before 1.6", "state_dict", "model", "parallel", "parameters", "no counters", "double"],
)
def test_forms_in_which_weights_are_saved(write: Any) -> None:
    model = network()
    state = foreign_state(model)
    found = taken(model, write(state)).state_dict()
    for name, theirs in THEIRS(model).items():
        assert torch.equal(found[name], state[theirs]), name


def test_our_own_names_are_read_as_they_are() -> None:
    one, other = network(), network()
    assert fit(other, one.state_dict(), {"theirs": THEIRS}).library == "orchestrator"
    taken(other, safetensors.torch.save(one.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_classifier_for_other_classes_stays_as_it_was_initialized() -> None:
    state, model = foreign_state(network(classes=5)), network()
    before = model.classifier.weight.clone()
    fitted = fit(model, state, {"theirs": THEIRS})
    take_over(model, state, fitted)
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.stem[0].weight, state["features.0.weight"])
    assert (fitted.classes, fitted.replaced) == (5, ("classifier.weight", "classifier.bias"))
    assert "the file is for 5 classes, the data have 3" in described(fitted, 3)


def test_a_file_without_a_classifier_leaves_it_as_it_was() -> None:
    state = {name: tensor for name, tensor in foreign_state(network()).items() if not name.startswith("fc")}
    assert "the file has none, the data have 3" in described(fit(network(), state, {"theirs": THEIRS}), 3)


def test_auxiliary_classifiers_may_be_missing_on_either_side() -> None:
    state = foreign_state(network()) | {"aux1.fc.weight": torch.zeros(2, 2)}
    model = Network(
        {"stem": network().stem, "classifier": nn.Linear(4, 3)},
        heads={"stem": nn.Linear(4, 3)},
    )
    fitted = fit(model, state, {"theirs": THEIRS})
    assert fitted.left_out == ("aux1.fc.weight",)
    assert fitted.absent == ("heads.stem.bias", "heads.stem.weight")
    assert "auxiliary classifiers are left out (1 tensors)" in described(fitted, 3)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        (
            network(channels=1),
            network(),
            r"weight is \[4, 1, 3, 3\] there and \[4, 3, 3, 3\] here: it is for images with 1 channels, and the data have 3",
        ),
        (
            network(width=8),
            network(),
            r"is \[8, 3, 3, 3\] there and \[4, 3, 3, 3\] here; .* and \d more: it is of a network with other",
        ),
        (network(more=nn.Linear(4, 4)), network(), r"holds 2 that the network has not \(more.bias, more.weight\)"),
        (
            network(),
            network(more=nn.Linear(4, 4)),
            r"lacks 2 of the network's 11 tensors \(more.bias, more.weight\): it is of another",
        ),
        (
            Network({"stem": nn.Sequential(nn.Flatten(), nn.Linear(48, 4)), "classifier": nn.Linear(4, 3)}),
            Network({"stem": nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), "classifier": nn.Linear(4, 3)}),
            r"is \[4, 48\] there and \[4, 12\] here: it is for images of another size",
        ),
    ],
    ids=["channels", "width", "unexpected", "missing", "image size"],
)
def test_what_does_not_fit_is_named(theirs: nn.Module, ours: nn.Module, message: str) -> None:
    with pytest.raises(PretrainedError, match=message):
        fit(ours, foreign_state(theirs), {"theirs": THEIRS})


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(
        PretrainedError, match=r"has no tensor of this network: it holds encoder.weight; the network has"
    ):
        fit(network(), {"encoder.weight": torch.zeros(2)}, {"theirs": THEIRS})
    with pytest.raises(PretrainedError, match=r"is a checkpoint of a trial; name its best\.safetensors, or the trial"):
        fit(network(), {"model/stem.0.weight": torch.zeros(2)}, {})


def test_numbers_that_are_not_finite_are_refused() -> None:
    state = foreign_state(network())
    state["features.0.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(PretrainedError, match=r"features.0.weight holds numbers that are not finite"):
        fit(network(), state, {"theirs": THEIRS})


class Harmful:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("wrap", [pickle.dumps, pth], ids=["pickle", "pth"])
def test_code_in_a_file_is_told_and_not_run(tmp_path: Path, wrap: Any) -> None:
    with pytest.raises(PretrainedError, match="it holds code or objects, and nothing but tensors is read"):
        read_weights(wrap({"stem.0.weight": Harmful(str(tmp_path / "done"))}))
    assert not (tmp_path / "done").exists()


class Other(nn.Module):
    pass


def as_zip(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"\x80",
        b"PK\x03\x04",
        b"<html>not found</html>",
        b"\x08\0\0\0\0\0\0\0{}      ",
        b"\xff" * 8 + b"{",
        as_zip("readme.txt"),
        pth(Other()),
        pth([torch.zeros(2)]),
        pth({"a": 3}),
        pth({3: torch.zeros(2)}),
        pth({"a": torch.zeros(2, dtype=torch.complex64)}),
        pth({"a": torch.eye(2).to_sparse()}),
        pth({}),
        pth(None),
        safetensors.torch.save({}),
    ],
)
def test_what_is_no_state_dict_is_told(contents: bytes) -> None:
    with pytest.raises(PretrainedError, match=r"\S"):
        fit(network(), read_weights(contents), {})


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_damage_is_told_or_does_no_harm(kind: str) -> None:
    """A file cut anywhere is refused; one with a changed bit is refused, or gives finite numbers. Both occur."""
    state = foreign_state(network())
    contents = pth(state) if kind == "pth" else safetensors.torch.save(state)
    for length in range(0, len(contents), 97):
        with pytest.raises(PretrainedError, match=r"\S"):
            fit(network(), read_weights(contents[:length]), {"theirs": THEIRS})
    generator, refused = torch.Generator().manual_seed(0), 0
    for _ in range(300):
        place = int(torch.randint(len(contents), (), generator=generator))
        damaged = bytearray(contents)
        damaged[place] ^= 1 << int(torch.randint(8, (), generator=generator))
        try:
            model = taken(network(), bytes(damaged))
        except PretrainedError:
            refused += 1
        else:
            assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert 0 < refused < 300


# torchvision's own files


@pytest.mark.parametrize(
    ("ours", "theirs", "function", "size"),
    [
        ("resnet18", "resnet18", resnet, 64),
        pytest.param("squeezenet1_1", "squeezenet1_1", squeezenet, 64, marks=pytest.mark.slow),
        pytest.param("alexnet_owt", "alexnet", alexnet_owt, 224, marks=pytest.mark.slow),
        pytest.param("vgg11", "vgg11", vgg, 224, marks=pytest.mark.slow),
        pytest.param("vgg11", "vgg11_bn", vgg, 224, marks=pytest.mark.slow),
    ],
)
def test_a_state_dict_of_torchvision_gives_its_network(
    tmp_path: Path, ours: str, theirs: str, function: Callable[..., nn.Module], size: int
) -> None:
    import torchvision

    reference = getattr(torchvision.models, theirs)(weights=None)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    weights = read_weights((tmp_path / "weights.pth").read_bytes())
    norm = batch_norm() if theirs.endswith("_bn") else None
    model = models.create(ours, num_classes=1000, in_channels=3, image_size=(size, size), norm=norm)
    fitted = fit(model, weights, foreign.tables(function))
    assert fitted.library == "torchvision"
    take_over(model, weights, fitted)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), reference.eval()(images), rtol=1e-4, atol=1e-5)
    with torch.device("meta"):
        ten = models.create(ours, num_classes=10, in_channels=3, image_size=(size, size), norm=norm)
    assert fit(ten, weights, foreign.tables(function)).classes == 1000


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("fc.weight", lambda t: t.double() * 1e300, "fc.weight holds numbers that are not finite"),
        ("features.1.running_var", torch.negative, "features.1.running_var holds variances below 0"),
        (
            "features.0.weight",
            torch.Tensor.long,
            "features.0.weight holds torch.int64, where the network has torch.float32",
        ),
        ("features.0.bias", torch.Tensor.bool, "features.0.bias holds torch.bool"),
    ],
)
def test_numbers_that_cannot_stand_in_the_network_are_refused(
    name: str, change: Callable[[Tensor], Tensor], message: str
) -> None:
    state = foreign_state(network())
    state[name] = change(state[name])

    with pytest.raises(PretrainedError, match=message):
        taken(network(), pth(state))


@torch.no_grad()
def test_biases_that_batch_norm_absorbs_are_taken_into_its_mean() -> None:
    """As in torchvision's vgg*_bn, whose convolutions have biases."""
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).eval()
    theirs[1].running_mean.uniform_(-1, 1)
    stem = conv_block(3, 4, 3, padding=0, norm=batch_norm(), activation=None)
    ours = Network({"stem": stem, "flatten": nn.Flatten(), "classifier": nn.Linear(4, 2)}).eval()
    names = by_rules((r"stem\.affine\.(.*)", r"0.\1"), (r"stem\.norm\.(.*)", r"1.\1"), (r"classifier\.(.*)", r"3.\1"))
    weights = read_weights(pth(theirs.state_dict()))

    take_over(ours, weights, fit(ours, weights, {"theirs": names}))

    images = torch.randn(5, 3, 3, 3)
    torch.testing.assert_close(ours(images), theirs(images))


@torch.no_grad()
def test_linear_layers_may_be_convolutions_in_the_file() -> None:
    """As fc6 and the classifiers of some networks of timm; the classifier may be for other classes then, too."""
    theirs = nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Flatten())
    names = by_rules((r"fc6\.(.*)", r"0.\1"), (r"classifier\.(.*)", r"2.\1"))
    weights = read_weights(pth(theirs.state_dict()))

    def ours(classes: int) -> Network:
        parts = {
            "flatten": nn.Flatten(),
            "fc6": nn.Linear(12, 4),
            "relu": nn.ReLU(),
            "classifier": nn.Linear(4, classes),
        }
        return Network(parts)

    model = ours(5)
    take_over(model, weights, fit(model, weights, {"theirs": names}))
    images = torch.randn(5, 3, 2, 2)
    torch.testing.assert_close(model(images), theirs(images))
    assert fit(ours(7), weights, {"theirs": names}).classes == 5


@pytest.mark.slow
def test_the_old_names_of_torchvisions_densenets_are_read() -> None:
    import torchvision

    reference = torchvision.models.densenet121(weights=None).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): t for name, t in reference.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    with torch.device("meta"):
        model = models.create("densenet121", num_classes=1000, in_channels=3, image_size=(64, 64))

    fitted = fit(model, read_weights(pth(old)), foreign.tables(densenet))

    assert fitted.names.keys() == model.state_dict().keys()


def test_another_depth_is_refused() -> None:
    with torch.device("meta"):
        deeper = models.create("resnet34", num_classes=10, in_channels=3, image_size=(32, 32))
        model = models.create("resnet18", num_classes=10, in_channels=3, image_size=(32, 32))
    with pytest.raises(PretrainedError, match=r"holds \d+ that the network has not \(stage1"):
        fit(model, {name: torch.zeros(t.shape) for name, t in deeper.state_dict().items()}, foreign.tables(resnet))
