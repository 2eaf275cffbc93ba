"""A sweep with `diagnostics=true`, initializations that vanish and explode, and a trial that diverges: what is told."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from orchestrator.base.layout import PUBLISHED
from orchestrator.base.records import State
from orchestrator.cli import main
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import read_sweep


@pytest.mark.usefixtures("ray_cluster")
def test_health_and_stories_reach_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = ["data=synthetic", "model.hidden=8", "model.width=20", "batch_size=16", "epochs=2", "diagnostics=true"]
    space = ["init=gaussian", "init.std=1e-4,0.3,1e8", "optimizer=sgd", "optimizer.lr=0.01", "sampler=grid"]
    assert main(["launch", "name=story", *net, *space]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "verified: 26/26" in said
    assert re.search(r"next: .*orchestrator show story-[0-9a-f]+/2 where that trial diverged", said)
    assert "; 1 began with exploding signals (init health)" in said

    folder = find_sweep(Path("runs"), "story")
    vanished, fine, exploded = read_sweep(folder).trials.values()
    assert [trial.state for trial in (vanished, fine, exploded)] == [State.COMPLETED, State.COMPLETED, State.DIVERGED]
    healths = [trial.init_health and trial.init_health["verdict"] for trial in (vanished, fine, exploded)]
    assert healths == ["vanishing", "ok", "exploding"]
    # eight layers of 1e8: the fifth of 20 units is beyond 3.4e38
    assert exploded.divergence is not None
    assert exploded.divergence["last_good"] is None
    assert (exploded.divergence["signal"], exploded.divergence["layer"]) == ("outputs", "9")

    with sqlite3.connect("runs/mlflow.db") as db:
        query = "SELECT t.value FROM tags t JOIN tags u USING (run_uuid) WHERE u.key = 'trial_uid' AND u.value = ? AND t.key = ?"

        def tag(index: int, key: str) -> str | None:
            found = db.execute(query, (f"{folder.name}/{index}", key)).fetchone()
            return found and found[0]

        assert tag(0, "init_health") == "vanishing"
        assert tag(0, "init_health_layer") == "3 (outputs)"
        assert (tag(1, "init_health"), tag(1, "init_health_layer"), tag(1, "diverged_at")) == ("ok", None, None)
        assert tag(2, "diverged_at") == "outputs of 9 at epoch 1, step 1, lr 0.01"
        assert "there was no good step before" in (tag(2, "mlflow.note.content") or "")
        of_trial = "JOIN tags t USING (run_uuid) WHERE t.key = 'trial_uid' AND t.value = ?"

        def steps(index: int, key: str) -> list[int]:
            found = db.execute(
                f"SELECT step FROM metrics m {of_trial} AND m.key = ?", (f"{folder.name}/{index}", key)
            ).fetchall()
            return sorted(step for (step,) in found)

        assert steps(1, "layers/3/activation_std") == steps(1, "layers/sign_agreement") == [1, 2]
        assert steps(1, "init/3/update_ratio") == [1]
    db.close()

    for index, page in enumerate((folder / PUBLISHED / f"diagnosis-{index}.html") for index in range(3)):
        shown = [path.read_bytes() for path in Path("runs/artifacts").rglob("diagnosis.html")]
        assert page.exists() == (index != 2), "a trial that diverged keeps no weights"
        assert index == 2 or page.read_bytes() in shown
    assert "with its trained weights" in (folder / PUBLISHED / "diagnosis-1.html").read_text(encoding="utf-8")

    assert main(["show", "story/2"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the outputs of module 9 were not finite first, at learning rate 0.01" in shown
    assert "a smaller initialization" in shown
    assert f"orchestrator diagnose from={folder.name}/2 --initial" in shown
    assert main(["verify", "story", "--deep"]) == 0
