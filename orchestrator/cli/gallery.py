"""claims --all: every experiment with claims as a sweep of its own, and the table of what they came to.

A sweep that is closed is not run again, under whatever name it was launched; one that was interrupted goes on, and one that fails
does not end the rest.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base import errors, yaml_files
from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.processes import python
from orchestrator.base.recorded import read_plan
from orchestrator.base.settings import BESIDE_KEYS, CONF
from orchestrator.base.text import say

if TYPE_CHECKING:
    from orchestrator.analysis.claims import Verdict
    from orchestrator.journal.events import SweepOpened

PHOTOGRAPHS = "image_folder"

INTERRUPTED = 128
"""Exit codes from here on are those of signals."""

NOT_HERE = {
    "E17 controller of an architecture search": "needs the controller, a sampler that learns by reinforcement",
}
"""What the lectures' experiments name and no sweep of today can run, with the reason."""

BESIDE = {"tracking", "cluster", *BESIDE_KEYS}
"""Keys of a command line on which no result depends, nor what another sweep could begin with."""


@dataclass(frozen=True)
class Entry:
    """An experiment of the gallery.

    Args:
        title: what its file says it is.
        photographs: whether it needs a folder of photographs.
        overrides: beside its file, for other seeds or more of them.
        claims: of its file, in plain data; a sweep that claims something else does not stand for it. None takes any.
        source: the experiment with whose weights it begins, as its file says: `pretrained: e16_source/0`.
    """

    name: str
    title: str
    photographs: bool
    overrides: tuple[str, ...] = ()
    claims: Sequence[Any] | None = None
    source: str = ""

    @property
    def first(self) -> Entry | None:
        """The experiment that has to be run before it, on the same data."""
        return replace(self, name=self.source, claims=None, source="") if self.source else None

    @property
    def command(self) -> str:
        """What launches it, as it is typed; folders are the reader's."""
        root = ["data.root=FOLDER"] if self.photographs else []
        own = shlex.join(["orchestrator", "launch", f"experiment={self.name}", *root, *self.overrides])
        return f"{self.first.command} && {own}" if self.first else own

    @property
    def sweep(self) -> str:
        """The name of its sweep; one with other overrides has another."""
        return "-".join(["claims", self.name, *(re.sub(r"[^a-z0-9]+", "-", one.lower()) for one in self.overrides)])


def entries(overrides: Sequence[str] = ()) -> list[Entry]:
    """The experiments that claim something, by name.

    Args:
        overrides: for all of them.
    """
    from orchestrator.config.catalogue import choices

    found = []
    titles = dict(choices("experiment"))
    for name, title in titles.items():
        written = yaml_files.read(CONF / "experiment" / f"{name}.yaml")
        claims = written.get("claims")
        if claims:
            photographs = {"override /data": PHOTOGRAPHS} in written.get("defaults", [])
            source = str(written.get("pretrained", "")).partition("/")[0]
            source = source if source in titles else ""
            found.append(Entry(name, title, photographs, tuple(overrides), claims, source))
    return found


def run_gallery(runs_dir: Path, overrides: Sequence[str], *, data: Path | None, write: Path | None, run: bool) -> int:
    """Runs what has not been run, and shows or writes the table.

    Raises:
        ConfigError: there is no folder of photographs where one is named.
    """
    if data is not None and not data.is_dir():
        raise ConfigError(Problem("--data", "is no folder", data))
    found: list[tuple[Entry, list[Verdict], str]] = []
    gallery = entries(overrides)
    for place, entry in enumerate(gallery, 1):
        why = ""
        if entry.photographs and data is None:
            why = "needs photographs: --data FOLDER"
        elif run and (commands := _commands(entry, runs_dir, data)):
            say(f"[{place}/{len(gallery)}] {entry.name}: {entry.title}")
            code = _run(commands)
            if code >= INTERRUPTED or code < 0:
                say("interrupted; the same command goes on")
                return abs(code)
            why = "" if code == errors.EXIT_OK else f"ended with exit code {code}"
        verdicts = _verdicts(entry, runs_dir)
        found.append((entry, verdicts, why or ("" if verdicts else "was not run")))
    text = as_markdown(found, _made_on(gallery, runs_dir))
    if write is None:
        say(text)
    else:
        write.write_text(text + "\n", encoding="utf-8")
        say(f"written: {write}")
    return errors.EXIT_NO_RESULT if any("exit code" in why for _, _, why in found) else errors.EXIT_OK


def _run(commands: Sequence[Sequence[str]]) -> int:
    """The exit code of the first that fails, after which none is run."""
    codes = (subprocess.call(python("-m", "orchestrator", *command)) for command in commands)
    return next((code for code in codes if code != errors.EXIT_OK), errors.EXIT_OK)


def _commands(entry: Entry, runs_dir: Path, data: Path | None) -> list[list[str]]:
    """What runs it, after that with whose weights it begins; nothing where it has been run."""
    own = _command(entry, runs_dir, data)
    if own is None:
        return []
    first = _command(entry.first, runs_dir, data) if entry.first else None
    return [own] if first is None else [first, own]


def _sweep_of(entry: Entry, runs_dir: Path) -> Path | None:
    """The newest sweep of an experiment there that is closed, under whatever name; else the one that can go on."""
    from orchestrator.analysis.claims import ENDED
    from orchestrator.journal.finding import opening_of, sweeps_in

    named, closed = [], []
    for folder in sweeps_in(runs_dir):
        opened = opening_of(folder)
        if opened is None or not _claims_as_today(opened, entry):
            continue
        if opened.name == entry.sweep:
            named.append(folder)
            if _closed(folder):
                closed.append(folder)
        elif _launches(opened, entry) and _closed(folder) in ENDED:
            closed.append(folder)
    return next(iter([*closed, *named]), None)


def _closed(folder: Path) -> str | None:
    """Why a sweep is closed; None where it is not."""
    from orchestrator.journal.record import read_sweep

    closed = read_sweep(folder).closed
    return closed.reason if closed else None


def _launches(opened: SweepOpened, entry: Entry) -> bool:
    """Whether what was typed for a sweep launches the experiment as the gallery does, wherever its files lie."""
    from orchestrator.housekeeping.commands import request_of

    request = request_of(opened)
    if request is None or request.config_dir or request.config_name != "launch":
        return False
    wanted = _computed([f"experiment={entry.name}", *entry.overrides])
    return _computed(request.overrides) == wanted


def _claims_as_today(opened: SweepOpened, entry: Entry) -> bool:
    """Whether a sweep claims what the file does; overrides may have left claims out."""
    recorded = read_plan(opened.plan).get("claims", [])
    today = entry.claims
    return today is None or recorded == today or (bool(entry.overrides) and all(claim in today for claim in recorded))


def _computed(overrides: Sequence[str]) -> dict[str, str]:
    """Key -> value of those on which results depend; photographs are those of the reader."""
    pairs = (text.lstrip("+").partition("=") for text in overrides)
    return {key: value for key, _, value in pairs if key.partition(".")[0] not in BESIDE and key != "data.root"}


def _command(entry: Entry, runs_dir: Path, data: Path | None) -> list[str] | None:
    """What runs it, or goes on with it; None where it has been run."""
    from orchestrator.journal.record import read_sweep

    folder = _sweep_of(entry, runs_dir)
    if folder is None:
        root = [f"data.root={json.dumps(str(data.resolve()))}"] if data is not None and entry.photographs else []
        where = f"runs_dir={json.dumps(str(runs_dir.resolve()))}"
        weights = [f"pretrained={_weights_of(entry.first, runs_dir)}"] if entry.first else []
        own = [f"experiment={entry.name}", f"name={entry.sweep}", where, *root, *weights]
        return ["launch", *own, *entry.overrides]
    if read_sweep(folder).closed is None:
        return ["resume", folder.name, "--runs-dir", str(runs_dir)]
    return None


def _weights_of(first: Entry, runs_dir: Path) -> str:
    """The trial with whose weights another experiment begins."""
    folder = _sweep_of(first, runs_dir)
    return f"{first.sweep if folder is None else folder.name}/0"


def _verdicts(entry: Entry, runs_dir: Path) -> list[Verdict]:
    from orchestrator.analysis.claims import verdicts
    from orchestrator.analysis.predicted import predictions_in
    from orchestrator.journal.finding import name_of
    from orchestrator.journal.record import read_sweep

    folder = _sweep_of(entry, runs_dir)
    if folder is None:
        return []
    if name_of(folder) != entry.sweep:
        say(f"{entry.name}: as in the sweep {folder.name}")
    try:
        record = read_sweep(folder, keep_epochs=True)
        return verdicts(record, predictions=predictions_in(folder, record))
    except NotReadyError as error:
        say(f"{entry.name}: {error}")
        return []


def _made_on(gallery: Sequence[Entry], runs_dir: Path) -> list[str]:
    """The machines and versions of the sweeps, each once."""
    from orchestrator.journal.record import read_sweep

    folders = [folder for entry in gallery if (folder := _sweep_of(entry, runs_dir)) is not None]
    environments = [read_sweep(folder).opened.environment for folder in folders]
    return list(dict.fromkeys(_machine(one) for one in environments))


def _machine(environment: Mapping[str, Any]) -> str:
    """`AMD EPYC, 2 CPUs, cpu AVX512, fp32, torch 2.15.0`."""
    libraries = environment.get("libraries") or {}
    parts = [environment.get("processor"), f"{environment.get('cpus')} CPUs", *(environment.get("computes_on") or ())]
    parts += [environment.get("precision"), f"torch {libraries.get('torch')}"]
    return ", ".join(str(part) for part in parts if part)


# Markdown -------------------------------------------------------------------------------------------------------------


def as_markdown(found: Sequence[tuple[Entry, Sequence[Verdict], str]], made_on: Sequence[str] = ()) -> str:
    """The whole page: the tally, a table for each experiment, what was left out and why.

    Args:
        made_on: the machines and versions that computed it.
    """
    from orchestrator.analysis.claims import tally
    from orchestrator.tracking.markdown import code

    every = [one for _, verdicts, _ in found for one in verdicts]
    computed = [f"Computed on: {'; '.join(made_on)}."] if made_on else []
    overrides = next((entry.overrides for entry, _, _ in found), ())
    preface = _preface(overrides, on_photographs=any(entry.photographs and verdicts for entry, verdicts, _ in found))
    parts = ["# The claims of the lectures", preface, f"**{tally(every)}.**", *computed]
    for entry, verdicts, _ in found:
        if verdicts:
            parts += [f"## {entry.title}", _table(verdicts), code(entry.command, 400)]
    left_out = {f"{entry.title} (`{entry.name}`)": why for entry, _, why in found if why}
    rows = [f"- {what}: {why}" for what, why in {**left_out, **NOT_HERE}.items()]
    return "\n\n".join([*parts, "## Left out", "\n".join(rows)])


def _preface(overrides: Sequence[str], *, on_photographs: bool) -> str:
    """What the page is and how it was made.

    Args:
        overrides: with which every experiment was run.
        on_photographs: whether those on photographs were run, too.
    """
    from orchestrator.tracking.markdown import code

    data = ["--data", "FOLDER"] if on_photographs else []
    command = code(shlex.join(["orchestrator", "claims", "--all", *data, *overrides, "--write", "FILE"]), 400)
    text = _PREFACE.format(command=command)
    if not overrides:
        return text
    return f"{text}\n\nEvery experiment was run with {code(shlex.join(overrides), 400)} in place of what its file says."


_PREFACE = """\
What the lectures say of training, each an inequality between measures of a sweep. {command} runs
the experiments and writes this page. A claim holds where the 95 % interval of left - right - margin is on its side of 0
(Student's t over seeds, unless its cell says otherwise), and is undecided where it holds 0. Left and right are medians over
seeds. A trial that diverged has the accuracy of chance and an infinite loss. Margins that were not piloted are guesses: what
does not hold is a result, too."""


def _table(verdicts: Sequence[Verdict]) -> str:
    from orchestrator.tracking.markdown import table

    heads = ("claim", "lecture", "", "left", "right", "margin", "left - right - margin", "n", "piloted", "verdict")
    return table(heads, [_row(one) for one in verdicts])


def _row(one: Verdict) -> tuple[str, ...]:
    from orchestrator.analysis.claims import interval_words, shown
    from orchestrator.tracking.markdown import code, plain

    claim = one.claim
    how = f" ({one.interval})" if one.interval and one.interval != "t over seeds" else ""
    return (
        plain(claim.id),
        plain(claim.lecture),
        f"{plain(claim.says, 300)}: {code(claim.inequality, 400)}",
        shown(one.left),
        shown(one.right),
        f"{claim.margin:g}",
        plain(interval_words(one) + how),
        str(one.n or ""),
        "yes" if claim.piloted else "no",
        f"**{one.verdict}**",
    )
