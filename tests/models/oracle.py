"""A network of ours against the same one of torchvision or timm: weights copied over by the family's table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.foreign import Table
from models.outputs import Outputs


def assert_same(
    ours: nn.Module,
    theirs: nn.Module,
    table: Table,
    size: int,
    *,
    batch: int = 4,
    in_channels: int = 3,
    leave_out: tuple[str, ...] = (),
) -> None:
    """Both give the same logits: in double precision to a relative 1e-8, training and evaluating; in fp32 to 1e-4.

    Random layers are turned off. Gains, shifts and running statistics are drawn at random, since at their initial values a
    wrong place would not show.

    Args:
        table: our names -> theirs.
        size: height and width of the images.
        leave_out: beginnings of their names that have no counterpart, such as auxiliary heads.
    """
    make_general(theirs)
    copy(ours, theirs, table, leave_out)
    without_randomness(ours), without_randomness(theirs)
    images = torch.randn(batch, in_channels, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours.eval(), theirs.eval()
        assert relative_error(logits(ours, images), logits(theirs, images)) < 1e-4
        ours.double(), theirs.double()
        for training in (False, True):
            ours.train(training), theirs.train(training)
            found, expected = logits(ours, images.double()), logits(theirs, images.double())
            assert found.shape == expected.shape
            assert relative_error(found, expected) < 1e-8, "training" if training else "evaluation"


def assert_same_tensors(ours: nn.Module, theirs: nn.Module, table: Table) -> None:
    """Both have the same tensors, name by name and of the same shapes. For members of a family too large to compute in a test."""
    names = table(ours)
    found = {names[name]: tensor.shape for name, tensor in ours.state_dict().items()}
    assert found == {name: tensor.shape for name, tensor in theirs.state_dict().items()}


def copy(ours: nn.Module, theirs: nn.Module, table: Table, leave_out: tuple[str, ...] = ()) -> None:
    """Their weights into ours; every tensor of both has to have a counterpart of the same shape."""
    names, state = table(ours), theirs.state_dict()
    kept = {name for name in state if not name.startswith(leave_out)} if leave_out else set(state)
    assert set(names.values()) == kept
    assert len(set(names.values())) == len(names)
    ours.load_state_dict({own: state[foreign] for own, foreign in names.items()})


def make_general(model: nn.Module) -> None:
    """Draws what initializations leave at 0 and 1, so that signal and gradient depend on all of it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.dim() <= 1:
                tensor.uniform_(-0.3, 0.3, generator=generator)
            else:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)


def without_randomness(model: nn.Module) -> None:
    """Sets the rates of dropout, drop-path and stochastic depth to 0."""
    for module in model.modules():
        for rate in ("p", "drop_prob"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
        if hasattr(module, "drop_rate"):
            module.drop_rate = 0.0


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Main logits, whatever the library returns."""
    outputs = model(images)
    if isinstance(outputs, Outputs):
        return outputs.main
    if isinstance(outputs, tuple):  # torchvision's GoogLeNet and Inception in training
        return outputs[0]
    return outputs  # type: ignore[no-any-return]


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())
