"""The descriptions of trials: rank, end and command, published again only where they changed."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from orchestrator.journal.events import Published
from orchestrator.journal.file import Journal
from orchestrator.journal.record import read_sweep
from orchestrator.tracking.trial_notes import trial_notes
from tests.simulated import simulated_sweep


def of(notes: list[Published], index: int) -> str:
    (text,) = [event.text or "" for event in notes if event.run.endswith(f"/{index}")]
    return text


def test_a_description_says_rank_end_and_command(tmp_path: Path) -> None:
    record = read_sweep(simulated_sweep(tmp_path / "sim-00000000", trials=40, seed=3))
    notes = list(trial_notes(record))
    assert len(notes) == 40
    best = record.opened.uid and max(
        (trial for trial in record.trials.values() if trial.value is not None), key=lambda trial: trial.value or 0.0
    )
    ranked = sum(trial.value is not None for trial in record.trials.values())
    assert of(notes, best.index).startswith(f"**Rank 1 of {ranked}** by `val/accuracy`: {best.value:.6g} at epoch ")
    assert f"orchestrator train from=sim-00000000/{best.index}" in of(notes, best.index)
    diverged = next(trial for trial in record.trials.values() if trial.state == "diverged")
    assert of(notes, diverged.index).startswith("Diverged: a loss was not finite")
    assert "train/loss is nan at step 37" in of(notes, diverged.index)
    assert "Rank" not in of(notes, diverged.index)
    assert all(event.sha256 == hashlib.sha256((event.text or "").encode()).hexdigest() for event in notes)


def test_what_has_not_changed_is_not_published_again(tmp_path: Path) -> None:
    folder = simulated_sweep(tmp_path / "sim-00000000", trials=12)
    first = list(trial_notes(read_sweep(folder)))
    with contextlib.closing(Journal(folder / "journal.sqlite")) as journal:
        for event in first[1:]:
            journal.append(event)
        journal.commit()
    assert list(trial_notes(read_sweep(folder))) == first[:1]


def test_an_error_text_stays_text(tmp_path: Path) -> None:
    record = read_sweep(simulated_sweep(tmp_path / "sim-00000000", trials=4))
    record.trials[0].reason = "```\n<script>alert(1)</script>\x1b[2J https://me:hunter22@host " + "x" * 20_000
    text = of(list(trial_notes(record)), 0)
    assert "```\n'''\n<script>" in text, "the code block that it stands in does not end early"
    assert "hunter22" not in text
    assert "\x1b" not in text
    assert len(text) < 2_000
