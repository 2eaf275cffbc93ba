"""Settings of one choice that are searched together: the plan refuses what no trial could train with, and nothing else."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from orchestrator.base.errors import ConfigError
from orchestrator.base.groups import GROUPS
from orchestrator.config import joint
from orchestrator.config.joint import Joint
from orchestrator.config.plan import SweepPlan
from orchestrator.config.planning import plan
from orchestrator.space import Choice, Condition, Interval, Parameter, Space

GIVEN = ("data=synthetic", "search=none", "sampler=grid")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*overrides: str, **where: Path) -> list[str]:
    with pytest.raises(ConfigError, match=r"\S") as caught:
        plan([*GIVEN, *overrides], **where)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("overrides", "trials"),
    [
        (("schedule=adaptive", "schedule.flat=0.06,0.1", "schedule.slow=0.2,0.3"), 4),
        (("augment=random_resized_crop", "augment.largest=0.05,0.07", "augment.smallest=0.01,0.02"), 4),
        (("schedule=adaptive,cosine", "schedule.flat=0.06,0.1", "schedule.slow=0.2,0.3"), 5),
        (("schedule=adaptive", "schedule.slow=0.005", "schedule.flat=0.001,0.002"), 2),
        (("schedule=cosine", "schedule.warmup_epochs=15,19", "epochs=20,40"), 4),
        (("optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0.5,0.9", "penalty=l1,l2"), 4),
    ],
)
def test_values_that_only_go_together_are_a_search_space(overrides: tuple[str, ...], trials: int) -> None:
    assert plan([*GIVEN, *overrides]).root.trials == trials


def test_pair_that_is_refused_is_named_with_what_to_do() -> None:
    (problem,) = refused("optimizer=sgd", "optimizer.nesterov=true,false", "optimizer.momentum=0,0.9")
    assert problem == (
        "optimizer=sgd: nesterov=true needs momentum above 0, got momentum=0; leave out optimizer.nesterov=true or "
        "optimizer.momentum=0, or search optimizer.momentum under a condition on optimizer.nesterov "
        "(when: in a search or an experiment) (optimizer.nesterov=true, optimizer.momentum=0)"
    )
    crop = "augment=random_resized_crop"
    (problem,) = refused(crop, "augment.smallest=0.1,0.9", "augment.largest=0.5,1")
    assert problem.startswith(f"{crop}: it must be 0 < smallest <= largest <= 1, got 0.9 and 0.5; leave out")
    assert problem.endswith("(augment.smallest=0.9, augment.largest=0.5)")


def test_root_key_that_a_choice_is_told_is_one_of_a_pair() -> None:
    (problem,) = refused("schedule=cosine", "schedule.warmup_epochs=15,1", "epochs=2,40")
    assert problem.endswith("(schedule.warmup_epochs=15, epochs=2)")


def test_value_that_no_combination_takes_is_named_alone() -> None:
    assert refused("optimizer=sgd", "optimizer.lr=-1,0.1,-2", "optimizer.momentum=0,0.9") == [
        "optimizer=sgd: lr must be more than 0, got -1 (optimizer.lr=-1)",
        "optimizer=sgd: lr must be more than 0, got -2 (optimizer.lr=-2)",
    ]
    both = refused("optimizer=sgd,adam", "optimizer.lr=-1,0.1", "optimizer.nesterov=true", "optimizer.momentum=0,0.9")
    assert [(text.partition(":")[0], text.rpartition(" (")[2]) for text in both] == [
        ("optimizer=sgd", "optimizer.lr=-1)"),
        ("optimizer=sgd", "optimizer.momentum=0)"),
        ("optimizer=adam", "optimizer.lr=-1)"),
    ]


def test_what_is_refused_whatever_is_searched_is_told_once() -> None:
    (problem,) = refused("optimizer=sgd", "optimizer.lr=-1", "optimizer.momentum=0,0.9")
    assert problem == "optimizer=sgd: lr must be more than 0, got -1"


def test_condition_of_the_space_keeps_a_pair_apart(tmp_path: Path) -> None:
    search = tmp_path / "mine" / "search" / "nesterov.yaml"
    search.parent.mkdir(parents=True)
    text = "space:\n  optimizer.nesterov: choice(true, false)\nwhen:\n  optimizer.nesterov=true:\n    optimizer.momentum: {}\n"
    given = ("search=nesterov", "data=synthetic", "sampler=grid", "optimizer=sgd")
    search.write_text(
        text.format("choice(0.5, 0.9)") + "  optimizer.nesterov=false:\n    optimizer.momentum: choice(0)\n"
    )
    assert plan(given, config_dir=tmp_path / "mine").root.trials == 3
    search.write_text(
        text.format("choice(0, 0.9)") + "  optimizer.nesterov=false:\n    optimizer.momentum: choice(0)\n"
    )
    with pytest.raises(ConfigError, match=r"\(optimizer.nesterov=true, optimizer.momentum=0\)"):
        plan(given, config_dir=tmp_path / "mine")


def test_many_refused_pairs_are_counted() -> None:
    crop = ("augment=random_resized_crop", "augment.smallest=0.2,0.3,0.4,0.5", "augment.largest=0.15,0.25,0.35,0.45,1")
    problems = refused(*crop)
    assert len(problems) == joint.MOST_TOLD
    # largest=0.15 goes with no smallest; of the other pairs 0.25 is too small for three, 0.35 for two, 0.45 for one
    assert problems[0].endswith("(augment.largest=0.15)")
    assert problems[-1].endswith(f"and {1 + 3 + 2 + 1 - joint.MOST_TOLD} more)")


def test_ends_of_intervals_are_tried_together() -> None:
    (problem,) = _random("augment.smallest=interval(0.1,0.6)", "augment.largest=interval(0.5,1)")
    assert problem.endswith("(augment.smallest=0.6, augment.largest=0.5)")


def _random(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError, match=r"\S") as caught:
        plan(["data=synthetic", "search=none", "augment=random_resized_crop", *overrides])
    return [str(problem) for problem in caught.value.problems]


# many settings


def many(*parameters: Parameter) -> SweepPlan:
    """A plan of the augmentation by a random crop with these parameters."""
    made = plan(["data=synthetic", "search=none", "augment=random_resized_crop", "augment.ratio=1,2"])
    return SweepPlan(**{**vars(made), "space": Space(parameters)})


def test_pairs_are_covered_where_combinations_are_too_many() -> None:
    """Every pair of values that can occur together is tried, with conditions among the settings; far fewer than all."""
    names = ("one", "two", "three", "four", "five")
    free = [Parameter(f"augment.{name}", Choice((1, 2, 3, 4))) for name in names]
    bound = Parameter("augment.six", Choice((7, 8)), (Condition("augment.one", (3, 4)),))
    end = Parameter("augment.seven", Interval(0.0, 1.0), (Condition("augment.six", (8,)),))
    tried = Joint(many(*free, bound, end))._tried["augment", "random_resized_crop"]
    space = Space((*free, bound, end))
    wanted = {
        frozenset(two) for row in Space((*free, bound, replaced(end))).grid() for two in combinations(row.items(), 2)
    }
    found = {frozenset(two) for combination in tried for two in combinations(combination.settings.items(), 2)}
    assert found == wanted
    assert all(not space.contains(combination.settings) for combination in tried)
    assert len(tried) < 200 < 4**5


def replaced(parameter: Parameter) -> Parameter:
    """An interval by its ends."""
    return Parameter(parameter.key, Choice(parameter.domain.ends()), parameter.conditions)


def test_fault_is_found_among_many_settings() -> None:
    many_values = ",".join(str(number / 100) for number in range(2, 42))
    problems = _random(
        f"augment.smallest={many_values}", f"augment.ratio={','.join(map(str, range(1, 10)))}", "augment.largest=0.4,1"
    )
    assert len(problems) == 1
    assert problems[0].endswith("(augment.smallest=0.41, augment.largest=0.4)")


def test_default_search_tries_a_handful() -> None:
    made = plan(["data=synthetic"])
    assert {place: len(tried) for place, tried in Joint(made)._tried.items()} == {
        ("optimizer", "sgd"): 2,
        ("optimizer", "adam"): 2,
    }
    assert set(joint.BUILT_WITH_DATA) < set(GROUPS)


def test_no_more_are_tried_when_the_time_is_up() -> None:
    times = iter([0.0, 0.0, *[joint.BUDGET_S] * 1000])
    made = plan(["data=synthetic", "search=none", "optimizer=sgd", "optimizer.lr=0.1,0.2,0.3"])
    assert len(Joint(made, clock=lambda: next(times))._tried["optimizer", "sgd"]) == 1
