"""`models.create`, the list of architectures, and what a network tells of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from models.layers.norm import batch_norm, group_norm, layer_norm
from models.outputs import Outputs, main_output


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": "batchnorm"}, "no norm is called 'batchnorm'; did you mean batch"),
        ({"activation": "rel"}, "no activation is called 'rel'; did you mean"),
        ({"width": "wide"}, "width must be a number, got 'wide'"),
        ({"width": True}, "width must be a number, got True"),
        ({"image_size": 32}, r"image_size must be \(height, width\), got 32"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"in_channels": "x"}, "in_channels must be a whole number, got 'x'"),
    ],
)
def test_values_of_another_kind_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.create("resnet18", **{"num_classes": 10, "in_channels": 3, "image_size": (32, 32), **changed})


def test_norms_and_activations_have_the_names_of_their_files() -> None:
    with torch.device("meta"):
        model = models.create(
            "resnet18", num_classes=10, in_channels=3, image_size=(32, 32), norm="group", activation="gelu"
        )

    kinds = {type(module) for module in model.modules()}
    assert nn.GELU in kinds
    assert any(issubclass(kind, nn.GroupNorm) for kind in kinds)
    assert not kinds & {nn.BatchNorm2d, nn.ReLU}


def test_names_are_the_files_of_the_choices() -> None:
    conf = Path(__file__).parents[2] / "conf" / "model"

    assert models.names() == sorted(path.stem for path in conf.iterdir())
    assert {"linear", "mlp", "convnet", "resnet_cifar"} <= set(models.names())


def test_create_passes_the_family_its_own_arguments() -> None:
    model = models.create("mlp", num_classes=3, in_channels=1, image_size=(2, 2), hidden=1, width=5)

    assert [tuple(parameter.shape) for parameter in model.parameters()] == [(5, 4), (5,), (3, 5), (3,)]


def two_headed(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int, **_: object
) -> nn.Module:
    return TwoHeaded(in_channels * image_size[0] * image_size[1], width, num_classes)


class TwoHeaded(nn.Module):
    """A network with an auxiliary classifier, which it uses in training only."""

    def __init__(self, inputs: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU())
        self.auxiliary = nn.Linear(width, num_classes)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor | Outputs:
        features = self.features(images)
        main: Tensor = self.classifier(features)
        return Outputs(main, (self.auxiliary(features),)) if self.training else main


@pytest.fixture
def choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of choices with one file, whose function is in a module of its own."""
    module = ModuleType("new_family")
    module.two_headed = two_headed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "new_family", module)
    monkeypatch.setattr(models, "CHOICES", tmp_path)
    (tmp_path / "two_headed_wide.yaml").write_text(
        "_target_: new_family.two_headed\nwidth: 32\nsearch:\n  width: range(1, 9)\n"
    )
    return tmp_path


@pytest.mark.usefixtures("choices")
def test_a_new_architecture_is_one_function_and_one_file() -> None:
    model = models.create("two_headed_wide", num_classes=3, in_channels=1, image_size=(2, 2))
    narrow = models.create("two_headed_wide", num_classes=3, in_channels=1, image_size=(2, 2), width=4)

    assert models.names() == ["two_headed_wide"]
    assert model.get_submodule("classifier").weight.shape == (3, 32)  # type: ignore[union-attr]
    assert narrow.get_submodule("classifier").weight.shape == (3, 4)  # type: ignore[union-attr]


@pytest.mark.usefixtures("choices")
def test_a_model_may_have_auxiliary_outputs() -> None:
    model = models.create("two_headed_wide", num_classes=3, in_channels=1, image_size=(2, 2))
    images = torch.zeros(5, 1, 2, 2)

    outputs = model(images)
    assert isinstance(outputs, Outputs)
    assert [tuple(logits.shape) for logits in (outputs.main, *outputs.auxiliary)] == [(5, 3), (5, 3)]
    assert torch.equal(main_output(model.eval()(images)), outputs.main)


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no model is called 'resnet_cifr'; did you mean resnet_cifar\?"):
        models.create("resnet_cifr", num_classes=10, in_channels=3, image_size=(32, 32))


def test_unknown_name_without_a_near_one_lists_what_there_is() -> None:
    with pytest.raises(
        ValueError, match=r"no model is called 'qqq'; there are .*convnet, .*linear, .*mlp, .*resnet_cifar"
    ):
        models.create("qqq", num_classes=10, in_channels=3, image_size=(32, 32))


def test_an_argument_that_no_architecture_of_that_name_has_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(ValueError, match=r"mlp takes no cardinality; it takes .*, hidden, width, dropout$"):
        models.create("mlp", num_classes=10, in_channels=3, image_size=(8, 8), cardinality=32)


def test_listing_the_names_does_not_import_torch() -> None:
    code = "import sys, models; models.names(); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_default_generator_makes_the_own_initialization_repeatable() -> None:
    def weights() -> list[Tensor]:
        torch.manual_seed(3)
        return list(models.create("mlp", num_classes=3, in_channels=1, image_size=(2, 2)).parameters())

    assert all(torch.equal(a, b) for a, b in zip(weights(), weights(), strict=True))


def test_facts_tell_the_groups_in_force() -> None:
    """8 groups divide neither 12 nor 100 features: 6 and 5 are the largest divisors below."""
    shape = {"num_classes": 3, "in_channels": 1, "image_size": (8, 8)}
    convnet = models.create("convnet", stages=3, width=12, norm=group_norm(num_groups=8), **shape)  # type: ignore[arg-type]
    mlp = models.create("mlp", hidden=2, width=100, norm=group_norm(num_groups=8), **shape)  # type: ignore[arg-type]

    assert models.facts(convnet) == {"group_norm": [[12, 8, 6], [24, 8, 8], [48, 8, 8]]}
    assert models.facts(mlp) == {"group_norm": [[100, 8, 5]]}
    assert json.loads(json.dumps(models.facts(mlp))) == models.facts(mlp)


def test_facts_of_other_norms_are_empty() -> None:
    for norm in (batch_norm(), layer_norm()):
        model = models.create("convnet", num_classes=3, in_channels=1, image_size=(8, 8), norm=norm)

        assert models.facts(model) == {}
