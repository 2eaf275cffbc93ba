from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data.files import absolute, megabytes, stamps


def test_stamps_hold_path_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(7, 7))
    assert stamps([path]) == [(str(path), 5, 7)]
    with pytest.raises(NotReadyError, match=r"b cannot be read \(No such file or directory\)"):
        stamps([tmp_path / "b"])


def test_a_root_becomes_absolute() -> None:
    assert absolute("~/images") == Path.home() / "images"
    assert absolute("images") == Path.cwd() / "images"
    for root in ("", " ", "a\0b"):
        with pytest.raises(ValueError, match="root must be the path of a folder"):
            absolute(root)


def test_sizes_in_words() -> None:
    assert megabytes(170_498_071) == "170.5 MB"
    assert megabytes(4_542) == "4542 bytes"
