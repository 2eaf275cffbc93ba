"""The plain networks: the residual ones without their shortcuts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models.checks import ImageTooSmallError
from models.foreign import by_rules
from models.layers.norm import no_norm
from models.layers.residual import Residual
from models.plain import plain, plain_cifar
from tests.models.oracle import assert_same

TORCHVISION = by_rules(
    (r"stem\.affine\.(.*)", r"conv1.\1"),
    (r"stem\.norm\.(.*)", r"bn1.\1"),
    (r"stage(\d+\.\d+)\.(\d)\.affine\.(.*)", lambda m: f"layer{m[1]}.conv{int(m[2]) + 1}.{m[3]}"),
    (r"stage(\d+\.\d+)\.(\d)\.norm\.(.*)", lambda m: f"layer{m[1]}.bn{int(m[2]) + 1}.{m[3]}"),
    (r"classifier\.(.*)", r"fc.\1"),
)


@pytest.mark.parametrize("blocks", [(1, 2, 1, 1), pytest.param((3, 4, 6, 3), marks=pytest.mark.slow)])
def test_equals_torchvisions_resnet_with_its_shortcuts_cut(blocks: tuple[int, ...]) -> None:
    from torchvision.models.resnet import BasicBlock, ResNet

    class Plain(BasicBlock):
        def forward(self, x: Tensor) -> Tensor:
            out = self.bn1(self.conv1(x)).relu()
            return self.bn2(self.conv2(out)).relu()  # type: ignore[no-any-return]

    theirs = ResNet(Plain, list(blocks), num_classes=10)
    ours = plain(num_classes=10, in_channels=3, image_size=(32, 32), blocks=blocks)

    assert_same(ours, theirs, TORCHVISION, 32, leave_out=tuple(f"layer{stage}.0.downsample" for stage in (2, 3, 4)))


@pytest.mark.parametrize("name", ["plain18", "plain34", "plain20", "plain56"])
def test_layers_are_those_of_the_residual_network(name: str) -> None:
    """With option A, whose shortcuts have no parameters."""
    with torch.device("meta"):
        ours, residual = (
            models.create(each, num_classes=10, in_channels=3, image_size=(32, 32), **own)
            for each, own in ((name, {}), (name.replace("plain", "resnet"), {"shortcut": "A"}))
        )

    assert [tensor.shape for tensor in ours.parameters()] == [tensor.shape for tensor in residual.parameters()]
    assert not any(isinstance(module, Residual) for module in ours.modules())
    assert any(isinstance(module, Residual) for module in residual.modules())


def test_there_is_no_way_around_a_unit() -> None:
    """One convolution of zeros, and nothing of the image reaches the logits; a residual network's pass on."""
    for function, passes in ((plain_cifar, False), (models.resnet.resnet_cifar, True)):
        torch.manual_seed(0)
        model = function(num_classes=3, in_channels=1, image_size=(8, 8), depth=8).eval()  # type: ignore[operator]
        nn.init.zeros_(model.get_submodule("stage2.0").get_parameter(("branch." if passes else "") + "0.affine.weight"))
        nn.init.zeros_(model.get_submodule("stage2.0").get_parameter(("branch." if passes else "") + "0.norm.bias"))

        first, second = model(torch.randn(2, 1, 8, 8))

        assert torch.equal(first, second) != passes


@pytest.mark.parametrize("depth", [8, 20])
def test_depth_counts_the_layers_with_weights(depth: int) -> None:
    with torch.device("meta"):
        model = plain_cifar(num_classes=10, in_channels=3, image_size=(32, 32), depth=depth)

    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"shortcut": "A"}, "plain18 takes no shortcut: a plain network has none"),
        ({"survival": 0.5}, "plain18 takes no survival: without shortcuts nothing can be left out"),
        ({"width": -1.0}, "width must be positive and finite, got -1.0"),
        ({"blocks": []}, "blocks must be one or more numbers of units"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_refusals(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.create("plain18", num_classes=3, in_channels=3, image_size=(32, 32), **own)


def test_smallest_images_dropout_and_stem() -> None:
    model = plain(num_classes=3, in_channels=3, image_size=(32, 32), width=0.125, dropout=0.3)

    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    assert model.get_submodule("dropout").p == 0.3
    with pytest.raises(ImageTooSmallError, match="plain needs at least 32x32 images, got 31x40"):
        plain(num_classes=3, in_channels=3, image_size=(31, 40))
    with pytest.raises(ImageTooSmallError, match="plain_cifar needs at least 8x8 images, got 7x7"):
        plain_cifar(num_classes=3, in_channels=3, image_size=(7, 7))
    stem = plain_cifar(num_classes=3, in_channels=3, image_size=(32, 32), stem="imagenet").get_submodule("stem")
    assert stem(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 8, 8)


@pytest.mark.parametrize("name", ["plain_cifar", "plain18"])
def test_auxiliary_classifiers_are_after_the_two_stages_before_the_last(name: str) -> None:
    """They keep evaluation bit-equal, and as skip connections they add their logits in both modes."""
    own = {
        "num_classes": 10,
        "in_channels": 3,
        "image_size": (33, 40),
        "stem": "cifar",
        "width": 8 if name == "plain_cifar" else 0.125,
    }
    heads, plain_one = models.create(name, aux="heads", **own), models.create(name, **own)
    skip = models.create(name, aux="skip", aux_dropout=0, **own)
    state = heads.state_dict()
    plain_one.load_state_dict({key: value for key, value in state.items() if not key.startswith("heads.")})
    skip.load_state_dict(state)
    x = torch.randn(4, 3, 33, 40, generator=torch.Generator().manual_seed(1))

    expected = ["stage1", "stage2"] if name == "plain_cifar" else ["stage2", "stage3"]
    assert [key for key, _ in heads.get_submodule("heads").named_children()] == expected
    with torch.no_grad():
        outputs = heads.eval()(x)
        assert torch.equal(outputs, plain_one.eval()(x))
        added = skip.eval()(x) - outputs
        maps, logits = x, torch.zeros(4, 10)
        for part in skip.parts:
            maps = skip.get_submodule(part)(maps)
            if part in expected:
                logits = logits + skip.get_submodule(f"heads.{part}")(maps)
        torch.testing.assert_close(added, logits)
        assert isinstance(skip.train()(x), Tensor)
    assert [tuple(each.shape) for each in heads.train()(x).auxiliary] == [(4, 10), (4, 10)]


@pytest.mark.parametrize("seed", range(3))
def test_auxiliary_classifiers_make_the_first_gradient_of_the_stem_larger(seed: int) -> None:
    torch.manual_seed(seed)
    model = plain_cifar(
        num_classes=10,
        in_channels=3,
        image_size=(16, 16),
        depth=20,
        width=8,
        norm=no_norm(),
        aux="heads",
        aux_dropout=0,
    )
    labels = torch.arange(16) % 10
    outputs = model(torch.randn(16, 3, 16, 16))
    main, auxiliary = (
        sum(F.cross_entropy(logits, labels) for logits in each) for each in ((outputs.main,), outputs.auxiliary)
    )
    stem = list(model.get_submodule("stem").parameters())
    norms = [
        torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, stem, retain_graph=True)]).norm()
        for loss in (main, main + outputs.auxiliary_weight * auxiliary)
    ]

    assert norms[1] > norms[0]


def test_auxiliary_refusals() -> None:
    own: dict[str, Any] = {"num_classes": 10, "in_channels": 3, "image_size": (32, 32)}
    with pytest.raises(ValueError, match="aux must be one of none, heads, skip, got head"):
        plain_cifar(**own, aux="head")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"aux_dropout must be in \[0, 1\), got 1"):
        plain(**own, aux_dropout=1)
    with pytest.raises(ValueError, match="aux=skip needs a stage before the last, and there is only one"):
        plain(**own, blocks=(2,), aux="skip")
