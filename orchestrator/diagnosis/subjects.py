"""From what was typed to the network that is diagnosed: a configuration of today, or a trial of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.rights import Rights, granted
from orchestrator.base.upgrades import current_config
from orchestrator.config.plan import trial_config
from orchestrator.config.rights import check_recorded, typed_rights
from orchestrator.housekeeping.loading import kept_weights, train_again, weights_of
from orchestrator.housekeeping.reading import find_trial

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.subject import Subject


@dataclass(frozen=True)
class Named:
    """What is diagnosed, before anything of it is built.

    Args:
        title: in a few words: `mlp`, or `digits-0a1b2c3d/7`.
        words: what was typed, or of a trial what was searched.
        rights: in force while it is built.
        weights: of a trial, and under which name its files know it; None at initialization.
    """

    title: str
    words: tuple[str, ...]
    config: Mapping[str, Any]
    rights: Rights
    weights: Path | None = None
    uid: str | None = None
    hint: str = ""

    @contextmanager
    def built(self, examples: int | None = None) -> Iterator[Subject]:
        """The network, for as long as the block lasts.

        Raises:
            ConfigError: a part refused its settings.
            NotReadyError: the data are not there, or the weights are damaged or of another network.
        """
        from orchestrator.training.checkpoint import Damaged
        from orchestrator.training.diagnosis.subject import subject

        with granted(self.rights):
            try:
                made = subject(self.config, weights=self.weights, uid=self.uid, examples=examples)
            except (Damaged, RuntimeError) as error:
                if self.weights is None:
                    raise
                raise NotReadyError(f"{self.weights} cannot be used: {error}; {self.hint}") from error
            except ValueError as error:
                raise ConfigError(Problem(self.title, str(error))) from error
            yield made


def configured(overrides: Sequence[str], *, config_dir: Path | None = None, config_name: str = "launch") -> Named:
    """The network of overrides, at its initialization.

    Raises:
        ConfigError: a problem of the overrides, or they leave something to search.
    """
    from orchestrator.config.planning import plan as make_plan

    given = list(overrides)
    if not any(text.split("=")[0].lstrip("+") == "search" for text in given):
        given.append("search=none")
    plan = make_plan(given, config_dir=config_dir, config_name=config_name, find_trial=kept_weights)
    if plan.space.parameters:
        keys = ", ".join(plan.space.keys)
        raise ConfigError(Problem(keys, "diagnose looks at one configuration; give each key one value"))
    config = trial_config(plan, {})
    return Named(str(config["choices"]["model"]), tuple(overrides), config, plan.rights)


def of_trial(
    name: str, overrides: Sequence[str] = (), *, runs_dir: Path = Path("runs"), initial: bool = False
) -> Named:
    """The network of the trial `NAME/7`.

    Args:
        overrides: rights alone: a trial is diagnosed as it was.
        initial: at its initialization, and not with the weights of its best epoch.

    Raises:
        ConfigError: there is no such trial, or it needs rights.
        NotReadyError: its journal cannot be read, or its weights are not there.
    """
    story = find_trial(runs_dir, name)
    rights, others = typed_rights(overrides)
    if others:
        why = "changes the trial, which is diagnosed as it was; leave it out, or leave out from="
        raise ConfigError([Problem(text, why) for text in others])
    config = current_config(story.trial.config)
    check_recorded(story.name, config, rights)
    words = tuple(f"{key}={value}" for key, value in story.trial.params.items())
    named = partial(Named, story.name, words, config, rights)
    if initial:
        return named()
    again = f"this trains it again:  {train_again(story)}"
    try:
        weights = weights_of(story)
    except NotReadyError as error:
        raise NotReadyError(f"{error}; --initial looks at it as it was before its training") from error
    return named(weights, story.uid_in_files, again)
