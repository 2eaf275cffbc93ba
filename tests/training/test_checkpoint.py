from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.training import checkpoint
from orchestrator.training.checkpoint import Damaged

TENSORS = {"model/w": torch.arange(6.0).reshape(2, 3), "model/n": torch.tensor(3), "model/empty": torch.zeros(0)}


STATE: dict[str, Any] = {
    "uid": "s/0",
    "fingerprint": "f",
    "config": {},
    "best": (1, 0.5),
    "history": [],
    "optimizer": {"scalars": {}, "param_groups": []},
}


def saved(folder: Path, epoch: int) -> Path:
    return Path(checkpoint.save(folder, epoch, TENSORS, STATE | {"epoch": epoch}).path)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = saved(tmp_path, 12)
    assert path.name.startswith("checkpoint-000012.")
    loaded, notes = checkpoint.load_newest(tmp_path, "s/0")
    assert loaded is not None
    assert loaded.state == STATE | {"epoch": 12, "best": [1, 0.5]}
    assert notes == []
    for name, tensor in TENSORS.items():
        assert torch.equal(loaded.tensors[name], tensor)


def test_strided_and_tied_tensors_are_saved_as_they_look(tmp_path: Path) -> None:
    images = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    path = tmp_path / "file.safetensors"
    tensors = {"a": images, "b": images, "t": images[0, 0].t()}
    checkpoint.write(path, checkpoint.pack(tensors, {"uid": "s/0"}, stamp=True))
    tensors = checkpoint.load(path, uid="s/0").tensors
    assert torch.equal(tensors["a"], images)
    assert torch.equal(tensors["b"], images)
    assert torch.equal(tensors["t"], images[0, 0].t())


def test_newest_two_are_kept_and_nothing_else_is_left(tmp_path: Path) -> None:
    paths = [saved(tmp_path, epoch) for epoch in (1, 2, 10)]
    assert sorted(tmp_path.iterdir()) == sorted(paths[1:])


@pytest.mark.parametrize("tenth", range(10))
def test_truncated_at_any_tenth_is_noticed(tmp_path: Path, tenth: int) -> None:
    saved(tmp_path, 1)
    newest = saved(tmp_path, 2)
    contents = newest.read_bytes()
    newest.write_bytes(contents[: len(contents) * tenth // 10])
    loaded, notes = checkpoint.load_newest(tmp_path, "s/0")
    assert loaded is not None
    assert loaded.state["epoch"] == 1
    assert notes == [f"{newest.name} is not used: its contents do not match the SHA-256 in its name"]


def test_any_flipped_byte_of_a_stamped_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    contents = checkpoint.pack(TENSORS, {"uid": "s/0"}, stamp=True)
    length = int.from_bytes(contents[:8], "little")
    for place in range(len(contents)):
        if contents[place] == ord(" ") and place < 8 + length:
            continue  # white space between the parts of the header says nothing
        path.write_bytes(contents[:place] + bytes([contents[place] ^ 1]) + contents[place + 1 :])
        with pytest.raises(Damaged, match="it"):
            checkpoint.load(path, uid=None)


def test_checkpoint_of_another_trial_or_format_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.safetensors"
    checkpoint.write(path, checkpoint.pack(TENSORS, {"uid": "s/0"}, stamp=True))
    with pytest.raises(Damaged, match="it belongs to trial s/0, not to s/1"):
        checkpoint.load(path, uid="s/1")
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(Damaged, match="its format version is 1, this is 2"):
        checkpoint.load(path, uid="s/0")


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path / "absent", "s/0") == (None, [])


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.safetensors"
    checkpoint.write(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
