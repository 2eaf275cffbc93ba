from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.cli import main

OWN_MODEL = '''
"""A linear model that fails once, where it is told to."""

import os
from pathlib import Path

import torch


class Own(torch.nn.Module):
    def __init__(self, size, num_classes, stumbles, marker):
        super().__init__()
        self.stumbles, self.marker = stumbles, Path(marker)
        self.layer = torch.nn.Linear(size, num_classes)

    def forward(self, images):
        in_a_trial = self.training and not images.is_meta and os.environ.get("ORCHESTRATOR_DRIVER") is None
        if in_a_trial and self.stumbles and not self.marker.exists():
            self.marker.touch()
            raise RuntimeError("stumbled")
        return self.layer(images.flatten(1))


def own(*, num_classes: int, in_channels: int, image_size: tuple[int, int], norm=None, activation=None,
        stumbles: bool = False, marker: str = "") -> torch.nn.Module:
    return Own(in_channels * image_size[0] * image_size[1], num_classes, stumbles, marker)
'''


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[Path, Path]:
    """(runs folder, copy of it) of a sweep of which a trial completed, one stumbled first, one was stopped and one diverged."""
    folder = tmp_path_factory.mktemp("verified")
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "own_stumbling.py").write_text(OWN_MODEL)
    (folder / "mine" / "model" / "own.yaml").write_text("_target_: own_stumbling.own\nstumbles: false\nmarker: ''\n")
    own = ["--config-dir", "mine", "model=own", "allowed_targets=[own_stumbling]", f"model.marker={folder / 'marker'}"]
    space = ["model.stumbles=true,false", "optimizer.lr=0.05,0.001,3e38", "sampler=grid"]
    stops = ["scheduler=asha", "scheduler.grace_epochs=2", "scheduler.reduction_factor=2"]
    keys = [
        "name=good",
        "data=synthetic",
        "data.noise=1.5",
        "epochs=3",
        "batch_size=16",
        "report_every_s=0",
        "max_concurrent=1",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ORCHESTRATOR_DRIVER", "1")  # the model stumbles in workers only
        patch.setenv("ORCHESTRATOR_SETTINGS", str(folder / "no-settings.yaml"))
        assert main(["launch", *own, *space, *stops, *keys]) == 0
    shutil.copytree(folder / "runs", folder / "pristine")
    return folder / "runs", folder / "pristine"
