"""From the data group of a trial's configuration to a Dataset, once a process."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.build import build
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.training.data.cache import cache_folder, cached, looked_at, read_entry
from orchestrator.training.data.dataset import Dataset, assemble
from orchestrator.training.data.source import Progress, Source

_loaded: dict[str, Dataset] = {}
_lock = threading.Lock()


def load(
    spec: Mapping[str, Any],
    *,
    cache: Path | str | None = None,
    entry: str = "",
    progress: Progress | None = None,
    decode: bool = True,
) -> Dataset:
    """The data set that `spec` describes; the same object for the same spec in one process.

    The first call in a process compares paths, sizes and times of all files with the cache, and decodes what is not there.

    Args:
        cache: folder of decoded images; see `cache_folder`.
        entry: `Dataset.entry` as the driver loaded it a moment ago: taken as it is, if this machine has it, without looking
            at the files again.
        progress: called with (decoded, all) while images are decoded.
        decode: otherwise nothing is decoded and nothing written.

    Raises:
        UndecodedError: images would have to be decoded that may not be.
        ConfigError: the spec is wrong.
        ValueError: a value is, or the split leaves a class without an example.
        NotReadyError: the files are missing or damaged, or the cache cannot be written.
    """
    folder = cache_folder(cache)
    key = json.dumps([spec, str(folder)], sort_keys=True)
    with _lock:
        if key in _loaded:
            return _loaded[key]
        if not decode:
            return _load(spec, folder, entry, None)
        _loaded[key] = _load(spec, folder, entry, progress or _silent)
        return _loaded[key]


def forget() -> None:
    """Drops what this process has loaded; the next `load` looks at the files again."""
    with _lock:
        _loaded.clear()


def absolute_paths(spec: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The spec with a relative `root` below `base`, so that workers, which start elsewhere, find the same files."""
    root = spec.get("root")
    return dict(spec, root=str(base / Path(root).expanduser())) if isinstance(root, str) and root else dict(spec)


def _load(spec: Mapping[str, Any], folder: Path, entry: str, progress: Progress | None) -> Dataset:
    made = build(spec)
    if isinstance(made, Dataset):
        return made
    if not isinstance(made, Source):
        target = spec.get("_target_") if spec else None
        raise ConfigError(
            Problem("data._target_", f"must return a Dataset or a Source, gave {type(made).__name__}", target)
        )
    found = read_entry(folder, entry) if entry else None
    if found:
        contents, contents_digest = found
    elif progress is None and made.ready():
        contents, contents_digest, entry = looked_at(made, folder)
    else:
        contents, contents_digest, entry = cached(made, folder, progress or _silent)
    return assemble(
        made.name,
        contents,
        contents_digest,
        val_fraction=made.val_fraction,
        split_seed=made.split_seed,
        label_noise=made.label_noise,
        chosen=made.classes,
        examples_per_class=made.examples_per_class,
        entry=entry,
    )


def _silent(done: int, total: int) -> None:
    del done, total
