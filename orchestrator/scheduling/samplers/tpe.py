"""Tree-structured Parzen estimator: draws where good results were denser than bad ones.

Driven by ask and tell, and reseeded from (seed, index) at every suggestion, so that history and index determine it.
Source: Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization; the implementation is Optuna's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.scheduling.samplers import ENUMERABLE, Distinct, Params, Sampler, finite_limit, generator
from orchestrator.space import Choice, Domain, Interval, Range, Space


@dataclass(frozen=True)
class Tpe:
    """Optuna's sampler with its defaults.

    Args:
        startup_trials: this many configurations are drawn at random first.
        candidates: how many draws compete for each suggestion.

    Raises:
        ValueError: a number is below 1.
    """

    startup_trials: int = 10
    candidates: int = 24

    def __post_init__(self) -> None:
        for name in ("startup_trials", "candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    repeats: ClassVar[bool] = False

    def problems(self, space: Space, trials: int) -> list[str]:
        del space, trials
        return []

    def limit(self, space: Space, trials: int) -> int:
        return finite_limit(space, trials)

    def start(self, space: Space, *, seed: int, mode: str, first: int = 0) -> Sampler:
        del first
        return _Study(self, space, seed, mode)


class _Study(Sampler):
    learns = True

    def __init__(self, settings: Tpe, space: Space, seed: int, mode: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._settings, self._space, self._seed = settings, space, seed
        self._study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
        self._asked: dict[int, Any] = {}
        self._distinct = Distinct(tries=10)

    def suggest(self, index: int) -> Params | None:
        trial: Any = None

        def draw(attempt: int) -> Params:
            nonlocal trial
            if trial is not None:
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=generator("tpe", self._seed, index, attempt).getrandbits(31),
                n_startup_trials=self._settings.startup_trials,
                n_ei_candidates=self._settings.candidates,
                constant_liar=True,
            )
            trial = self._study.ask()
            params: Params = {}
            for parameter in self._space.parameters:
                if parameter.active(params):
                    params[parameter.key] = _suggest(trial, self._space.name(parameter), parameter.domain)
            return params

        params = self._distinct.first_new(draw)
        if params is not None:
            self._asked[index] = trial
            return params
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        params = self._unseen(index)
        if params is not None:
            self._add_running(index, params)
        return params

    def _unseen(self, index: int) -> Params | None:
        """A random configuration that was not tried, where the estimator keeps to one that was."""
        count = self._space.count()
        if count is None or count > ENUMERABLE:
            numbers = generator("tpe unseen", self._seed, index)
            return self._distinct.first_new(
                lambda attempt: self._space.from_unit([numbers.random() for _ in self._space.parameters])
            )
        order = list(self._space.grid())
        generator("tpe unseen", self._seed, index).shuffle(order)
        return self._distinct.first_new(lambda attempt: order[attempt], tries=len(order))

    def observe(self, index: int, params: Params, value: float | None) -> None:
        states = self._optuna.trial.TrialState
        self._study.tell(self._asked.pop(index), value, state=states.FAIL if value is None else states.COMPLETE)

    def recall(self, index: int, params: Params) -> None:
        """Adds what the earlier sampler asked for as running, as it was then."""
        self._distinct.add(self._space.nearest(params))
        self._add_running(index, params)

    def _add_running(self, index: int, params: Params) -> None:
        """Tells the study of a configuration that it did not draw itself."""
        active = [p for p in self._space.parameters if p.active(params)]
        trial = self._optuna.trial.create_trial(
            state=self._optuna.trial.TrialState.RUNNING,
            params={self._space.name(p): _encode(p.domain, params[p.key]) for p in active},
            distributions={self._space.name(p): _distribution(self._optuna, p.domain) for p in active},
        )
        self._asked[index] = len(self._study.trials)
        self._study.add_trial(trial)


def _suggest(trial: Any, name: str, domain: Domain) -> Any:
    if isinstance(domain, Interval):
        if domain.integer:
            return trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log)
        return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    if isinstance(domain, Range):
        return domain.at(trial.suggest_int(name, 0, domain.size - 1))
    return json.loads(trial.suggest_categorical(name, [json.dumps(v) for v in domain.values]))


def _encode(domain: Domain, value: Any) -> Any:
    if isinstance(domain, Range):
        return domain.place(value)
    return json.dumps(domain.nearest(value)) if isinstance(domain, Choice) else domain.nearest(value)


def _distribution(optuna: Any, domain: Domain) -> Any:
    if isinstance(domain, Interval):
        if domain.integer:
            return optuna.distributions.IntDistribution(int(domain.low), int(domain.high), log=domain.log)
        return optuna.distributions.FloatDistribution(domain.low, domain.high, log=domain.log)
    if isinstance(domain, Range):
        return optuna.distributions.IntDistribution(0, domain.size - 1)
    return optuna.distributions.CategoricalDistribution([json.dumps(v) for v in domain.values])
