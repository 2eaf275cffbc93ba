"""What lies on disk against the journal and MLflow: which files are there, whole and unchanged, and no more than should be."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import yaml

from orchestrator.base.decode import check, read_json
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import (
    AVERAGE,
    BEST,
    CHECKPOINT_NAME,
    FENCE,
    HEARTBEAT,
    JOURNAL_COMPANIONS,
    LOCK,
    PREDICTIONS,
    PUBLISHED,
    RUN_CONFIG,
    RUN_ERROR,
    SNAPSHOT,
    STOP,
    STORE_MARK,
    SWEEP_MARK,
    TEMPORARY,
    TRACKER_LOCK,
    TRACKER_LOG,
    TRIALS,
    TUNE,
    snapshot,
    trial_index,
)
from orchestrator.base.records import State
from orchestrator.base.regular import read_regular
from orchestrator.journal.marking import SweepMark
from orchestrator.journal.place import read_identity
from orchestrator.stores.runs import StoredRun, local_folder
from orchestrator.verify.evidence import SweepEvidence, TrialEvidence, fixed, header_state, stamped_uid
from orchestrator.verify.expected import ExpectedRun, allowed_name
from orchestrator.verify.of_store import OWN_RUNS
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


def kept_beside(trial: TrialEvidence) -> Iterator[Finding]:
    """Beside the best weights of a completed trial are its snapshots, and these and averaged weights are as they were written."""
    if trial.state is not State.COMPLETED or not (trial.folder / BEST).is_file():
        return
    expected = [snapshot(number) for number in range(1, _cycles_ended(trial) + 1)]
    there = [path.name for path, _ in trial.sweep.files if trial_index(path) == trial.index]
    for name in expected:
        if name not in there:
            yield Finding(f"{name} is not there", "weights at the end of each cycle")
    for name in sorted(there):
        if name != AVERAGE and not SNAPSHOT.fullmatch(name):
            continue
        try:
            uid = stamped_uid(trial.folder / name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield Finding(f"{name} cannot be read ({error})", "a safetensors file of the SHA-256 in its header")
            continue
        if uid != trial.uid_in_files:
            yield Finding(f"{name} is of trial {uid}", f"of {trial.uid_in_files}")
        if name != AVERAGE and name not in expected:
            yield Finding(f"{name} is there", f"{len(expected)} snapshots")


def _cycles_ended(trial: TrialEvidence) -> int:
    """How many cycles of the learning rate, whose weights are to be kept, ended with an epoch of the trial."""
    count = fixed(trial, "snapshots") if "snapshots" in trial.suggested.config else None
    if not count:
        return 0
    schedule = trial.suggested.config["schedule"]
    warmup = schedule.get("warmup_epochs", 0)
    length = (trial.suggested.config["epochs"] - warmup) / count
    return min(int(count), int((trial.last_epoch - warmup) / length))


def declared_files(trial: TrialEvidence) -> Iterator[Finding]:
    """A completed trial has its predictions and nothing else, unchanged since; another has none.

    `train` gives them to a trial that it repeats as far as a stopped one came, too.
    """
    if trial.terminal is None:
        return
    names = sorted(Path(artifact["path"]).name for artifact in trial.terminal.artifacts)
    repeated = trial.state is State.STOPPED and trial.sweep.is_of_train
    expected = [PREDICTIONS.name] if trial.state is State.COMPLETED or repeated else []
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
    declared = {
        Path(file["path"]).name: (trial.sweep.current_path(file["path"]), file["sha256"])
        for file in (*trial.terminal.artifacts, *kept)
    }
    error = {RUN_ERROR} if trial.terminal.error else set()
    yield from _stored(trial.sweep, trial.run, trial.uid, declared, {RUN_CONFIG} | error)


def published_files(sweep: SweepEvidence) -> Iterator[Finding]:
    """What was published last under each name is there, unchanged since."""
    for run, entries in sweep.published.items():
        for key, event in entries.items():
            if event.path is not None and (sha256 := _sha256(sweep.current_path(event.path))) != event.sha256:
                yield Finding(f"{event.path} is {_hash_text(sha256)}", f"SHA-256 {event.sha256}, as {key} of run {run}")


def stored_files_of_sweep(sweep: SweepEvidence) -> Iterator[Finding]:
    """The same of the sweep's own run, and of every comparison or ensemble."""
    if sweep.parent is not None:
        yield from _stored(sweep, sweep.parent, sweep.uid, {}, {RUN_CONFIG})
    for run in sweep.runs or ():
        if run.tags.get("kind") in OWN_RUNS and not run.deleted and run.name in sweep.of_others:
            yield from _stored(sweep, run, run.name, {}, set())


def _stored(
    sweep: SweepEvidence, run: StoredRun, uid: str, declared: Mapping[str, tuple[Path, str]], texts: set[str]
) -> Iterator[Finding]:
    """A run's files.

    Args:
        declared: name -> (where it lies beside the journal, SHA-256), to which comes what was published.
        texts: names of other files that it has to have, whose contents are looked at elsewhere.
    """
    published = sweep.published.get(uid, {})
    files = {
        **declared,
        **{k: (sweep.current_path(e.path), e.sha256) for k, e in published.items() if e.path is not None},
    }
    prefix = "sha256."
    tagged = {key.removeprefix(prefix): value for key, value in run.tags.items() if key.startswith(prefix)}
    if run.tags.get("kind") not in OWN_RUNS:
        for name, (_, sha256) in files.items():
            if tagged.get(allowed_name(name)) != sha256:
                yield Finding(f"its run's tag sha256.{name} is {tagged.get(allowed_name(name))}", sha256, f"run {uid}")
    folder = _folder_of(sweep, run)
    if folder is None:
        if sweep.own_store is not None:
            yield Finding(f"its files lie at {run.artifact_uri}", "a folder of this machine", f"run {uid}")
        return
    for name, (path, right) in files.items():
        if _same_file(folder / name, path):
            continue  # its contents are looked at there
        found = _sha256(folder / name)
        if found != right:
            yield Finding(f"{name} of its run is {_hash_text(found)}", f"SHA-256 {right}", f"run {uid}")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    for name in sorted(there):
        if (folder / name).is_symlink() or not (folder / name).is_file():
            yield Finding(f"{name} of its run is a link, or no file", "a file", f"run {uid}")
    # Weights that an earlier closing kept stay in the store when later ones are better.
    for name in sorted(there - set(files) - {RUN_CONFIG, RUN_ERROR} - set(tagged)):
        yield Finding(f"a file {name} in its run", "only what the journal declares", f"run {uid}")
    for name in sorted(texts - there):
        yield Finding(f"its run has no {name}", "what the journal says", f"run {uid}")
    if RUN_ERROR in there - texts:
        yield Finding(f"its run has an {RUN_ERROR}", "none, as it did not fail", f"run {uid}")


def texts(trial: TrialEvidence) -> Iterator[Finding]:
    """The configuration and the traceback in a trial's run are those of its events."""
    if trial.run is not None:
        yield from _same_config(trial.sweep, trial.run, trial.expected)
        yield from _same_error(trial.sweep, trial.run, trial.expected)


def texts_of_sweep(sweep: SweepEvidence) -> Iterator[Finding]:
    """The configuration in the sweep's run is the one that all trials start from; published texts are of their digests."""
    for run, entries in sweep.published.items():
        for key, event in entries.items():
            if event.text is not None and hashlib.sha256(event.text.encode()).hexdigest() != event.sha256:
                yield Finding(f"the text of {key} is of another digest", f"SHA-256 {event.sha256}", f"run {run}")
    if sweep.parent is not None:
        yield from _same_config(sweep, sweep.parent, sweep.expected)


def _same_config(sweep: SweepEvidence, run: StoredRun, expected: ExpectedRun) -> Iterator[Finding]:
    folder = _folder_of(sweep, run)
    if folder is None:
        return
    try:
        found = _sections(read_regular(folder / RUN_CONFIG).decode())
    except FileNotFoundError:
        return  # told by the invariant of files
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        yield Finding(f"{RUN_CONFIG} cannot be read ({' '.join(str(error).split())[:160]})", "its configuration")
        return
    right = {str(key): _plain(value) for key, value in expected.config.items()}
    others = [key for key in sorted({*found, *right}) if found.get(key) != right.get(key)]
    if others:
        yield Finding(f"{RUN_CONFIG} of its run has another {', '.join(others)[:200]}", "its configuration")


def _folder_of(sweep: SweepEvidence, run: StoredRun) -> Path | None:
    """Where the artifacts of a run lie now; None where they do not lie in a folder of this machine."""
    return local_folder(sweep.current_address(run.artifact_uri))


def _sections(text: str) -> dict[str, str]:
    """The root keys of a YAML file, each with its value as JSON. Trials share most of them, so that each is parsed once.

    Raises:
        ValueError: something stands there twice, or is no mapping.
        yaml.YAMLError: it is not YAML.
    """
    found: dict[str, str] = {}
    for section in re.split(r"\n(?=[^\s-])", text):
        for key, value in _section(section).items():
            if key in found:
                raise ValueError(f"{key} stands there twice")
            found[key] = value
    return found


@lru_cache(1_000)
def _section(text: str) -> dict[str, str]:
    loaded = yaml.load(text, _Loader)
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{text[:80]!r} is no key with a value")
    return {str(key): _plain(value) for key, value in loaded.items()}


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _same_error(sweep: SweepEvidence, run: StoredRun, expected: ExpectedRun) -> Iterator[Finding]:
    folder = _folder_of(sweep, run)
    if folder is None or not expected.error:
        return
    try:
        found = read_regular(folder / RUN_ERROR).decode()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        yield Finding(f"{RUN_ERROR} cannot be read ({error})", "the traceback of its end")
        return
    if found != expected.error:
        yield Finding(f"{RUN_ERROR} of its run is another text", "the traceback of its end")


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _hash_text(sha256: str | None) -> str:
    return "missing" if sha256 is None else f"of SHA-256 {sha256}"


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(read_regular(path)).hexdigest()
    except OSError:
        return None


def own_mark(sweep: SweepEvidence) -> Iterator[Finding]:
    """The folder says whose it is; sweeps of earlier versions may have none that does."""
    try:
        mark = read_json(read_regular(sweep.folder / SWEEP_MARK))
        check(mark, SweepMark, SWEEP_MARK)
        identity = read_identity(sweep.folder.parent)
    except FileNotFoundError:
        if sweep.publishes_since < sweep.first_suggestion:
            yield Finding(f"there is no {SWEEP_MARK}", f"one of {sweep.uid}")
        return
    except (OSError, ValueError, NotReadyError) as error:
        yield Finding(f"{SWEEP_MARK} cannot be read ({error})", f"the mark of {sweep.uid}")
        return
    if mark["uid"] not in (sweep.uid, sweep.folder.name) or mark.keys() != SweepMark.__annotations__.keys():
        yield Finding(f"{SWEEP_MARK} is {mark!r:.160}", f"of {sweep.uid}")
    here = identity.id if identity else f"none (no {STORE_MARK})"
    if mark["store"] != here:
        yield Finding(f"{SWEEP_MARK} names the runs folder {mark['store']!r:.80}", f"that where it lies: {here}")


def no_leftovers(sweep: SweepEvidence) -> Iterator[Finding]:
    """No file is half written or empty."""
    for path, size in sweep.files:
        index = trial_index(path)
        trial = sweep.trials.get(index) if index is not None else None
        # What a killed process left half written is cleared by the next attempt, or by the next driver.
        goes_on = sweep.closed is None and (path.parts[0] == TUNE or (trial and trial.state is State.INTERRUPTED))
        # A version that no event names is never shown; the next publication removes it.
        is_unnamed = path.parts[0] == PUBLISHED and path.as_posix() not in sweep.published_paths
        if goes_on or is_unnamed:
            continue
        full = sweep.folder / path
        if full.is_symlink() or not full.is_file():
            yield Finding("a link, a pipe or another thing that is no file", "only files", str(path))
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
        elif path.suffix == ".safetensors" and trial is None and path.parts[0] != PUBLISHED:
            yield Finding("weights or predictions of no trial", "none", str(path))
        if trial is not None and CHECKPOINT_NAME.fullmatch(path.name):
            kept[trial] += 1
    for path in sorted(strangers):
        yield Finding("it belongs to no trial", "files of suggested trials only", str(path))
    for trial, count in sorted(kept.items()):
        if count > CHECKPOINTS_KEPT:
            yield Finding(f"{count} checkpoints", f"at most {CHECKPOINTS_KEPT}", f"trial {trial}")


def _is_weights(name: str) -> bool:
    return name in (AVERAGE, BEST) or SNAPSHOT.fullmatch(name) is not None


def few_weights(sweep: SweepEvidence) -> Iterator[Finding]:
    """Where a closing names the weights that were kept, they are there, unchanged, and as few as they should be."""
    kept = sweep.closed.weights if sweep.closed else None
    if kept is None:
        return
    most = int(sweep.setting("keep_weights", 0))
    there = {index for path, _ in sweep.files if _is_weights(path.name) and (index := trial_index(path)) is not None}
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
