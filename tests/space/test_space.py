"""Domains, conditions, counting and grids; expectations worked out by hand."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest

from orchestrator.space import Choice, Condition, Domain, Interval, Parameter, Range, Space

OPTIMIZER = Parameter("optimizer", Choice(("sgd", "adam")))
SGD = Condition("optimizer", ("sgd",))
ADAM = Condition("optimizer", ("adam",))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Choice(()), "at least one value"),
        (lambda: Choice((1, 1)), "has 1 twice"),
        (lambda: Choice((1, 1.0)), "has 1 twice"),
        (lambda: Choice((1, "a")), "mixes numbers and text"),
        (lambda: Choice((True, 0)), "mixes numbers and true/false"),
        (lambda: Choice((1.0, math.inf)), "finite"),
        (lambda: Range(1, 5, 0), "step must be above 0, got 0"),
        (lambda: Range(5, 1, -1), "step must be above 0, got -1"),
        (lambda: Range(5, 5), "below stop"),
        (lambda: Range(1, 5, 10), "step 10 is larger than the range from 1 to 5"),
        (lambda: Range(0, math.nan), "stop must be finite"),
        (lambda: Interval(2, 1), "low 2 is above high 1"),
        (lambda: Interval(1, 1), "low and high are both 1"),
        (lambda: Interval(0, 1, log=True), "needs low > 0, got 0"),
        (lambda: Interval(-1, 1, log=True), "needs low > 0"),
        (lambda: Interval(0, math.inf), "high must be finite"),
        (lambda: Interval(0.5, 2, integer=True), "needs integer ends"),
    ],
)
def test_domains_that_make_no_sense(make: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


def test_null_goes_with_any_kind() -> None:
    assert Choice((None, 0.5)).size == 2


def test_range_excludes_its_end_and_steps_exactly() -> None:
    assert list(Range(20, 57, 12).grid()) == [20, 32, 44, 56]
    assert list(Range(20, 56, 12).grid()) == [20, 32, 44]
    assert list(Range(0.1, 0.5, 0.1).grid()) == [0.1, 0.2, 0.3, 0.4]
    assert Range(0, 1).ends() == (0,)
    assert Range(1, 10**9).size == 10**9 - 1


def test_range_contains_its_values_and_no_others() -> None:
    steps = Range(0.1, 0.5, 0.1)
    assert steps.contains(0.1 + 0.2)
    assert not steps.contains(0.5)
    assert not steps.contains(0.15)
    assert not Range(0, 5).contains(True)


@pytest.mark.parametrize(
    "domain",
    [
        Choice(("a", "b", "c")), Range(20, 57, 12), Range(0.1, 0.5, 0.1), Interval(-1, 3), Interval(1e-4, 1, log=True),
        Interval(1, 3, integer=True), Interval(1, 1000, log=True, integer=True),
    ],
    ids=str,
)  # fmt: skip
def test_unit_points_fall_inside_and_reach_both_ends(domain: Domain) -> None:
    almost = math.nextafter(1, 0)
    values = [domain.from_unit(u) for u in (0.0, 0.25, 0.5, 0.75, almost, 1.0)]
    assert all(domain.contains(value) for value in values)
    assert values[0] == domain.ends()[0]
    assert values[-1] == (domain.ends()[-1])
    assert str(domain)
    assert domain.describe()


@pytest.mark.parametrize(
    ("domain", "value", "own"),
    [
        (Range(0.1, 0.5, 0.1), 0.1 + 0.2, 0.3),
        (Range(0.3, 0.9, 0.1), 0.1 + 0.2, 0.3),
        (Range(0.3, 0.9, 0.1), 0.3 - 5e-17, 0.3),
        (Range(0, 5), 3.0, 3),
        (Choice((1, 2)), 2.0, 2),
        (Choice((None, "a")), None, None),
        (Interval(1, 9, integer=True), 3.0, 3),
        (Interval(0.5, 2), 1, 1.0),
    ],
    ids=str,
)
def test_a_value_respelled_by_floats_is_found(domain: Domain, value: Any, own: Any) -> None:
    assert domain.contains(value)
    assert (domain.nearest(value), type(domain.nearest(value))) == (own, type(own))


def test_a_large_range_holds_integers_alone() -> None:
    assert not Range(1, 10**9).contains(999_999_998.5)


def test_ends_are_exact() -> None:
    """exp(log(0.001)) is 0.0010000000000000002."""
    lr = Interval(0.001, 0.3, log=True)
    assert (lr.grid(3)[0], lr.grid(3)[-1]) == (0.001, 0.3)
    assert (lr.from_unit(0.0), lr.from_unit(1.0)) == (0.001, 0.3)
    assert lr.ends() == (0.001, 0.3)
    thirds = Interval(0.1, 0.7)
    assert (thirds.grid(4)[0], thirds.grid(4)[-1], thirds.from_unit(1.0)) == (0.1, 0.7, 0.7)


def test_log_interval_is_uniform_in_the_exponent() -> None:
    assert Interval(1e-4, 1, log=True).from_unit(0.5) == pytest.approx(1e-2)


def test_integers_of_an_interval_are_equally_likely() -> None:
    domain = Interval(1, 3, integer=True)
    drawn = [domain.from_unit((place + 0.5) / 300) for place in range(300)]
    assert [drawn.count(value) for value in (1, 2, 3)] == [100, 100, 100]


def test_grid_of_an_interval_has_both_ends() -> None:
    assert list(Interval(1e-4, 1, log=True).grid(5)) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert list(Interval(0, 1).grid(3)) == [0.0, 0.5, 1.0]
    assert list(Interval(1, 100, log=True).grid(1)) == pytest.approx([10])
    assert list(Interval(1, 3, integer=True).grid(9)) == [1, 2, 3]
    with pytest.raises(ValueError, match="needs a number of points"):
        Interval(0, 1).grid()


def test_parameters_stand_after_what_they_depend_on() -> None:
    momentum = Parameter("optimizer.momentum", Choice((0.0, 0.9)), (SGD,))
    nesterov = Parameter("optimizer.nesterov", Choice((True, False)), (Condition("optimizer.momentum", (0.9,)),))
    space = Space((nesterov, momentum, OPTIMIZER))
    assert space.keys == ("optimizer", "optimizer.momentum", "optimizer.nesterov")
    assert list(space.grid()) == [
        {"optimizer": "sgd", "optimizer.momentum": 0.0},
        {"optimizer": "sgd", "optimizer.momentum": 0.9, "optimizer.nesterov": True},
        {"optimizer": "sgd", "optimizer.momentum": 0.9, "optimizer.nesterov": False},
        {"optimizer": "adam"},
    ]
    assert space.count() == 4


def test_circle_is_named() -> None:
    one = Parameter("a", Choice((1, 2)), (Condition("b", (1,)),))
    two = Parameter("b", Choice((1, 2)), (Condition("a", (1,)),))
    with pytest.raises(ValueError, match="circle: a -> b -> a"):
        Space((one, two))
    with pytest.raises(ValueError, match="a depends on b=1, but b is not searched"):
        Space((one,))


def test_one_key_may_have_a_domain_for_each_choice() -> None:
    fast = Parameter("optimizer.lr", Interval(1e-3, 1, log=True), (SGD,))
    slow = Parameter("optimizer.lr", Interval(1e-4, 1e-1, log=True), (ADAM,))
    space = Space((fast, slow, OPTIMIZER))
    assert space.keys == ("optimizer", "optimizer.lr")
    assert [space.name(p) for p in space.parameters] == [
        "optimizer", "optimizer.lr (optimizer=sgd)", "optimizer.lr (optimizer=adam)",
    ]  # fmt: skip
    assert space.from_unit([0.0, 0.0, 0.9]) == {"optimizer": "sgd", "optimizer.lr": pytest.approx(1e-3)}
    assert space.from_unit([0.9, 0.9, 0.0]) == {"optimizer": "adam", "optimizer.lr": pytest.approx(1e-4)}
    assert space.count() is None
    assert space.count(points=5) == 10
    with pytest.raises(ValueError, match=r"optimizer.lr is searched twice"):
        Space((fast, Parameter("optimizer.lr", Interval(0, 1)), OPTIMIZER))


def test_contains_says_what_is_wrong() -> None:
    momentum = Parameter("optimizer.momentum", Choice((0.0, 0.9)), (SGD,))
    space = Space((OPTIMIZER, momentum))
    assert space.contains({"optimizer": "sgd", "optimizer.momentum": 0.9}) == []
    assert space.contains({"optimizer": "adam"}) == []
    assert space.contains({"optimizer": "adam", "optimizer.momentum": 0.9}) == ["optimizer.momentum does not apply"]
    assert space.contains({"optimizer": "sgd"}) == ["optimizer.momentum is missing"]
    assert space.contains({"optimizer": "rprop"}) == ["optimizer=rprop is outside sgd, adam"]
    assert "seed is not searched" in space.contains({"optimizer": "adam", "seed": 1})


def test_huge_spaces_are_counted_not_enumerated() -> None:
    space = Space(tuple(Parameter(f"k{place}", Range(0, 10**6)) for place in range(50)))
    assert space.count() == 10**300
    assert next(space.grid()) == {f"k{place}": 0 for place in range(50)}


def test_unreachable_interval_does_not_make_a_space_continuous() -> None:
    never = Parameter("b", Interval(0, 1), (Condition("a", (7,)),))
    assert Space((Parameter("a", Choice((1, 2))), never)).count() == 2


@pytest.mark.parametrize("seed", range(20))
def test_count_equals_the_length_of_the_grid(seed: int) -> None:
    """Chains and forks of conditions on small domains, all combinations of which are enumerated."""
    shapes = list(itertools.product(range(3), repeat=3))
    a, b, c = shapes[seed]
    space = Space(
        (
            Parameter("a", Choice((0, 1, 2))),
            Parameter("b", Range(0, 4), (Condition("a", tuple({0, a})),)),
            Parameter("c", Choice(("x", "y")), (Condition("b", (b, 3)), Condition("a", (0, 1)))),
            Parameter("d", Interval(1, 3, integer=True), (Condition("a", (c,)),)),
            Parameter("e", Choice((True, False)), (Condition("c", ("x",)),)),
            Parameter("e", Choice((None,)), (Condition("c", ("y",)), Condition("d", (2,)))),
        )
    )
    configurations = [json.dumps(params, sort_keys=True) for params in space.grid()]
    assert space.count() == len(configurations) == len(set(configurations))
    assert all(space.contains(json.loads(text)) == [] for text in configurations)


@pytest.mark.parametrize("width", [Interval(0, 1), Range(0, 3)])
def test_completions_are_counted_from_any_place(width: Domain) -> None:
    space = Space(
        (
            OPTIMIZER,
            Parameter("optimizer.lr", Choice((0.1, 0.2, 0.3)), (SGD,)),
            Parameter("width", width, (ADAM,)),
            Parameter("bias", Choice((True, False))),
        )
    )
    sgd, adam = {"optimizer": "sgd"}, {"optimizer": "adam"}
    discrete = isinstance(width, Range)
    assert space.completions({}, 0) == space.count() == (6 + 6 if discrete else None)
    assert space.completions(sgd, 1) == 6
    assert space.completions({**sgd, "optimizer.lr": 0.2}, 2) == 2
    assert space.completions(adam, 1) == space.completions(adam, 2) == (6 if discrete else None)
    assert space.completions({**adam, "width": 1}, 3) == 2
    assert space.completions({**adam, "width": 1, "bias": True}, 4) == 1


def test_empty_space_has_one_configuration() -> None:
    assert Space().count() == 1
    assert list(Space().grid()) == [{}]
    assert Space().from_unit([]) == {}
    assert Space().is_finite


def test_from_unit_wants_a_coordinate_for_each_parameter() -> None:
    with pytest.raises(ValueError, match="needs 1 coordinates, got 2"):
        Space((OPTIMIZER,)).from_unit([0.1, 0.2])


def test_json_round_trip() -> None:
    space = Space(
        (
            OPTIMIZER,
            Parameter("optimizer.lr", Interval(1e-4, 1, log=True), (SGD,)),
            Parameter("model.depth", Range(20, 57, 12)),
            Parameter("model.size", Choice(([1, 2], [3, 4]))),
            Parameter("model.width", Interval(1, 8, integer=True)),
            Parameter("model.bias", Choice((True, None))),
        )
    )
    assert Space.decode(json.loads(json.dumps(space.encode()))) == space
    assert [p.describe() for p in space.parameters][:3] == [
        "optimizer: sgd, adam",
        "optimizer.lr: 0.0001 to 1 (log), when optimizer=sgd",
        "model.depth: 20, 32, 44, 56",
    ]
