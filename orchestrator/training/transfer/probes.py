"""Linear classifiers on the features of a network that stays as it is."""

from __future__ import annotations

import copy
import re

import torch
from torch import Tensor, nn

from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.network import Network, features_of, part_names
from orchestrator.training.transfer.base import Transfer
from orchestrator.training.transfer.layers import check_parts, stages_of

NAMED_STAGE = re.compile(r"stage\d+|fc\d+")


def head() -> Transfer:
    """The classifier alone is trained, on features that are computed once: about as fast as a linear model.

    Dropout before the classifier is off, as what lies before it is computed as in evaluation.
    """
    return Transfer(adapt=_checked, features_once=True)


def stage_probe(*, stage: int | str = 1) -> Transfer:
    """The network ends with one of its stages, and a linear classifier on the mean of each feature over all positions is trained.

    It begins as the classifiers of the networks do. The features are computed once.

    Args:
        stage: the name of a part (`stage2`, `fc7`), or the number of a stage from 1 at the input: of those called stage1, fc6
            and so on, or, where no part is, of the parts with weights.

    Source: Alain and Bengio 2016, Understanding intermediate layers using linear classifier probes, arXiv:1610.01644.
    """
    if isinstance(stage, int) and stage < 1:
        raise ValueError(f"stage must be at least 1, got {stage}")

    def adapt(model: nn.Module, num_classes: int, image: torch.Size) -> nn.Module:
        return _cut(model, _last_part(model, stage), num_classes, image)

    return Transfer(adapt=adapt, features_once=True)


class Pooled(nn.Module):
    """Features, of maps the mean over all positions."""

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor:
        found = features_of(x)
        return found.mean((2, 3)) if found.dim() == 4 else found.flatten(1)


def _checked(model: nn.Module, num_classes: int, image: torch.Size) -> nn.Module:
    check_parts(model)
    return model


def _last_part(model: nn.Module, stage: int | str) -> str:
    """The last part of a stage."""
    check_parts(model)
    parts, stages = part_names(model), stages_of(model)[:-1]
    named = [name for name in parts if NAMED_STAGE.fullmatch(name)]
    lasts = named or [stage[-1] for stage in stages]
    if isinstance(stage, str):
        if stage not in parts[:-1]:
            raise ValueError(
                f"stage must be a part of the network before its classifier ({', '.join(parts[:-1])}), got {stage}"
            )
        return stage
    if stage > len(lasts):
        listed = f" ({', '.join(named)})" if named else ""
        raise ValueError(f"stage must be at most {len(lasts)}, as the network has no more stages{listed}, got {stage}")
    return lasts[stage - 1]


def _cut(model: nn.Module, last: str, num_classes: int, image: torch.Size) -> nn.Module:
    """The network up to a part, and a linear classifier."""
    names = part_names(model)
    parts = {name: model.get_submodule(name) for name in names[: names.index(last) + 1]}
    classifier = nn.Linear(_width(list(parts.values()), image), num_classes)
    initialize(classifier, kaiming(), torch.default_generator)
    return Network({**parts, "pooled": Pooled(), "classifier": classifier})


def _width(parts: list[nn.Module], image: torch.Size) -> int:
    """How many features the parts give for an image."""
    network = nn.Sequential(*parts, Pooled())
    if any(tensor.is_meta for tensor in network.state_dict().values()):
        # in fresh memory: torch would import its compiler, 3 s, for a forward pass on the meta device (torch 2.15)
        network = copy.deepcopy(network).to_empty(device="cpu")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return int(network.eval()(torch.zeros(1, *image, device="cpu")).shape[1])
