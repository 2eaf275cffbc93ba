"""The claims of a sweep's experiment as a table."""

from __future__ import annotations

import pytest

from orchestrator.reports.data import SweepData, load
from orchestrator.reports.figures.claims import figure
from tests.reports.made import sweep, trial
from tests.simulated import simulated_sweep

LEARNS = {"id": "S-learns", "lecture": "004 L1", "says": "it learns", "left": {"metric": "val/accuracy"}}
CLAIMS = [
    LEARNS | {"at_least": 0.1, "margin": 0.05},
    LEARNS | {"id": "S-perfect", "says": "it is <b>perfect</b>", "at_least": 1.0},
    LEARNS | {"id": "S-nothing", "left": {"metric": "val/accuracy", "of": {"epochs": 99}}, "at_most": 0.5},
]


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> SweepData:
    """Three seeds of one configuration."""
    folder = tmp_path_factory.mktemp("runs") / "sim-00000000"
    return load(simulated_sweep(folder, trials=3, repeat=3, seed=3, epochs=8, stops=False, claims=CLAIMS))


def test_each_claim_has_its_row_in_the_words_of_the_command(claimed: SweepData) -> None:
    made = figure(claimed)
    assert made is not None
    assert made.html is not None
    assert made.text.startswith("3 claims: 1 hold, 1 do not hold, 1 undecided. Left and right (with its margin): ")
    rows = made.html.split("<tr>")[2:]
    for row, cells in zip(
        rows,
        [
            ("S-learns", "it learns", "holds", "&gt;= 0.1 +0.05", "3", "004 L1"),
            ("S-perfect", "it is &lt;b&gt;perfect&lt;/b&gt;", "does not hold", "&gt;= 1", "3", "004 L1"),
            ("S-nothing", "it learns", "undecided", "there is no trial for", "", "004 L1"),
        ],
        strict=True,
    ):
        assert [cell for cell in cells if f">{cell}" not in row and f";{cell}" not in row] == []


def test_a_sweep_without_claims_has_no_such_table() -> None:
    assert figure(sweep(trial(0, 0.5))) is None
