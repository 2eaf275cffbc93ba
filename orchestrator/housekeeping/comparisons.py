"""Which folder a comparison's name means, and how far it was finished."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from orchestrator.base.decode import DecodeError, check, read_json
from orchestrator.base.errors import ConfigError, Problem, nearest
from orchestrator.base.layout import COMPARISON, COMPARISON_PAGE, COMPARISONS, FINISHING, UID
from orchestrator.base.regular import read_regular
from orchestrator.journal.finding import runs_dir_option, sweeps_in

SHOWN = 8


class Finishing(TypedDict):
    """What `finishing.json` says.

    Args:
        made: whether page and model were made, as far as they can be.
        no_model: why there is no model of the winner.
    """

    format: Literal[1]
    made: bool
    no_model: str | None


def comparisons_in(runs_dir: Path) -> list[Path]:
    """The folders of all comparisons in a folder of sweeps, the newest first."""
    above = runs_dir / COMPARISONS
    folders = [path for path in above.glob("*") if UID.fullmatch(path.name) and (path / COMPARISON).is_file()]
    return sorted(folders, key=lambda path: ((path / COMPARISON).stat().st_mtime_ns, path.name), reverse=True)


def find_comparison(runs_dir: Path, name: str) -> Path | None:
    """The folder of the comparison with the identity `name`, of the newest one of that name, or of the only one that begins so.

    None where there is none, or a sweep has this name, or begins so.

    Raises:
        ConfigError: several begin so; lists them.
    """
    sweeps = [path.name for path in sweeps_in(runs_dir)]
    if any(name in (sweep, sweep.rpartition("-")[0]) for sweep in sweeps):
        return None
    folders = comparisons_in(runs_dir)
    exact = [path for path in folders if path.name == name]
    if found := exact or same_named(runs_dir, name):
        return found[0]
    begun = [path for path in folders if name and path.name.startswith(name)]
    if not begun or any(sweep.startswith(name) for sweep in sweeps):
        return None
    if len(begun) > 1:
        listed = ", ".join(path.name for path in begun[:SHOWN]) + (", ..." if len(begun) > SHOWN else "")
        raise ConfigError(Problem("NAME", f"is the beginning of several comparisons; say which: {listed}", name))
    return begun[0]


def same_named(runs_dir: Path, name: str) -> list[Path]:
    """The folders of the comparisons of this name, without their ids; the newest first."""
    return [path for path in comparisons_in(runs_dir) if path.name.rpartition("-")[0] == name]


def nearest_of_all(runs_dir: Path, name: str) -> str | None:
    """The name of a comparison or a sweep that is closest to this one."""
    names = [path.name for path in (*comparisons_in(runs_dir), *sweeps_in(runs_dir))]
    return nearest(name, [*names, *(one.rpartition("-")[0] for one in names)])


def is_made(folder: Path) -> bool:
    """Whether the page and the model of a comparison were made, as far as they can be."""
    said = _finishing(folder)
    return (folder / COMPARISON_PAGE).is_file() if said is None else said["made"]


def why_no_model(folder: Path) -> str:
    """Why a comparison holds no model of its winner, and what to do."""
    later = f"orchestrator sync {folder.name}{runs_dir_option(folder.parent)}"
    if not is_made(folder):
        return f"it was interrupted, or there was no room; this makes up its page and its model:  {later}"
    said = _finishing(folder)
    why = said["no_model"] if said is not None and said["no_model"] else "none could be made when it was compared"
    return f"{why}; this tries again:  {later}"


def _finishing(folder: Path) -> Finishing | None:
    """What the file says; None where there is none that can be read."""
    try:
        said: Finishing = read_json(read_regular(folder / FINISHING))
        check(said, Finishing)
    except (OSError, DecodeError):
        return None
    return said
