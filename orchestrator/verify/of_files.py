"""What lies on disk against the journal and MLflow: checkpoints, kept weights and predictions, recomputed with numpy alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.base.layout import BEST, TUNE
from orchestrator.base.records import State
from orchestrator.stores.runs import local_folder, safe_name
from orchestrator.verify.evidence import Case, Sweep
from orchestrator.verify.rules import Finding

PREDICTIONS = "predictions.safetensors"
CHECKPOINT = re.compile(r"checkpoint-(\d+)\.[0-9a-f]{64}\.safetensors")
CHECKPOINTS_KEPT = 2

MAY_BE_EMPTY = {"lock", "stop", "attempt", "heartbeat", "shipper.log"}
"""Files whose presence is all that they say; SQLite's own companions of the journal may be empty, too."""

BESIDE_DECLARED = {"config.yaml", "error.txt"}
"""Files of a run that no event of the journal names."""

SCRATCH = TUNE
"""A folder that a driver makes and removes; one that was killed leaves it to the next one."""

LOSS_TOLERANCE = 1e-5
LOSS_ROUNDING = 1e-6
"""float32 rounds the logarithm of the row sums: a loss near zero is exact to this much only."""

GPU_LOSS_TOLERANCE = 1e-3
GPU_ACCURACY_TOLERANCE = 2e-3
"""A GPU's sums depend on their order, which may differ between the last epoch's evaluation and that of the kept weights."""


@dataclass(frozen=True)
class Stored:
    """A predictions file: `{val,test}_{logits,ids,labels}` as numpy arrays, and what is written beside them."""

    arrays: Mapping[str, Any]
    state: Mapping[str, Any]

    def of(self, split: str) -> dict[str, Any] | None:
        """The three arrays of a split; None where one is missing."""
        found = {name: self.arrays.get(f"{split}_{name}") for name in ("logits", "ids", "labels")}
        return None if any(array is None for array in found.values()) else found


def kept_best(case: Case) -> Iterator[Finding]:
    """`best.safetensors` holds the weights of the best epoch, with its value."""
    path = case.folder / BEST
    if case.terminal is None or not path.is_file():
        return
    try:
        state = _header_state(path)
        epoch, value, uid = int(state["epoch"]), float(state["value"]), state["uid"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Finding(f"{BEST} cannot be read ({error})", "a safetensors file with its epoch and value")
        return
    if uid != case.uid:
        yield Finding(f"{BEST} is of trial {uid}", f"of {case.uid}")
    best, said = case.terminal.best_epoch, case.terminal.value
    reported = {int(entry["epoch"]): entry["metrics"].get(case.sweep.metric) for entry in case.epochs}
    if case.state in (State.COMPLETED, State.STOPPED):
        if (epoch, value) != (best, said):
            yield Finding(f"{BEST} is of epoch {epoch}, value {value}", f"epoch {best}, {said}")
    elif epoch in reported and value != reported[epoch]:
        # One that was ended from outside may be a report ahead of the journal, or behind it.
        yield Finding(f"{BEST} is of epoch {epoch}, value {value}", f"{reported[epoch]}, as reported")


def _header_state(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    state: dict[str, Any] = json.loads(header["__metadata__"]["state"])
    return state


def recomputed_scores(case: Case) -> Iterator[Finding]:
    """Accuracy and loss follow from the stored predictions: validation's as of the best epoch, the test's as of the end."""
    stored = predictions(case)
    if stored is None or case.terminal is None:
        return
    best = case.terminal.best_epoch
    at_best: Mapping[str, Any] = next((epoch["metrics"] for epoch in case.epochs if epoch["epoch"] == best), {})
    on_gpu = float(case.sweep.setting("gpus_per_trial", 0)) > 0
    for split, logged in (("val", at_best), ("test", case.terminal.metrics)):
        arrays = stored.of(split)
        if arrays is None or len(arrays["logits"]) != len(arrays["labels"]) or not len(arrays["labels"]):
            yield Finding(f"the predictions lack logits or labels of {split}", "both, of every example")
            continue
        loss, correct = _scores(arrays["logits"], arrays["labels"])
        accuracy = correct / len(arrays["labels"])
        said_loss, said_accuracy = logged.get(f"{split}/loss"), logged.get(f"{split}/accuracy")
        if not _near(accuracy, said_accuracy, 0.0, GPU_ACCURACY_TOLERANCE if on_gpu else 0.0):
            yield Finding(f"{split}/accuracy of the predictions is {accuracy}", f"{said_accuracy}, as logged")
        if not _near(loss, said_loss, GPU_LOSS_TOLERANCE if on_gpu else LOSS_TOLERANCE, LOSS_ROUNDING):
            yield Finding(f"{split}/loss of the predictions is {loss}", f"{said_loss}, as logged")


def _scores(logits_NK: Any, labels_N: Any) -> tuple[float, int]:
    """Mean cross-entropy, and how many rows have their largest logit at the label."""
    import numpy as np

    labels_N = np.clip(labels_N, 0, logits_NK.shape[1] - 1)
    with np.errstate(all="ignore"):
        shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
        log_sums_N = np.log(np.exp(shifted_NK).sum(axis=1))
        losses_N = log_sums_N - np.take_along_axis(shifted_NK, labels_N[:, None], axis=1)[:, 0]
        loss = float(losses_N.astype(np.float64).mean())
    return loss, int((logits_NK.argmax(axis=1) == labels_N).sum())


def _near(value: float, said: Any, relative: float, absolute: float) -> bool:
    return isinstance(said, int | float) and abs(value - said) <= max(relative * abs(said), absolute)


def declared_files(case: Case) -> Iterator[Finding]:
    """A completed trial has its predictions and nothing else, unchanged since; another has none."""
    if case.terminal is None:
        return
    names = sorted(Path(artifact["path"]).name for artifact in case.terminal.artifacts)
    expected = [PREDICTIONS] if case.state is State.COMPLETED else []
    if names != expected:
        yield Finding(f"its files are {names}", f"{expected}")
    for artifact in case.terminal.artifacts:
        path = case.sweep.here(artifact["path"])
        sha256 = _sha256(path)
        if sha256 != artifact["sha256"]:
            yield Finding(f"{path.name} is {_worded(sha256)}", f"SHA-256 {artifact['sha256']}")


def stored_files(case: Case) -> Iterator[Finding]:
    """The run names the SHA-256 of each file, and a local store holds the files themselves, and no others."""
    if case.terminal is None or case.run is None:
        return
    weights = (case.sweep.closed.weights if case.sweep.closed else None) or ()
    kept = [file for file in weights if file["trial"] == case.index]
    declared = {Path(file["path"]).name: file for file in (*case.terminal.artifacts, *kept)}
    prefix = "sha256."
    tagged = {key.removeprefix(prefix): value for key, value in case.run.tags.items() if key.startswith(prefix)}
    for name, file in declared.items():
        if tagged.get(safe_name(name)) != file["sha256"]:
            yield Finding(f"its run's tag sha256.{name} is {tagged.get(safe_name(name))}", file["sha256"])
    folder = local_folder(case.run.artifact_uri)
    if folder is None:
        return
    for name, file in declared.items():
        if _same_file(folder / name, case.sweep.here(file["path"])):
            continue  # its contents are looked at there
        sha256 = _sha256(folder / name)
        if sha256 != file["sha256"]:
            yield Finding(f"{name} of its run is {_worded(sha256)}", f"SHA-256 {file['sha256']}")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    # Weights that an earlier closing kept stay in the store when later ones are better.
    for name in sorted(there - set(declared) - BESIDE_DECLARED - set(tagged)):
        yield Finding(f"a file {name} in its run", "only what the journal declares")
    if "config.yaml" not in there:
        yield Finding("its run has no config.yaml", "its configuration")


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _worded(sha256: str | None) -> str:
    return "missing" if sha256 is None else f"of SHA-256 {sha256}"


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def no_leftovers(sweep: Sweep) -> Iterator[Finding]:
    """No file is half written or empty."""
    for path, size in sweep.files:
        case = sweep.cases.get(_trial_of(path))
        # What a killed process left half written is cleared by the next attempt, or by the next driver.
        goes_on = sweep.closed is None and (path.parts[0] == SCRATCH or (case and case.state is State.INTERRUPTED))
        if goes_on:
            continue
        if path.suffix == ".tmp":
            yield Finding("a temporary file", "none", str(path))
        elif size == 0 and not _may_be_empty(path):
            yield Finding("an empty file", "none", str(path))


def _may_be_empty(path: Path) -> bool:
    return path.name in MAY_BE_EMPTY or path.name.endswith(("-wal", "-shm", "-journal"))


def _trial_of(path: Path) -> int:
    """The trial in whose folder a file lies; -1 where it lies elsewhere."""
    parts = path.parts
    inside = len(parts) > 2 and parts[0] == "trials" and re.fullmatch(r"\d{5,}", parts[1])
    return int(parts[1]) if inside else -1


def predictions_fit(case: Case) -> Iterator[Finding]:
    """The predictions are of this trial and of the whole split, in the order and with the classes of the other trials'."""
    import numpy as np

    stored = predictions(case)
    if stored is None:
        if case.state is State.COMPLETED:
            yield Finding(f"{PREDICTIONS} cannot be read", "a safetensors file")
        return
    for key, expected in (("uid", case.uid), ("best_epoch", case.terminal.best_epoch if case.terminal else None)):
        if stored.state.get(key) != expected:
            yield Finding(f"{PREDICTIONS} has {key} {stored.state.get(key)}", f"{expected}")
    classes = list(stored.state.get("classes") or ())
    facts = case.sweep.plan.facts
    searched = any(key == "data" or key.startswith("data.") for key in case.sweep.plan.space.keys)
    if not searched and facts.get("fingerprint") and stored.state.get("fingerprint") != facts["fingerprint"]:
        yield Finding(f"{PREDICTIONS} has data of fingerprint {stored.state.get('fingerprint')}", facts["fingerprint"])
    order = hashlib.sha256()
    for split in ("val", "test"):
        arrays = stored.of(split)
        if arrays is None:
            yield Finding(f"{PREDICTIONS} lacks arrays of {split}", "logits, ids and labels")
            continue
        logits, ids, labels = arrays["logits"], arrays["ids"], arrays["labels"]
        rows = len(ids) if searched else facts.get(split, len(ids))
        if not (logits.shape == (rows, len(classes)) and ids.shape == labels.shape == (rows,)):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            yield Finding(f"{split} has {shapes}", f"{rows} rows of {len(classes)} classes")
            continue
        if len(np.unique(ids)) != rows:
            yield Finding(f"{split} has {rows - len(np.unique(ids))} ids twice", "each example once")
        if not np.isfinite(logits).all():
            yield Finding(f"{split} has {int((~np.isfinite(logits)).sum())} logits that are not finite", "finite ones")
            continue
        # Rows whose highest logit is 0 have probabilities that sum to 1, whatever their other logits.
        if shifted := int((logits.max(axis=1) != 0).sum()):
            yield Finding(f"{shifted} rows of {split} do not have 0 as highest logit", "all, so that rows sum to 1")
        order.update(ids.tobytes() + labels.tobytes())
    yield from _like_the_first(case, order.hexdigest(), classes)


def _like_the_first(case: Case, order: str, classes: list[Any]) -> Iterator[Finding]:
    data = json.dumps(case.suggested.config.get("data"), sort_keys=True)
    first = case.sweep.seen.setdefault(f"order of {data}", (case.index, order, classes))
    if first[1] != order:
        yield Finding("its ids or labels are in another order", f"that of trial {first[0]}")
    if first[2] != classes:
        yield Finding(f"its classes are {classes}", f"{first[2]}, as those of trial {first[0]}")


def predictions(case: Case) -> Stored | None:
    """The trial's predictions, read once; None where there are none, or none that can be read."""
    if "predictions" not in case.sweep.seen or case.sweep.seen["predictions"][0] != case.index:
        case.sweep.seen["predictions"] = (case.index, _read_predictions(case))
    stored: Stored | None = case.sweep.seen["predictions"][1]
    return stored


def _read_predictions(case: Case) -> Stored | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    declared = [artifact["path"] for artifact in (case.terminal.artifacts if case.terminal else ())]
    paths = [case.sweep.here(path) for path in declared if Path(path).name == PREDICTIONS]
    if not paths:
        return None
    try:
        return Stored(load(paths[0].read_bytes()), _header_state(paths[0]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def few_checkpoints(sweep: Sweep) -> Iterator[Finding]:
    """A trial keeps its newest checkpoints alone, and nothing lies there of a trial that there is not."""
    kept: dict[int, int] = {}
    strangers = set()
    for path, _ in sweep.files:
        trial = _trial_of(path)
        if path.parts[0] == "trials" and (trial not in sweep.cases or path.parts[1] != f"{trial:05d}"):
            strangers.add(Path(*path.parts[:2]))
        elif path.suffix == ".safetensors" and trial < 0:
            yield Finding("weights or predictions of no trial", "none", str(path))
        if CHECKPOINT.fullmatch(path.name):
            kept[trial] = kept.get(trial, 0) + 1
    for path in sorted(strangers):
        yield Finding("it belongs to no trial", "files of suggested trials only", str(path))
    for trial, count in sorted(kept.items()):
        if count > CHECKPOINTS_KEPT:
            yield Finding(f"{count} checkpoints", f"at most {CHECKPOINTS_KEPT}", f"trial {trial}")


def few_weights(sweep: Sweep) -> Iterator[Finding]:
    """Where a closing names the weights that were kept, they are there, unchanged, and as few as they should be."""
    kept = sweep.closed.weights if sweep.closed else None
    if kept is None:
        return
    most = int(sweep.setting("keep_weights", 0))
    there = {_trial_of(path) for path, _ in sweep.files if path.name == BEST}
    listed = {int(entry["trial"]) for entry in kept}
    configurations = {sweep.cases[index].config_index for index in listed if index in sweep.cases}
    if len(configurations) > most:
        yield Finding(f"weights of {len(configurations)} configurations", f"at most {most}")
    if not there <= listed:
        yield Finding(f"weights of the trials {sorted(there - listed)}, too", f"of {sorted(listed)} alone")
    for entry in kept:
        sha256 = _sha256(sweep.here(entry["path"]))
        if sha256 != entry["sha256"]:
            yield Finding(
                f"the kept weights are {_worded(sha256)}", f"SHA-256 {entry['sha256']}", f"trial {entry['trial']}"
            )
