"""A sampler of a user's own that suggests configurations again, through a whole sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.base.layout import JOURNAL
from orchestrator.base.rights import Rights, granted
from orchestrator.cli import main
from orchestrator.journal.record import read_sweep
from orchestrator.verify import verify

OWN_SAMPLER = '''
"""Suggests each point of the space twice, as for a noisy objective."""

from dataclasses import dataclass

from orchestrator.scheduling.samplers import Sampler


@dataclass(frozen=True)
class Twice:
    repeats: bool = True

    def problems(self, space, trials):
        return []

    def limit(self, space, trials):
        return trials

    def start(self, space, *, seed, mode, first=0):
        return Running(list(space.grid()))


class Running(Sampler):
    def __init__(self, points):
        self.points = points

    def suggest(self, index):
        return dict(self.points[index // 2 % len(self.points)])
'''


@pytest.mark.usefixtures("ray_cluster")
def test_a_sampler_may_repeat_configurations_if_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "sampler").mkdir(parents=True)
    (tmp_path / "mine" / "sampler" / "twice.yaml").write_text("_target_: own_sampler.Twice\n")
    (tmp_path / "mine" / "own_sampler.py").write_text(OWN_SAMPLER)
    own = ["--config-dir", "mine", "sampler=twice", "allowed_targets=[own_sampler]"]
    small = ["data=synthetic", "model.width=12", "batch_size=16", "optimizer.lr=0.01,0.1", "epochs=2"]
    small += ["max_concurrent=1"]
    assert main(["launch", *own, *small, "trials=5", "keep_weights=3"]) == 0
    (folder,) = (path.parent for path in Path("runs").glob(f"*/{JOURNAL}"))
    record = read_sweep(folder)
    assert [trial.params["optimizer.lr"] for trial in record.trials.values()] == [0.01, 0.01, 0.1, 0.1, 0.01]
    assert [trial.config_index for trial in record.trials.values()] == [0, 1, 2, 3, 4]
    assert len(record.summaries()) == 5, "each is a configuration of its own"
    assert len(list(folder.glob("trials/*/best.safetensors"))) == 3
    assert verify(folder).ok
    assert main(["launch", *own, *small, "trials=2", "sampler.repeats=false", "name=strict"]) == 7
    (strict,) = Path("runs").glob("strict-*")
    with granted(Rights(("own_sampler",))):
        assert verify(strict).violated == [12]
    assert verify(strict).ok, "a record gives no rights: what its sampler would suggest is not checked"
