import subprocess

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import create
from models.initializers.observed import as_in_training
from models.initializers.parameters import weights
from models.outputs import Outputs, main_output
from orchestrator.base.processes import python
from orchestrator.training.diagnosis.layers import layers_of, watched
from tests.models.catalogue import FAMILIES, smallest_image, smallest_network


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_layer_is_seen_after_its_activation_with_its_gradient() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(6, 5), nn.Linear(5, 3)
    model, images, labels = nn.Sequential(first, nn.Tanh(), second), drawn(8, 6), torch.arange(8) % 3
    with watched(model) as watch:
        F.cross_entropy(model(images), labels).backward()
    hidden, logits = watch.statistics()

    h = torch.tanh(first(images)).detach().requires_grad_()
    F.cross_entropy(second(h), labels).backward()
    assert h.grad is not None
    assert first.weight.grad is not None
    assert (hidden.name, hidden.weight, hidden.activation, hidden.features) == ("0", "0.weight", "Tanh", 5)
    assert hidden.activations.mean == pytest.approx(h.double().mean().item())
    assert hidden.gradients is not None
    assert hidden.gradients.std == pytest.approx(h.grad.double().std(correction=0).item())
    assert hidden.weight_gradient is not None
    assert hidden.weight_gradient.std**2 == pytest.approx(first.weight.grad.double().var(correction=0).item())
    assert (logits.name, logits.activation, logits.features) == ("2", "", 3)
    assert (hidden.end, logits.end) == ("1", "2")
    assert logits.gradients is not None


def test_a_residual_branch_ends_with_the_activation_after_the_sum() -> None:
    model = create("residual_mlp", num_classes=3, in_channels=1, image_size=(4, 4), units=2, width=6)
    images, seen = drawn(5, 1, 4, 4), []
    handle = model.get_submodule("stage1.1").register_forward_hook(lambda module, inputs, out: seen.append(out))
    with watched(model) as watch:
        model(images)
    handle.remove()
    names = [*watch.activations()]
    assert names == [*layers_of(model)]
    last = watch.activations()[names[-2]]
    assert torch.equal(last, seen[0].detach())
    assert watch.statistics()[-2].activation == "ReLU"


def test_layers_come_in_the_order_of_computation_and_without_gradients_where_none_came() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.later, self.shared, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.later(self.shared(self.shared(x)))
            return out

    model, images = Twice(), drawn(3, 4)
    with watched(model) as watch:
        model(images)
    assert [layer.name for layer in watch.statistics()] == ["shared", "later"]
    assert torch.equal(watch.activations()["shared"], model.shared(images).detach())
    assert all(layer.gradients is None for layer in watch.statistics())


def test_hooks_are_gone_afterwards() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with watched(model) as watch:
        pass
    model(drawn(1, 2))
    assert not watch.statistics()


def test_weight_normalization_has_no_gradient_of_the_weight_itself() -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    with watched(model) as watch:
        model(drawn(4, 3)).sum().backward()
    (layer,) = watch.statistics()
    assert layer.weight_gradient is None
    assert layer.gradients is not None


def test_maps_have_their_units_on_the_first_axis() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0, 2.0]).view(3, 1, 1, 1))
    with watched(model) as watch:
        model(torch.ones(2, 1, 4, 4))
    assert watch.statistics()[0].dead == pytest.approx(1 / 3)


def test_a_trial_that_does_not_ask_imports_nothing_of_it() -> None:
    code = "import sys, orchestrator.training.trial; print([name for name in sys.modules if 'diagnosis' in name])"
    told = subprocess.run(python("-c", code), capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_that_learns_is_seen(name: str) -> None:
    torch.manual_seed(0)
    size = max(8, smallest_image(name))
    model = smallest_network(name, num_classes=5, in_channels=3, image_size=(size, size))
    with as_in_training(model), watched(model) as watch:
        outputs = model(drawn(4, 3, size, size))
        every = [main_output(outputs), *(outputs.auxiliary if isinstance(outputs, Outputs) else ())]
        torch.stack(every).square().mean().backward()
    found = {layer.weight: layer for layer in watch.statistics()}
    learning = {weight.name for weight in weights(model) if weight.tensor.is_leaf and weight.tensor.grad is not None}
    assert learning <= found.keys()
    for layer in found.values():
        assert layer.activations.nonfinite == 0, layer.name
        assert 0 <= layer.dead <= 1
        assert layer.gradients is not None
