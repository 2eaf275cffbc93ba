"""Which examples are for validation and for test, by verify's own reckoning from the data set and its split's definition."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from orchestrator.base.errors import OrchestratorError
from orchestrator.base.targets import resolve
from orchestrator.verify.evidence import TrialEvidence
from orchestrator.verify.rules import NotChecked, PartlyChecked

DEFAULTS = {"val_fraction": 0.2, "split_seed": 0}

OURS = "orchestrator.training.data."
OWN_VALIDATION = f"{OURS}folder."
"""Of our data sets the folder of images alone may come with a validation set of its own; of a user's nobody knows."""

Split = Mapping[str, tuple[Any, Any]]
"""`val` and `test` -> (ids, labels), ascending."""


def own_split(trial: TrialEvidence) -> Split:
    """The split of the trial's data set; read once for all trials that share one.

    Raises:
        PartlyChecked: the data set is not at hand.
    """
    spec = trial.suggested.config.get("data")
    key = f"split of {json.dumps(spec, sort_keys=True)}"
    memo = trial.sweep.memo
    if key not in memo:
        try:
            memo[key] = _split(trial, spec if isinstance(spec, Mapping) else {})
        except NotChecked as why:
            memo[key] = why
    found: Split | NotChecked = memo[key]
    if isinstance(found, NotChecked):
        raise PartlyChecked(str(found))
    return found


def _split(trial: TrialEvidence, spec: Mapping[str, Any]) -> Split:
    from orchestrator.training.data import load

    config = trial.suggested.config
    target = str(spec.get("_target_"))
    by_rule = target.startswith(OURS) and not target.startswith(OWN_VALIDATION)
    chosen = spec.get("classes") if target.startswith(OURS) else None
    if isinstance(chosen, list):
        spec = {**spec, "classes": None}  # the classes that are left are reckoned here, too
    else:
        chosen = None  # the number of them, or an argument of the user's
    try:
        dataset = load(spec, cache=config.get("data_cache"), entry=config.get("data_entry") or "")
        split = {name: spec.get(name, _default(spec, name)) for name in DEFAULTS}
    except (OrchestratorError, ImportError, ValueError, OSError) as error:
        raise NotChecked(f"the data set is not at hand ({' '.join(str(error).split())[:400]})") from error
    parts = {name: dataset.splits[name] for name in ("train", "val", "test")}
    val = _held_out(dataset.labels, parts, len(dataset.classes), **split) if by_rule else parts["val"]
    held = {name: (ids, dataset.labels[ids]) for name, ids in (("val", val), ("test", parts["test"]))}
    return held if chosen is None else _of_classes(held, chosen, dataset.classes)


def _of_classes(split: Split, chosen: list[Any], names: tuple[str, ...]) -> Split:
    """The examples of some classes alone, each labelled with its class's place among those.

    Raises:
        NotChecked: there are no such classes.
    """
    import numpy as np

    known = (*range(len(names)), *names)
    if not all(isinstance(one, str | int) and one in known for one in chosen):
        raise NotChecked(f"the data set has not the classes {str(chosen)[:200]}")
    numbers = np.array([one if isinstance(one, int) else names.index(one) for one in chosen])
    found = {}
    for name, (ids, labels) in split.items():
        is_one = labels[:, None] == numbers
        found[name] = (ids[is_one.any(axis=1)], is_one.argmax(axis=1)[is_one.any(axis=1)])
    return found


def _default(spec: Mapping[str, Any], name: str) -> Any:
    """The default of an argument that the spec leaves out."""
    known = inspect.signature(resolve(spec["_target_"])).parameters
    return known[name].default if name in known else DEFAULTS[name]


def _held_out(labels: Any, parts: Mapping[str, Any], classes: int, *, val_fraction: float, split_seed: int) -> Any:
    """The ids that are held out of training: of each class in turn the first `val_fraction`, rounded half up, of a permutation.

    Args:
        parts: the ids of `train` and `val` together are what is split.
    """
    import numpy as np

    rest = np.sort(np.concatenate([parts["train"], parts["val"]]))
    random = np.random.RandomState(split_seed)
    held = []
    for label in range(classes):
        members = rest[labels[rest] == label]
        count = int(val_fraction * len(members) + 0.5)
        held.append(random.permutation(members)[:count])
    return np.sort(np.concatenate(held))
