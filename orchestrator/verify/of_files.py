"""What lies on disk against the journal and MLflow: which files are there, whole and unchanged, and no more than should be."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from orchestrator.base.layout import (
    BEST,
    CHECKPOINT_NAME,
    FENCE,
    HEARTBEAT,
    JOURNAL_COMPANIONS,
    LOCK,
    PREDICTIONS,
    RUN_CONFIG,
    RUN_ERROR,
    STOP,
    TEMPORARY,
    TRACKER_LOCK,
    TRACKER_LOG,
    TRIALS,
    TUNE,
    trial_index,
)
from orchestrator.base.records import State
from orchestrator.stores.runs import local_folder, safe_name
from orchestrator.verify.evidence import SweepEvidence, TrialEvidence, header_state
from orchestrator.verify.rules import Finding

CHECKPOINTS_KEPT = 2

MAY_BE_EMPTY = {LOCK, STOP, FENCE, HEARTBEAT, TRACKER_LOCK, TRACKER_LOG, *JOURNAL_COMPANIONS}
"""Files whose presence is all that they say, the tracker's log, and SQLite's companions of the journal."""


def kept_best(trial: TrialEvidence) -> Iterator[Finding]:
    """`best.safetensors` holds the weights of the best epoch, with its value."""
    path = trial.folder / BEST
    if trial.terminal is None or not path.is_file():
        return
    try:
        state = header_state(path)
        epoch, value, uid = int(state["epoch"]), float(state["value"]), state["uid"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Finding(f"{BEST} cannot be read ({error})", "a safetensors file with its epoch and value")
        return
    if uid != trial.uid_in_files:
        yield Finding(f"{BEST} is of trial {uid}", f"of {trial.uid_in_files}")
    best, said = trial.terminal.best_epoch, trial.terminal.value
    reported = {int(entry["epoch"]): entry["metrics"].get(trial.sweep.metric) for entry in trial.epochs}
    if trial.state in (State.COMPLETED, State.STOPPED):
        if (epoch, value) != (best, said):
            yield Finding(f"{BEST} is of epoch {epoch}, value {value}", f"epoch {best}, {said}")
    elif epoch in reported and value != reported[epoch]:
        # One that was ended from outside may be a report ahead of the journal, or behind it.
        yield Finding(f"{BEST} is of epoch {epoch}, value {value}", f"{reported[epoch]}, as reported")


def declared_files(trial: TrialEvidence) -> Iterator[Finding]:
    """A completed trial has its predictions and nothing else, unchanged since; another has none."""
    if trial.terminal is None:
        return
    names = sorted(Path(artifact["path"]).name for artifact in trial.terminal.artifacts)
    expected = [PREDICTIONS.name] if trial.state is State.COMPLETED else []
    if names != expected:
        yield Finding(f"its files are {names}", f"{expected}")
    for artifact in trial.terminal.artifacts:
        path = trial.sweep.current_path(artifact["path"])
        sha256 = _sha256(path)
        if sha256 != artifact["sha256"]:
            yield Finding(f"{path.name} is {_hash_text(sha256)}", f"SHA-256 {artifact['sha256']}")


def stored_files(trial: TrialEvidence) -> Iterator[Finding]:
    """The run names the SHA-256 of each file, and a local store holds the files themselves, and no others."""
    if trial.terminal is None or trial.run is None:
        return
    weights = (trial.sweep.closed.weights if trial.sweep.closed else None) or ()
    kept = [file for file in weights if file["trial"] == trial.index]
    declared = {Path(file["path"]).name: file for file in (*trial.terminal.artifacts, *kept)}
    prefix = "sha256."
    tagged = {key.removeprefix(prefix): value for key, value in trial.run.tags.items() if key.startswith(prefix)}
    for name, file in declared.items():
        if tagged.get(safe_name(name)) != file["sha256"]:
            yield Finding(f"its run's tag sha256.{name} is {tagged.get(safe_name(name))}", file["sha256"])
    folder = local_folder(trial.sweep.current_address(trial.run.artifact_uri))
    if folder is None:
        return
    for name, file in declared.items():
        if _same_file(folder / name, trial.sweep.current_path(file["path"])):
            continue  # its contents are looked at there
        sha256 = _sha256(folder / name)
        if sha256 != file["sha256"]:
            yield Finding(f"{name} of its run is {_hash_text(sha256)}", f"SHA-256 {file['sha256']}")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    # Weights that an earlier closing kept stay in the store when later ones are better.
    for name in sorted(there - set(declared) - {RUN_CONFIG, RUN_ERROR} - set(tagged)):
        yield Finding(f"a file {name} in its run", "only what the journal declares")
    if RUN_CONFIG not in there:
        yield Finding(f"its run has no {RUN_CONFIG}", "its configuration")


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _hash_text(sha256: str | None) -> str:
    return "missing" if sha256 is None else f"of SHA-256 {sha256}"


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def no_leftovers(sweep: SweepEvidence) -> Iterator[Finding]:
    """No file is half written or empty."""
    for path, size in sweep.files:
        index = trial_index(path)
        trial = sweep.trials.get(index) if index is not None else None
        # What a killed process left half written is cleared by the next attempt, or by the next driver.
        goes_on = sweep.closed is None and (path.parts[0] == TUNE or (trial and trial.state is State.INTERRUPTED))
        if goes_on:
            continue
        if path.suffix == TEMPORARY:
            yield Finding("a temporary file", "none", str(path))
        elif size == 0 and path.name not in MAY_BE_EMPTY:
            yield Finding("an empty file", "none", str(path))


def few_checkpoints(sweep: SweepEvidence) -> Iterator[Finding]:
    """A trial keeps its newest checkpoints alone, and nothing lies there of a trial that there is not."""
    kept: Counter[int] = Counter()
    strangers = set()
    for path, _ in sweep.files:
        trial = trial_index(path)
        if path.parts[0] == TRIALS and (trial not in sweep.trials or path.parts[1] != f"{trial:05d}"):
            strangers.add(Path(*path.parts[:2]))
        elif path.suffix == ".safetensors" and trial is None:
            yield Finding("weights or predictions of no trial", "none", str(path))
        if trial is not None and CHECKPOINT_NAME.fullmatch(path.name):
            kept[trial] += 1
    for path in sorted(strangers):
        yield Finding("it belongs to no trial", "files of suggested trials only", str(path))
    for trial, count in sorted(kept.items()):
        if count > CHECKPOINTS_KEPT:
            yield Finding(f"{count} checkpoints", f"at most {CHECKPOINTS_KEPT}", f"trial {trial}")


def few_weights(sweep: SweepEvidence) -> Iterator[Finding]:
    """Where a closing names the weights that were kept, they are there, unchanged, and as few as they should be."""
    kept = sweep.closed.weights if sweep.closed else None
    if kept is None:
        return
    most = int(sweep.setting("keep_weights", 0))
    there = {index for path, _ in sweep.files if path.name == BEST and (index := trial_index(path)) is not None}
    listed = {int(entry["trial"]) for entry in kept}
    configurations = {sweep.trials[index].config_index for index in listed if index in sweep.trials}
    if len(configurations) > most:
        yield Finding(f"weights of {len(configurations)} configurations", f"at most {most}")
    if not there <= listed:
        yield Finding(f"weights of the trials {sorted(there - listed)}, too", f"of {sorted(listed)} alone")
    for entry in kept:
        sha256 = _sha256(sweep.current_path(entry["path"]))
        if sha256 != entry["sha256"]:
            yield Finding(
                f"the kept weights are {_hash_text(sha256)}", f"SHA-256 {entry['sha256']}", f"trial {entry['trial']}"
            )
