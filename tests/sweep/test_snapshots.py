"""A sweep that keeps snapshots and averaged weights: `verify` misses any of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.base.layout import AVERAGE, snapshot, trial_folder
from orchestrator.cli import main
from orchestrator.journal.finding import find_sweep


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def changed(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(contents)


def of_another(path: Path) -> None:
    path.write_bytes((path.parents[1] / "00001" / path.name).read_bytes())


def one_too_many(path: Path) -> None:
    path.with_name(snapshot(4)).write_bytes(path.read_bytes())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    runs = tmp_path_factory.mktemp("snapshots")
    cycles = ["epochs=6", "snapshots=3", "schedule=cyclic_cosine", "schedule.cycles=3", "average_from=0.5"]
    tiny = ["search=none", "data=synthetic", "model.width=8", "optimizer.lr=0.01,0.02", "sampler=grid", "tracking=none"]
    assert main(["launch", "name=cycles", f"runs_dir={runs}", *cycles, *tiny]) == 0
    return find_sweep(runs, "cycles")


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        (snapshot(2), Path.unlink, "snapshot-2.safetensors is not there; expected weights at the end of each cycle"),
        (
            snapshot(1),
            cut,
            "snapshot-1.safetensors cannot be read (its contents do not match the SHA-256 in its header)",
        ),
        (AVERAGE, changed, f"{AVERAGE} cannot be read (its contents do not match the SHA-256 in its header)"),
        (snapshot(3), of_another, "snapshot-3.safetensors is of trial"),
        (snapshot(1), one_too_many, "snapshot-4.safetensors is there; expected 3 snapshots"),
    ],
    ids=["gone", "cut", "changed", "of another", "one too many"],
)
def test_verify_misses_what_is_kept_beside_the_best_weights(
    sweep: Path, name: str, damage: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trial_folder(sweep, 0) / name
    before = path.read_bytes()
    where = ["cycles", "--runs-dir", str(sweep.parent)]
    damage(path)
    try:
        assert main(["verify", *where]) == 7
        assert said in " ".join(capsys.readouterr().out.split())
    finally:
        path.write_bytes(before)
        path.with_name(snapshot(4)).unlink(missing_ok=True)
    assert main(["verify", *where]) == 0
