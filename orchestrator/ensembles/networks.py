"""What the networks of trials cost where no plan says it: each different one is built once, on torch's meta device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.base.costs import Costs, key_of
from orchestrator.base.groups import OF_MODEL
from orchestrator.base.recorded import check_config
from orchestrator.base.upgrades import current_config

SECONDS = 20.0
"""For the networks of a sweep after the first, with which modules are loaded; those not built by then have no costs."""

LARGEST = 100_000
"""The sum of the whole numbers in the arguments of a network, widths and depths: a configuration may be a stranger's."""

BUILDS = ("model", *OF_MODEL, "transfer")
"""The groups of a configuration that make a network."""


@dataclass(frozen=True)
class Shape:
    """What a network is told of its data."""

    num_classes: int
    in_channels: int
    image_size: tuple[int, int]

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Shape | None:
        """Of what a plan found out of the data of a sweep; None where that says none, or one that cannot be."""
        size = facts.get("image_size")
        numbers = [
            facts.get("num_classes"),
            facts.get("in_channels"),
            *(size if isinstance(size, list | tuple) else ()),
        ]
        if len(numbers) != 4 or not all(type(number) is int and 0 < number <= LARGEST for number in numbers):
            return None
        classes, channels, height, width = numbers
        return Shape(classes, channels, (height, width))


class Networks:
    """The networks of one sweep.

    Args:
        shape: None where nothing says it.
        seconds: so many after the first network no further one is built.
    """

    def __init__(
        self, shape: Shape | None, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shape, self._seconds, self._clock = shape, seconds, clock
        self._until: float | None = None
        self._known: dict[str, Costs | str] = {}

    def costs(self, config: Mapping[str, Any]) -> Costs | str:
        """Of the network of a trial's configuration, whatever a journal or a server holds; a sentence where it is not known."""
        if self._shape is None:
            return "nothing says how large its images are"
        key = key_of(config)
        if key not in self._known:
            if self._until is not None and self._clock() > self._until:
                return "there are too many different networks to work out all of them"
            try:
                self._known[key] = _traced(config, self._shape)
            except Exception as error:  # the values may be a stranger's, at which a network raises what it likes
                self._known[key] = f"its network cannot be built ({' '.join(str(error).split())[:200]})"
            self._until = self._until or self._clock() + self._seconds
        return self._known[key]

    def passes(self, config: Mapping[str, Any]) -> int | None:
        """How often an image goes through the network at test time; None where that is not known."""
        if not config.get("evaluate"):
            return 1
        try:
            return None if self._shape is None else _passes(config, self._shape)
        except Exception:  # as above
            return None


def _passes(config: Mapping[str, Any], shape: Shape) -> int:
    from orchestrator.base.targets import catalogue_targets
    from orchestrator.training.build import build_evaluation

    check_config(config)
    config = current_config(config)
    if config["evaluate"].get("_target_") not in catalogue_targets():
        raise ValueError("it is none of the catalogue")
    evaluation = build_evaluation(config)
    return 1 if evaluation is None else evaluation.passes(shape.image_size)


def _traced(config: Mapping[str, Any], shape: Shape) -> Costs:
    from orchestrator.base.targets import catalogue_targets
    from orchestrator.training.counted import network_costs

    check_config(config)
    config = current_config(config)
    if config["model"].get("_target_") not in catalogue_targets():
        raise ValueError("it is none of the catalogue")
    if sum(abs(number) for group in BUILDS for number in _whole_numbers(config[group])) > LARGEST:
        raise ValueError("it is too large to be built only to be counted")
    return network_costs(
        config, num_classes=shape.num_classes, in_channels=shape.in_channels, image_size=shape.image_size
    )


def _whole_numbers(value: Any) -> Iterator[int]:
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        for one in value:
            yield from _whole_numbers(one)
    elif isinstance(value, int):
        yield int(value)
