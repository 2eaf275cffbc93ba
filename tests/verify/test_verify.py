"""The checker, checked: a real sweep has nothing wrong with it, and the right invariant tells of whatever is broken in a copy."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from orchestrator.base.errors import EXIT_BUG, EXIT_NOT_READY, NotReadyError, RunningElsewhereError
from orchestrator.base.layout import JOURNAL, LOCK
from orchestrator.base.locks import hold
from orchestrator.base.rights import Rights, granted
from orchestrator.cli import main
from orchestrator.journal.cursor import read_status, write_status
from orchestrator.journal.file import checksum
from orchestrator.journal.publishing import publish
from orchestrator.tracking.sync import sync
from orchestrator.verify import INVARIANTS, Report, replay, verify
from orchestrator.verify.checking import Checks
from orchestrator.verify.evidence import SweepEvidence
from orchestrator.verify.journal_file import JournalFile
from orchestrator.verify.rules import Finding, Invariant

STUMBLING, STOPPED, DIVERGED, GOOD = range(4)
"""The trials of the store by what is special about them; the stumbling one is the best."""


class Store:
    """A sweep's three records, to be broken one by one."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        (self.folder,) = (path.parent for path in runs.glob(f"*/{JOURNAL}"))
        self.uid = self.folder.name

    def verify(self, **options: Any) -> Report:
        return verify(self.folder, **options)

    # journal

    def journal(self, statement: str, *values: Any, stamped: bool = True) -> list[tuple[Any, ...]]:
        """Runs a statement; events are then numbered without gaps and carry their checksums, as if they had always been so."""
        with contextlib.closing(sqlite3.connect(self.folder / JOURNAL)) as db, db:
            found = db.execute(statement, values).fetchall()
            if stamped:
                rows = db.execute("SELECT time_ms, kind, trial, attempt, data FROM events ORDER BY seq").fetchall()
                whole = [(seq, *row, checksum(seq, *row)) for seq, row in enumerate(rows, start=1)]
                db.execute("DELETE FROM events")
                db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", whole)
        return found

    def events(self, kind: str, trial: int | None = None) -> list[tuple[int, dict[str, Any]]]:
        """(number, data) of the events of a kind."""
        query = "SELECT seq, data FROM events WHERE kind = ? AND trial IS ? ORDER BY seq"
        return [(seq, json.loads(text)) for seq, text in self.journal(query, kind, trial, stamped=False)]

    def edit(self, kind: str, trial: int | None, change: Callable[[dict[str, Any]], object], place: int = -1) -> None:
        seq, data = self.events(kind, trial)[place]
        change(data)
        self.journal("UPDATE events SET data = ? WHERE seq = ?", json.dumps(data, separators=(",", ":")), seq)

    def drop(self, kind: str, trial: int | None, place: int = -1) -> None:
        self.journal("DELETE FROM events WHERE seq = ?", self.events(kind, trial)[place][0])

    def repeat(self, kind: str, trial: int, place: int = -1) -> None:
        """The same event once more, at the end of the trials."""
        seq, closed = self.events(kind, trial)[place][0], self.events("sweep_closed")[-1][0]
        self.journal("UPDATE events SET seq = -seq - 1 WHERE seq >= ?", closed, stamped=False)
        self.journal("UPDATE events SET seq = -seq WHERE seq < 0", stamped=False)
        self.journal(
            "INSERT INTO events SELECT ?, time_ms, kind, trial, attempt, data, crc FROM events WHERE seq = ?",
            closed,
            seq,
        )

    def swap(self, one: int, other: int) -> None:
        """Two events change places."""
        self.journal("UPDATE events SET seq = CASE seq WHEN ? THEN -1 ELSE seq END", one, stamped=False)
        self.journal("UPDATE events SET seq = ? WHERE seq = ?", one, other, stamped=False)
        self.journal("UPDATE events SET seq = ? WHERE seq = -1", other)

    # MLflow

    def mlflow(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.runs / "mlflow.db")) as db, db:
            return db.execute(statement, values).fetchall()

    def run(self, trial: int | None) -> str:
        """The id of a trial's run, or of the sweep's."""
        uid = self.uid if trial is None else f"{self.uid}/{trial}"
        ((run_id,),) = self.mlflow(
            "SELECT run_uuid FROM runs r WHERE coalesce((SELECT value FROM tags t WHERE t.run_uuid = r.run_uuid"
            " AND key = 'trial_uid'), name) = ?",
            uid,
        )
        return str(run_id)

    def of_run(self, trial: int | None, statement: str, *values: Any) -> None:
        """A statement that ends in the run's id."""
        self.mlflow(statement, *values, self.run(trial))

    def tag(self, trial: int | None, key: str, value: str) -> None:
        self.of_run(trial, "UPDATE tags SET value = ? WHERE key = ? AND run_uuid = ?", value, key)

    def ghost(self, **tags: str) -> None:
        """One more run in the sweep's experiment."""
        self.mlflow(
            "INSERT INTO runs SELECT 'ghost', 'ghost', source_type, source_name, entry_point_name, user_id, status,"
            " start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id, deleted_time"
            " FROM runs WHERE run_uuid = ?",
            self.run(GOOD),
        )
        for key, value in tags.items():
            self.mlflow("INSERT INTO tags VALUES (?, ?, 'ghost')", key, value)

    def artifacts(self, trial: int | None) -> Path:
        ((uri,),) = self.mlflow("SELECT artifact_uri FROM runs WHERE run_uuid = ?", self.run(trial))
        return Path(uri)

    # files

    def trial(self, index: int) -> Path:
        return self.folder / "trials" / f"{index:05d}"

    def predictions(self, index: int) -> Path:
        return self.trial(index) / "artifacts" / "predictions.safetensors"

    def rewrite(self, index: int, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
        """Changes arrays and state of the predictions, and every record of their SHA-256: only the contents can tell."""
        path = self.predictions(index)
        arrays, metadata = load(path.read_bytes()), header(path)["__metadata__"]
        state = json.loads(metadata["state"])
        change(arrays, state)
        contents = save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            metadata | {"state": json.dumps(state)},
        )
        for place in (path, self.artifacts(index) / path.name):
            place.unlink()
            place.write_bytes(contents)
        digest = hashlib.sha256(contents).hexdigest()
        self.edit("terminal", index, lambda data: data["artifacts"][0].update(sha256=digest))
        self.tag(index, f"sha256.{path.name}", digest)


def header(path: Path) -> dict[str, Any]:
    contents = path.read_bytes()
    found: dict[str, Any] = json.loads(contents[8 : 8 + int.from_bytes(contents[:8], "little")])
    return found


@pytest.fixture
def store(good: tuple[Path, Path]) -> Store:
    """The store as the sweep left it, where it left it: its records name absolute paths."""
    runs, pristine = good
    shutil.rmtree(runs)
    shutil.copytree(pristine, runs)
    return Store(runs)


def test_a_good_sweep_has_nothing_wrong_with_it(store: Store) -> None:
    lines: list[str] = []
    report = store.verify(say=lines.append)
    assert report.violations == []
    assert report.summary == "verified: 26/26"
    assert [line.split()[0] for line in lines[1:-1]] == [f"I{invariant.number}" for invariant in INVARIANTS]
    assert all(line.endswith(": ok") for line in lines[1:-1])
    assert lines[-1] == report.summary
    states = [data["state"] for index in range(6) for _, data in store.events("terminal", index)]
    assert states == ["completed", "stopped", "diverged", "completed", "stopped", "diverged"]
    assert len(store.events("retrying", STUMBLING)) == 1, "the store holds a retried trial"


# What is broken, and the invariant that has to tell -------------------------------------------------------------------


def set_value(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    """Sets a dotted key of an event's data."""
    *path, last = key.split("/")

    def change(data: dict[str, Any]) -> None:
        for part in path:
            data = data[part]
        data[last] = value

    return change


def drop_a_step(store: Store) -> None:
    store.of_run(GOOD, "DELETE FROM metrics WHERE step = 2 AND run_uuid = ?")


def half_an_epoch(store: Store) -> None:
    store.of_run(GOOD, "DELETE FROM metrics WHERE key = 'train/loss' AND step = 3 AND run_uuid = ?")


def double_a_step(store: Store) -> None:
    store.of_run(
        GOOD,
        "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics"
        " WHERE key = 'val/loss' AND step = 2 AND run_uuid = ?",
    )


def another_value(store: Store) -> None:
    store.of_run(GOOD, "UPDATE metrics SET value = value + 1e-9 WHERE key = 'train/loss' AND step = 2 AND run_uuid = ?")


def epochs_of_no_journal(store: Store) -> None:
    store.of_run(
        GOOD,
        "INSERT INTO metrics SELECT key, value, timestamp, run_uuid, 4, is_nan FROM metrics"
        " WHERE step = 3 AND run_uuid = ?",
    )


def lost_epoch(store: Store) -> None:
    store.drop("reported", GOOD, 1)


def ghost_of_the_sweep(store: Store) -> None:
    store.ghost(kind="trial", sweep_uid=store.uid, trial_uid=f"{store.uid}/99")


def ghost_of_no_sweep(store: Store) -> None:
    store.ghost(kind="trial")


def ghost_below_the_sweep(store: Store) -> None:
    store.ghost(**{"mlflow.parentRunId": store.run(None)})


def twin(store: Store) -> None:
    store.ghost(
        kind="trial",
        sweep_uid=store.uid,
        trial_uid=f"{store.uid}/{GOOD}",
        reason="completed",
        **{"mlflow.parentRunId": store.run(None)},
    )


def deleted_run(store: Store) -> None:
    store.of_run(GOOD, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?")


def moved_run(store: Store) -> None:
    store.tag(GOOD, "mlflow.parentRunId", store.run(DIVERGED))


def reopened_run(store: Store) -> None:
    store.of_run(GOOD, "UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE run_uuid = ?")


def reopened_sweep(store: Store) -> None:
    store.of_run(None, "UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE run_uuid = ?")


def wrong_status(store: Store) -> None:
    store.of_run(DIVERGED, "UPDATE runs SET status = 'FINISHED' WHERE run_uuid = ?")


def end_before_start(store: Store) -> None:
    store.of_run(DIVERGED, "UPDATE runs SET end_time = start_time - 1 WHERE run_uuid = ?")


def stale_newest(store: Store) -> None:
    store.of_run(GOOD, "UPDATE latest_metrics SET step = 2 WHERE key = 'val/loss' AND run_uuid = ?")


def missing_newest(store: Store) -> None:
    store.of_run(GOOD, "DELETE FROM latest_metrics WHERE key = 'lr' AND run_uuid = ?")


def stale_newest_of_the_sweep(store: Store) -> None:
    store.of_run(None, "UPDATE latest_metrics SET value = 0.5 WHERE key = 'seconds' AND run_uuid = ?")


def time_goes_backwards(store: Store) -> None:
    store.of_run(
        GOOD,
        "UPDATE metrics SET timestamp = (SELECT min(timestamp) FROM metrics) - 1"
        " WHERE key = 'val/loss' AND step = 2 AND run_uuid = ?",
    )


def after_the_end(store: Store) -> None:
    store.of_run(GOOD, "UPDATE runs SET end_time = start_time + 1 WHERE run_uuid = ?")


def before_the_start(store: Store) -> None:
    store.of_run(GOOD, "UPDATE runs SET start_time = end_time WHERE run_uuid = ?")


def another_searched_param(store: Store) -> None:
    store.of_run(GOOD, "UPDATE params SET value = '0.5' WHERE key = 'optimizer.lr' AND run_uuid = ?")


def another_fixed_param(store: Store) -> None:
    store.of_run(GOOD, "UPDATE params SET value = '99' WHERE key = 'batch_size' AND run_uuid = ?")


def lost_param(store: Store) -> None:
    store.of_run(GOOD, "DELETE FROM params WHERE key = 'optimizer.lr' AND run_uuid = ?")


def another_configuration(store: Store) -> None:
    store.edit("suggested", GOOD, set_value("config/optimizer/momentum", 0.1))


def another_seed(store: Store) -> None:
    store.edit("suggested", GOOD, set_value("config/seed", 17))


def hidden_infinity(store: Store) -> None:
    store.of_run(
        GOOD, "UPDATE metrics SET value = 1.7976931348623157e308 WHERE key = 'grad_norm' AND step = 2 AND run_uuid = ?"
    )


def not_a_number(store: Store) -> None:
    store.of_run(GOOD, "UPDATE metrics SET value = 0, is_nan = 1 WHERE key = 'grad_norm' AND step = 2 AND run_uuid = ?")


def stale_best_trial(store: Store) -> None:
    store.tag(None, "best_trial", f"{store.uid}/{GOOD}")


def stale_best_value(store: Store) -> None:
    store.tag(None, "best_value", "0.125")


def better_history(store: Store) -> None:
    store.of_run(STOPPED, "UPDATE metrics SET value = 1.5 WHERE key = 'val/accuracy' AND run_uuid = ?")


def wrong_best(store: Store) -> None:
    store.edit("sweep_closed", None, set_value("best/trial", STOPPED))


def wrong_total(store: Store) -> None:
    store.edit("sweep_closed", None, set_value("totals/completed", 3))


def wrong_total_in_the_run(store: Store) -> None:
    store.of_run(None, "UPDATE latest_metrics SET value = 5 WHERE key = 'trials/stopped' AND run_uuid = ?")


def too_few_configurations(store: Store) -> None:
    def change(data: dict[str, Any]) -> None:
        plan = json.loads(data["plan"])
        plan["settings"]["trials"] = 7
        data["plan"] = json.dumps(plan)

    store.edit("sweep_opened", None, change)


def broken_reference(store: Store) -> None:
    store.mlflow("INSERT INTO tags VALUES ('key', 'value', 'no such run')")


def changed_event(store: Store) -> None:
    store.journal(
        "UPDATE events SET data = replace(data, 'completed', 'cancelled') WHERE kind = 'terminal' AND trial = ?",
        GOOD,
        stamped=False,
    )


def lost_event(store: Store) -> None:
    seq, _ = store.events("started", DIVERGED)[0]
    store.journal("DELETE FROM events WHERE seq = ?", seq, stamped=False)


def broken_event(store: Store) -> None:
    store.journal("UPDATE events SET data = '{' WHERE kind = 'started' AND trial = ?", DIVERGED)


def broken_index(store: Store) -> None:
    """The index of a table without its entry: written past SQLite, as a damaged page would be."""
    store.mlflow("CREATE INDEX partial ON tags (value) WHERE key = 'kind'")
    with contextlib.closing(sqlite3.connect(store.runs / "mlflow.db")) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = 'CREATE INDEX partial ON tags (value)' WHERE name = 'partial'")


def second_end(store: Store) -> None:
    store.repeat("terminal", GOOD)


def report_after_the_end(store: Store) -> None:
    store.swap(store.events("reported", GOOD)[-1][0], store.events("terminal", GOOD)[0][0])


def no_end(store: Store) -> None:
    store.drop("terminal", DIVERGED)


def no_start(store: Store) -> None:
    store.drop("started", GOOD)


def start_without_cause(store: Store) -> None:
    store.drop("retrying", STUMBLING)


def gap_in_attempts(store: Store) -> None:
    store.journal("UPDATE events SET attempt = 3 WHERE trial = ? AND attempt = 2", STUMBLING)


def never_suggested(store: Store) -> None:
    store.drop("suggested", DIVERGED)


def too_many_retries(store: Store) -> None:
    def change(data: dict[str, Any]) -> None:
        plan = json.loads(data["plan"])
        plan["settings"]["max_retries"] = 0
        data["plan"] = json.dumps(plan)

    store.edit("sweep_opened", None, change)


def attempt_of_the_run(store: Store) -> None:
    store.tag(STUMBLING, "attempt", "1")


def late_report(store: Store) -> None:
    """The first attempt's worker is heard once more when the second has begun."""
    (seq, _), *_ = store.events("reported", STUMBLING)
    store.journal("UPDATE events SET attempt = 1 WHERE seq = ?", seq)


def other_params_of_the_best(store: Store) -> None:
    store.edit("sweep_closed", None, lambda data: data["best"]["params"].update({"optimizer.lr": 0.5}))


def other_repeats_of_the_best(store: Store) -> None:
    store.edit("sweep_closed", None, set_value("best/repeats", 2))


def another_opening_than_its_plan(store: Store) -> None:
    store.edit("sweep_opened", None, set_value("config/batch_size", 17))


def forged_command(store: Store) -> None:
    """A fact that no other record has."""
    store.edit("sweep_opened", None, set_value("environment/command", "another command"))


def forged_digest(store: Store) -> None:
    store.tag(None, "journal", f"{len(store.journal('SELECT seq FROM events', stamped=False))} {'ab' * 32}")


def lost_digest(store: Store) -> None:
    store.of_run(None, "DELETE FROM tags WHERE key = 'journal' AND run_uuid = ?")


def another_description(store: Store) -> None:
    store.tag(None, "mlflow.note.content", "another description")


def another_configuration_in_the_run(store: Store) -> None:
    path = store.artifacts(GOOD) / "config.yaml"
    path.write_text(path.read_text().replace("batch_size: 16", "batch_size: 17"))


def another_configuration_of_the_sweep(store: Store) -> None:
    path = store.artifacts(None) / "config.yaml"
    path.write_text(path.read_text().replace("batch_size: 16", "batch_size: 17"))


def renamed_run(store: Store) -> None:
    store.of_run(GOOD, "UPDATE runs SET name = 'mine' WHERE run_uuid = ?")


def forged_tag(store: Store) -> None:
    store.mlflow("INSERT INTO tags VALUES ('restarted_from_scratch', 'true', ?)", store.run(GOOD))


def lost_tag(store: Store) -> None:
    store.of_run(GOOD, "DELETE FROM tags WHERE key = 'config_index' AND run_uuid = ?")


def deleted_experiment(store: Store) -> None:
    store.mlflow("UPDATE experiments SET lifecycle_stage = 'deleted'")


def moved_artifacts(store: Store) -> None:
    store.of_run(GOOD, "UPDATE runs SET artifact_uri = '/elsewhere' WHERE run_uuid = ?")


def trigger(store: Store) -> None:
    store.journal("CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END", stamped=False)


def other_suggestions(store: Store) -> None:
    """Two trials with each other's configuration, in the journal alone and without a fault in themselves."""
    (one, first), (other, second) = store.events("suggested", DIVERGED)[0], store.events("suggested", GOOD)[0]
    for seq, data in ((one, second), (other, first)):
        store.journal(
            "UPDATE events SET data = ? WHERE seq = ?",
            json.dumps(data | {"config_index": DIVERGED if seq == one else GOOD}),
            seq,
        )


def same_configuration_twice(store: Store) -> None:
    _, data = store.events("suggested", STUMBLING)[0]
    store.edit("suggested", GOOD, lambda own: own.update(params=data["params"], config=data["config"]))


def same_place_twice(store: Store) -> None:
    store.edit("suggested", GOOD, set_value("config_index", STUMBLING))


def wrong_value(store: Store) -> None:
    store.edit("terminal", GOOD, set_value("value", 0.25))


def wrong_best_epoch(store: Store) -> None:
    _, data = store.events("terminal", GOOD)[0]
    store.edit("terminal", GOOD, set_value("best_epoch", data["best_epoch"] % 3 + 1))


def weights_of_another_epoch(store: Store) -> None:
    path = store.trial(STOPPED) / "best.safetensors"
    text = path.read_bytes()
    assert text.count(b'\\"epoch\\": 2') == 1
    path.write_bytes(text.replace(b'\\"epoch\\": 2', b'\\"epoch\\": 1'))


def weights_of_another_trial(store: Store) -> None:
    shutil.copy(store.trial(STOPPED) / "best.safetensors", store.trial(GOOD) / "best.safetensors")


def flipped_byte(store: Store) -> None:
    path = store.predictions(GOOD)
    contents = bytearray(path.read_bytes())
    contents[-5] ^= 1
    path.write_bytes(contents)


def lost_predictions(store: Store) -> None:
    store.predictions(GOOD).unlink()


def changed_copy(store: Store) -> None:
    (store.artifacts(GOOD) / "predictions.safetensors").write_bytes(b"other")


def lost_copy(store: Store) -> None:
    (store.artifacts(GOOD) / "predictions.safetensors").unlink()


def stray_artifact(store: Store) -> None:
    (store.artifacts(GOOD) / "predictions.safetensors.17.tmp").write_bytes(b"half")


def changed_copy_of_weights(store: Store) -> None:
    (store.artifacts(GOOD) / "best.safetensors").unlink()
    (store.artifacts(GOOD) / "best.safetensors").write_bytes(b"other")


def wrong_hash_in_the_run(store: Store) -> None:
    store.tag(GOOD, "sha256.predictions.safetensors", "ab" * 32)


def undeclared_predictions(store: Store) -> None:
    store.edit("terminal", GOOD, set_value("artifacts", []))


def leftover(store: Store) -> None:
    (store.trial(GOOD) / "best.safetensors.17.tmp").write_bytes(b"half")


def empty_file(store: Store) -> None:
    (store.trial(STOPPED) / "best.safetensors").write_bytes(b"")


def swapped_ids(store: Store) -> None:
    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        arrays["val_ids"][[0, 1]] = arrays["val_ids"][[1, 0]]

    store.rewrite(GOOD, change)


def permuted_rows(store: Store) -> None:
    """Logits, ids and labels together: every score stays what it was."""

    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        for name in ("logits", "ids", "labels"):
            arrays[f"test_{name}"][[0, 1]] = arrays[f"test_{name}"][[1, 0]]

    for trial in (STUMBLING, GOOD):
        store.rewrite(trial, change)


def ids_of_the_test_in_validation(store: Store) -> None:
    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        arrays["val_ids"][-1] = arrays["test_ids"][-1]

    for trial in (STUMBLING, GOOD):
        store.rewrite(trial, change)


def ids_of_training_in_validation(store: Store) -> None:
    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        known = {*arrays["val_ids"].tolist(), *arrays["test_ids"].tolist()}
        arrays["val_ids"][0] = min(set(range(max(known))) - known)
        arrays["val_ids"].sort()

    for trial in (STUMBLING, GOOD):
        store.rewrite(trial, change)


def other_metrics_in_the_file(store: Store) -> None:
    store.rewrite(GOOD, lambda arrays, state: state["metrics"].update({"test/accuracy": 0.125}))


def other_history_in_the_file(store: Store) -> None:
    store.rewrite(GOOD, lambda arrays, state: state["history"][0][2].update({"val/loss": 0.5}))


def other_top5(store: Store) -> None:
    store.edit("terminal", GOOD, lambda data: data["metrics"].update({"test/top5_accuracy": 0.5}))
    store.rewrite(GOOD, lambda arrays, state: state["metrics"].update({"test/top5_accuracy": 0.5}))


def lost_row(store: Store) -> None:
    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        for name in ("logits", "ids", "labels"):
            arrays[f"test_{name}"] = arrays[f"test_{name}"][:-1]

    store.rewrite(GOOD, change)


def doubled_id(store: Store) -> None:
    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        arrays["test_ids"][1] = arrays["test_ids"][0]

    store.rewrite(STUMBLING, change)


def nan_logit(store: Store) -> None:
    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        arrays["val_logits"][3, 1] = np.nan

    store.rewrite(GOOD, change)


def shifted_logits(store: Store) -> None:
    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        arrays["val_logits"] += 3.0

    store.rewrite(GOOD, change)


def other_classes(store: Store) -> None:
    store.rewrite(GOOD, lambda arrays, state: state["classes"].reverse())


def other_data(store: Store) -> None:
    store.rewrite(GOOD, lambda arrays, state: state.update(fingerprint="0" * 64))


def predictions_of_another_trial(store: Store) -> None:
    store.rewrite(GOOD, lambda arrays, state: state.update(uid=f"{store.uid}/{STUMBLING}"))


def one_wrong_prediction(store: Store) -> None:
    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        logits, labels = arrays["test_logits"], arrays["test_labels"]
        row = int(np.flatnonzero(logits.argmax(1) == labels)[0])
        logits[row] = np.roll(logits[row], 1)

    store.rewrite(GOOD, change)


def surer_predictions(store: Store) -> None:
    """Every prediction stays what it was, with another confidence."""

    def change(arrays: dict[str, Any], state: dict[str, Any]) -> None:
        arrays["val_logits"] *= 1.01

    store.rewrite(GOOD, change)


def orphan_checkpoint(store: Store) -> None:
    store.trial(99).mkdir()
    (store.trial(99) / f"checkpoint-000001.{'ab' * 32}.safetensors").write_bytes(b"weights")


def third_checkpoint(store: Store) -> None:
    for epoch in (1, 2, 3):
        (store.trial(GOOD) / f"checkpoint-{epoch:06d}.{'ab' * 32}.safetensors").write_bytes(b"weights")


def weights_elsewhere(store: Store) -> None:
    (store.folder / "best.safetensors").write_bytes(b"weights")


def weights_that_should_have_gone(store: Store) -> None:
    store.edit("sweep_closed", None, set_value("weights", []))


def lost_weights(store: Store) -> None:
    kept = {"trial": GOOD, "path": str(store.trial(GOOD) / "gone.safetensors"), "sha256": "ab" * 32}
    store.edit("sweep_closed", None, set_value("weights", [kept]))


def artifacts_on_another_machine(store: Store) -> None:
    shutil.rmtree(store.runs / "artifacts")
    store.mlflow("UPDATE experiments SET artifact_location = 's3://elsewhere/' || experiment_id")
    store.mlflow("UPDATE runs SET artifact_uri = 's3://elsewhere/' || experiment_id || '/' || run_uuid || '/artifacts'")


def artifacts_in_another_folder(store: Store) -> None:
    """Whole, and with every address changed."""
    shutil.copytree(store.runs / "artifacts", store.runs.parent / "elsewhere", dirs_exist_ok=True)
    old, new = str(store.runs / "artifacts"), str(store.runs.parent / "elsewhere")
    store.mlflow("UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", old, new)
    store.mlflow("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)", old, new)


def another_identity_of_the_store(store: Store) -> None:
    store.mlflow("UPDATE experiment_tags SET value = ? WHERE key = 'orchestrator.store_id'", "0" * 32)


def twin_under_the_sweeps_name(store: Store) -> None:
    store.ghost(kind="ensemble", sweep_uid=store.uid)
    store.mlflow("UPDATE runs SET name = ? WHERE run_uuid = 'ghost'", store.uid)
    store.mlflow("INSERT INTO tags SELECT key, value, 'ghost' FROM tags WHERE key = 'mlflow.note.content'"
                 " AND run_uuid = (SELECT run_uuid FROM runs WHERE name = ? AND run_uuid <> 'ghost')", store.uid)  # fmt: skip


def error_of_the_sweep(store: Store) -> None:
    (store.artifacts(None) / "error.txt").write_text("It failed, they say.")


def holder_of_a_local_sweep(store: Store) -> None:
    store.mlflow("INSERT INTO tags VALUES ('orchestrator.holder', 'them', ?)", store.run(None))


def trigger_in_the_store(store: Store) -> None:
    store.mlflow("CREATE TRIGGER sweeping AFTER DELETE ON runs BEGIN DELETE FROM runs; END")


def view_in_the_store(store: Store) -> None:
    store.mlflow("CREATE VIEW seen AS SELECT * FROM runs")


BROKEN: list[tuple[int, Callable[[Store], None]]] = [
    *((1, m) for m in (ghost_of_the_sweep, ghost_of_no_sweep, ghost_below_the_sweep, deleted_run, moved_run)),
    *((2, m) for m in (reopened_run, reopened_sweep, wrong_status)),
    *((3, m) for m in (second_end, report_after_the_end, no_end)),
    *((4, m) for m in (wrong_total, wrong_total_in_the_run, too_few_configurations)),
    *((7, m) for m in (drop_a_step, double_a_step, another_value, epochs_of_no_journal, lost_epoch)),
    (7, time_goes_backwards),
    (8, half_an_epoch),
    *((9, m) for m in (stale_newest, missing_newest, stale_newest_of_the_sweep)),
    *((10, m) for m in (end_before_start, after_the_end, before_the_start)),
    *((11, m) for m in (another_searched_param, another_fixed_param, lost_param, another_configuration, another_seed)),
    *((12, m) for m in (twin, same_configuration_twice, same_place_twice)),
    *((13, m) for m in (no_start, start_without_cause, gap_in_attempts, never_suggested, too_many_retries)),
    (13, attempt_of_the_run),
    (14, late_report),
    (15, other_suggestions),
    *((16, m) for m in (hidden_infinity, not_a_number)),
    *((17, m) for m in (stale_best_trial, stale_best_value, better_history, wrong_best)),
    *((17, m) for m in (other_params_of_the_best, other_repeats_of_the_best)),
    (11, another_opening_than_its_plan),
    *((18, m) for m in (wrong_value, wrong_best_epoch, weights_of_another_epoch, weights_of_another_trial)),
    *((21, m) for m in (one_wrong_prediction, surer_predictions, other_top5)),
    *((22, m) for m in (flipped_byte, lost_predictions, changed_copy, lost_copy, stray_artifact)),
    *((22, m) for m in (wrong_hash_in_the_run, undeclared_predictions, leftover, empty_file)),
    (22, changed_copy_of_weights),
    *((23, m) for m in (swapped_ids, lost_row, doubled_id, nan_logit, shifted_logits, other_classes)),
    *((23, m) for m in (permuted_rows, ids_of_the_test_in_validation, ids_of_training_in_validation)),
    *((23, m) for m in (other_metrics_in_the_file, other_history_in_the_file)),
    *((23, m) for m in (other_data, predictions_of_another_trial)),
    *((24, m) for m in (orphan_checkpoint, third_checkpoint, weights_elsewhere)),
    *((24, m) for m in (weights_that_should_have_gone, lost_weights)),
    *((31, m) for m in (forged_command, forged_digest, lost_digest)),
    *((32, m) for m in (another_configuration_in_the_run, another_configuration_of_the_sweep)),
    *((33, m) for m in (renamed_run, forged_tag, lost_tag, another_description)),
    *((34, m) for m in (deleted_experiment, moved_artifacts)),
    *((34, m) for m in (artifacts_on_another_machine, artifacts_in_another_folder, another_identity_of_the_store)),
    (1, twin_under_the_sweeps_name),
    (22, error_of_the_sweep),
    (33, holder_of_a_local_sweep),
    *((28, m) for m in (trigger, trigger_in_the_store, view_in_the_store)),
    *((28, m) for m in (broken_reference, changed_event, lost_event, broken_event, broken_index)),
]


@pytest.mark.parametrize(("number", "broken"), BROKEN, ids=[f"I{n} {m.__name__}" for n, m in BROKEN])
def test_each_fault_is_told_by_its_invariant(store: Store, number: int, broken: Callable[[Store], None]) -> None:
    broken(store)
    report = store.verify()
    told = [violation for violation in report.violations if violation.number == number]
    assert told, f"told instead: {[str(violation) for violation in report.violations]}"
    assert all(violation.found and violation.expected and violation.subject for violation in told)
    holding = len(report.checked) - len(report.violated)
    assert f"verified: {holding}/{len(report.checked)}" in report.summary
    assert report.failures == []


def test_every_invariant_has_its_fault() -> None:
    assert {number for number, _ in BROKEN} | {29} == {invariant.number for invariant in INVARIANTS}


@pytest.mark.parametrize("record", ["journal", "mlflow"])
def test_what_changes_during_the_check_is_told(store: Store, record: str) -> None:
    def disturb(line: str) -> None:
        if line.startswith(store.uid):
            if record == "journal":
                store.edit("sweep_closed", None, set_value("seconds", 17))
            else:
                store.tag(GOOD, "trial", "17")

    assert 29 in store.verify(say=disturb).violated


def test_other_sweeps_may_write_to_the_store_during_the_check(store: Store) -> None:
    def disturb(line: str) -> None:
        if line.startswith(store.uid):
            store.mlflow("INSERT INTO experiment_tags SELECT 'another', 'tag', experiment_id FROM experiments LIMIT 1")

    assert store.verify(say=disturb).summary == "verified: 26/26"


def test_checking_leaves_every_row_as_it_was(store: Store) -> None:
    def dump(path: Path) -> list[str]:
        with contextlib.closing(sqlite3.connect(path)) as db:
            return list(db.iterdump())

    paths = store.folder / JOURNAL, store.runs / "mlflow.db"
    before = [dump(path) for path in paths]
    for _ in range(2):
        assert store.verify().ok
    assert [dump(path) for path in paths] == before


# Whose fault it is ----------------------------------------------------------------------------------------------------


def test_a_bug_of_a_check_is_none_of_the_sweep(store: Store) -> None:
    def stumble(sweep: SweepEvidence) -> Iterator[Finding]:
        raise KeyError("no such key")
        yield

    with contextlib.closing(JournalFile(store.folder / JOURNAL)) as journal:
        report = Checks(
            SweepEvidence(store.folder, journal), None, [Invariant(99, "is checked", sweep=(stumble,))]
        ).report
    assert report.violations == []
    assert report.exit_code == EXIT_BUG
    told = "VERIFY ITSELF FAILED: in check I99 of the sweep (stumble: KeyError: 'no such key'); this is a bug"
    assert told in report.summary


def test_a_row_that_nobody_can_have_written_is_a_violation(store: Store) -> None:
    store.of_run(GOOD, "UPDATE metrics SET step = 'first' WHERE key = 'lr' AND step = 1 AND run_uuid = ?")
    report = store.verify()
    assert {7, 28} <= set(report.violated)
    assert report.failures == []


# What a person may do -------------------------------------------------------------------------------------------------


def test_the_row_of_a_data_set_is_that_of_the_experiments_first_sweep(store: Store) -> None:
    """Its images lay elsewhere, and its version knew fewer arguments; another data set is another thing."""
    ((source,),) = store.mlflow("SELECT dataset_source FROM datasets")
    first = {"_target_": json.loads(source)["_target_"], "root": "/elsewhere"}
    store.mlflow("UPDATE datasets SET dataset_source = ?", json.dumps(first))
    assert store.verify().violated == []
    store.mlflow("UPDATE datasets SET dataset_source = ?", json.dumps(first | {"_target_": "another.target"}))
    assert store.verify().violated == [33]


def test_a_person_may_tag_runs_and_go_on_with_descriptions(store: Store) -> None:
    for trial in (None, GOOD):
        store.mlflow("INSERT INTO tags VALUES ('seen by', 'me', ?)", store.run(trial))
    for trial in (None, GOOD):
        store.of_run(
            trial, "UPDATE tags SET value = value || ' Seen.' WHERE key = 'mlflow.note.content' AND run_uuid = ?"
        )
    assert store.verify().summary == "verified: 26/26"


def test_a_comparison_is_known_by_what_was_published_of_it(store: Store) -> None:
    store.ghost(kind="comparison", **{"mlflow.parentRunId": store.run(None), "report": "A is better"})
    store.mlflow("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, 'ghost')", store.run(GOOD))
    assert 1 in store.verify().violated
    publish(store.folder, "ghost", "report", "A is better")
    sync(store.folder)
    assert 1 not in store.verify().violated
    store.mlflow("UPDATE tags SET value = 'B is better' WHERE key = 'report'")
    assert 1 in store.verify().violated


HOUR_MS = 3_600_000


@pytest.mark.parametrize("step_ms", [-HOUR_MS, 24 * HOUR_MS, -400 * 24 * HOUR_MS, 12 * 365 * 24 * HOUR_MS])
def test_a_step_of_the_clock_is_a_note(store: Store, step_ms: int) -> None:
    """The driver's clock was set while the stumbling trial ran, and back again while the good one did."""
    first, second = (store.events("reported", trial)[1][0] for trial in (STUMBLING, GOOD))
    store.journal("UPDATE events SET time_ms = time_ms + ? WHERE seq > ? AND seq <= ?", step_ms, first, second)
    shutil.rmtree(store.runs / "artifacts")
    for path in store.runs.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(store.folder / "tracking")
    sync(store.folder)
    report = store.verify()
    assert [str(violation) for violation in report.violations] == []
    assert report.summary == "verified: 26/26; 1 note"
    (note,) = report.notes
    back = first if step_ms < 0 else second
    told = re.fullmatch(rf"the clock was set back by ([\d,.]+) s between events {back} and {back + 1}", note)
    assert told
    assert float(told[1].replace(",", "")) == pytest.approx(abs(step_ms) / 1000, rel=1e-3)
    rows = store.mlflow("SELECT start_time, end_time FROM runs")
    assert all(start <= end for start, end in rows)


# The kept weights once more -------------------------------------------------------------------------------------------


def zeroed(path: Path) -> bytes:
    """The same file with weights of zero and the stamp that belongs to them: nothing in it tells."""
    from orchestrator.training import checkpoint

    loaded = checkpoint.load(path, uid=None)
    return checkpoint.pack({name: tensor * 0 for name, tensor in loaded.tensors.items()}, loaded.state, stamp=True)


@pytest.fixture
def allowed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rights:
    """The sweep's own model, which no journal can allow: as the user's settings do, and as rights."""
    mine = store.runs.parent / "mine"
    (tmp_path / "settings.yaml").write_text(f"allowed_targets: [own_stumbling]\nimport_paths: ['{mine}']\n")
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(tmp_path / "settings.yaml"))
    return Rights(("own_stumbling",), (str(mine),))


@pytest.mark.usefixtures("allowed")
def test_the_kept_weights_give_the_recorded_numbers(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", store.uid, "--runs-dir", str(store.runs), "--deep"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "I19  the kept weights give the recorded numbers: ok" in lines
    assert lines[-1] == "verified: 27/27"


def test_what_was_asked_for_and_could_not_be_done_is_no_success(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model is the user's own, and nobody allows it."""
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(store.runs / "none.yaml"))
    assert main(["verify", store.uid, "--runs-dir", str(store.runs), "--deep"]) == 3
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("verified: 26/26 (1 skipped: I19: not evaluated again (")
    assert "add allowed_targets=[own_stumbling.own]" in last


def test_weights_of_zero_under_a_matching_hash_are_found(store: Store, allowed: Rights) -> None:
    """Every record of their SHA-256 is changed, too: the digest of the journal tells of that, the evaluation of the weights."""
    path = store.trial(GOOD) / "best.safetensors"
    contents = zeroed(path)
    for place in (path, store.artifacts(GOOD) / path.name):
        place.unlink()
        place.write_bytes(contents)
    digest = hashlib.sha256(contents).hexdigest()

    def change(data: dict[str, Any]) -> None:
        next(kept for kept in data["weights"] if kept["trial"] == GOOD)["sha256"] = digest

    store.edit("sweep_closed", None, change)
    store.tag(GOOD, f"sha256.{path.name}", digest)
    assert store.verify().violated == [31]
    with granted(allowed):
        report = store.verify(deep=True)
    assert report.violated == [19, 31]
    told = [violation for violation in report.violations if violation.number == 19]
    assert {violation.subject for violation in told} == {f"trial {GOOD}"}


# What cannot be checked -----------------------------------------------------------------------------------------------

OF_MLFLOW_ALONE = [1, 2, 8, 9, 10, 16, 31, 32, 33, 34]


@pytest.mark.slow
def test_a_sampler_that_learns_is_replayed(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [
        "data=synthetic",
        "model=mlp",
        "model.width=8",
        "batch_size=16",
        "epochs=2",
        "max_concurrent=1",
        "tracking=none",
    ]
    search = [
        "sampler=tpe",
        "sampler.startup_trials=2",
        "trials=5",
        "repeat=2",
        "optimizer.lr=tag(log,interval(1e-3,1))",
    ]
    assert main(["launch", *small, *search]) == 0
    store = Store(tmp_path / "runs")
    assert 15 in store.verify().checked
    assert store.verify().ok

    monkeypatch.setattr(replay, "LEARNING_LIMIT", 3)
    report = store.verify()
    assert report.ok
    assert report.partly[15] == "the first 3 suggestions"
    monkeypatch.undo()

    # Another result of the first trials would have led elsewhere.
    for index in range(4):
        store.edit("terminal", index, lambda data: data.update(value=1.0 - data["value"]))
    assert 15 in store.verify().violated


def test_without_mlflow_the_rest_is_checked(store: Store) -> None:
    store.edit("sweep_opened", None, set_value("tracking", {"kind": "none"}))
    (store.folder / "tracking" / "cursor.json").unlink()
    report = store.verify()
    assert report.ok
    assert list(report.skipped) == OF_MLFLOW_ALONE
    assert report.summary == "verified: 16/16 (10 skipped: I1, I2, I8, I9, I10, I16, I31, I32, I33, I34: tracking=none)"
    wrong_best(store)
    assert store.verify().violated == [17], "what the journal says of itself is"


def test_events_that_wait_for_mlflow_are_no_violation(store: Store) -> None:
    write_status(store.folder, type(read_status(store.folder))(shipped=20))
    reopened_run(store)
    report = store.verify()
    assert report.ok
    assert list(report.skipped) == OF_MLFLOW_ALONE
    assert report.exit_code == EXIT_NOT_READY
    ((events,),) = store.journal("SELECT count(*) FROM events", stamped=False)
    waiting = f"NOT VERIFIED AGAINST MLFLOW: {events - 20} events wait for MLflow; "
    told = f"{waiting}run `orchestrator sync {store.uid}`; verified: 16/16"
    assert report.summary.startswith(told)


def test_a_store_that_does_not_answer_is_no_violation(store: Store) -> None:
    (store.runs / "mlflow.db").write_bytes(b"no database at all")
    for leftover_file in store.runs.glob("mlflow.db-*"):
        leftover_file.unlink()
    report = store.verify()
    assert report.ok
    assert report.exit_code == EXIT_NOT_READY
    assert re.match("NOT VERIFIED AGAINST MLFLOW: .* is not an MLflow store", report.summary)


@pytest.mark.parametrize("uri", ["nosuch://store", "sqlite:///mlflow.db?mode=ro", ""])
def test_a_store_at_an_odd_address_does_not_count_as_verified(store: Store, uri: str) -> None:
    store.edit("sweep_opened", None, set_value("tracking/uri", uri))
    assert store.verify().exit_code != 0


def test_a_store_that_is_gone_is_a_violation(store: Store) -> None:
    for path in store.runs.glob("mlflow.db*"):
        path.unlink()
    assert 1 in store.verify().violated


def test_an_interrupted_sweep_is_right_as_it_is(store: Store) -> None:
    """The driver died in the middle of trial 3, and what it had committed was shipped."""
    seq, _ = store.events("reported", GOOD)[1]
    store.journal("DELETE FROM events WHERE seq > ?", seq)
    for index in (4, 5):
        shutil.rmtree(store.trial(index))
    shutil.rmtree(store.runs / "artifacts")
    for path in store.runs.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(store.folder / "tracking")
    (store.trial(GOOD) / "checkpoint-000003.17.tmp").write_bytes(b"half")
    sync(store.folder)
    report = store.verify()
    assert [str(violation) for violation in report.violations] == []
    assert report.summary == "verified: 25/25 (1 skipped: I17: the sweep is not closed)"
    reopened_run(store)
    assert store.verify().violated == [2, 10]


def test_a_folder_that_was_moved_is_checked_where_it_is(store: Store) -> None:
    moved = store.runs / "elsewhere"
    store.folder.rename(moved)
    assert verify(moved).summary == "verified: 26/26"


def test_a_sweep_that_runs_is_not_checked_by_others(store: Store) -> None:
    with hold(store.folder / LOCK, "runs it"):
        with pytest.raises(RunningElsewhereError, match=rf"process {os.getpid()} on .* runs {store.uid} now"):
            store.verify()
        assert store.verify(own=True).summary == "verified: 26/26"


def test_a_journal_that_cannot_be_read_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="holds no sweep"):
        verify(tmp_path)
    (store.folder / JOURNAL).write_bytes(b"no database at all")
    with pytest.raises(NotReadyError, match=rf"{store.uid}.* cannot be read"):
        store.verify()


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_tells_and_exits(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--runs-dir", str(store.runs)]
    assert main(["verify", "good", *where]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "verified: 26/26"

    stale_best_value(store)
    assert main(["verify", store.uid, *where]) == 7
    lines = capsys.readouterr().out.splitlines()
    assert "I17  the best trial is the best: VIOLATED (1)" in lines
    assert any(line.startswith("I17 the best trial: the sweep's run says") for line in lines)
    assert lines[-1] == "verified: 24/26"

    with hold(store.folder / LOCK, "runs it"):
        assert main(["verify", "good", *where]) == 6
    assert main(["verify", "nothing", *where]) == 2


def test_no_heavy_library_is_imported(store: Store) -> None:
    program = (
        "import sys; from pathlib import Path; from orchestrator.verify import verify;"
        "assert verify(Path(sys.argv[1])).summary == 'verified: 26/26';"
        "print([name for name in ('torch', 'mlflow', 'ray', 'optuna', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(store.folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
