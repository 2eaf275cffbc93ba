"""completion, and what the shell asks while somebody types: commands, options, keys, choices, sweeps and trials.

It answers within the time of a key stroke, so it looks at names of files and beginnings of lines, and imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, Problem, nearest
from orchestrator.base.groups import ENSEMBLE
from orchestrator.base.layout import COMPARISONS, CONF, JOURNAL, TRIALS, UID
from orchestrator.base.text import say

SCRIPTS = Path(__file__).parent / "completion"
SHELLS = {"bash": "bash.sh", "zsh": "zsh.zsh", "fish": "fish.fish"}

HELP = "--hel"
"""What argparse takes for --help; the list of all keys, which takes time, is added to the whole word alone."""

FOLDERS = ":folders"
FILES = ":files"
"""Say to the shell that a folder, or a file, is wanted, which it completes itself."""

SAFE = re.compile(r"[\w\-.,/:=+@%]+")
"""Words that mean themselves to every shell. Others are not offered: bash puts a word on the line as it is, and a file may be
called `$(rm -r ~).yaml`."""

TAKE_OVERRIDES = ("launch", "train", "diagnose", "resume")
TAKE_FOLDERS = ("--runs-dir", "--config-dir", "--folder", "--data")
TEMPERATURES = ("after", "before", "none")
NO_KEYS = ("_target_", "search", "paper", "defaults")
SWEEPS_SHOWN = 200


def completion_command(argv: Sequence[str]) -> int:
    """Prints the script that makes a shell complete what is typed."""
    from orchestrator.cli.parser import Parser

    parser = Parser(
        prog="orchestrator completion",
        description='Print a script for a shell, to be read when it starts: eval "$(orchestrator completion bash)" in '
        "~/.bashrc, the same with zsh in ~/.zshrc; orchestrator completion fish | source in ~/.config/fish/config.fish.",
    )
    parser.add_argument("shell", metavar="bash|zsh|fish")
    shell = parser.parse_args(argv).shell
    if shell not in SHELLS:
        raise ConfigError(
            Problem(shell, f"there is completion for {', '.join(SHELLS)}", nearest=nearest(shell, SHELLS))
        )
    say((SCRIPTS / SHELLS[shell]).read_text(encoding="utf-8").rstrip())
    return errors.EXIT_OK


def complete_command(argv: Sequence[str]) -> int:
    """Prints what the last word can become, a line each; whatever goes wrong, the line that is typed stays whole."""
    with contextlib.suppress(OSError, ValueError):
        for candidate in candidates(list(argv) or [""]):
            say(candidate)
    return errors.EXIT_OK


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of the words after `orchestrator` can become: whole words, sorted, keys before values.

    One that ends in `=`, `.` or `/` goes on. All are `SAFE`.
    """
    return [word for word in _candidates(words) if SAFE.fullmatch(word)]


def _candidates(words: Sequence[str]) -> list[str]:
    *before, word = words
    if not before:
        from orchestrator.cli import COMMANDS

        return _beginning(word, [*(name for name in COMMANDS if not name.startswith("_")), "--help", "--version"])
    if before[-1] in TAKE_FOLDERS:
        return [FOLDERS]
    typed = _Typed(tuple(before), word)
    if before[0] == "compare" and before[-1] in ("--methods", "--temperature"):
        return typed.methods() if before[-1] == "--methods" else _beginning(word, TEMPERATURES)
    if word.startswith("-"):
        return _beginning(word, typed.options())
    command, *rest = before
    if command in ("adopt", "cache"):
        return [FOLDERS] if command == "adopt" else []
    if command == "completion":
        return _beginning(word, SHELLS) if not rest else []
    if command == "list":
        return _beginning(word, typed.of_list())
    if command == "diagnose" and (study := typed.study()) is not None:
        return study
    if command in TAKE_OVERRIDES and (command != "resume" or typed.positionals):
        return typed.overrides()
    if command == "predict":
        return [FILES] if typed.positionals else [*typed.sweeps(), *typed.comparisons()]
    return [*typed.sweeps(), *(typed.comparisons() if command == "sync" else [])]


@dataclass(frozen=True)
class _Typed:
    """A command line up to the word that is typed.

    Args:
        before: the command and what follows it.
    """

    before: tuple[str, ...]
    word: str

    @property
    def positionals(self) -> list[str]:
        """What was typed beside options and their values."""
        rest = self.before[1:]
        return [
            word
            for place, word in enumerate(rest)
            if not word.startswith("-")
            and not (place and rest[place - 1] in (*TAKE_FOLDERS, "--config-name", "--more", "--top"))
        ]

    def value_of(self, option: str) -> str | None:
        """What an option was given."""
        for place, word in enumerate(self.before):
            if word == option and place + 1 < len(self.before):
                return self.before[place + 1]
            if word.startswith(f"{option}="):
                return word.partition("=")[2]
        return None

    def options(self) -> list[str]:
        """The options of the command, as its own help names them."""
        from orchestrator.cli import COMMANDS, function_of

        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            if self.before[0] in COMMANDS:
                function_of(self.before[0])([*self.positionals[:1], HELP] if self.before[0] == "diagnose" else [HELP])
        return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", out.getvalue())))

    def study(self) -> list[str] | None:
        """The studies of `diagnose`, and of one of them the trials; None where a network is meant."""
        from orchestrator.cli.diagnosing import STUDIES

        chosen = self.positionals
        if not chosen:
            return [*_beginning(self.word, sorted(STUDIES)), *self.overrides()]
        if chosen[0] == "trajectories":
            return []
        return self.sweeps(trials=True) if chosen[0] in STUDIES else None

    # sweeps

    def sweeps(self, prefix: str = "", trials: bool = False) -> list[str]:
        """The sweeps of the runs folder, the newest first; behind the name of one and a slash its trials."""
        runs_dir = Path(self.value_of("--runs-dir") or "runs").expanduser()
        name, slash, _ = self.word.removeprefix(prefix).partition("/")
        if slash:
            return _beginning(self.word, [f"{prefix}{name}/{index}" for index in _trials_of(runs_dir, name)])
        goes_on = trials or self.before[0] == "show"
        return _beginning(self.word, [f"{prefix}{sweep}{'/' * goes_on}" for sweep in _sweeps_in(runs_dir)])

    def comparisons(self) -> list[str]:
        """The comparisons of the runs folder, by name."""
        runs_dir = Path(self.value_of("--runs-dir") or "runs").expanduser()
        return _beginning(self.word, sorted(entry.name for entry in _entries(runs_dir / COMPARISONS)))

    # keys and choices

    @property
    def roots(self) -> list[Path]:
        folder = self.value_of("--config-dir")
        return [CONF, *([Path(folder).expanduser()] if folder else [])]

    def groups(self) -> list[str]:
        """Those of a launch; `list` knows the methods of `compare`, too."""
        found = {entry.name for root in self.roots for entry in _entries(root) if entry.is_dir()}
        return sorted(found if self.before[0] == "list" else found - {ENSEMBLE})

    def choices(self, group: str) -> list[str]:
        files = {entry.name for root in self.roots for entry in _entries(root / group)}
        return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))

    def of_list(self) -> list[str]:
        """A group, then one of its choices, then, of a model, what may be overridden."""
        chosen = self.positionals
        if not chosen:
            return self.groups()
        return self.choices(chosen[0]) if len(chosen) == 1 else self.overrides()

    def overrides(self) -> list[str]:
        """Keys, or behind `key=` the choices and values that it can have; behind a comma one more."""
        key, equals, value = self.word.partition("=")
        if not equals:
            return _beginning(key, self.keys(key))
        if key == "from":
            return self.sweeps("from=", trials=True)
        values = self.choices(key) if key in self.groups() else self.values(key)
        return self.listed(f"{key}=", value, values)

    def methods(self) -> list[str]:
        """The choices of `conf/ensemble`; behind a comma one more."""
        return self.listed("", self.word, self.choices(ENSEMBLE))

    def listed(self, lead: str, value: str, values: Sequence[str]) -> list[str]:
        """One more of these values behind those that are typed."""
        done = value.rpartition(",")[0]
        taken = done.split(",") if done else []
        lead += f"{done}," if done else ""
        return _beginning(self.word, [f"{lead}{one}" for one in values if one not in taken])

    def keys(self, beginning: str) -> list[str]:
        """Root keys and groups; behind the name of a group and a point the keys of its choices."""
        group, point, _ = beginning.partition(".")
        if point:
            return sorted(f"{group}.{key}=" for key in self.keys_of(group))
        roots = [key for key in _top_level(CONF / "launch.yaml") if key not in self.groups()]
        more = ["from="] if self.before[0] in ("launch", "train", "diagnose") else []
        inside = [f"{name}." for name in self.groups() if beginning == name and self.keys_of(name)]
        return [*more, *(f"{key}=" for key in roots), *(f"{group}=" for group in self.groups()), *inside]

    def keys_of(self, group: str) -> dict[str, str]:
        """Key -> default: of the choices of a group that are typed, or of the one that a launch has by itself."""
        typed = [word.partition("=")[2] for word in self.before if word.startswith(f"{group}=")]
        names = [name for value in typed for name in value.split(",")]
        if self.before[0] == "list" and self.positionals[:1] == [group]:
            names = self.positionals[1:2]
        found: dict[str, str] = {}
        for name in [name for name in names if name in self.choices(group)] or [_default_of(group)]:
            for root in self.roots:
                found |= _top_level(root / group / f"{name}.yaml")
        return found

    def values(self, key: str) -> list[str]:
        """The values that a key can have where they are few."""
        group, point, name = key.partition(".")
        default = self.keys_of(group).get(name) if point else _top_level(CONF / "launch.yaml").get(key)
        if default in ("true", "false"):
            return ["false", "true"]
        return [] if point else _named_values(key)


def _named_values(key: str) -> list[str]:
    """The values of a root key that has a few, by their names."""
    from typing import get_args, get_type_hints

    from orchestrator.base.records import METRICS
    from orchestrator.base.settings import Settings

    if key == "metric":
        return list(METRICS)
    options = get_args(get_type_hints(Settings).get(key))
    literal = [value for option in options for value in (get_args(option) or [option]) if isinstance(value, str)]
    return sorted(literal) or {"device": ["auto", "cpu", "cuda"], "pretrained": ["imagenet"]}.get(key, [])


def _beginning(word: str, names: Sequence[str] | dict[str, str]) -> list[str]:
    return [name for name in names if name.startswith(word)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _top_level(path: Path) -> dict[str, str]:
    """Key -> the text of its value, of the keys that a choice file sets, without reading YAML."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return dict(_settings_in(path.read_text(encoding="utf-8-sig")))
    return {}


def _settings_in(text: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"^([A-Za-z_]\w*):[ \t]*([^#\n]*)", text, re.MULTILINE):
        if found[1] not in NO_KEYS:
            yield found[1], found[2].strip()


def _default_of(group: str) -> str:
    """The choice that a launch has by itself."""
    with contextlib.suppress(OSError):
        text = (CONF / "launch.yaml").read_text(encoding="utf-8")
        if found := re.search(rf"^  - {re.escape(group)}: (\w+)", text, re.MULTILINE):
            return found[1]
    return ""


def _sweeps_in(runs_dir: Path) -> list[str]:
    """The newest sweeps of a folder, by when their folder was touched last."""
    found = []
    for entry in _entries(runs_dir):
        if UID.fullmatch(entry.name) and os.path.isfile(os.path.join(entry.path, JOURNAL)):
            found.append((-entry.stat().st_mtime, entry.name))
    return [name for _, name in sorted(found)[:SWEEPS_SHOWN]]


def _trials_of(runs_dir: Path, name: str) -> list[int]:
    """The trials of a sweep, by its name or its name with the id, that have a folder."""
    for sweep in _sweeps_in(runs_dir):
        if name in (sweep, sweep.rpartition("-")[0]):
            folders = _entries(runs_dir / sweep / TRIALS)
            return sorted(int(entry.name) for entry in folders if re.fullmatch(r"\d{5,9}", entry.name))
    return []
