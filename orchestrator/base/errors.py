"""The errors that a user can get, each with its exit code. Any other exception that escapes is a bug of ours (exit 1)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_BUG = 1
EXIT_BAD_INPUT = 2
EXIT_NOT_READY = 3
EXIT_NO_RESULT = 4
EXIT_RESUMABLE = 5
EXIT_RUNNING_ELSEWHERE = 6
EXIT_VIOLATION = 7


KNOWN_SHOWN = 10
KNOWN_BESIDE = 4
"""Of the known names so many are shown, and so many where the nearest is named already."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the input: the key, the value received, the rule and, where there is one, the nearest name.

    Args:
        where: the file, or the configuration, in which it occurs.
        known: the names that there are; the first few are shown.
        hint: what to type instead; it stands where the nearest name would.
        listed_by: the command that shows all of `known`.
    """

    key: str
    why: str
    value: object = None
    nearest: str | None = None
    where: str | None = None
    known: tuple[str, ...] = ()
    hint: str | None = None
    listed_by: str | None = None

    def __str__(self) -> str:
        text = f"{self.key}={self.value}" if self.value is not None else self.key
        text += f": {self.why}"
        if self.hint:
            text += f"; {self.hint}"
        elif self.nearest:
            text += f"; did you mean {self.nearest}?"
        if self.where:
            text += f" ({self.where})"
        if self.known:
            most = KNOWN_BESIDE if (self.nearest or self.hint) and len(self.known) > KNOWN_SHOWN else KNOWN_SHOWN
            rest = len(self.known) - most
            shown = ", ".join(self.known[:most]) + (f" and {rest} more" if rest > 0 else "")
            text_of_all = f": {self.listed_by}" if self.listed_by and rest > 0 else ""
            text += f"{' ' if text.endswith('?') else '; '}known: {shown}{text_of_all}"
        return text


class OrchestratorError(Exception):
    """An error that the user sees as a message, without a traceback."""

    exit_code = EXIT_BUG


class ConfigError(OrchestratorError):
    """The input is wrong; nothing was started or created. Holds every problem found, not only the first."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems: list[Problem] = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NotReadyError(OrchestratorError):
    """Data, server, port, disk or cluster are not as the sweep needs them; the message says what to do."""

    exit_code = EXIT_NOT_READY


class NewerFormatError(NotReadyError):
    """A newer version wrote a file: nothing is read from it, and nothing of it is deleted."""


class ResumableError(OrchestratorError):
    """A sweep stopped before its end; everything that it had done is kept."""

    exit_code = EXIT_RESUMABLE


class RunningElsewhereError(OrchestratorError):
    """Another process holds what this one needs."""

    exit_code = EXIT_RUNNING_ELSEWHERE


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name closest to `word`, or None where nothing is close."""
    names = list(known)
    if same := spelled_otherwise(word, names):
        return same
    if swapped := [name for name in names if name != word and sorted(name) == sorted(word)]:  # modle, learnign
        return swapped[0]
    found = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not found:
        by_case = {name.lower(): name for name in names}
        found = [by_case[w] for w in difflib.get_close_matches(word.lower(), list(by_case), n=1, cutoff=0.6)]
    return found[0] if found else None


def spelled_otherwise(word: str, known: Iterable[str]) -> str | None:
    """The known name that differs from `word` in nothing but capitals, hyphens and underscores; None where none does."""
    return next((name for name in known if name != word and _letters(name) == _letters(word)), None)


def _letters(word: str) -> str:
    return re.sub(r"[\s_-]", "", word.lower())
