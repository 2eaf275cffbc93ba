"""What the configuration folders offer: groups and their choices, read from file names and first comments."""

from __future__ import annotations

from pathlib import Path

from orchestrator.base.errors import ConfigError, Problem, nearest, spelled_otherwise
from orchestrator.base.settings import CONF

from .words import choice_meant


def groups(extra: Path | None = None) -> list[str]:
    """The groups of the built-in folder and of the user's own, sorted."""
    return sorted({path.name for root in _roots(extra) for path in root.iterdir() if path.is_dir()})


def choices(group: str, extra: Path | None = None) -> list[tuple[str, str]]:
    """The choices of a group with the first line of their comment, sorted; the user's own among them, with what breaks them."""
    found: dict[str, str] = {}
    for root in _roots(extra):
        for path in sorted(path for path in (root / group).glob("*.yaml") if path.is_file()):
            found[path.stem] = (_broken(path) if root != CONF else "") or _first_comment(path)
    return sorted(found.items())


def file_of(group: str, choice: str, extra: Path | None = None) -> Path:
    """The file of a choice.

    Raises:
        ConfigError: there is none.
    """
    for root in reversed(_roots(extra)):
        if (path := root / group / f"{choice}.yaml").is_file():
            return path
    known = [name for name, _ in choices(group, extra)]
    why, command = f"is not in conf/{group}", f"orchestrator list {group}"
    near = nearest(choice, known)
    hint = None if spelled_otherwise(choice, known) else choice_meant(group, choice)
    raise ConfigError(Problem(f"{group}={choice}", why, nearest=near, known=tuple(known), hint=hint, listed_by=command))


def _roots(extra: Path | None) -> list[Path]:
    return [root for root in (CONF, extra) if root is not None and root.is_dir()]


def _broken(path: Path) -> str:
    """What keeps a file of the user's from being read; "" where nothing does."""
    from .files import damage

    problems = damage(path)
    return f"broken: {problems[0]}" if problems else ""


def _first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""
