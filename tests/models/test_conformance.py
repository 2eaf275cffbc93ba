"""What every choice in conf/model, conf/norm, conf/activation and conf/init must do: a new file is found by listing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from models.initializers import initialize

CONF = Path(__file__).parents[2] / "conf"
SMALL = {"resnet_cifar": {"depth": 8, "width": 8}, "convnet": {"width": 8}}
"""Own arguments that keep these tests short."""
NUM_CLASSES, IN_CHANNELS, BATCH = 5, 3, 4


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


def build(group: str, name: str) -> Any:
    spec = load(group, name)
    return target(spec)(**arguments(spec)) if spec else None


def build_model(name: str, norm: str = "default", activation: str = "default", size: int | None = None) -> nn.Module:
    spec = load("model", name)
    size = size or smallest_image(name)
    own = arguments(spec) | SMALL.get(name, {})
    parts = {"norm": build("norm", norm), "activation": build("activation", activation)}
    torch.manual_seed(0)
    model: nn.Module = target(spec)(
        num_classes=NUM_CLASSES, in_channels=IN_CHANNELS, image_size=(size, size), **parts, **own
    )
    return model


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


def images(name: str) -> Tensor:
    size = smallest_image(name)
    return torch.randn(BATCH, IN_CHANNELS, size, size, generator=torch.Generator().manual_seed(1))


def specs() -> list[tuple[str, str]]:
    groups = ("model", "norm", "activation", "init")
    return [(group, name) for group in groups for name in choices(group) if name != "default"]


@pytest.mark.parametrize("activation", choices("activation"))
@pytest.mark.parametrize("norm", choices("norm"))
@pytest.mark.parametrize("name", choices("model"))
def test_model_gives_logits_and_every_parameter_a_gradient(name: str, norm: str, activation: str) -> None:
    model = build_model(name, norm, activation)

    logits = model(images(name))
    F.cross_entropy(logits, torch.arange(BATCH) % NUM_CLASSES).backward()  # type: ignore[no-untyped-call]

    assert logits.shape == (BATCH, NUM_CLASSES)
    assert logits.isfinite().all()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("init", choices("init"))
@pytest.mark.parametrize("norm", choices("norm"))
@pytest.mark.parametrize("name", choices("model"))
def test_initialization_is_finite_and_repeats_from_its_generator(name: str, norm: str, init: str) -> None:
    model, again, other = (build_model(name, norm) for _ in range(3))

    for network, seed in ((model, 0), (again, 0), (other, 1)):
        initialize(network, build("init", init), torch.Generator().manual_seed(seed), images(name))

    assert model(images(name)).isfinite().all()
    assert torch.equal(weights(model), weights(again))
    # `default` leaves the architecture's own, drawn from the global seed.
    assert torch.equal(weights(model), weights(other)) == (init == "default")


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("norm", choices("norm"))
@pytest.mark.parametrize("name", choices("model"))
def test_evaluation_treats_each_example_by_itself(name: str, norm: str) -> None:
    # In double precision: the norm of a small group magnifies rounding.
    model = build_model(name, norm).eval().double()
    batch = images(name).double()

    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in batch])
        torch.testing.assert_close(model(batch), alone)


@pytest.mark.parametrize("norm", choices("norm"))
@pytest.mark.parametrize("name", choices("model"))
def test_channels_last_gives_what_contiguous_gives(name: str, norm: str) -> None:
    # In double precision: the norm of a small group magnifies rounding.
    model = build_model(name, norm).eval().double()
    batch = images(name).double()

    with torch.no_grad():
        expected = model(batch)
        model = model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(batch.to(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("norm", choices("norm"))
@pytest.mark.parametrize("name", choices("model"))
def test_meta_device_builds_and_initializes_the_same_shapes(name: str, norm: str) -> None:
    real = build_model(name, norm)

    with torch.device("meta"):
        meta = build_model(name, norm)
        initialize(meta, build("init", "orthogonal"), torch.Generator("cpu"))

    assert all(tensor.is_meta for tensor in meta.state_dict().values())
    assert shapes(meta) == shapes(real)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize(("group", "name"), specs())
def test_conf_holds_the_defaults_of_the_signature_and_ranges_for_its_own_keys(group: str, name: str) -> None:
    spec = load(group, name)
    provided = {"num_classes", "in_channels", "image_size", "norm", "activation"} if group == "model" else set()
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(target(spec)).parameters.items()
        if key not in provided
    }

    assert arguments(spec) == defaults
    assert spec.get("search", {}).keys() <= defaults.keys()


@pytest.mark.parametrize("group", ["norm", "activation", "init"])
def test_default_choice_is_empty(group: str) -> None:
    assert load(group, "default") == {}
