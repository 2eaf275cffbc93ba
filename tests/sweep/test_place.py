"""Runs folders that are moved, copied, restored and adopted: real stores, MLflow reading them afterwards, the real commands."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.cli import main
from orchestrator.journal.events import event_from
from orchestrator.journal.file import Journal
from orchestrator.journal.place import CopyError, Standing, adopt_command, look, read_identity
from orchestrator.stores.settling import settle, settle_sweep
from orchestrator.tracking.sync import sync
from tests.synthetic import Sweep
from tests.test_golden import HALVING, INTERRUPTED, REPEATS
from tests.test_golden import place as golden

UID = "digits-0a1b2c3d"
PREDICTIONS = "artifacts/predictions.safetensors"


def make(runs: Path, uid: str = UID, *, old: bool = False, trials: int = 2, **tracking: Any) -> Path:
    """A closed sweep that is shipped: as it is written now, or as earlier versions did, with absolute paths and no identity."""
    runs.mkdir(exist_ok=True)
    local = {"kind": "local", "experiment": None, "required": True}
    if old:
        local |= {"uri": f"sqlite:///{runs}/mlflow.db", "artifacts": f"{runs}/artifacts"}
    sweep = Sweep(runs / uid, {**local, **tracking}, where=str(runs / uid) if old else ".")
    for index in range(trials):
        path = sweep.folder / "trials" / f"{index:05d}" / PREDICTIONS
        path.parent.mkdir(parents=True)
        path.write_text(f"predictions of {index}")
        name = str(path) if old else str(path.relative_to(sweep.folder))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        sweep.start(index)
        sweep.report(index, 1, 3)
        sweep.end(index, artifacts=[{"path": name, "sha256": sha256}])
    sweep.finish(trials)
    sweep.journal.close()
    sync(sweep.folder)
    if old:
        forget_identity(runs)
    return sweep.folder


def forget_identity(runs: Path) -> None:
    """As a folder of an earlier version is: without identity, mark and tag."""
    for path in (runs / "store.json", *runs.glob("*/sweep.json")):
        path.unlink()
    change(runs / "mlflow.db", "DELETE FROM experiment_tags WHERE key = 'orchestrator.store_id'")


def change(database: Path, sql: str, *values: object) -> list[Any]:
    db = sqlite3.connect(database)
    try:
        rows = db.execute(sql, values).fetchall()
        db.commit()
        return rows
    finally:
        db.close()


def digest(folder: Path) -> dict[str, str]:
    """Every file with its contents; SQLite's shared memory changes with every reader."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def seen_by_mlflow(runs: Path) -> dict[str, str]:
    """trial_uid -> its predictions, downloaded through MLflow's own client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _downloaded(runs)


def _downloaded(runs: Path) -> dict[str, str]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{runs}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("digits lr").experiment_id], "tags.kind = 'trial'")
    return {
        run.data.tags["trial_uid"]: Path(
            client.download_artifacts(run.info.run_id, "predictions.safetensors")
        ).read_text()
        for run in found
    }


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=[False, True], ids=["new", "of an earlier version"])
def old(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


EXPECTED = {f"{UID}/0": "predictions of 0", f"{UID}/1": "predictions of 1"}


# one identity -------------------------------------------------------------------------------------------------------


def test_folder_store_and_sweeps_carry_one_id(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folder = make(runs)
    identity = json.loads((runs / "store.json").read_text())
    stat = runs.stat()
    assert (identity["format"], identity["device"], identity["inode"]) == (1, stat.st_dev, stat.st_ino)
    assert identity["path"] == str(runs)
    tags = change(runs / "mlflow.db", "SELECT value FROM experiment_tags WHERE key = 'orchestrator.store_id'")
    assert tags == [(identity["id"],)]
    assert json.loads((folder / "sweep.json").read_text()) == {"format": 1, "uid": UID, "store": identity["id"]}
    assert len(identity["id"]) == 32


RACE = """
import sys
import warnings
from pathlib import Path
from orchestrator.stores.settling import settle
sys.stdin.readline()
print(settle(Path(sys.argv[1])).id)
"""


def test_drivers_that_begin_at_once_agree_on_one_id(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    command = [sys.executable, "-c", RACE, str(runs)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    told = {process.communicate()[0].strip() for process in started}
    identity = read_identity(runs)
    assert identity is not None
    assert told == {identity.id}
    assert os.listdir(runs) == ["store.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"format": 1}',
        '{"format": 1, "id": "../../etc", "device": 1, "inode": 1, "path": "/x"}',
        '{"format": 1, "id": "%s", "device": "x", "inode": 1, "path": "/x"}' % ("a" * 32),
        '{"format": 1, "id": "%s", "device": 1, "inode": 1, "path": "x"}' % ("a" * 32),
        "[" * 5000,
        '{"format": 2, "id": "%s", "device": 1, "inode": 1, "path": "/x"}' % ("a" * 32),
    ],
    ids=["empty", "list", "null", "short", "id", "device", "path", "deep", "newer"],
)
def test_a_damaged_identity_is_refused_by_what_writes_and_told_by_what_reads(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    make(runs)
    (runs / "store.json").write_text(text)
    for command in (["sync", UID], ["delete", UID, "--yes"]):
        assert main(command) == 3
        assert "store.json" in capsys.readouterr().err
    assert main(["status"]) == 0
    assert "store.json" in capsys.readouterr().out
    (runs / "store.json").unlink()
    assert main(["sync", UID]) == 0, "what the message advises: it takes the id of its store"
    tags = change(runs / "mlflow.db", "SELECT value FROM experiment_tags WHERE key = 'orchestrator.store_id'")
    assert tags == [(json.loads((runs / "store.json").read_text())["id"],)]


def test_a_link_in_the_place_of_the_identity_is_not_followed(tmp_path: Path) -> None:
    runs, other = tmp_path / "runs", tmp_path / "other"
    make(runs)
    make(other, "else-00000000")
    (runs / "store.json").unlink()
    (runs / "store.json").symlink_to(other / "store.json")
    before = (other / "store.json").read_bytes()
    with pytest.raises(NotReadyError, match=r"store.json is damaged"):
        settle(runs)
    assert (other / "store.json").read_bytes() == before


# moves --------------------------------------------------------------------------------------------------------------


def test_a_moved_folder_works_with_every_command(tmp_path: Path, old: bool, capsys: pytest.CaptureFixture[str]) -> None:
    runs, moved = tmp_path / "runs", tmp_path / "moved"
    folder = make(runs, old=old)
    other = make(runs, "other-00000000", old=old)
    os.rename(runs, moved)
    where = ["--runs-dir", str(moved)]
    assert main(["status", UID, *where]) == 0
    assert f"sqlite:///{moved}/mlflow.db" in capsys.readouterr().out
    assert main(["sync", UID, *where]) == 0
    assert seen_by_mlflow(moved) == {**EXPECTED, **{f"other-00000000/{i}": f"predictions of {i}" for i in range(2)}}
    (location,) = change(moved / "mlflow.db", "SELECT artifact_location FROM experiments WHERE name = 'digits lr'")
    assert location == (f"{moved}/artifacts/1",)
    make(moved, "later-00000000", old=False)
    assert main(["delete", UID, "--yes", *where]) == 0
    assert not runs.exists(), "nothing is made again where it lay"
    assert not (moved / folder.name).exists()
    assert (moved / other.name / JOURNAL).is_file()
    assert set(seen_by_mlflow(moved)) == {
        f"{uid}/{i}" for uid in ("other-00000000", "later-00000000") for i in range(2)
    }


def test_addresses_of_others_stay_as_they_are(tmp_path: Path) -> None:
    runs, moved = tmp_path / "runs", tmp_path / "moved"
    make(runs)
    database = runs / "mlflow.db"
    others = ["s3://bucket/x", str(tmp_path / "runs-of-others/artifacts/9"), "/elsewhere/artifacts/1"]
    for number, address in enumerate(others):
        change(database, "INSERT INTO experiments (name, artifact_location, lifecycle_stage) VALUES (?, ?, 'active')",
               f"theirs {number}", address)  # fmt: skip
    file = f"{(runs / 'artifacts').as_uri()}/m"
    change(database, "INSERT INTO registered_models (name) VALUES ('m')")
    change(database, "INSERT INTO model_versions (name, version, source, storage_location) VALUES ('m', 1, ?, ?)",
           f"{runs}/artifacts/1/x", file)  # fmt: skip
    change(database, "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms,"
           " last_updated_timestamp_ms, status) VALUES ('m', 1, 'm', ?, 0, 0, 1)", f"{runs}/artifacts/1/models/m")  # fmt: skip
    os.rename(runs, moved)
    settle(moved)
    database = moved / "mlflow.db"
    found = [row[0] for row in change(database, "SELECT artifact_location FROM experiments WHERE name LIKE 'theirs%'")]
    assert found == others
    assert change(database, "SELECT source, storage_location FROM model_versions") == [
        (f"{moved}/artifacts/1/x", f"{(moved / 'artifacts').as_uri()}/m")
    ]
    assert change(database, "SELECT artifact_location FROM logged_models") == [(f"{moved}/artifacts/1/models/m",)]
    identity = read_identity(moved)
    assert identity is not None
    assert (identity.place.path, [one.path for one in identity.before]) == (str(moved), [str(runs)])


def test_a_move_across_file_systems_is_a_move(tmp_path: Path) -> None:
    """A copy whose original is gone."""
    runs, moved = tmp_path / "runs", tmp_path / "moved"
    make(runs)
    shutil.copytree(runs, moved)
    shutil.rmtree(runs)
    settle(moved)
    assert seen_by_mlflow(moved) == EXPECTED
    assert look(moved).standing is Standing.HOME


def test_what_is_put_where_it_lay_afterwards_is_no_original(tmp_path: Path) -> None:
    runs, moved = tmp_path / "runs", tmp_path / "moved"
    make(runs)
    os.rename(runs, moved)
    make(runs, "another-00000000")
    settle(moved)
    assert seen_by_mlflow(moved) == EXPECTED


def test_a_folder_restored_from_a_backup_is_the_folder(tmp_path: Path) -> None:
    runs, backup = tmp_path / "runs", tmp_path / "backup"
    folder = make(runs)
    shutil.copytree(runs, backup)
    shutil.rmtree(runs)
    shutil.copytree(backup, runs)
    settle_sweep(folder)
    assert look(runs).standing is Standing.HOME
    assert look(backup).standing is Standing.COPY


@pytest.mark.parametrize("real", [True, False])
def test_a_folder_reached_by_a_link_is_the_folder(tmp_path: Path, real: bool) -> None:
    runs, link = tmp_path / "runs", tmp_path / "link"
    runs.mkdir()
    link.symlink_to(runs)
    folder = make(runs if real else link)
    before = (runs / "store.json").read_bytes()
    for way in (link, runs):
        settle_sweep(way / folder.name)
        assert look(way).standing is Standing.HOME
    assert (runs / "store.json").read_bytes() == before


def test_on_another_host_the_device_differs_and_nothing_is_written(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make(runs)
    identity = json.loads((runs / "store.json").read_text())
    (runs / "store.json").write_text(json.dumps(identity | {"device": 12345}))
    before = (runs / "store.json").read_bytes()
    settle(runs)
    assert (runs / "store.json").read_bytes() == before


# copies -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path, old: bool) -> Iterator[tuple[Path, Path]]:
    """A runs folder and its copy; the original is the same afterwards."""
    runs, copy = tmp_path / "runs", tmp_path / "copy"
    make(runs, old=old)
    subprocess.run(["cp", "-a", str(runs), str(copy)], check=True)
    before = digest(runs)
    yield runs, copy
    assert digest(runs) == before


def test_the_way_out_of_a_copy_can_be_pasted(tmp_path: Path) -> None:
    """Whatever its name is."""
    for name in ("copy", "eine Kopie ü 日本", "it's"):
        command = adopt_command(tmp_path / name)
        assert shlex.split(command) == ["orchestrator", "adopt", str(tmp_path / name)]


def test_a_copy_is_read_and_not_written(copied: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    runs, copy = copied
    where = ["--runs-dir", str(copy)]
    before = digest(copy)
    for command in (["delete", UID, "--yes"], ["sync", UID], ["dashboard", "--port", "0"]):
        assert main([*command, *where]) == 3
        told = capsys.readouterr().err
        assert f"{copy} is a copy of {runs}" in told
        assert f"orchestrator adopt {copy}" in told
    for command in (["status"], ["show", UID]):
        assert main([*command, *where]) == 0
        assert f"note: {copy} is a copy of {runs}" in capsys.readouterr().out
    process = [sys.executable, "-m", "orchestrator.tracking.shipper", str(copy / UID), "--parent-pid", "1"]
    assert subprocess.run(process, check=False, capture_output=True).returncode == 3
    kept = {name: text for name, text in digest(copy).items() if "lock" not in name}
    assert kept == {name: text for name, text in before.items() if "lock" not in name}


def test_a_copy_is_adopted_and_is_then_independent(
    copied: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    runs, copy = copied
    (run,) = change(copy / "mlflow.db", "SELECT run_uuid FROM tags WHERE key = 'trial_uid' AND value = ?", f"{UID}/0")
    change(copy / "mlflow.db", "INSERT INTO tags VALUES ('mine', 'look at this', ?)", *run)
    assert main(["adopt", str(copy)]) == 0
    said = capsys.readouterr().out
    (uid,) = [path.parent.name for path in copy.glob(f"*/{JOURNAL}")]
    assert f"{UID} is now {uid}" in said
    assert uid != UID
    assert seen_by_mlflow(copy) == {f"{uid}/0": "predictions of 0", f"{uid}/1": "predictions of 1"}
    assert change(copy / "mlflow.db", "SELECT value FROM tags WHERE key = 'mine'") == [("look at this",)]
    texts = change(copy / "mlflow.db", "SELECT count(*) FROM tags WHERE value LIKE ?", f"%{UID}%")
    assert texts == [(0,)]
    assert len(list((copy / "artifacts" / "1").iterdir())) == 3
    assert look(copy).standing is Standing.HOME
    mine, theirs = read_identity(copy), read_identity(runs)
    assert mine is not None
    assert theirs is None or mine.id != theirs.id
    for place in (["--runs-dir", str(copy)],):
        assert main(["sync", uid, *place]) == 0
        assert main(["status", uid, *place]) == 0
    assert "note:" not in capsys.readouterr().out
    assert main(["delete", uid, "--yes", "--runs-dir", str(copy)]) == 0
    assert change(copy / "mlflow.db", "SELECT count(*) FROM runs") == [(0,)]
    assert not list(copy.rglob("predictions*"))


CUT_OFF = """
import os, sys
count = int(sys.argv[1])

def step(event, args):
    global count
    if event in ("os.rename", "os.remove", "os.rmdir", "sqlite3.connect"):
        count -= 1
        if count < 0:
            os._exit(9)

from orchestrator.cli import main
sys.addaudithook(step)
sys.exit(main(["adopt", sys.argv[2]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 4, 8, 12, 16, 20, 26, 32, 40, 48, 56])
def test_an_adoption_that_is_cut_off_is_finished_by_the_same_command(
    tmp_path: Path, step: int, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, copy = tmp_path / "runs", tmp_path / "copy"
    make(runs)
    make(runs, "second-00000000")
    subprocess.run(["cp", "-a", str(runs), str(copy)], check=True)
    done = subprocess.run([sys.executable, "-c", CUT_OFF, str(step), str(copy)], check=False, capture_output=True)
    assert done.returncode in (0, 9), done.stderr
    if (copy / "adopting.json").exists():
        assert main(["sync", UID, "--runs-dir", str(copy)]) in (2, 3)
        assert done.returncode == 9
        assert main(["adopt", str(copy)]) == 0
    elif done.returncode == 9:
        assert main(["adopt", str(copy)]) in (0, 2)  # before its first step, or behind its last
    uids = sorted(path.parent.name for path in copy.glob(f"*/{JOURNAL}"))
    assert len(uids) == 2
    assert not {UID, "second-00000000"} & set(uids)
    assert set(seen_by_mlflow(copy)) == {f"{uid}/{index}" for uid in uids for index in range(2)}
    assert change(copy / "mlflow.db", "SELECT count(*) FROM runs") == [(6,)]
    assert seen_by_mlflow(runs).keys() == {f"{uid}/{i}" for uid in (UID, "second-00000000") for i in range(2)}


def test_files_that_a_copy_shares_with_the_original_are_parted(tmp_path: Path) -> None:
    """`cp -al` makes hard links: what is written to one is written to both."""
    runs, copy = tmp_path / "runs", tmp_path / "copy"
    make(runs)
    subprocess.run(["cp", "-al", str(runs), str(copy)], check=True)
    before = digest(runs)
    assert main(["adopt", str(copy)]) == 0
    assert digest(runs) == before
    assert seen_by_mlflow(runs) == EXPECTED


def test_one_copied_sweep_is_refused_and_adopted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    folder = make(runs)
    shutil.copytree(folder, runs / "copied-0a1b2c3d")
    before = digest(folder)
    assert main(["sync", "copied-0a1b2c3d"]) == 3
    assert f"holds the sweep {UID}, renamed or copied" in capsys.readouterr().err
    assert main(["delete", "copied-0a1b2c3d", "--yes"]) == 3
    capsys.readouterr()
    assert main(["adopt", str(runs / "copied-0a1b2c3d")]) == 0, (
        "the runs of the original are in the same store, and stay"
    )
    (uid,) = {path.parent.name for path in runs.glob(f"*/{JOURNAL}")} - {UID}
    assert uid.startswith("digits-")
    assert set(seen_by_mlflow(runs)) == {f"{one}/{index}" for one in (UID, uid) for index in range(2)}
    assert digest(folder) == before
    assert main(["delete", uid, "--yes"]) == 0
    assert seen_by_mlflow(runs) == EXPECTED


def test_a_sweep_from_another_runs_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, other = tmp_path / "runs", tmp_path / "other"
    folder = make(runs)
    make(other, "else-00000000")
    shutil.copytree(folder, other / UID)
    for command in (["sync", UID], ["delete", UID, "--yes"]):
        assert main([*command, "--runs-dir", str(other)]) == 3
        assert "belongs to another runs folder" in capsys.readouterr().err


def test_a_store_of_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, other = tmp_path / "runs", tmp_path / "other"
    make(runs)
    make(other, "else-00000000")
    for database in (runs / "mlflow.db", other / "mlflow.db"):
        change(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(runs / "mlflow.db", other / "mlflow.db")
    assert main(["sync", "else-00000000", "--runs-dir", str(other)]) == 3
    told = capsys.readouterr().err
    assert f"the MLflow store {other}/mlflow.db belongs to another runs folder" in told
    assert "orchestrator adopt" in told


def test_what_is_no_copy_is_not_adopted_by_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    make(runs)
    before = digest(runs)
    assert main(["adopt", str(runs)]) == 2
    assert "is no copy, as far as can be told here" in capsys.readouterr().err
    assert digest(runs) == before
    assert main(["adopt", str(tmp_path)]) == 2


# paths in journals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../secret", "trials/00000/../../../secret", "/x/other-1/trials/00000/a"]
)
def test_a_journal_that_names_a_file_elsewhere_is_not_shipped(
    tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("a secret")
    runs = tmp_path / "runs"
    runs.mkdir()
    sweep = Sweep(runs / UID, {"kind": "local"}, where=".")
    sweep.start(0)
    sweep.end(0, artifacts=[{"path": path, "sha256": "0" * 64}])
    sweep.finish(1)
    sweep.journal.close()
    assert main(["sync", UID]) == 3
    assert "which does not lie in the sweep's folder" in capsys.readouterr().err
    assert not [file for file in (runs / "artifacts").rglob("*") if file.is_file() and file.read_text() == "a secret"]


def test_readers_work_in_a_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    make(runs)
    change(runs / "mlflow.db", "PRAGMA journal_mode = DELETE")
    change(runs / UID / JOURNAL, "PRAGMA journal_mode = DELETE")

    def refuse(*arguments: object, **options: object) -> Callable[..., None]:
        raise AssertionError("a reading command writes")

    for name in ("write", "touch", "remove_file", "rename"):
        monkeypatch.setattr(f"orchestrator.base.removal.Folder.{name}", refuse)
    before = digest(runs)
    assert main(["status", UID]) == 0
    assert main(["show", UID]) == 0
    assert digest(runs) == before


def test_nothing_is_made_where_a_folder_lay(tmp_path: Path) -> None:
    """The tracker and the lock of a sweep whose folder has gone make no stub of it."""
    runs = tmp_path / "runs"
    make(runs)
    os.rename(runs, tmp_path / "moved")
    from orchestrator.journal.cursor import ShipStatus, ship_lock, write_status
    from orchestrator.tracking.supervisor import start_shipper

    with pytest.raises(NotReadyError, match="cannot be opened"), ship_lock(runs / UID):
        pass
    with pytest.raises(FileNotFoundError, match=UID):
        start_shipper(runs / UID)
    with pytest.raises(FileNotFoundError, match=UID):
        write_status(runs / UID, ShipStatus())
    assert not runs.exists()


def test_copies_of_copies_are_told_from_the_first(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make(runs)
    for name in ("one", "two"):
        shutil.copytree(runs, tmp_path / name)
        with pytest.raises(CopyError, match=f"{name} is a copy of {runs}"):
            settle(tmp_path / name)
    settle(runs)


def opened_event(uid: str, **more: Any) -> Any:
    data = {
        "uid": uid,
        "name": "x",
        "metric": "m",
        "mode": "max",
        "trials": 1,
        "folder": ".",
        "plan": "",
        "tracking": {},
    }
    return event_from("sweep_opened", {**data, **more})


def test_a_sweep_that_was_killed_before_it_began_is_no_obstacle(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make(runs)
    (runs / "begun-00000000").mkdir()
    Journal(runs / "begun-00000000" / JOURNAL, create=True).close()
    shutil.copytree(runs, tmp_path / "copy")
    with pytest.raises(NotReadyError, match="begun-00000000 is empty; remove that folder"):
        main_raises(tmp_path / "copy")


def main_raises(folder: Path) -> None:
    from orchestrator.sweep.adopting import adopt

    adopt(folder)


# sweeps of an earlier version ---------------------------------------------------------------------------------------


def test_golden_sweeps_are_moved_copied_adopted_and_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real sweeps of an earlier version, which have checkpoints, weights and predictions."""
    import orchestrator

    golden(tmp_path)
    uids = [REPEATS, HALVING, INTERRUPTED]
    moved, copy = tmp_path / "moved", tmp_path / "copy"
    os.rename(tmp_path / "runs", moved)
    for uid in uids:
        assert main(["verify", uid, "--runs-dir", str(moved)]) == 0, "before anything was written"
        assert main(["sync", uid, "--runs-dir", str(moved)]) == 0
        assert main(["verify", uid, "--runs-dir", str(moved)]) == 0
    assert main(["show", f"{REPEATS}/6", "--runs-dir", str(moved)]) == 0
    assert f"{moved}/{REPEATS}/trials/00006/artifacts/predictions.safetensors" in capsys.readouterr().out

    subprocess.run(["cp", "-a", str(moved), str(copy)], check=True)
    before = digest(moved)
    assert main(["verify", HALVING, "--runs-dir", str(copy)]) == 0
    assert f"note: {copy} is a copy of {moved}" in capsys.readouterr().out
    assert main(["adopt", str(copy)]) == 0
    renamed = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines() if " is now " in line}
    assert set(renamed) == set(uids)
    for uid in renamed.values():
        assert main(["verify", uid, "--runs-dir", str(copy)]) == 0, capsys.readouterr()
    for trial in (f"{REPEATS}/6", f"{HALVING}/3", f"{INTERRUPTED}/0"):
        uid, _, index = trial.partition("/")
        one = orchestrator.load_model(trial, runs_dir=moved).network
        other = orchestrator.load_model(f"{renamed[uid]}/{index}", runs_dir=copy).network
        assert one.state_dict().keys() == other.state_dict().keys()
    for uid in renamed.values():
        assert main(["delete", uid, "--yes", "--runs-dir", str(copy)]) == 0
    assert change(copy / "mlflow.db", "SELECT count(*) FROM runs") == [(0,)]
    assert digest(moved) == before
    for uid in uids:
        assert main(["delete", uid, "--yes", "--runs-dir", str(moved)]) == 0


@pytest.mark.usefixtures("ray_cluster")
def test_an_adopted_sweep_resumes_and_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden(tmp_path)
    runs, copy = tmp_path / "runs", tmp_path / "copy"
    subprocess.run(["cp", "-a", str(runs), str(copy)], check=True)
    before = digest(runs)
    assert main(["resume", INTERRUPTED, "--runs-dir", str(copy)]) == 3
    assert f"{copy} is a copy of {runs}" in capsys.readouterr().err
    assert main(["adopt", str(copy)]) == 0
    said = capsys.readouterr().out.splitlines()
    (uid,) = [line.split()[-1] for line in said if line.startswith(f"{INTERRUPTED} is now ")]
    assert main(["resume", uid, "--runs-dir", str(copy)]) == 0
    assert re.search(r"verified: (\d+)/\1\n", capsys.readouterr().out)
    assert digest(runs) == before
