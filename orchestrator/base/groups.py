"""The groups of a configuration, each described once. Whatever the program asks about a group is derived from this table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """One group: a folder `conf/<name>` of choices, each of which names a target and its arguments.

    Args:
        provided: arguments that the engine supplies to the group's targets, so that no YAML sets them.
        of_model: built for the model and passed to it, by a model that takes an argument of this name.
        searchable: whether a search space may hold the group and its arguments.
        searchable_arguments: arguments that a search space may hold although it may not hold the group; neither the ids of
            examples, nor what trials are compared by, nor the network depends on them.
        places: arguments that say where things lie, and not what is computed; they may change when a sweep is resumed.
        resumable: whether another choice, or other arguments, may be given when a sweep is resumed.
        called: the engine calls what a target returns.
        costs: what a network computes for an image depends on it.
        shown: its place in the order in which MLflow shows the arguments of a trial; None leaves them out.
    """

    name: str
    provided: tuple[str, ...] = ()
    of_model: bool = False
    searchable: bool = True
    searchable_arguments: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    resumable: bool = False
    called: bool = False
    costs: bool = False
    shown: int | None = None


TRIAL_GROUPS = (
    Group(
        "data",
        searchable=False,
        searchable_arguments=("label_noise", "examples_per_class"),
        places=("root", "download"),
        costs=True,
        shown=9,
    ),
    Group("model", provided=("num_classes", "in_channels", "image_size", "norm", "activation"), costs=True, shown=1),
    Group("norm", of_model=True, costs=True, shown=4),
    Group("activation", of_model=True, costs=True, shown=5),
    Group("init", called=True, shown=3),
    Group("preprocess", called=True),
    Group("augment", called=True, shown=8),
    Group("optimizer", provided=("params", "named_params"), shown=0),
    Group("schedule", provided=("epochs", "steps_per_epoch"), shown=2),
    Group("loss", shown=6),
    Group("penalty", called=True, shown=7),
    Group("transfer", costs=True, shown=10),
    Group("early_stopping"),
    Group("prune"),
    Group("evaluate", provided=("seed",)),
)
"""What a trial trains, each a spec `{"_target_": ..., **own}` of its configuration; `{}` is the architecture's own, or none."""

SWEEP_GROUPS = (
    Group("sampler", searchable=False, resumable=True),
    Group("scheduler", searchable=False, resumable=True),
    Group("tracking", searchable=False),
    Group("cluster", searchable=False, resumable=True),
)
"""How a sweep runs."""

SEARCHES = ("search", "experiment")
"""Groups whose choices say what is searched. They have no target and leave nothing of their own in a configuration."""

ENSEMBLE = "ensemble"
"""The group of methods that build ensembles. `compare` takes its choices, a sweep knows nothing of it."""


def _names(groups: Collection[Group]) -> tuple[str, ...]:
    return tuple(group.name for group in groups)


GROUPS = _names(TRIAL_GROUPS)
PARTS = _names(SWEEP_GROUPS)
OF_MODEL = _names([group for group in TRIAL_GROUPS if group.of_model])
OF_COSTS = _names([group for group in TRIAL_GROUPS if group.costs])
SEARCHABLE_GROUPS = _names([group for group in TRIAL_GROUPS if group.searchable])
SEARCHABLE_ARGUMENTS = tuple(f"{group.name}.{name}" for group in TRIAL_GROUPS for name in group.searchable_arguments)
RESUMABLE_PARTS = _names([group for group in SWEEP_GROUPS if group.resumable])
PROVIDED: Mapping[str, tuple[str, ...]] = {group.name: group.provided for group in TRIAL_GROUPS if group.provided}
PLACES: Mapping[str, tuple[str, ...]] = {group.name: group.places for group in TRIAL_GROUPS if group.places}


def _shown_order() -> tuple[str, ...]:
    order = {group.name: group.shown for group in TRIAL_GROUPS if group.shown is not None}
    return tuple(sorted(order, key=order.__getitem__))


SHOWN_GROUPS = _shown_order()
