"""The schema of a YAML is its target's signature; what does not fit is told, what is not allowed is not even imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from orchestrator.base.build import build, check, convert, describe, mismatch, parameters
from orchestrator.base.rights import Rights, granted
from orchestrator.base.targets import resolve

MODULE = """
from typing import Literal

def make(*, params, lr: float, steps: int | None = None, kind: Literal["mean", "sum"] = "mean",
         size: tuple[int, int] = (1, 2), flag: bool = False, names: list[str] = ()):
    return {"params": params, "lr": lr, "steps": steps, "kind": kind, "size": size, "flag": flag, "names": names}

class Holder:
    def __init__(self, width: int = 3):
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.width = width

def anything(**own):
    return own

def unannotated(*, what):
    return what
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_build_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_build_module", raising=False)
    with granted(Rights(("my_build_module",))):
        yield "my_build_module"


def spec(module: str, **own: Any) -> dict[str, Any]:
    return {"_target_": f"{module}.make", "lr": 0.1, **own}


def told(module: str, **own: Any) -> list[str]:
    found = check("optimizer", spec(module, **own), provided=["params"])
    return [str(problem) for problem in found]


def test_empty_spec_builds_nothing() -> None:
    assert build({}) is None
    assert check("norm", {}) == []


def test_builds_with_what_is_provided_and_leaves_out_what_the_target_does_not_take(module: str) -> None:
    made = build(spec(module, size=[3, 4], lr=1), params="weights", epochs=5)
    assert made["params"] == "weights"
    assert made["size"] == (3, 4)
    assert isinstance(made["lr"], float)


def test_keyword_catch_all_receives_everything_provided_but_no_unlisted_key(module: str) -> None:
    target = f"{module}.anything"
    assert build({"_target_": target}, epochs=5) == {"epochs": 5}
    assert "unknown key" in str(check("x", {"_target_": target, "a": 1})[0])


def test_value_errors_of_the_target_come_through(module: str) -> None:
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        build({"_target_": f"{module}.Holder", "width": 0})


def test_all_problems_are_told_at_once(module: str) -> None:
    assert told(module, lr="abc", steps=True, kind="men", size=[1, 2, 3], flag=1, namse=["a"], params=[1]) == [
        "optimizer.lr=abc: must be a number",
        "optimizer.steps=True: must be an integer or null",
        "optimizer.kind=men: must be one of mean, sum",
        "optimizer.size=[1, 2, 3]: must be a list of 2: an integer, an integer",
        "optimizer.flag=1: must be true or false",
        "optimizer.namse=['a']: unknown key; did you mean optimizer.names? known: flag, kind, lr, names, size, steps",
        "optimizer.params=[1]: is supplied by the training engine and cannot be set",
    ]


def test_required_argument(module: str) -> None:
    found = check("optimizer", {"_target_": f"{module}.make"}, provided=["params"])
    assert [str(p) for p in found] == ["optimizer.lr: is missing; write optimizer.lr=VALUE, a number"]


def test_empty_text_and_null_are_visible(module: str) -> None:
    assert told(module, lr="") == ["optimizer.lr='': must be a number"]
    assert told(module, lr=None) == ["optimizer.lr=null: must be a number"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_are_finite(module: str, value: float) -> None:
    assert told(module, lr=value) == [f"optimizer.lr={value}: must be finite"]


@pytest.mark.parametrize(
    "value",
    [
        {"_target_": "os.system"}, {"a": {"_target_": "os.system"}}, [{"_target_": "os.system"}],
        [["x", {"b": [{"_target_": 3}]}]],
    ],
)  # fmt: skip
def test_a_target_within_an_argument_is_refused_however_deep(module: str, value: Any) -> None:
    assert told(module, names=value) == [f"optimizer.names={value}: a _target_ inside an argument is not built"]
    spec_of_any = {"_target_": f"{module}.unannotated", "what": value}
    assert [p.why for p in check("x", spec_of_any)] == ["a _target_ inside an argument is not built"]


def test_parameters_leave_out_what_is_provided(module: str) -> None:
    assert list(parameters(resolve(f"{module}.make"), ["params", "lr"])) == [
        "steps", "kind", "size", "flag", "names",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "annotation", "fits"),
    [
        (1, int, True), (True, int, False), (1.0, int, False), (1, float, True), (True, float, False), ("1", float, False),
        (True, bool, True), (1, bool, False), (None, int | None, True), (None, int, False), ("a", Literal["a", "b"], True),
        (1, Literal[True], False), ([1, 2], Sequence[int], True), ("ab", Sequence[str], False), ([1, "a"], list[int], False),
        ([1, 2], tuple[int, ...], True), ([1], tuple[int, int], False), ({"a": 1}, dict[str, int], True), (3, Any, True),
        ([1, 2], float | tuple[float, float], True), ("x", Callable[..., Any], False),
    ],
)  # fmt: skip
def test_mismatch(value: object, annotation: Any, fits: bool) -> None:
    assert (mismatch(value, annotation) is None) == fits


def test_convert_only_what_json_has_no_type_for() -> None:
    assert convert([1, 2], tuple[float, ...]) == (1.0, 2.0)
    assert convert([1, 2], list[int]) == [1, 2]
    assert isinstance(convert(1, int | float), int)


def test_describe() -> None:
    assert describe(int | None) == "an integer or null"
    assert describe(list[float]) == "a list of numbers"


@pytest.mark.parametrize(("scale", "std"), [(1.0, 0.01), (3.0, 0.03), (0.1, 0.01)])
def test_a_recorded_factor_of_a_gaussian_builds_the_weights_that_it_built(scale: float, std: float) -> None:
    """Earlier versions recorded `scale` beside `std` and drew normal weights of `scale * std`."""
    recorded = {"_target_": "models.initializers.gaussian.gaussian", "std": std, "scale": scale}
    layer = torch.nn.Linear(30, 20)

    with torch.no_grad():
        build(recorded)(layer, torch.Generator().manual_seed(0), None)

    expected = torch.empty(20, 30).normal_(0, scale * std, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer.weight, expected)
    assert recorded["scale"] == scale


def test_a_former_argument_cannot_be_set_anew() -> None:
    written = {"_target_": "models.initializers.gaussian.gaussian", "std": 0.01, "scale": 3.0}
    assert [str(problem) for problem in check("init", written)] == [
        "init.scale=3.0: unknown key; known: bias, bias_value, std"
    ]
