"""What can happen to a sweep: one frozen dataclass for each kind of event, shared by the writer and every reader of a journal.

The fields are the keys of the event's JSON. How a new one stays readable:

- A field with a default may be missing: journals of earlier versions lack it. One without a default must be there.
- A key that is no field here was written by a newer version and is left out. So a field may be added where a reader can do
  without it; what no reader may pass over is a new kind of event.
- A kind that is not listed here is an error for every reader: a newer version wrote it. `match` an event with
  `case _: assert_never(event)` at the end, so that the type checker finds the places that a new kind concerns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from orchestrator.base.decode import COUNT, NUMBER, TIME_MS, check, check_fields
from orchestrator.base.recorded import Spec, check_config, read_plan
from orchestrator.base.records import Divergence, InitHealth, State
from orchestrator.base.secrets import bare_address, redact_tree
from orchestrator.journal.parts import (
    Best,
    CheckpointRecord,
    Environment,
    Epoch,
    FileRecord,
    KeptWeights,
    Request,
    SearchedKey,
    Tracking,
)

MOST_REPEATS = 1_000
"""Trials of one configuration."""


class UnknownKindError(ValueError):
    """An event is of a kind that a newer version writes."""


@dataclass(frozen=True)
class _Base:
    """What all kinds share.

    Args:
        kind: its name in the journal.
        of_trial: whether it is about one trial; the others are about the sweep as a whole.
        free_text: the fields with text that people or libraries wrote; credentials in it are hidden before it is recorded.
    """

    kind: ClassVar[str]
    of_trial: ClassVar[bool] = True
    free_text: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        """Refuses values that do not fit their fields.

        Raises:
            ValueError: one does not fit.
        """
        check_fields(self)

    @classmethod
    def required(cls) -> set[str]:
        """The keys that every event of this kind has."""
        return {one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING}

    def to_data(self) -> dict[str, Any]:
        """The event as it is written: plain data under the names of the fields."""
        data = dict(self.__dict__)
        for name in self.free_text:
            if data[name]:
                data[name] = redact_tree(data[name])
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any], trial: int | None = None) -> Self:
        """The event that was written as `data`.

        Args:
            trial: index of the trial that it is about.

        Raises:
            ValueError: a required key is missing, or a value cannot be one of its field.
        """
        try:
            return cls(**data)
        except TypeError:
            return cls(**cls._known(data))

    @classmethod
    def _known(cls, data: object) -> dict[str, Any]:
        """What of the data are fields; slower than to try."""
        if not isinstance(data, Mapping):
            raise ValueError(f"must hold a JSON object, got {data!r:.80}")
        if missing := sorted(cls.required() - set(data)):
            raise ValueError(f"lacks {', '.join(missing)}")
        names = {one.name for one in fields(cls)}
        return {key: value for key, value in data.items() if key in names}


@dataclass(frozen=True)
class SweepOpened(_Base):
    """The first event of every journal: what the sweep is.

    Args:
        uid: `<name>-<8 hex>`, unique for ever; the name of the folder.
        name: as the user gave it, or made from the time.
        metric, mode: the objective, and whether `max` or `min` is better.
        trials: number of configurations.
        folder: `.`: paths of files are relative to the folder of the journal. Earlier versions wrote the absolute path of the
            sweep's folder when it began; see `journal.place`.
        plan: the whole SweepPlan as JSON.
        tracking: the checked settings of the store: `kind`, `uri`, `artifacts`, `experiment`; the runs folder's own store has
            neither address.
        config: the configuration that all trials start from.
        space: `{"key", "domain", "condition"}` of each searched key, for people.
        sampler, scheduler: their specs.
        environment: code version, libraries, hardware and the command typed.
        request: the overrides and the folder of the configuration: what a resume plans from; empty where the sweep was launched
            from Python.
        first_uid: the uid that a copy had before it was given its own (`orchestrator adopt`), by which the files of its trials
            name them still; "" where it had no other.
    """

    kind = "sweep_opened"
    of_trial = False
    free_text = ("environment", "request")

    uid: str
    name: str
    metric: str
    mode: Literal["max", "min"]
    trials: Annotated[int, COUNT]
    folder: str
    plan: str
    tracking: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    space: Sequence[SearchedKey] = ()
    sampler: Spec = field(default_factory=dict)
    scheduler: Spec = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    first_uid: str = ""

    @property
    def uid_in_files(self) -> str:
        """The uid by which the files of its trials name the sweep."""
        return self.first_uid or self.uid

    def check(self) -> None:
        super().check()
        check(self.tracking, Tracking, "tracking")
        check(self.request, Request, "request")
        check(self.environment, Environment, "environment")
        check_config(self.config, needed=())
        if self.plan:
            read_plan(self.plan)

    def to_data(self) -> dict[str, Any]:
        return super().to_data() | {"tracking": _without_credentials(self.tracking)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any], trial: int | None = None) -> Self:
        opened = super().from_data(data, trial)
        return replace(opened, tracking=_without_credentials(opened.tracking))  # earlier versions recorded them


def _without_credentials(tracking: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a store with its bare address."""
    uri = tracking.get("uri") if isinstance(tracking, Mapping) else None
    return {**tracking, "uri": bare_address(uri)} if isinstance(uri, str) and uri else tracking


@dataclass(frozen=True)
class Suggested(_Base):
    """The sampler has suggested a trial; durable before the trial runs.

    Args:
        params: the searched keys and their values.
        config: the complete configuration of the trial.
        config_index: number of its configuration, which its repeats share; the trial's own index where a journal has none.
        repeat: which of the configuration's trials, from 0.
        judged: whether a scheduler may stop it early. The other repeats run only if it survives: its value is one selected for
            being good, and is shown apart from theirs. Journals that lack this were ranked with it.
    """

    kind = "suggested"

    params: dict[str, Any]
    config: dict[str, Any]
    config_index: Annotated[int, COUNT]
    repeat: Annotated[int, COUNT] = 0
    judged: bool = False

    def check(self) -> None:
        super().check()
        check_config(self.config)

    @classmethod
    def required(cls) -> set[str]:
        return super().required() - {"config_index"}

    @classmethod
    def from_data(cls, data: Mapping[str, Any], trial: int | None = None) -> Self:
        if isinstance(data, Mapping) and "config_index" not in data:
            data = {**data, "config_index": trial}
        return super().from_data(data, trial)


@dataclass(frozen=True)
class Started(_Base):
    """A worker begins an attempt at a trial.

    Args:
        began_ms: when it began, in milliseconds since 1970 by the worker's clock, where it did not wait for this event.
    """

    kind = "started"

    began_ms: Annotated[int, TIME_MS] | None = None


@dataclass(frozen=True)
class Reported(_Base):
    """A worker has trained some epochs; their checkpoint was durable before.

    Args:
        epochs: those that are new, in order; none where only `notes` are.
        checkpoint: the one that was durable before; None with the last report, which needs none.
        notes: what is worth telling the user of the attempt.
        best: (epoch, objective) of the trial's best epoch so far; None where there is none, or no epoch is new.
        ran_on: what the attempt computes on (device, precision, instruction set, threads, TF32), in its first report.
        system: what its machine was busy with since the last report, where the sweep asks for `system_metrics`: means by MLflow's
            names, without `system/`.
        init_health: of the weights that the trial began with, in the first report after epoch 1, also where that diverged; None
            where nothing can be said of so small a network.
    """

    kind = "reported"
    free_text = ("notes",)

    epochs: Sequence[Epoch]
    checkpoint: CheckpointRecord | None = None
    notes: Sequence[str] = ()
    best: tuple[Annotated[int, COUNT], Annotated[Any, NUMBER]] | None = None
    ran_on: Mapping[str, Any] | None = None
    system: Mapping[str, Annotated[Any, NUMBER]] | None = None
    init_health: InitHealth | None = None


@dataclass(frozen=True)
class Retrying(_Base):
    """An attempt has failed; another one follows.

    Args:
        reason: in one sentence.
        error: the traceback, where there is one.
    """

    kind = "retrying"
    free_text = ("reason", "error")

    reason: str
    error: str | None = None


@dataclass(frozen=True)
class Terminal(_Base):
    """A trial has ended.

    Args:
        epoch: the last one that was reported; 0 before the first.
        value: the objective at `best_epoch`; both None where no epoch gave one.
        metrics: those of the test.
        artifacts: the files that it declares.
        reason: why it ended, where its state does not say it all.
        error: the traceback of a failure.
        divergence: what left the finite range first, of a trial that diverged.
    """

    kind = "terminal"
    free_text = ("reason", "error", "divergence")

    state: State
    epoch: Annotated[int, COUNT]
    value: Annotated[float, NUMBER] | None
    best_epoch: Annotated[int, COUNT] | None
    metrics: dict[str, Annotated[Any, NUMBER]]
    artifacts: list[FileRecord]
    reason: str | None = None
    error: str | None = None
    divergence: Divergence | None = None

    @classmethod
    def from_data(cls, data: Mapping[str, Any], trial: int | None = None) -> Self:
        if isinstance(data, Mapping) and "state" in data:
            data = {**data, "state": State(data["state"])}
        return super().from_data(data, trial)


@dataclass(frozen=True)
class SweepResumed(_Base):
    """Another driver goes on with the sweep; durable before it does anything else.

    Args:
        plan: the plan in force from now on, as JSON; "" leaves the one before in force.
        changes: key -> [value before, value now] of what was given anew.
        request: as in `SweepOpened`, merged with what was typed for the resume.
        command, host, pid: what was typed, and the driver's process.
        trials: number of configurations from now on.
        first_config_index: the first configuration that the sampler in force suggests itself: after a change of space or sampler
            the next one at that time. Its key in the journal is `era`.
        new_budget: whether `time_budget_s` counts from now on.
        repeats_of: number of a configuration -> how many trials of it there are to be in all, where that is more than `repeat`.
            Those of earlier resumes stay in force.
    """

    kind = "sweep_resumed"
    of_trial = False
    free_text = ("changes", "request", "command")

    plan: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    host: str = ""
    pid: Annotated[int, COUNT] | None = None
    trials: Annotated[int, COUNT] | None = None
    first_config_index: Annotated[int, COUNT] = 0
    new_budget: bool = False
    repeats_of: Mapping[str, Annotated[int, COUNT]] = field(default_factory=dict)

    def check(self) -> None:
        super().check()
        check(self.changes, Mapping[str, tuple[Any, Any]], "changes")
        check(self.request, Request, "request")
        numbers = re.compile(r"0|[1-9][0-9]{0,8}")
        if wrong := [
            key for key, count in self.repeats_of.items() if not numbers.fullmatch(key) or count > MOST_REPEATS
        ]:
            raise ValueError(
                f"repeats_of must hold numbers of configurations and at most {MOST_REPEATS}, got {wrong[0]!r:.80}"
            )
        if self.plan:
            read_plan(self.plan)

    def to_data(self) -> dict[str, Any]:
        data = super().to_data()
        if not data["repeats_of"]:
            del data["repeats_of"]
        data["era"] = data.pop("first_config_index")
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any], trial: int | None = None) -> Self:
        if isinstance(data, Mapping) and "era" in data:
            data = dict(data)
            data["first_config_index"] = data.pop("era")
        return super().from_data(data, trial)


@dataclass(frozen=True)
class SweepClosed(_Base):
    """A driver has ended the sweep; a resume may open it again.

    Args:
        reason: `finished` (all trials ran), `exhausted` (the space has no more), `budget` (the time is used up) or `stopped`.
        totals: how many trials ended in each state.
        best: None where no trial can be the best.
        seconds: how long all drivers worked on it.
        weights: the weights that were kept; None where a journal does not say.
    """

    kind = "sweep_closed"
    of_trial = False

    reason: str
    totals: Mapping[str, Annotated[int, COUNT]]
    best: Best | None
    seconds: float | None = None
    weights: Sequence[KeptWeights] | None = None


@dataclass(frozen=True)
class Published(_Base):
    """A text or a file is about to be shown in MLflow; `verify` compares what is shown with the digest here.

    Not everything shown has such an event: what another event holds in full (a trial's configuration, a traceback) or with its
    digest (predictions in `Terminal`, weights in `SweepClosed`) is published by that event.

    Args:
        run: uid of the run that shows it: `<sweep>`, `<sweep>/<index>`, or the name of another run (a comparison, an ensemble).
        key: the tag that holds the text, or the name of the artifact.
        sha256: of the text in UTF-8, or of the file; in hexadecimal.
        text: the text itself; None of a file.
        path: of the file, relative to the sweep's folder; None of a text.
    """

    kind = "published"
    of_trial = False

    run: str
    key: str
    sha256: str
    text: str | None = None
    path: str | None = None

    def replaces(self, earlier: Published) -> bool:
        """Whether it is a later version of what another event published."""
        return (self.run, self.key) == (earlier.run, earlier.key)


Event = SweepOpened | Suggested | Started | Reported | Retrying | Terminal | SweepResumed | SweepClosed | Published

KINDS: Mapping[str, type[Event]] = {
    one.kind: one
    for one in (SweepOpened, Suggested, Started, Reported, Retrying, Terminal, SweepResumed, SweepClosed, Published)
}


def event_from(kind: str, data: Mapping[str, Any], trial: int | None = None) -> Event:
    """The event of a kind that was written as `data`.

    Raises:
        UnknownKindError: there is no such kind.
        ValueError: it names no trial though it is about one, or the other way round; a required key is missing; a value cannot
            be one of its field.
    """
    if kind not in KINDS:
        raise UnknownKindError(f"is of the kind {kind!r}, which this version does not know")
    if (trial is not None) != KINDS[kind].of_trial:
        raise ValueError("names no trial" if trial is None else "names a trial")
    if not isinstance(data, Mapping):
        raise ValueError(f"must hold a JSON object, got {data!r:.60}")
    event = KINDS[kind].from_data(data, trial)
    event.check()
    return event
