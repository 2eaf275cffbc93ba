"""What every choice in conf/model, conf/norm, conf/activation and conf/init must do: a new file is found by listing.

Choices are combined pairwise over families, each at its smallest member; every other name is built once. In the plain suite
each choice occurs at least once; `-m slow` runs all pairs.
"""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models.checks import RefusedError
from models.initializers import Scheme, initialize
from models.layers.residual import StochasticDepth
from models.outputs import Outputs, main_output
from models.tracing import Tracer
from tests.models.catalogue import (
    FAMILIES,
    arguments,
    build,
    choices,
    load,
    smallest_arguments,
    smallest_image,
    smallest_network,
    target,
)
from tests.models.pairwise import Pair, each_choice_once, pairwise

NUM_CLASSES, BATCH = 5, 4
OF_THE_ENGINE = {"num_classes", "in_channels", "image_size", "norm", "activation"}
COMPUTED_PARAMETERS = 20_000_000
"""Larger networks are looked at on the meta device only."""

LEAST_OF_TWO_POSITIONS = {"googlenet_bn": 47}
"""Where it takes more than twice the smallest image: the last pooling joins two positions, and takes one alone, too."""

REFUSED = [
    # function, group, choices, what the message says
    ("models.mlp.linear", "norm", "(?!default|none).*", "linear has no hidden features to normalize"),
    ("models.mlp.linear", "activation", "(?!default|identity).*", "linear has no hidden features to activate"),
    (r"models.(mlp.mlp|residual_mlp.*|perceptron.*)", "norm", "instance", "vectors have none"),
    (
        "models.inception.inception_v3",
        "norm",
        "instance",
        "the auxiliary classifier of inception_v3 ends with maps of one",
    ),
]
"""All that a family refuses, as regular expressions: a refusal that is not listed here fails."""

CHAINS = {
    *("linear", "mlp", "convnet", "series_coupled", "vgg11", "plain18", "plain_cifar", "mobilenet_v1"),
    *("alexnet", "alexnet_grouped", "alexnet_owt", "caffenet", "zfnet"),
}
"""Families whose layers follow one another without branches."""

RESIDUAL = {
    *("resnet_cifar", "resnet18", "preact_cifar", "preact_resnet18", "preact_resnet50", "residual_mlp", "wrn"),
    *("resnext29_8x64d", "resnext50_32x4d", "inception_resnet_v2", "nasbench201"),
    *("efficientnet_b0", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"),
}
"""Families with residual branches."""

OF_VECTORS = {"linear", "mlp", "residual_mlp", "series_coupled", "cross_coupled"}
"""Families without a convolution over several positions."""

OF_SOME_NETWORKS = {
    "delta_orthogonal": ({*FAMILIES} - OF_VECTORS, "delta_orthogonal is for convolutions over several positions"),
    "between_layer": (CHAINS, "between_layer needs a plain chain of layers"),
    "random_walk": (CHAINS, "random_walk needs a plain chain of layers"),
    "fixup": (RESIDUAL, "fixup needs residual branches"),
}
"""Initialization -> the families that it is for, and how it refuses the others."""

SETS_ZERO = ("zero", "fixup")
"""Initializations that weight normalization cannot hold."""

ALWAYS_THE_SAME = ("default", "zero", "constant")
"""Initializations that draw nothing from the generator; `default` leaves what was drawn from the global seed."""


@dataclass(frozen=True)
class Combination:
    """A network to build, small, and how: the names of choices, `smallest` or `larger` images, and the channels."""

    name: str
    norm: str = "default"
    activation: str = "default"
    init: str = "default"
    size: str = "smallest"
    channels: str = "3"

    def image_size(self) -> tuple[int, int]:
        """The larger images are oblong, and leave two positions where the smallest leave one, however strides are rounded."""
        least = smallest_image(self.name)
        least_of_two = LEAST_OF_TWO_POSITIONS.get(self.name, 2 * least + 3)
        return (least, least_of_two) if self.size == "larger" else (least, least)

    def model(self) -> nn.Module:
        """The network, its own initialization drawn from seed 0."""
        torch.manual_seed(0)
        parts = {"norm": build("norm", self.norm), "activation": build("activation", self.activation)}
        shape = {"num_classes": NUM_CLASSES, "in_channels": int(self.channels), "image_size": self.image_size()}
        return smallest_network(self.name, **shape, **parts)

    def scheme(self) -> Scheme | None:
        scheme: Scheme | None = build("init", self.init)
        return scheme

    def images(self) -> Tensor:
        shape = (BATCH, int(self.channels), *self.image_size())
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def reason_for_refusal(name: str, group: str, choice: str) -> str | None:
    """A regular expression of the message with which a network refuses a choice; None where it takes it."""
    if group == "init":
        takers, reason = OF_SOME_NETWORKS.get(choice, ({name}, ""))
        return None if name in takers else reason
    function = load("model", name)["_target_"]
    for pattern, of, names, reason in REFUSED:
        if re.fullmatch(pattern, function) and of == group and re.fullmatch(names, choice):
            return reason
    return None


GROUPS = {
    "model": FAMILIES,
    **{group: choices(group) for group in ("norm", "activation", "init")},
    "size": ["smallest", "larger"],
    "channels": ["1", "3"],
}


def excluded(pair: Pair) -> bool:
    (first, one), (second, other) = ((list(GROUPS)[place], choice) for place, choice in pair)
    if (first, second) == ("norm", "init") and one == "weight" and other in SETS_ZERO:
        return True
    if first == "model" and second in ("norm", "activation", "init"):
        return reason_for_refusal(one, second, other) is not None
    # The smallest images may leave one position, over which a channel or a small group has no variance.
    return first == "norm" and one in ("instance", "group") and other == "smallest"


ROWS = pairwise(*GROUPS.values(), excluded=excluded)
PLAIN = set(each_choice_once(ROWS))
REFUSALS = [
    (name, group, choice)
    for name in FAMILIES
    for group in ("norm", "activation", "init")
    for choice in choices(group)
    if reason_for_refusal(name, group, choice)
]
FURTHER = sorted(set(choices("model")) - set(FAMILIES))


@pytest.mark.parametrize(
    "row", [pytest.param(row, id="-".join(row), marks=[] if row in PLAIN else [pytest.mark.slow]) for row in ROWS]
)
def test_combination(row: tuple[str, ...]) -> None:
    combination = Combination(*row)
    model, again = combination.model(), combination.model()

    has_the_same_shapes_on_the_meta_device(combination, model)
    initializes_repeatably(combination, model, again)
    trains(model, combination.images())
    computes_in_bf16(model, combination.images())
    comes_back_from_its_state(model, again, combination.images())
    evaluates_each_example_by_itself(model, combination.images())


@pytest.mark.slow
@pytest.mark.parametrize("name", FURTHER)
def test_further_name(name: str) -> None:
    if models.figures()[name]["depth"] > VERY_DEEP:
        pytest.skip("deep: a smaller member of its family has it")
    with torch.device("meta"):
        if sum(parameter.numel() for parameter in Combination(name).model().parameters()) > COMPUTED_PARAMETERS:
            pytest.skip("large: the meta device has it")
    model, images = Combination(name).model(), Combination(name).images()

    trains(model, images)
    evaluates_each_example_by_itself(model, images)


def has_the_same_shapes_on_the_meta_device(combination: Combination, model: nn.Module) -> None:
    with torch.device("meta"):
        meta = combination.model()
        initialize(meta, combination.scheme(), torch.Generator("cpu"))

    assert all(tensor.is_meta for tensor in meta.state_dict().values())
    assert shapes(meta) == shapes(model)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


def initializes_repeatably(combination: Combination, model: nn.Module, again: nn.Module) -> None:
    """Leaves `model` with the weights of seed 0, and `again` with those of seed 1."""
    assert torch.equal(weights(model), weights(again)), "the own initialization"
    scheme, images = combination.scheme(), combination.images()
    initialize(model, scheme, torch.Generator().manual_seed(0), images)
    initialize(again, scheme, torch.Generator().manual_seed(0), images)
    assert torch.equal(weights(model), weights(again)), "the same seed"
    initialize(again, scheme, torch.Generator().manual_seed(1), images)
    assert torch.equal(weights(model), weights(again)) == (combination.init in ALWAYS_THE_SAME), "another seed"
    assert weights(model).isfinite().all()


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def trains(model: nn.Module, images: Tensor) -> None:
    """All classifiers give logits, and every parameter gets a gradient; so that it does, no unit is left out."""
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.survival = 1.0
    outputs = model.train()(images)
    heads = (outputs.main, *outputs.auxiliary) if isinstance(outputs, Outputs) else (outputs,)
    losses = [F.cross_entropy(logits, torch.arange(BATCH) % NUM_CLASSES) for logits in heads]
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]

    for logits in heads:
        assert logits.shape == (BATCH, NUM_CLASSES)
        assert logits.isfinite().all()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def computes_in_bf16(model: nn.Module, images: Tensor) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert main_output(model.eval()(images)).isfinite().all()


def comes_back_from_its_state(model: nn.Module, again: nn.Module, images: Tensor) -> None:
    again.load_state_dict(copy.deepcopy(model.state_dict()))

    with torch.no_grad():
        assert torch.equal(main_output(again.eval()(images)), main_output(model.eval()(images)))


def evaluates_each_example_by_itself(model: nn.Module, images: Tensor) -> None:
    """One alone gives what it gives in a batch, in either layout in memory.

    In double precision: in float, the norm of a small group would magnify rounding.
    """
    model, images = model.eval().double(), images.double()
    with torch.no_grad():
        expected = main_output(model(images))
        torch.testing.assert_close(main_output(model(images[:1])), expected[:1])
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.testing.assert_close(main_output(model(images.to(memory_format=torch.channels_last))), expected)


@pytest.mark.parametrize(("name", "group", "choice"), REFUSALS)
def test_what_makes_no_sense_is_refused_with_the_reason(name: str, group: str, choice: str) -> None:
    with torch.device("meta"), pytest.raises(RefusedError, match=reason_for_refusal(name, group, choice)):
        initialize(
            Combination(name, **{group: choice}).model(),
            build("init", choice if group == "init" else "default"),
            torch.Generator(),
        )


VERY_DEEP = 200
"""Networks of more layers take half a minute to train one step."""

DEEP = 60
"""Networks of more layers take seconds to build even on the meta device."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if models.figures()[name]["depth"] > DEEP else ())
        for name in choices("model")
    ],
)
def test_every_name_gives_logits_at_its_own_values(name: str) -> None:
    """On the meta device, where the largest costs nothing; at 32x32, or the smallest images that it takes."""
    size = max(32, smallest_image(name))
    with torch.device("meta"), Tracer():
        model = models.create(name, num_classes=NUM_CLASSES, in_channels=3, image_size=(size, size))
        logits = main_output(model(torch.zeros(BATCH, 3, size, size)))

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
        assert arguments(spec) == {key: plain(value) for key, value in defaults.items()}, "one default in one place"
    usual = {key: text for key, text in spec.get("search", {}).items() if text not in spec["search"]}  # without roles
    assert usual.keys() <= defaults.keys()


def plain(value: Any) -> Any:
    """As YAML gives it."""
    return [plain(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("group", ["norm", "activation", "init"])
def test_default_choice_is_empty(group: str) -> None:
    assert load(group, "default") == {}


def test_families_are_built_small() -> None:
    assert smallest_arguments(load("model", "resnet_cifar")).items() >= {"depth": 8, "width": 8}.items()
    assert smallest_arguments(load("model", "mlp")) == {"hidden": 1, "width": 50, "dropout": 0.0}
