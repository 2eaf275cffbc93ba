"""Inception-v3, Inception-v4 and Inception-ResNet-v2."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from models.checks import RefusedError
from models.foreign import tables
from models.inception import V3_B, V3_D, V3_E, convolutional_head, inception_v3, v3_a, v3_c
from models.inception_resnet import Scale, inception_resnet_v2
from models.inception_v4 import inception_v4
from models.layers.activation import relu
from models.layers.branches import Builder, Fork
from models.layers.norm import batch_norm, instance_norm, no_norm
from models.layers.residual import Residual
from models.network import Network
from models.outputs import Outputs
from tests.models.oracle import assert_same, make_general, relative_error

FUNCTIONS = [inception_v3, inception_v4, inception_resnet_v2]
SHORT = {inception_v3: {}, inception_v4: {"blocks": [1, 1, 1]}, inception_resnet_v2: {"blocks": [1, 1, 2]}}


def small(function: Any, size: int = 75, **own: Any) -> Network:
    given: dict[str, Any] = {"num_classes": 10, "in_channels": 3, "image_size": (size, size), "width": 0.125}
    model: Network = function(**{**given, **SHORT[function], **own})
    return model


def full(function: Any, size: int = 75, **own: Any) -> Network:
    model: Network = function(num_classes=1000, in_channels=3, image_size=(size, size), **own)
    return model


def images(size: int, batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def main_of(outputs: Tensor | Outputs) -> Tensor:
    return outputs.main if isinstance(outputs, Outputs) else outputs


@pytest.mark.parametrize(
    ("name", "own", "total"),
    [
        # torchvision's documentation for the first (with the auxiliary classifier), timm's for the others in millions.
        ("inception_v3", {}, 27_161_264),
        ("inception_v3", {"aux": "none"}, 23_834_568),
        ("inception_v4", {}, 42_679_816),
        ("inception_resnet_v2", {}, 55_843_464),
    ],
)
def test_parameter_totals(name: str, own: dict[str, Any], total: int) -> None:
    with torch.device("meta"):
        model = models.create(name, num_classes=1000, in_channels=3, image_size=(299, 299), **own)

    assert sum(parameter.numel() for parameter in model.parameters()) == total


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # arXiv:1512.00567, table 1, and arXiv:1602.07261, figures 3 and 9 (v4), 3 and 15 in the authors' code (ResNet-v2)
        (inception_v3, {"stem": (192, 35), "stage1": (288, 35), "stage2": (768, 17), "stage3": (2048, 8)}),
        (inception_v4, {"stem": (384, 35), "stage1": (384, 35), "stage2": (1024, 17), "stage3": (1536, 8)}),
        (inception_resnet_v2, {"stem": (192, 35), "stage1": (320, 35), "stage2": (1088, 17), "stage3": (1536, 8)}),
    ],
)
def test_sizes_of_the_papers(function: Any, expected: dict[str, tuple[int, int]]) -> None:
    with torch.device("meta"):
        model, x = full(function, 299).eval(), torch.zeros(1, 3, 299, 299)
        found = {}
        for name in expected:
            x = model.get_submodule(name)(x)
            found[name] = (x.shape[1], x.shape[2])

    assert found == expected


@pytest.mark.slow
def test_v3_is_torchvisions_network() -> None:
    from torchvision.models import inception_v3 as theirs

    table = tables(inception_v3)["torchvision"]
    assert_same(full(inception_v3, aux="none"), theirs(init_weights=False, aux_logits=False), table, 75)


@pytest.mark.slow
def test_v3_with_its_auxiliary_classifier_is_torchvisions_network() -> None:
    """torchvision's classifier needs maps of 17x17."""
    from torchvision.models import inception_v3 as theirs

    ours, other = full(inception_v3, 299), theirs(init_weights=False)
    assert_same(ours, other, tables(inception_v3)["torchvision"], 299)
    with torch.no_grad():
        found, expected = ours(images(299).double()), other(images(299).double())
    assert relative_error(found.auxiliary[0], expected.aux_logits) < 1e-8


def test_v3_weights_have_torchvisions_names_and_shapes() -> None:
    from torchvision.models import inception_v3 as theirs

    with torch.device("meta"):
        assert_same_shapes(full(inception_v3), theirs(init_weights=False), "torchvision", inception_v3)


@pytest.mark.parametrize("function", [inception_v4, inception_resnet_v2])
def test_weights_have_timms_names_and_shapes(function: Any) -> None:
    import timm

    with torch.device("meta"):
        assert_same_shapes(full(function), timm.create_model(function.__name__), "timm", function)


def assert_same_shapes(ours: nn.Module, theirs: nn.Module, library: str, function: Any) -> None:
    names = tables(function)[library](ours)
    found = {names[name]: tensor.shape for name, tensor in ours.state_dict().items()}
    assert found == {name: tensor.shape for name, tensor in theirs.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("function", [inception_v4, inception_resnet_v2])
def test_is_timms_network(function: Any) -> None:
    import timm

    assert_same(full(function), timm.create_model(function.__name__), tables(function)["timm"], 75)


@pytest.mark.parametrize(
    ("ours", "theirs", "channels"),
    [
        (v3_a(32), ("InceptionA", 192, 32), 192),
        (V3_B, ("InceptionB", 288), 288),
        (v3_c(160), ("InceptionC", 768, 160), 768),
        (V3_D, ("InceptionD", 768), 768),
        (V3_E, ("InceptionE", 1280), 1280),
    ],
)
def test_v3_modules_are_torchvisions(ours: Fork, theirs: tuple[Any, ...], channels: int) -> None:
    from torchvision.models import inception

    name, *arguments = theirs
    module, _ = Builder(batch_norm(eps=1e-3), relu()).fork(channels, ours)
    assert_same_in_order(module, getattr(inception, name)(*arguments), (4, channels, 7, 7))


def test_v3_auxiliary_classifier_is_torchvisions() -> None:
    from torchvision.models.inception import InceptionAux

    head = convolutional_head(Builder(batch_norm(eps=1e-3), relu()), 768, 10, fits=True)
    assert_same_in_order(head, InceptionAux(768, 10), (4, 768, 17, 17))


def assert_same_in_order(ours: nn.Module, theirs: nn.Module, shape: tuple[int, ...]) -> None:
    """Of modules whose weights are registered in the same order."""
    make_general(theirs)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    ours.double(), theirs.double()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        for training in (False, True):
            found, expected = ours.train(training)(x), theirs.train(training)(x)
            assert relative_error(found, expected) < 1e-8


def test_instance_normalization_is_for_v3_without_its_auxiliary_classifier() -> None:
    with pytest.raises(RefusedError, match="ends with maps of one; use norm=layer, or aux=none"):
        small(inception_v3, norm=instance_norm())

    model = small(inception_v3, size=107, norm=instance_norm(), aux="none")
    assert model(images(107)).isfinite().all()


def test_auxiliary_head_does_not_change_evaluation() -> None:
    heads, plain = small(inception_v3), small(inception_v3, aux="none")
    plain.load_state_dict({name: value for name, value in heads.state_dict().items() if not name.startswith("heads.")})

    with torch.no_grad():
        found = heads.eval()(images(75))
        assert isinstance(found, Tensor)
        assert torch.equal(found, plain.eval()(images(75)))


@pytest.mark.parametrize("training", [True, False])
def test_skip_connection_adds_its_logits_in_both_modes(training: bool) -> None:
    model = small(inception_v3, aux="skip", dropout=0, norm=no_norm()).train(training)

    x, added = images(75), torch.zeros(())
    with torch.no_grad():
        found = model(x)
        for name in model.parts:
            x = model.get_submodule(name)(x)
            if name == "stage2":
                added = model.get_submodule("heads.stage2")(x)
    assert torch.equal(found, x + added)
    assert added.abs().max() > 0


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("stem", "minimum"), [("imagenet", 75), ("cifar", 7)])
def test_smallest_images(function: Any, stem: str, minimum: int) -> None:
    """A training step works with two images; with one position less a pooling or a convolution has nothing left."""
    model = small(function, minimum, stem=stem)
    outputs = model(images(minimum, batch=2))
    main_of(outputs).sum().backward()
    assert main_of(outputs).isfinite().all()

    smaller = minimum - 1
    with pytest.raises(RuntimeError, match=r"Output size is too small|Kernel size can't be greater"):
        model.eval()(images(smaller))
    message = f"{function.__name__} with stem={stem} needs at least {minimum}x{minimum} images, got {smaller}x90"
    with pytest.raises(ValueError, match=message):
        small(function, stem=stem, image_size=(smaller, 90))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("stem", "size"), [("imagenet", (80, 97)), ("cifar", (9, 16))])
def test_oblong_images(function: Any, stem: str, size: tuple[int, int]) -> None:
    outputs = small(function, stem=stem, image_size=size)(torch.randn(2, 3, *size))

    heads = outputs.auxiliary if isinstance(outputs, Outputs) else ()
    assert all(logits.shape == (2, 10) for logits in (main_of(outputs), *heads))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_stem_for_small_images_keeps_their_size(function: Any) -> None:
    model = small(function, 32, stem="cifar")

    assert model.get_submodule("stem")(images(32)).shape[2:] == (32, 32)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_own_choices_named_explicitly_give_the_same_network(function: Any) -> None:
    with torch.device("meta"):
        assert str(small(function, norm=batch_norm(eps=1e-3), activation=relu())) == str(small(function))


@pytest.mark.parametrize(("function", "rate"), [(inception_v3, 0.5), (inception_v4, 0.2), (inception_resnet_v2, 0.2)])
def test_dropout_is_that_of_the_papers_classifier(function: Any, rate: float) -> None:
    with torch.device("meta"):
        assert [module.p for module in small(function).modules() if isinstance(module, nn.Dropout)] == [rate]
        assert "dropout" not in small(function, dropout=0).parts


@pytest.mark.parametrize("function", FUNCTIONS)
def test_width_scales_all_channels(function: Any) -> None:
    with torch.device("meta"):
        channels = [small(function, width=width).get_submodule("classifier").in_features for width in (0.5, 1)]

    assert channels[0] * 2 == channels[1]


@pytest.mark.parametrize("function", [inception_v4, inception_resnet_v2])
def test_blocks_are_those_of_each_stage(function: Any) -> None:
    with torch.device("meta"):
        model = small(function, blocks=[2, 3, 4])
        lengths = [len(model.get_submodule(f"stage{number}")) for number in (1, 2, 3)]  # type: ignore[arg-type]

    # v4: two modules reduce the size; ResNet-v2: a module before each stage, and a 1x1 convolution at the end
    assert lengths == ([2, 1 + 3, 1 + 4] if function is inception_v4 else [1 + 2, 1 + 3, 1 + 4 + 1])


def test_residual_branches_have_the_factors_of_the_authors() -> None:
    with torch.device("meta"):
        model = full(inception_resnet_v2)
    factors = [module.factor for module in model.modules() if isinstance(module, Scale)]

    assert factors == [0.17] * 10 + [0.1] * 20 + [0.2] * 9 + [1.0]


def test_last_residual_block_has_no_activation() -> None:
    with torch.device("meta"):
        model = full(inception_resnet_v2)
    blocks = [module for module in model.modules() if isinstance(module, Residual)]

    assert [type(block.activation) for block in blocks] == [nn.ReLU] * 39 + [nn.Identity]


def test_scale_multiplies_the_branch_only() -> None:
    model = small(inception_resnet_v2, scales=[0.3, 0.1, 0.2]).eval().double()
    block = model.get_submodule("stage1.0")
    x = torch.randn(2, model.get_submodule("stage1.0.branch.projection.affine").out_channels, 7, 7).double()

    with torch.no_grad():
        inner = model.get_submodule("stage1.0.branch.projection")(model.get_submodule("stage1.0.branch.fork")(x))
        torch.testing.assert_close(block(x), torch.relu(x + 0.3 * inner))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"stem": "small"}, "stem must be one of imagenet, cifar, got small"),
        ({"dropout": 1}, r"dropout must be in \[0, 1\), got 1"),
        ({"width": -1}, "width must be positive and finite, got -1"),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_refusals(function: Any, own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(function, **own)


@pytest.mark.parametrize(
    ("function", "own", "message"),
    [
        (inception_v3, {"aux": "head"}, "aux must be one of none, heads, skip, got head"),
        (inception_v4, {"blocks": [4, 7]}, r"blocks must be three numbers of at least 1, got \[4, 7\]"),
        (inception_v4, {"blocks": [4, 0, 3]}, r"blocks must be three numbers of at least 1, got \[4, 0, 3\]"),
        (inception_resnet_v2, {"blocks": [1, 1, 0]}, r"blocks must be three numbers of at least 1, got \[1, 1, 0\]"),
        (inception_resnet_v2, {"scales": [0.1, 0.2]}, r"scales must be three numbers, got \[0.1, 0.2\]"),
        (inception_resnet_v2, {"scales": [0.1, 0, 0.2]}, "scales must be positive and finite, got 0"),
    ],
)
def test_refusals_of_their_own(function: Any, own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(function, **own)
