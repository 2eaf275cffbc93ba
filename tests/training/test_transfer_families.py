"""Every family of the catalogue, at its smallest member, can be probed and trained from the output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.network import part_names
from models.outputs import main_output
from orchestrator.training.transfer import Transfer, head, stage_probe, top_layers
from orchestrator.training.transfer.layers import cut_heads, freeze_all_but, layers_of, stages_of
from tests.models.catalogue import FAMILIES
from tests.models.test_conformance import NUM_CLASSES, Combination

QUICK = ("mlp", "resnet_cifar", "alexnet_owt", "googlenet", "fractalnet", "mobilenet_v2", "nasnet_a_cifar")
NAMES = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)


def adapted(name: str, transfer: Transfer) -> tuple[nn.Module, torch.Tensor, list[nn.Module]]:
    """The network as it is trained, a batch, and what stays in evaluation mode."""
    made = Combination(name)
    images = made.images()
    model = transfer.adapt(made.model(), NUM_CLASSES, images.shape[1:])
    trained = transfer.trained(model)
    cut_heads(model, trained)
    return model, images, freeze_all_but(model, trained)


def trains_alone_what_is_trained(model: nn.Module, images: torch.Tensor, frozen: list[nn.Module]) -> None:
    """After a step of training, what is frozen has its bits, running statistics included, and the rest a gradient."""
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.train()
    for module in frozen:
        module.eval()
    labels = torch.arange(len(images)) % NUM_CLASSES
    torch.manual_seed(0)
    nn.functional.cross_entropy(main_output(model(images)), labels).backward()
    live = [p for p in model.parameters() if p.requires_grad]
    assert live
    assert any(p.grad is not None for p in live)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    names = {id(module): name for name, module in model.named_modules()}
    still = tuple(f"{names[id(module)]}." for module in frozen)
    for key, tensor in model.state_dict().items():
        if key.startswith(still):
            assert torch.equal(tensor, before[key]), key


@NAMES
def test_a_head_is_trained_on_what_the_network_gives_its_classifier(name: str) -> None:
    model, images, frozen = adapted(name, head())
    trains_alone_what_is_trained(model, images, frozen)
    last = part_names(model)[-1]
    assert {p.split(".")[0] for p, q in model.named_parameters() if q.requires_grad} == {last}
    model.eval()
    with torch.no_grad():
        x = images
        for part in part_names(model)[:-1]:
            x = model.get_submodule(part)(x)
        assert isinstance(x, torch.Tensor), "kept features are a tensor"
        assert torch.equal(main_output(model.get_submodule(last)(x)), main_output(model(images)))


@NAMES
def test_its_first_stage_can_be_probed(name: str) -> None:
    if len(stages_of(Combination(name).model())) == 1:
        pytest.skip("a classifier alone has no stage")
    model, images, frozen = adapted(name, stage_probe(stage=1))
    trains_alone_what_is_trained(model, images, frozen)
    with torch.no_grad():
        assert model.eval()(images).shape == (len(images), NUM_CLASSES)


@NAMES
@pytest.mark.parametrize("layers", [1, None])
def test_its_last_layers_can_be_trained(name: str, layers: int | None) -> None:
    count = len(layers_of(Combination(name).model()))
    model, images, frozen = adapted(name, top_layers(layers=layers))
    trains_alone_what_is_trained(model, images, frozen)
    assert len(top_layers(layers=layers).trained(model)) == ((count + 1) // 2 if layers is None else layers)
