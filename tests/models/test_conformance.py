"""What every choice in conf/model, conf/norm, conf/activation and conf/init must do: a new file is found by listing.

Choices are combined pairwise over families, each at its smallest member; every other name is built once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

import models
from models.initializers import initialize
from models.outputs import Outputs, main_output
from tests.models.pairwise import pairwise

CONF = Path(__file__).parents[2] / "conf"
NUM_CLASSES, IN_CHANNELS, BATCH = 5, 3, 4
OF_THE_ENGINE = {"num_classes", "in_channels", "image_size", "norm", "activation"}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def load(group: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((CONF / group / f"{name}.yaml").read_text()) or {}
    return spec


def target(spec: dict[str, Any]) -> Callable[..., Any]:
    module, function = spec["_target_"].rsplit(".", 1)
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def arguments(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in ("_target_", "search")}


def smallest_arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a choice, with each whole number at the low end of its usual range."""
    found = arguments(spec)
    for key, text in spec.get("search", {}).items():
        if type(found.get(key)) is int:
            kind, numbers = re.fullmatch(r".*\b(range|choice|interval)\(([^()]*)\).*", text).groups()  # type: ignore[union-attr]
            values = [int(float(number)) for number in numbers.split(",")]
            found[key] = min(values) if kind == "choice" else values[0]
    return found


def build(group: str, name: str) -> Any:
    spec = load(group, name)
    return target(spec)(**arguments(spec)) if spec else None


def build_model(name: str, norm: str = "default", activation: str = "default", size: int | None = None) -> nn.Module:
    """The smallest network of a name, its own initialization drawn from seed 0."""
    spec = load("model", name)
    size = size or smallest_image(name)
    parts = {"norm": build("norm", norm), "activation": build("activation", activation)}
    torch.manual_seed(0)
    model: nn.Module = target(spec)(
        num_classes=NUM_CLASSES, in_channels=IN_CHANNELS, image_size=(size, size), **parts, **smallest_arguments(spec)
    )
    return model


@cache
def smallest_image(name: str) -> int:
    for size in (8, 16, 32, 64, 128, 224):
        try:
            with torch.device("meta"):
                build_model(name, size=size)
        except ValueError as error:
            if "needs at least" not in str(error):
                raise
        else:
            return size
    raise AssertionError(f"{name} takes no image up to 224x224")


def families() -> list[str]:
    """Of the names that share a function, the one whose network has the fewest parameters."""
    members: dict[str, list[str]] = {}
    for name in choices("model"):
        members.setdefault(load("model", name)["_target_"], []).append(name)
    return [names[0] if len(names) == 1 else min(names, key=count_parameters) for names in members.values()]


def count_parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(name).parameters())


def images(name: str) -> Tensor:
    size = smallest_image(name)
    return torch.randn(BATCH, IN_CHANNELS, size, size, generator=torch.Generator().manual_seed(1))


FAMILIES = families()
COMBINATIONS = pairwise(FAMILIES, choices("norm"), choices("activation"), choices("init"))
combined = pytest.mark.parametrize(("name", "norm", "activation", "init"), COMBINATIONS)


@combined
def test_model_gives_logits_and_every_parameter_a_gradient(name: str, norm: str, activation: str, init: str) -> None:
    model = build_model(name, norm, activation)
    initialize(model, build("init", init), torch.Generator().manual_seed(0), images(name))

    outputs = model(images(name))
    heads = (outputs.main, *outputs.auxiliary) if isinstance(outputs, Outputs) else (outputs,)
    losses = [F.cross_entropy(logits, torch.arange(BATCH) % NUM_CLASSES) for logits in heads]
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]

    for logits in heads:
        assert logits.shape == (BATCH, NUM_CLASSES)
        assert logits.isfinite().all()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@combined
def test_initialization_is_finite_and_repeats_from_its_generator(
    name: str, norm: str, activation: str, init: str
) -> None:
    model, again, other = (build_model(name, norm, activation) for _ in range(3))

    for network, seed in ((model, 0), (again, 0), (other, 1)):
        initialize(network, build("init", init), torch.Generator().manual_seed(seed), images(name))

    assert main_output(model(images(name))).isfinite().all()
    assert torch.equal(weights(model), weights(again))
    # `default` leaves the architecture's own, drawn from the global seed.
    assert torch.equal(weights(model), weights(other)) == (init == "default")


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@combined
def test_evaluation_treats_each_example_by_itself(name: str, norm: str, activation: str, init: str) -> None:
    model, batch = in_double_precision(name, norm, activation, init)

    with torch.no_grad():
        alone = torch.cat([main_output(model(image[None])) for image in batch])
        torch.testing.assert_close(main_output(model(batch)), alone)


@combined
def test_channels_last_gives_what_contiguous_gives(name: str, norm: str, activation: str, init: str) -> None:
    model, batch = in_double_precision(name, norm, activation, init)

    with torch.no_grad():
        expected = main_output(model(batch))
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.testing.assert_close(main_output(model(batch.to(memory_format=torch.channels_last))), expected)


def in_double_precision(name: str, norm: str, activation: str, init: str) -> tuple[nn.Module, Tensor]:
    """A network for evaluation and its images; in float, the norm of a small group would magnify rounding."""
    model = build_model(name, norm, activation)
    initialize(model, build("init", init), torch.Generator().manual_seed(0), images(name))
    return model.eval().double(), images(name).double()


@combined
def test_meta_device_builds_and_initializes_the_same_shapes(name: str, norm: str, activation: str, init: str) -> None:
    real = build_model(name, norm, activation)

    with torch.device("meta"):
        meta = build_model(name, norm, activation)
        initialize(meta, build("init", init), torch.Generator("cpu"))

    assert all(tensor.is_meta for tensor in meta.state_dict().values())
    assert shapes(meta) == shapes(real)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", choices("model"))
def test_every_name_gives_logits_at_its_own_values(name: str) -> None:
    """On the meta device, where the largest costs nothing; at 32x32, or the smallest images that it takes."""
    size = max(32, smallest_image(name))
    with torch.device("meta"):
        model = models.create(name, num_classes=NUM_CLASSES, in_channels=IN_CHANNELS, image_size=(size, size))
        logits = main_output(model(torch.zeros(BATCH, IN_CHANNELS, size, size)))

    assert logits.shape == (BATCH, NUM_CLASSES)


def specs() -> list[tuple[str, str]]:
    groups = ("model", "norm", "activation", "init")
    return [(group, name) for group in groups for name in choices(group) if name != "default"]


@pytest.mark.parametrize(("group", "name"), specs())
def test_conf_holds_every_argument_and_ranges_for_its_own_keys(group: str, name: str) -> None:
    spec = load(group, name)
    provided = OF_THE_ENGINE if group == "model" else set()
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(target(spec)).parameters.items()
        if key not in provided
    }

    assert arguments(spec).keys() == defaults.keys()
    if [load(group, other).get("_target_") for other in choices(group)].count(spec["_target_"]) == 1:
        assert arguments(spec) == defaults, "one default in one place"
    usual = {key: text for key, text in spec.get("search", {}).items() if text not in spec["search"]}  # without roles
    assert usual.keys() <= defaults.keys()


@pytest.mark.parametrize("group", ["norm", "activation", "init"])
def test_default_choice_is_empty(group: str) -> None:
    assert load(group, "default") == {}


def test_families_are_built_small() -> None:
    assert smallest_arguments(load("model", "resnet_cifar")) == {"depth": 8, "width": 8}
    assert smallest_arguments(load("model", "mlp")) == {"hidden": 1, "width": 50, "dropout": 0.0}
