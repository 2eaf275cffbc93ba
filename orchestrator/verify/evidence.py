"""What the checks look at, read from the three records: the journal, MLflow and the files. Nothing is written.

The journal is read here with a few lines of its own: the classes of its events are shared with the writer, the folding of them
(`journal.record`) is among what is checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.base.layout import trial_folder
from orchestrator.base.records import State
from orchestrator.base.regular import open_regular, read_regular
from orchestrator.base.rules import SHOWN_RULES
from orchestrator.config.plan import SweepPlan, get_key
from orchestrator.journal.events import (
    Event,
    Published,
    Reported,
    Suggested,
    SweepClosed,
    SweepOpened,
    SweepResumed,
    Terminal,
)
from orchestrator.journal.file import Entry
from orchestrator.journal.parts import Epoch
from orchestrator.journal.place import located_file
from orchestrator.stores.opening import local_store, store_settings
from orchestrator.stores.runs import Metric, RunReader, StoredRun
from orchestrator.stores.settling import address_now, earlier_homes
from orchestrator.verify.journal_file import JournalFile

if TYPE_CHECKING:
    from orchestrator.verify.expected import ExpectedRun


@dataclass
class TrialEvidence:
    """One trial in all three records.

    Args:
        entries: its events, in order.
        runs: its active runs in MLflow; there should be one.
        rows: the metrics of the first of them.
    """

    sweep: SweepEvidence
    index: int
    entries: list[Entry] = field(default_factory=list)
    runs: list[StoredRun] = field(default_factory=list)
    rows: list[Metric] = field(default_factory=list)

    def of(self, kind: type[Event]) -> list[Entry]:
        """Its events of a kind."""
        return [entry for entry in self.entries if isinstance(entry.event, kind)]

    @property
    def uid(self) -> str:
        return f"{self.sweep.uid}/{self.index}"

    @property
    def uid_in_files(self) -> str:
        """As its files name it."""
        return f"{self.sweep.opened.uid_in_files}/{self.index}"

    @cached_property
    def suggested(self) -> Suggested:
        """Its (first) suggestion."""
        return next(entry.event for entry in self.entries if isinstance(entry.event, Suggested))

    @cached_property
    def first(self) -> Entry:
        """The event of its (first) suggestion."""
        return next(entry for entry in self.entries if isinstance(entry.event, Suggested))

    @property
    def entries_and_resumes(self) -> list[Entry]:
        """Its events and the resumes since its suggestion, in order."""
        resumes = [entry for entry in self.sweep.resumes if entry.seq > self.first.seq]
        return sorted([*self.entries, *resumes], key=lambda entry: entry.seq) if resumes else self.entries

    @cached_property
    def expected(self) -> ExpectedRun:
        """What its run has to be."""
        from orchestrator.verify.expected import trial_run

        return trial_run(self)

    def forget(self) -> None:
        """Drops its numbers, of which a long sweep has too many to hold them all."""
        self.rows = []
        for name in ("epochs", "expected"):
            self.__dict__.pop(name, None)

    @property
    def config_index(self) -> int:
        return self.suggested.config_index

    @property
    def repeat(self) -> int:
        return self.suggested.repeat

    @cached_property
    def terminal(self) -> Terminal | None:
        """The (first) event that ended it; None while it has not ended."""
        return next((entry.event for entry in self.entries if isinstance(entry.event, Terminal)), None)

    @property
    def state(self) -> State:
        """How it ended; INTERRUPTED where it has not."""
        return self.terminal.state if self.terminal else State.INTERRUPTED

    @cached_property
    def epochs(self) -> list[Epoch]:
        """All epochs that the journal reports."""
        return self.sweep.journal.epochs(self.of(Reported))

    @property
    def epoch_numbers(self) -> list[int]:
        """The numbers of the epochs that the journal reports, in its order."""
        numbers = self.sweep.journal.epoch_numbers
        return [number for entry in self.of(Reported) for number in numbers[entry.seq]]

    @property
    def last_epoch(self) -> int:
        """The last epoch that the journal reports; 0 before the first."""
        return max(self.epoch_numbers, default=0)

    @property
    def run(self) -> StoredRun | None:
        return self.runs[0] if self.runs else None

    @property
    def folder(self) -> Path:
        return trial_folder(self.sweep.folder, self.index)


@dataclass
class SweepEvidence:
    """One sweep in all three records.

    Args:
        folder: where it lies now; the journal says where it lay when it was launched.
        runs: None where MLflow is not looked at.
        rows: the metrics of the sweep's own run.
        thorough: whether also what does not concern this sweep alone, or takes long, is checked.
        best_stored: trial -> its best value of the objective by MLflow's history; filled while the trials are looked at.
        memo: what a check of one trial keeps for the next one.
    """

    folder: Path
    journal: JournalFile
    reader: RunReader | None = None
    runs: list[StoredRun] | None = None
    rows: list[Metric] = field(default_factory=list)
    thorough: bool = True
    best_stored: dict[int, float | None] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def opened(self) -> SweepOpened:
        return self.journal.opened

    @property
    def uid(self) -> str:
        return self.opened.uid

    @property
    def metric(self) -> str:
        return self.opened.metric

    @property
    def mode(self) -> str:
        return self.opened.mode

    @property
    def is_of_train(self) -> bool:
        """Whether it is the trial that `orchestrator train` kept."""
        return self.plan.root.trials == 1 and not self.plan.space.keys and self.opened.tracking.get("kind") == "none"

    @cached_property
    def trials(self) -> dict[int, TrialEvidence]:
        """The trials that were suggested, by index."""
        found = self._by_trial
        return {index: found[index] for index in sorted(found) if found[index].of(Suggested)}

    @cached_property
    def strays(self) -> list[int]:
        """Trials that have events and were never suggested."""
        return sorted(set(self._by_trial) - set(self.trials))

    @cached_property
    def _by_trial(self) -> dict[int, TrialEvidence]:
        found: dict[int, TrialEvidence] = {}
        for entry in self.journal.entries:
            if entry.trial is not None:
                found.setdefault(entry.trial, TrialEvidence(self, entry.trial)).entries.append(entry)
        for run in self.runs or ():
            uid, _, index = str(run.uid).rpartition("/")
            if not run.deleted and uid == self.uid and index.isdecimal() and int(index) in found:
                found[int(index)].runs.append(run)
        return found

    @cached_property
    def sweep_entries(self) -> list[Entry]:
        """The events of the sweep itself: opened, resumed, closed, published."""
        return [entry for entry in self.journal.entries if entry.trial is None]

    @cached_property
    def resumes(self) -> list[Entry]:
        return [entry for entry in self.sweep_entries if isinstance(entry.event, SweepResumed)]

    @property
    def closed(self) -> SweepClosed | None:
        """Its closing; None where the sweep was not closed, or resumed since."""
        last = [entry.event for entry in self.sweep_entries if not isinstance(entry.event, Published)][-1]
        return last if isinstance(last, SweepClosed) else None

    @property
    def of_others(self) -> set[str]:
        """The names of runs that are no trial's and not the sweep's, and of which something was published."""
        return {name for name in self.published if name.partition("/")[0] != self.uid}

    @property
    def own_store(self) -> Path | None:
        """The runs folder, where the sweep is tracked in the store that lies there."""
        runs_dir = self.folder.absolute().parent
        address = str(store_settings(self.opened, self.folder)["uri"])
        return runs_dir if address == local_store(runs_dir)["uri"] else None

    @cached_property
    def published(self) -> dict[str, dict[str, Published]]:
        """Run -> key -> what was published last."""
        found: dict[str, dict[str, Published]] = defaultdict(dict)
        for entry in self.sweep_entries:
            if isinstance(entry.event, Published):
                found[entry.event.run][entry.event.key] = entry.event
        return dict(found)

    @cached_property
    def published_paths(self) -> set[str]:
        """The files below the sweep's folder that were published last."""
        events = (event for entries in self.published.values() for event in entries.values())
        return {event.path for event in events if event.path is not None}

    @cached_property
    def publishes_since(self) -> float:
        """Number of the first event that an author of `published` events wrote; infinite where an earlier version wrote all."""
        return next((entry.seq for entry in self.sweep_entries if isinstance(entry.event, Published)), math.inf)

    @cached_property
    def first_suggestion(self) -> float:
        """Number of the event with the first trial; infinite where there is none."""
        return min((trial.first.seq for trial in self.trials.values()), default=math.inf)

    @cached_property
    def last_ms(self) -> int:
        """The latest time of any event."""
        return max(entry.time_ms for entry in self.journal.entries)

    @cached_property
    def plans(self) -> list[tuple[int, SweepPlan]]:
        """(number of the event from which it is in force, plan), in order."""
        return [
            (entry.seq, _plan(self.folder, entry.seq, entry.event.plan))
            for entry in self.sweep_entries
            if isinstance(entry.event, SweepOpened) or (isinstance(entry.event, SweepResumed) and entry.event.plan)
        ]

    @cached_property
    def plan_data(self) -> list[dict[str, Any]]:
        """The plan of the start and those of resumes as plain data; of a sweep without one what stands beside it."""
        beside = {"base": self.opened.config, "space": self.opened.space}
        texts = [entry.event.plan for entry in self.resumes if isinstance(entry.event, SweepResumed)]
        return [json.loads(self.opened.plan) if self.opened.plan else beside, *map(json.loads, filter(None, texts))]

    @cached_property
    def shows_all(self) -> bool:
        """Whether MLflow shows what `base.rules` says of the third rules; an earlier sweep keeps to its own."""
        return not self.opened.plan or int(self.plan_data[0].get("rules", 1)) >= SHOWN_RULES

    @property
    def searched_at_first(self) -> set[str]:
        return {entry["key"] for entry in self.plan_data[0]["space"]}

    @cached_property
    def logarithmic_keys(self) -> set[str]:
        """Those of the first plan that are searched on a logarithmic scale."""
        entries = [(entry["key"], entry["domain"]) for entry in self.plan_data[0]["space"]]
        return {key for key, domain in entries if ("(log" in domain if isinstance(domain, str) else domain.get("log"))}

    @cached_property
    def parameter_keys(self) -> set[str]:
        """The name of every parameter that a trial of the sweep can have, by any of its plans."""
        from orchestrator.verify.expected import EVERY_GROUP, settings_of

        found = set()
        for plan in self.plan_data:
            found |= {entry["key"] for entry in plan["space"]}
            found |= {key for key, _ in settings_of(plan["base"], EVERY_GROUP)}
            specs = [(group, spec) for group in EVERY_GROUP for spec in plan.get("choices", {}).get(group, {}).values()]
            found |= {f"{group}.{name}" for group, spec in specs for name in spec if name != "_target_"}
        return found

    def plan_at(self, seq: int) -> SweepPlan:
        """The plan in force at an event."""
        return [plan for first, plan in self.plans if first <= seq][-1]

    @property
    def plan(self) -> SweepPlan:
        """The plan in force at the end."""
        return self.plans[-1][1]

    def setting(self, key: str, otherwise: Any = None) -> Any:
        """A root key of the plan in force at the end; a sweep of an earlier version may lack it."""
        return self.plan.settings.get(key, otherwise)

    @cached_property
    def expected(self) -> ExpectedRun:
        """What the sweep's own run has to be."""
        from orchestrator.verify.expected import sweep_run

        return sweep_run(self)

    @property
    def parent(self) -> StoredRun | None:
        """The sweep's own run."""
        own = [run for run in self.runs or () if not run.deleted and run.tags.get("kind") == "sweep"]
        return own[0] if own else None

    @cached_property
    def files(self) -> list[tuple[Path, int]]:
        """(path below the sweep's folder, bytes) of everything in it."""
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                found.append((path.relative_to(self.folder), path.lstat().st_size))
        return found

    def current_path(self, path: str) -> Path:
        """Where a file of the journal lies now: the sweep's folder may have been moved as a whole."""
        return located_file(path, self.folder, self.opened)

    def current_address(self, address: str) -> str:
        """Where artifacts lie now: a runs folder that was moved has its store rewritten by the next command that writes."""
        return address_now(address, self._homes, self.folder.absolute().parent)

    @cached_property
    def _homes(self) -> tuple[str, ...]:
        return earlier_homes(self.folder.absolute().parent)


def _plan(folder: Path, seq: int, text: str) -> SweepPlan:
    """The plan that an event holds.

    Raises:
        NotReadyError: it is no plan.
    """
    try:
        return SweepPlan.from_json(text)
    except (NotReadyError, ConfigError, ImportError):
        raise
    except Exception as error:  # whatever the text holds: it is data
        why = f"{type(error).__name__}: {error}"[:200]
        raise NotReadyError(
            f"the journal of {folder.name} is damaged: event {seq} holds no plan ({why}); put a copy in its place"
        ) from error


def fixed(trial: TrialEvidence, key: str) -> Any:
    """The value of a dotted key of the trial's configuration; of a group the name of the choice."""
    config: Mapping[str, Any] = trial.suggested.config
    choices = config.get("choices")
    return choices[key] if isinstance(choices, Mapping) and key in choices else get_key(config, key)


DTYPES = {
    **{f"F{bits}": f"torch.float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"torch.int{bits}" for bits in (8, 16, 32, 64)},
    "BF16": "torch.bfloat16",
    "U8": "torch.uint8",
    "BOOL": "torch.bool",
}
"""What safetensors calls a type of numbers -> what torch calls it."""


def stamped_uid(path: Path) -> str:
    """The trial that a stamped safetensors file of ours says it is of.

    Raises:
        ValueError, KeyError, TypeError: it is not whole, or not of the SHA-256 in its header.
        OSError: it cannot be read.
    """
    contents = read_regular(path)
    start = 8 + int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8:start])
    metadata = header.pop("__metadata__")
    digest = hashlib.sha256(metadata["state"].encode())
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        digest.update(f"{name} {DTYPES[header[name]['dtype']]} {header[name]['shape']}".encode())
        digest.update(contents[start + begin : start + end])
    if digest.hexdigest() != metadata["sha256"]:
        raise ValueError("its contents do not match the SHA-256 in its header")
    return str(json.loads(metadata["state"])["uid"])


def header_state(path: Path) -> dict[str, Any]:
    """What a safetensors file of ours says of itself, without its tensors."""
    with open(open_regular(path), "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    state: dict[str, Any] = json.loads(header["__metadata__"]["state"])
    return state
