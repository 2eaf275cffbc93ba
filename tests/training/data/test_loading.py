from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.training.data import load
from orchestrator.training.data.loading import absolute_paths, forget

DIGITS = {"_target_": "orchestrator.training.data.digits.digits", "val_fraction": 0.2, "split_seed": 0}
SYNTHETIC = "orchestrator.training.data.synthetic.synthetic"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget()


def test_the_same_spec_gives_the_same_object(tmp_path: Path) -> None:
    first = load(DIGITS, cache=tmp_path)
    assert load(dict(reversed(DIGITS.items())), cache=tmp_path) is first
    assert load({**DIGITS, "split_seed": 1}, cache=tmp_path) is not first


def test_a_target_may_return_a_dataset_of_its_own(tmp_path: Path) -> None:
    data = load({"_target_": SYNTHETIC, "num_examples": 50}, cache=tmp_path / "unused")
    assert len(data.images) == 50
    assert data.entry == ""
    assert not (tmp_path / "unused").exists()


def test_with_an_entry_the_files_are_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = load(DIGITS, cache=tmp_path).entry
    forget()

    def gone() -> Path:
        raise NotReadyError("looked")

    monkeypatch.setattr("orchestrator.training.data.digits._packaged_file", gone)
    assert load(DIGITS, cache=tmp_path, entry=entry).fingerprint
    forget()
    with pytest.raises(NotReadyError, match="looked"):
        load(DIGITS, cache=tmp_path, entry="digits-0000000000000000")  # not on this machine


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    load(DIGITS, cache=tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(1797, 1797)]


@pytest.mark.parametrize("target", ["orchestrator.training.data.splits.check_split", "builtins.dict"])
def test_a_target_that_makes_no_data_set_is_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="_target_"):
        load({"_target_": target, "val_fraction": 0.5, "split_seed": 0}, cache=tmp_path)
    with pytest.raises(ConfigError, match="must return a Dataset or a Source"):
        load({}, cache=tmp_path)


def test_relative_roots_are_resolved_and_others_stay(tmp_path: Path) -> None:
    assert absolute_paths({"root": "images"}, tmp_path) == {"root": str(tmp_path / "images")}
    assert absolute_paths({"root": "/images"}, tmp_path) == {"root": "/images"}
    assert absolute_paths({"root": "~/images"}, tmp_path) == {"root": str(Path.home() / "images")}
    assert absolute_paths({"root": None, "a": 1}, tmp_path) == {"root": None, "a": 1}
    assert absolute_paths({}, tmp_path) == {}
