"""Which folder a comparison's name means."""

from __future__ import annotations

from pathlib import Path

from orchestrator.base.layout import COMPARISON, COMPARISONS, UID
from orchestrator.journal.finding import sweeps_in


def comparisons_in(runs_dir: Path) -> list[Path]:
    """The folders of all comparisons in a folder of sweeps, the newest first."""
    above = runs_dir / COMPARISONS
    folders = [path for path in above.glob("*") if UID.fullmatch(path.name) and (path / COMPARISON).is_file()]
    return sorted(folders, key=lambda path: ((path / COMPARISON).stat().st_mtime_ns, path.name), reverse=True)


def find_comparison(runs_dir: Path, name: str) -> Path | None:
    """The folder of the comparison with the identity `name`, or of the newest one of that name.

    None where there is none, or a sweep has exactly this name.
    """
    if any(name in (path.name, path.name.rpartition("-")[0]) for path in sweeps_in(runs_dir)):
        return None
    folders = comparisons_in(runs_dir)
    exact = [path for path in folders if path.name == name]
    return next(iter(exact or [path for path in folders if path.name.rpartition("-")[0] == name]), None)
