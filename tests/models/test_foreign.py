"""Names of weights in other libraries."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from torch import nn

from models.foreign import by_rules, same_names, tables
from models.mlp import linear


def model() -> nn.Module:
    return nn.ModuleDict({"stem": nn.Linear(1, 1), "stage2": nn.Sequential(nn.Linear(1, 1, bias=False))})


def test_the_first_rule_that_matches_all_of_a_name_renames_it() -> None:
    table = by_rules(
        (r"stage(\d+)\.(\d+)\.(.*)", lambda match: f"layer{int(match[1]) - 1}.{match[2]}.{match[3]}"),
        (r"stem\.weight", "conv1.weight"),
        (r"stem\.(.*)", r"bn1.\1"),
        (r"stage", "never: it does not match all of a name"),
    )

    assert table(model()) == {
        "stem.weight": "conv1.weight",
        "stem.bias": "bn1.bias",
        "stage2.0.weight": "layer1.0.weight",
    }


def test_a_name_without_a_rule_stays() -> None:
    assert by_rules()(model()) == {name: name for name in ("stem.weight", "stem.bias", "stage2.0.weight")}


def test_tables_stand_in_the_file_of_the_family(monkeypatch: pytest.MonkeyPatch) -> None:
    table = by_rules()
    module = ModuleType("family_for_test")

    def net() -> None: ...

    def other() -> None: ...

    net.__module__ = other.__module__ = module.__name__
    module.FOREIGN = {"net": {"timm": table}}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    assert tables(net) == {"timm": table}
    assert tables(other) == {}
    assert tables(linear) == {}


def test_counters_may_be_missing_in_a_file_and_nothing_else() -> None:
    names = ["conv.weight", "bn.weight", "bn.num_batches_tracked"]

    assert same_names(names, ["bn.weight", "conv.weight", "fc.weight"])
    assert not same_names(names, ["conv.weight", "bn.num_batches_tracked"])
