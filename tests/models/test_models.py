"""`models.create` and its catalogue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

import models

CONF = Path(__file__).parents[2] / "conf"


def test_catalogue_and_conf_name_the_same_targets() -> None:
    conf = {path.stem: yaml.safe_load(path.read_text())["_target_"] for path in (CONF / "model").glob("*.yaml")}

    assert {name: entry.replace(":", ".") for name, entry in models.CATALOGUE.items()} == conf


def test_create_passes_the_family_its_own_arguments() -> None:
    model = models.create("mlp", num_classes=3, in_channels=1, image_size=(2, 2), hidden=1, width=5)

    assert [tuple(parameter.shape) for parameter in model.parameters()] == [(5, 4), (5,), (3, 5), (3,)]


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no model is called 'resnet_cifr'; did you mean resnet_cifar\?"):
        models.create("resnet_cifr", num_classes=10, in_channels=3, image_size=(32, 32))


def test_unknown_name_without_a_near_one_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="no model is called 'qqq'; there are convnet, linear, mlp, resnet_cifar"):
        models.create("qqq", num_classes=10, in_channels=3, image_size=(32, 32))


def test_importing_the_catalogue_does_not_import_torch() -> None:
    code = "import sys, models; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_default_generator_makes_the_own_initialization_repeatable() -> None:
    def weights() -> list[Tensor]:
        torch.manual_seed(3)
        return list(models.create("mlp", num_classes=3, in_channels=1, image_size=(2, 2)).parameters())

    assert all(torch.equal(a, b) for a, b in zip(weights(), weights(), strict=True))
