from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data.cache import cache_folder, cached, clear_cache, read_entry
from orchestrator.training.data.source import Allocate, Contents, Progress, Source


@dataclass(frozen=True, kw_only=True)
class Counted(Source):
    """Eight 2x2 images; writes a line into `log` each time it is decoded."""

    log: Path
    version: int = 0
    name: str = "counted"
    val_fraction: float = 0.5
    split_seed: int = 0

    def key(self) -> str:
        return str(self.version)

    def decode(self, allocate: Allocate, progress: Progress) -> Contents:
        with open(self.log, "a") as log:
            log.write("decoded\n")
        images = allocate((8, 1, 2, 2))
        images[:] = np.arange(32, dtype=np.uint8).reshape(8, 1, 2, 2)
        progress(8, 8)
        return Contents(images, np.arange(8) % 2, np.array([0] * 4 + [2] * 4, np.uint8), ("a", "b"))


def silent(done: int, total: int) -> None:
    del done, total


def decodings(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_an_entry_is_decoded_once_and_then_mapped(tmp_path: Path) -> None:
    source = Counted(log=tmp_path / "log")
    first = cached(source, tmp_path / "cache", silent)
    second = cached(source, tmp_path / "cache", silent)
    assert decodings(tmp_path / "log") == 1
    assert first[1:] == second[1:]
    assert second[0].images.tolist() == np.arange(32).reshape(8, 1, 2, 2).tolist()
    assert second[0].classes == ("a", "b")
    assert names(tmp_path / "cache") == [first[2]]


def test_another_key_is_another_entry(tmp_path: Path) -> None:
    entries = {cached(Counted(log=tmp_path / "log", version=v), tmp_path / "cache", silent)[2] for v in (0, 1)}
    assert sorted(entries) == names(tmp_path / "cache")
    assert len(entries) == 2


def test_who_writes_into_the_images_changes_nobody_elses(tmp_path: Path) -> None:
    source = Counted(log=tmp_path / "log")
    mine = cached(source, tmp_path / "cache", silent)[0].images
    mine[:] = 99
    assert cached(source, tmp_path / "cache", silent)[0].images.max() == 31


def _cut(entry: Path) -> None:
    os.truncate(entry / "images.npy", (entry / "images.npy").stat().st_size - 1)


def _lengthen(entry: Path) -> None:
    with open(entry / "images.npy", "ab") as file:
        file.write(b"x")


def _empty(entry: Path) -> None:
    (entry / "images.npy").write_bytes(b"")


def _huge_header(entry: Path) -> None:
    with open(entry / "images.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 1, 2, 2)})


def _objects(entry: Path) -> None:
    np.save(entry / "labels.npy", np.array([object()] * 8), allow_pickle=True)


def _other_count(entry: Path) -> None:
    np.save(entry / "labels.npy", np.arange(7))


def _no_json(entry: Path) -> None:
    (entry / "entry.json").write_text("{")


def _other_format(entry: Path) -> None:
    described = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps(described | {"format": 0}))


def _gone(entry: Path) -> None:
    (entry / "part.npy").unlink()


@pytest.mark.parametrize(
    "damage", [_cut, _lengthen, _empty, _huge_header, _objects, _other_count, _no_json, _other_format, _gone]
)
def test_a_damaged_entry_is_built_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    source, folder = Counted(log=tmp_path / "log"), tmp_path / "cache"
    entry = cached(source, folder, silent)[2]
    damage(folder / entry)
    assert read_entry(folder, entry) is None
    assert cached(source, folder, silent)[0].images.max() == 31
    assert decodings(tmp_path / "log") == 2
    assert names(folder) == [entry]


def test_what_a_killed_process_left_is_no_entry_and_is_removed(tmp_path: Path) -> None:
    source, folder = Counted(log=tmp_path / "log"), tmp_path / "cache"
    entry = cached(source, folder, silent)[2]
    (folder / entry).rename(folder / f"{entry}.tmp-0123abcd")
    cached(source, folder, silent)
    assert decodings(tmp_path / "log") == 2
    assert names(folder) == [entry]


def test_a_failed_decoding_leaves_nothing(tmp_path: Path) -> None:
    class Broken(Counted):
        def decode(self, allocate: Allocate, progress: Progress) -> Contents:
            allocate((8, 1, 2, 2))
            raise NotReadyError("a.jpg is damaged")

    with pytest.raises(NotReadyError, match=r"a\.jpg is damaged"):
        cached(Broken(log=tmp_path / "log"), tmp_path / "cache", silent)
    assert names(tmp_path / "cache") == []


def test_processes_that_start_together_decode_once(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_cache import Counted, cached, silent

class Slow(Counted):
    def decode(self, allocate, progress):
        time.sleep(0.5)
        return super().decode(allocate, progress)

print(cached(Slow(log=Path({str(tmp_path / "log")!r})), Path({str(tmp_path / "cache")!r}), silent)[1])
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], told
    assert len({out for out, _ in told}) == 1
    assert decodings(tmp_path / "log") == 1


def test_labels_of_a_source_are_checked(tmp_path: Path) -> None:
    class Wrong(Counted):
        def decode(self, allocate: Allocate, progress: Progress) -> Contents:
            contents = super().decode(allocate, progress)
            return Contents(contents.images, np.arange(8) % 3, contents.part, contents.classes)

    with pytest.raises(NotReadyError, match="counted: labels must be from 0 to 1, row 2 is 2"):
        cached(Wrong(log=tmp_path / "log"), tmp_path / "cache", silent)


def test_clearing_frees_the_bytes_and_touches_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    contents, _, entry = cached(Counted(log=tmp_path / "log"), folder, silent)
    (folder / "my-notes").mkdir()
    (folder / "my-notes" / "a.txt").write_text("keep")
    size = sum(file.stat().st_size for file in (folder / entry).iterdir())
    assert clear_cache(folder) == size
    assert sorted(path.name for path in folder.iterdir()) == ["my-notes"]
    assert contents.images.max() == 31  # still mapped
    assert clear_cache(folder) == 0
    assert clear_cache(tmp_path / "absent") == 0


def test_an_entry_that_is_being_built_is_not_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "cache"

    class Clearing(Counted):
        def decode(self, allocate: Allocate, progress: Progress) -> Contents:
            contents = super().decode(allocate, progress)
            assert clear_cache(folder) == 0
            return contents

    assert cached(Clearing(log=tmp_path / "log"), folder, silent)[0].images.max() == 31


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReadyError, match=r"data cache .*file cannot be written .*ORCHESTRATOR_CACHE"):
        cached(Counted(log=tmp_path / "log"), tmp_path / "file", silent)


def test_a_full_disk_is_told_before_anything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NotReadyError, match=r"cannot be written .No space left on device.; free space there"):
        cached(Counted(log=tmp_path / "log"), tmp_path / "cache", silent)
    assert names(tmp_path / "cache") == []


def test_the_folder_is_the_named_one_then_the_environments_then_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "environment"))
    assert cache_folder(tmp_path / "named") == tmp_path / "named"
    assert cache_folder() == tmp_path / "environment"
    monkeypatch.delenv("ORCHESTRATOR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "orchestrator" / "data"
