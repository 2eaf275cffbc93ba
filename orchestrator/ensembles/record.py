"""`runs/comparisons/<uid>/comparison.json`: a comparison, written whole or not at all. Whoever reads one reads it here, checked:
it may come from a stranger.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.decode import DecodeError, check, read_json
from orchestrator.base.errors import NewerFormatError, NotReadyError
from orchestrator.base.layout import COMPARISON, COMPARISONS
from orchestrator.base.regular import open_regular
from orchestrator.base.removal import RefusedRemovalError, opened
from orchestrator.ensembles.comparison import FORMAT, Comparison, Row
from orchestrator.ensembles.misfits import misfits
from orchestrator.ensembles.pooling import Ensemble, Step

MAX_BYTES = 256 * 2**20


NOTHING: Mapping[str, str | bytes] = {}


def write(comparison: Comparison, runs_dir: Path, beside: Mapping[str, str | bytes] = NOTHING) -> Path:
    """Keeps a comparison, and returns its file.

    Args:
        beside: names and contents of files that are there before it is.

    Raises:
        NotReadyError: it cannot be written, or there is one of this name.
    """
    check(comparison, Comparison)
    text = json.dumps(comparison, allow_nan=False, separators=(",", ":"))
    path = folder_of(runs_dir, comparison["uid"]) / COMPARISON
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with (
            opened(runs_dir) as runs,
            runs.inside(COMPARISONS, create=True) as comparisons,
            comparisons.inside(comparison["uid"], create=True) as folder,
        ):
            if folder.is_file(COMPARISON):
                raise NotReadyError(f"{path} is there already; give this comparison another --name")
            for name, contents in beside.items():
                folder.write(name, contents)
            folder.write(COMPARISON, text)
    except (OSError, RefusedRemovalError) as error:
        why = getattr(error, "strerror", None) or error
        raise NotReadyError(
            f"the comparison cannot be written to {path} ({why}); make room or name --runs-dir"
        ) from error
    return path


def folder_of(runs_dir: Path, uid: str) -> Path:
    """Where the files of a comparison lie."""
    return runs_dir / COMPARISONS / uid


def read(path: Path) -> Comparison:
    """The comparison in a file.

    Raises:
        NotReadyError: there is none, it is damaged, or what it says does not fit together; of a newer format `NewerFormatError`.
    """
    try:
        with open(open_regular(path), "rb") as file:
            contents = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotReadyError(f"there is no comparison at {path} ({error.strerror or error})") from error
    try:
        if len(contents) > MAX_BYTES:
            raise DecodeError(f"is longer than {MAX_BYTES:,} bytes")
        said = read_json(contents)
        check(said, Mapping[str, Any])
        if type(said.get("format")) is int and said["format"] > FORMAT:
            raise NewerFormatError(f"{path} was written by a newer version of orchestrator; read it with that")
        check(said, Comparison)
        comparison: Comparison = said
        if wrong := next(misfits(comparison), None):
            raise DecodeError(wrong)
        _check_text(said)
    except DecodeError as error:
        raise NotReadyError(f"{path} is damaged: {error}; `orchestrator compare` makes it anew") from error
    return comparison


def _check_text(said: Mapping[str, Any]) -> None:
    """Refuses text that cannot be written to a terminal or a store."""
    try:
        json.dumps(said, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DecodeError("it holds text that is not Unicode") from error


def ensemble_of(row: Row) -> Ensemble:
    """The ensemble that a row describes; its members are places in the comparison's `members`."""
    import numpy as np

    stacked = "coefficients" in row and "intercept" in row
    pooling: Any = row["pooling"]
    return Ensemble(
        members=tuple(row["members"]),
        weights=tuple(row["weights"]),
        pooling=pooling,
        temperature=row["temperature"],
        member_temperatures=tuple(row["member_temperatures"]),
        coefficients_mKK=np.array(row["coefficients"]) if stacked else None,
        intercept_K=np.array(row["intercept"]) if stacked else None,
        steps=tuple(Step(member, score) for member, score in row["steps"]),
    )
