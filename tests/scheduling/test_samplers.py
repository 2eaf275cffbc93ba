import math
from collections import Counter
from typing import Any

import pytest

from orchestrator.scheduling.samplers import SamplerSettings, generator
from orchestrator.scheduling.samplers.grid import Grid
from orchestrator.scheduling.samplers.random import Random
from orchestrator.scheduling.samplers.sobol import Sobol
from orchestrator.scheduling.samplers.tpe import Tpe
from orchestrator.space import Choice, Condition, Interval, Parameter, Range, Space

CONDITIONAL = Space(
    (
        Parameter("optimizer", Choice(("sgd", "adam"))),
        Parameter("optimizer.lr", Interval(1e-3, 1, log=True), (Condition("optimizer", ("sgd",)),)),
        Parameter("optimizer.lr", Interval(1e-5, 1e-2, log=True), (Condition("optimizer", ("adam",)),)),
        Parameter("model.depth", Range(8, 57, 6)),
        Parameter("model.width", Interval(4, 64, integer=True)),
        Parameter("model.stages", Choice(([1, 2], [2, 2]))),
    )
)
FINITE = Space((Parameter("norm", Choice(("none", "batch", "layer"))), Parameter("model.depth", Range(1, 5))))

SETTINGS: list[SamplerSettings] = [Random(), Sobol(), Tpe(startup_trials=3), Grid(points=2)]


def value_of(params: dict[str, Any]) -> float:
    return float(params.get("model.depth", 0)) - abs(params.get("optimizer.lr", 0.0) - 0.01)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: type(s).__name__)
class TestEverySampler:
    def test_suggestions_lie_in_the_space(self, settings: SamplerSettings) -> None:
        sampler = settings.start(CONDITIONAL, seed=0, mode="max")
        for index in range(12):
            params = sampler.suggest(index)
            assert params is not None
            assert CONDITIONAL.contains(params) == []
            sampler.observe(index, params, value_of(params))

    def test_a_finite_space_is_used_up_without_repetition(self, settings: SamplerSettings) -> None:
        sampler = settings.start(FINITE, seed=1, mode="max")
        assert settings.limit(FINITE, 100) == 12
        seen = []
        for index in range(12):
            params = sampler.suggest(index)
            assert params is not None
            sampler.observe(index, params, value_of(params))
            seen.append(tuple(params.items()))
        assert len(set(seen)) == 12
        assert sampler.suggest(12) is None

    def test_a_resumed_sampler_suggests_what_an_uninterrupted_one_does(self, settings: SamplerSettings) -> None:
        whole = settings.start(CONDITIONAL, seed=5, mode="max")
        history: list[dict[str, Any]] = []
        for index in range(10):
            params = whole.suggest(index)
            assert params is not None
            whole.observe(index, params, value_of(params))
            history.append(params)
        resumed = settings.start(CONDITIONAL, seed=5, mode="max")
        for index, params in enumerate(history[:7]):
            resumed.recall(index, params)
            resumed.observe(index, params, value_of(params))
        for index in range(7, 10):
            params = resumed.suggest(index)
            assert params == history[index]
            assert params is not None
            resumed.observe(index, params, value_of(params))

    def test_an_earlier_value_respelled_by_floats_is_known(self, settings: SamplerSettings) -> None:
        """0.1 + 0.2 is one of 0.1, 0.2, ... and 2.0 one of 1, 2: what was tried as that is not tried again."""
        space = Space((Parameter("x", Range(0.1, 0.5, 0.1)), Parameter("y", Choice((1, 2)))))
        earlier: list[dict[str, Any]] = [{"x": 0.1 + 0.2, "y": 2.0}, {"y": 1, "x": 0.1}]
        sampler = settings.start(space, seed=0, mode="max", first=2)
        for index, params in enumerate(earlier):
            assert space.contains(params) == []
            sampler.recall(index, params)
            sampler.observe(index, params, 0.5)
        drawn = []
        while (params_drawn := sampler.suggest(2 + len(drawn))) is not None:
            drawn.append((params_drawn["x"], params_drawn["y"]))
            sampler.observe(1 + len(drawn), params_drawn, 0.1 * len(drawn))
        assert sorted(drawn) == [(0.1, 2), (0.2, 1), (0.2, 2), (0.3, 1), (0.4, 1), (0.4, 2)]

    def test_the_seed_decides(self, settings: SamplerSettings) -> None:
        def first(seed: int) -> list[dict[str, Any] | None]:
            sampler = settings.start(CONDITIONAL, seed=seed, mode="max")
            return [sampler.suggest(index) for index in range(3)]

        assert first(0) == first(0)
        if not isinstance(settings, Grid):
            assert first(0) != first(1)


def test_random_is_uniform_in_the_logarithm() -> None:
    space = Space((Parameter("lr", Interval(1e-4, 1, log=True)),))
    sampler = Random().start(space, seed=0, mode="max")
    drawn = [sampler.suggest(index) for index in range(2_000)]
    decades = Counter(int(f"{params['lr']:e}".split("e")[1]) for params in drawn if params)
    # 500 expected in each of four decades; 5 standard deviations of a binomial (19.4 each) never fail by chance
    assert all(abs(decades[decade] - 500) < 97 for decade in (-4, -3, -2, -1))


BRANCHES = Space(
    (
        Parameter("optimizer", Choice(("sgd", "adam"))),
        Parameter("momentum", Range(0, 30), (Condition("optimizer", ("sgd",)),)),
        Parameter("beta", Range(0, 10), (Condition("optimizer", ("adam",)),)),
    )
)
"""40 configurations, of which 30 have sgd."""


@pytest.mark.parametrize("settings", [Random(), Sobol(), Tpe(startup_trials=4)], ids=lambda s: type(s).__name__)
def test_a_choice_is_uniform_however_much_is_searched_below_it(settings: SamplerSettings) -> None:
    sweeps, length = (60, 4) if isinstance(settings, Tpe) else (400, 4)
    drawn = Counter[Any]()
    for seed in range(sweeps):
        sampler = settings.start(BRANCHES, seed=seed, mode="max")
        for index in range(length):
            params = sampler.suggest(index)
            assert params is not None
            drawn[params["optimizer"]] += 1
            drawn[params.get("momentum", -1) // 10] += 1
    # 4 standard deviations of a binomial. Drawn from a shuffled grid sgd would have 3/4 of them
    number = sweeps * length
    assert abs(drawn["sgd"] - number / 2) < 4 * math.sqrt(number / 4)
    for third in range(3):
        assert abs(drawn[third] - number / 6) < 4 * math.sqrt(number / 6 * 5 / 6)


def test_random_goes_on_where_something_is_left() -> None:
    """adam has one configuration and sgd a thousand; as soon as adam is used up every draw is sgd's, to the last one."""
    space = Space(
        (
            Parameter("optimizer", Choice(("sgd", "adam"))),
            Parameter("momentum", Range(0, 1000), (Condition("optimizer", ("sgd",)),)),
        )
    )
    sampler = Random().start(space, seed=0, mode="max")
    drawn = [sampler.suggest(index) for index in range(1_002)]
    assert drawn[-1] is None
    seen = [params for params in drawn if params]
    assert len({tuple(params.items()) for params in seen}) == 1_001
    assert {"optimizer": "adam"} in seen[:20]


def test_random_uses_up_a_finite_branch_and_goes_on_in_a_continuous_one() -> None:
    space = Space(
        (
            Parameter("optimizer", Choice(tuple(range(50)))),
            Parameter("lr", Interval(0, 1), (Condition("optimizer", (0,)),)),
        )
    )
    sampler = Random().start(space, seed=0, mode="max")
    drawn = [sampler.suggest(index) for index in range(500)]
    assert len({str(params) for params in drawn if params}) == 500
    assert {params["optimizer"] for params in drawn if params} == set(range(50))


@pytest.mark.parametrize("space", [FINITE, CONDITIONAL], ids=["finite", "continuous"])
def test_a_sweep_begun_under_the_first_rules_keeps_its_draws(space: Space) -> None:
    """As that version drew them: a shuffled grid, or independent draws numbered by their attempt."""
    sampler = Random().under(rules=1).start(space, seed=4, mode="max")
    if space is FINITE:
        expected = list(space.grid())
        generator("random", 4).shuffle(expected)
    else:
        numbers = [generator("random", 4, index, 0) for index in range(12)]
        expected = [space.from_unit([g.random() for _ in space.parameters]) for g in numbers]
    assert [sampler.suggest(index) for index in range(12)] == expected


def test_sobol_fills_more_evenly_than_random() -> None:
    space = Space(tuple(Parameter(f"x{i}", Interval(0.0, 1.0)) for i in range(2)))
    sampler = Sobol().start(space, seed=0, mode="max")
    cells = Counter((int(p["x0"] * 8), int(p["x1"] * 8)) for p in (sampler.suggest(i) for i in range(64)) if p)
    # a (0, m, 2)-net in base 2: every elementary interval holds equally many points; 8 by 8 cells get one each
    assert len(cells) == 64


def test_grid_counts_conditions_and_needs_points_for_intervals() -> None:
    assert Grid().problems(CONDITIONAL, 16) != []
    small = Space(CONDITIONAL.parameters[:3])
    assert Grid(points=3).limit(small, 16) == 6
    assert Grid(points=3).problems(small, 16) == []


def test_a_huge_grid_is_refused_by_arithmetic() -> None:
    space = Space(tuple(Parameter(f"x{i}", Range(0, 1000)) for i in range(3)))
    assert "1,000,000,000 points" in Grid().problems(space, 16)[0]
    assert Grid(allow_huge=True).problems(space, 16) == []


def test_tpe_learns_and_hears_of_failures() -> None:
    space = Space((Parameter("x", Interval(0.0, 1.0)),))
    sampler = Tpe(startup_trials=8).start(space, seed=0, mode="min")
    drawn = []
    for index in range(40):
        params = sampler.suggest(index)
        assert params is not None
        drawn.append(abs(params["x"] - 0.3))
        sampler.observe(index, params, None if index % 10 == 0 else drawn[-1])
    assert sum(drawn[-10:]) < sum(drawn[:10])


@pytest.mark.parametrize("build", [lambda: Grid(points=1), lambda: Tpe(startup_trials=0), lambda: Tpe(candidates=0)])
def test_settings_check_their_values(build: Any) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        build()
