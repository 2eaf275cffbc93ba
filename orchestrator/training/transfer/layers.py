"""The layers of a network in the order of computation, and how some of them are frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from models.network import Network, part_names


@dataclass(frozen=True)
class Layer:
    """A module with a weight (a convolution, a linear map), and what follows it without one, such as its norm.

    Args:
        stage: the place of its stage, from 0 at the input; a stage is a part of the network with layers.
        modules: those that own parameters or buffers.
    """

    stage: int
    modules: tuple[nn.Module, ...]

    def parameters(self) -> Iterator[nn.Parameter]:
        for module in self.modules:
            yield from module.parameters(recurse=False)


def check_parts(model: nn.Module) -> None:
    """Raise ValueError unless the parts of a network are computed one after the other, so that it can be cut between two."""
    if not isinstance(model, Network | nn.Sequential):
        raise ValueError(
            "needs parts that follow each other (models.network.Network, torch.nn.Sequential),"
            f" got {type(model).__name__}"
        )


def stages_of(model: nn.Module) -> list[list[str]]:
    """The parts of a network, each with a weight together with those after it that have none; the last is the classifier."""
    stages: list[list[str]] = []
    before: list[str] = []
    for name in part_names(model):
        if any(_has_weight(module) for module in model.get_submodule(name).modules()):
            stages.append([*before, name])
            before = []
        elif stages:
            stages[-1].append(name)
        else:
            before.append(name)
    return stages


def layers_of(model: nn.Module) -> list[Layer]:
    """The layers with weights from input to output, those of auxiliary classifiers left out."""
    check_parts(model)
    found: list[tuple[int, list[nn.Module]]] = []
    waiting: list[nn.Module] = []
    for place, stage in enumerate(stages_of(model)):
        for module in owners([model.get_submodule(name) for name in stage]):
            if _has_weight(module):
                found.append((place, [*waiting, module]))
                waiting = []
            elif found:
                found[-1][1].append(module)
            else:
                waiting.append(module)
    if not found:
        raise ValueError("needs a network with weights, got one without")
    return [Layer(place, tuple(modules)) for place, modules in found]


def owners(parts: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The modules that own parameters or buffers, in order and each once."""
    seen: set[int] = set()
    for part in parts:
        for module in part.modules():
            owns = (
                next(module.parameters(recurse=False), None) is not None
                or next(module.buffers(recurse=False), None) is not None
            )
            if owns and id(module) not in seen:
                seen.add(id(module))
                yield module


def freeze_all_but(model: nn.Module, trained: Sequence[Layer]) -> list[nn.Module]:
    """Takes the gradient from all parameters outside of `trained`; the largest modules that lie before it and have to stay in
    evaluation mode."""
    kept = {id(parameter) for layer in trained for parameter in layer.parameters()}
    kept |= {id(parameter) for head in _live_heads(model) for parameter in head.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)
    order = [module for name in part_names(model) for module in model.get_submodule(name).modules()]
    place = {id(module): number for number, module in enumerate(order)}
    begins = min(place[id(module)] for layer in trained for module in layer.modules)

    def before(module: nn.Module) -> Iterator[nn.Module]:
        if all(place[id(inner)] < begins for inner in module.modules()):
            yield module
        else:
            for child in module.children():
                yield from before(child)

    return [module for name in part_names(model) for module in before(model.get_submodule(name))]


def cut_heads(model: nn.Module, trained: Sequence[Layer]) -> None:
    """Auxiliary classifiers of what is not trained are not computed any more: nothing would learn from them."""
    if isinstance(model, Network) and model.head_names:
        stages = stages_of(model)
        first = min(layer.stage for layer in trained)
        live = {name for stage in stages[first:] for name in stage}
        model.head_names = model.head_names & live


def stage_of_parameters(model: nn.Module, layers: Sequence[Layer]) -> dict[int, int]:
    """id of a parameter -> how many stages lie between its own and the output; auxiliary classifiers count as the output."""
    last = max(layer.stage for layer in layers)
    found = {id(parameter): last - layer.stage for layer in layers for parameter in layer.parameters()}
    return found | {id(parameter): 0 for head in _live_heads(model) for parameter in head.parameters()}


def _live_heads(model: nn.Module) -> list[nn.Module]:
    return (
        [model.heads[name] for name in sorted(model.head_names)]
        if isinstance(model, Network) and model.head_names
        else []
    )


def _has_weight(module: nn.Module) -> bool:
    """Whether a module multiplies by a matrix: its weight has two dimensions or more, or is made of others."""
    if hasattr(module, "parametrizations"):
        return True
    inside = type(module).__module__.startswith("torch.nn.utils.parametriz")
    return not inside and any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
