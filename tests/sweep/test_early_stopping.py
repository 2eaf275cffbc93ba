"""A sweep whose trials end by their own rule: recorded as completed, and checked by a second reading of the rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.base.layout import JOURNAL
from orchestrator.base.records import State
from orchestrator.cli import main
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import read_sweep
from orchestrator.verify.evidence import SweepEvidence
from orchestrator.verify.journal_file import JournalFile
from orchestrator.verify.of_journal import epochs_in_order


@pytest.mark.usefixtures("ray_cluster")
def test_trials_that_stop_early_have_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rule = ["early_stopping=patience", "early_stopping.patience=2", "epochs=40"]
    tiny = [
        "data=synthetic",
        "data.noise=5",
        "model.width=8",
        "optimizer.lr=0.05,0.02",
        "sampler=grid",
        "tracking=none",
    ]
    assert main(["launch", "name=early", *rule, *tiny, "report_every_s=0"]) == 0
    folder = find_sweep(Path("runs"), "early")
    for trial in read_sweep(folder, keep_epochs=True).trials.values():
        values = [epoch["metrics"]["val/accuracy"] for epoch in trial.epochs]
        assert trial.state is State.COMPLETED
        assert len(values) == values.index(max(values)) + 1 + 2 < 40
        assert trial.reason == f"stopped early after epoch {len(values)}: no improvement for 2 epochs"
    assert main(["verify", "early"]) == 0

    journal = JournalFile(folder / JOURNAL)
    for epochs in (1, 3):
        for trial_read in SweepEvidence(folder, journal).trials.values():
            config = trial_read.suggested.config
            other = {**config, "early_stopping": {**config["early_stopping"], "patience": epochs}}
            trial_read.__dict__["suggested"] = replace(trial_read.suggested, config=other)  # where it is kept once read
            (found,) = epochs_in_order(trial_read)
            assert found.found == f"it completed with epoch {trial_read.last_epoch}"
    journal.close()
