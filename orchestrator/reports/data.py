"""What the figures of a report are made of: the rows of a sweep, its searched keys, and the tables that the page holds of them.

Names in a journal can be anything, and a dot or a bracket in the name of a column means something to Vega. So the page's tables
have short names of ours: `k0`, `k1`, ... for the searched keys, `m0`, ... for metrics of epochs, `t0`, ... for those of the test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.base.recorded import read_plan
from orchestrator.base.text import visible
from orchestrator.journal.record import SweepRecord, is_number, read_sweep
from orchestrator.space.domains import spell

if TYPE_CHECKING:
    from orchestrator.analysis.findings import Findings

FAR = 3
"""An axis of values ends so many interquartile ranges beyond the quartile."""

LARGEST = 8e307
"""Where an axis ends at the latest, so that the difference of its ends is a number."""

OF_EVERY_OBJECT = frozenset(
    [
        *(
            "__proto__",
            "constructor",
            "hasOwnProperty",
            "isPrototypeOf",
            "propertyIsEnumerable",
            "toLocaleString",
            "toString",
        ),
        *("valueOf", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
    ]
)
"""Texts that every object of JavaScript has as a key, which Vega takes for a group that is there already."""

LONGEST = 60
"""Characters of a text that are shown in a figure."""


@dataclass(frozen=True)
class Key:
    """A searched key.

    Args:
        name: as in the configuration: `optimizer.lr`.
        field: its column in the page's table of trials: `k0`.
        kind: "number", or "choice" (of texts, or of a few numbers), whose column holds the texts in `values`.
        log: whether its axis is logarithmic.
        unit: "" where it has none.
        values: of a choice, its values as text in the order of the space; of a number, the lowest and the highest of the space.
        conditional: whether some trials do not have it.
    """

    name: str
    field: str
    kind: Literal["number", "choice"]
    log: bool
    unit: str
    values: tuple[Any, ...]
    conditional: bool = False

    @property
    def label(self) -> str:
        """The name with its unit, for an axis."""
        return cut(self.name) + (f" ({self.unit})" if self.unit else "")

    @property
    def is_ordered(self) -> bool:
        """Whether it is a number, or a choice of numbers from the smallest on."""
        return self.kind == "number" or all(_reads_as_number(value) for value in self.values)

    def of(self, params: Mapping[str, Any]) -> Any:
        """The value in a trial's parameters, as it is drawn; None where it is not among them."""
        if self.name not in params:
            return None
        value = params[self.name]
        if self.kind == "choice":
            return cut(spell(value))
        return value if is_number(value) else None


@dataclass(frozen=True)
class Metric:
    """A metric of epochs or of the test.

    Args:
        name: `val/accuracy`.
        field: its column in the page's table of epochs (`m0`), or of trials for those of the test (`t0`).
        unit: "" where it has none.
    """

    name: str
    field: str
    unit: str

    @property
    def label(self) -> str:
        """The name with its unit, for an axis."""
        return cut(self.name) + (f" ({self.unit})" if self.unit else "")


@dataclass(frozen=True)
class SweepData:
    """A sweep, for its figures.

    The page's table `trials` has a row for each of `trials` with the columns trial, name, state, reason, rank, value,
    best_epoch, epochs, epochs_planned, config_index, repeat, seed, attempts, began_s and ended_s (seconds since the sweep
    began), seconds, that of each of `keys`, and that of each of `tests`. The table `epochs` has trial, epoch, time_s, and those
    of `metrics` that a spec names.

    Args:
        record: the sweep, with its epochs.
        trials: `analysis.tables.trial_rows`.
        epochs: `analysis.tables.epoch_rows`.
        keys: what was searched, in the order of the space.
        metrics: of the epochs.
        tests: of the test, at the end of trials.
        rungs: the epochs at which the scheduler judges trials.
    """

    record: SweepRecord
    folder: Path
    metric: str
    mode: Literal["max", "min"]
    trials: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    keys: list[Key]
    metrics: list[Metric]
    tests: list[Metric]
    rungs: list[int]

    @property
    def label(self) -> str:
        """The objective with its unit, for an axis."""
        return Metric(self.metric, "value", unit_of(self.metric)).label

    @cached_property
    def found(self) -> Findings:
        """Who won by how much, what mattered, what failed."""
        from orchestrator.analysis.findings import findings

        return findings(self.record, self.folder)

    @cached_property
    def metric_fields(self) -> dict[str, str]:
        """Name of a metric of epochs -> its column in the page's table."""
        return {metric.name: metric.field for metric in self.metrics}

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The ends of an axis for values: values that are worse than most by far are left out, and belong at its edge."""
        values = sorted(within(row["value"]) for row in self.trials if row["value"] is not None)
        if not values:
            return (0.0, 1.0)
        low, high = values[0], values[-1]
        if len(values) >= 8:
            q1, q3 = values[len(values) // 4], values[len(values) * 3 // 4]
            reach = FAR * (q3 - q1) or math.inf
            low, high = (max(low, q1 - reach), high) if self.mode == "max" else (low, min(high, q3 + reach))
        room = 0.03 * (high - low) or abs(high) * 0.05 or 0.5
        return rounded_out(low - room, high + room)

    @property
    def sign(self) -> int:
        """1 where a higher value is better, else -1."""
        return 1 if self.mode == "max" else -1


def load(folder: Path) -> SweepData:
    """The sweep in `folder`, as it stands.

    Raises:
        NotReadyError: there is no journal, or it cannot be read.
    """
    return sweep_data(read_sweep(folder, keep_epochs=True), folder)


def sweep_data(record: SweepRecord, folder: Path) -> SweepData:
    """The data of a record that keeps its epochs."""
    from orchestrator.analysis.tables import EPOCH_COLUMNS, epoch_rows, trial_rows

    opened, trials, epochs = record.opened, trial_rows(record), list(epoch_rows(record))
    names = dict.fromkeys(name for row in epochs for name in row if name not in EPOCH_COLUMNS)
    tests = dict.fromkeys(name for trial in record.trials.values() for name in trial.metrics)
    return SweepData(
        record=record,
        folder=folder,
        metric=opened.metric,
        mode=opened.mode,
        trials=trials,
        epochs=epochs,
        keys=_keys(record),
        metrics=[Metric(name, f"m{place}", unit_of(name)) for place, name in enumerate(names)],
        tests=[Metric(name, f"t{place}", unit_of(name)) for place, name in enumerate(tests)],
        rungs=_rungs(record),
    )


def rounded_out(low: float, high: float) -> tuple[float, float]:
    """The ends in few digits, none of them further inside."""
    tenth = (high - low) / 10
    if not math.isfinite(tenth) or tenth <= 0:
        return low, high
    step = 10.0 ** math.floor(math.log10(tenth)) or tenth
    return math.floor(low / step) * step, math.ceil(high / step) * step


def within(value: float) -> float:
    """The value, or the largest that an axis can end at."""
    return min(max(value, -LARGEST), LARGEST)


def unit_of(name: str) -> str:
    """The unit of a metric or a key, by its name; "" where it has none, or it is not known."""
    last = name.rpartition("/")[2].rpartition(".")[2]
    if last.endswith("accuracy"):
        return "share of images"
    if last in ("loss", "nll"):
        return "nats"
    if last.endswith("_per_s"):
        return f"{last.removesuffix('_per_s')} per second"
    if last.endswith("_s"):
        return "s"
    if last.endswith("epochs"):
        return "epochs"
    return {"batch_size": "images", "degrees": "°"}.get(last, "")


def cut(text: str, longest: int = LONGEST) -> str:
    """The text on one line, its end left out where it is long, and what is invisible written out."""
    line = visible(" ".join(text[: 4 * longest].split()))
    line = line if len(line) <= longest else f"{line[: longest - 3]}..."
    return f"{line}\N{NO-BREAK SPACE}" if line in OF_EVERY_OBJECT else line


def _keys(record: SweepRecord) -> list[Key]:
    planned = _planned(record)
    searched = dict.fromkeys([*planned, *(key for trial in record.trials.values() for key in trial.params)])
    shown = [trial.params for trial in record.trials.values()]
    keys = []
    for place, name in enumerate(searched):
        given = [params[name] for params in shown if name in params]
        conditional = len(given) < len(shown)
        keys.append(_key(name, f"k{place}", planned.get(name, []), given, conditional=conditional))
    return keys


def _planned(record: SweepRecord) -> dict[str, list[Mapping[str, Any]]]:
    """Searched key -> its domains, as plain data; of a journal without a plan what its text tells."""
    planned: dict[str, list[Mapping[str, Any]]] = {}
    if record.plan:
        for parameter in read_plan(record.plan)["space"]:
            planned.setdefault(parameter["key"], []).append(parameter["domain"])
        return planned
    for searched in record.opened.space:
        text = searched["domain"]
        domain = {"log": "(log" in text or "tag(log" in text, "kind": "choice" if "choice(" in text else ""}
        planned.setdefault(searched["key"], []).append(domain)
    return planned


def _key(
    name: str, field: str, domains: Sequence[Mapping[str, Any]], given: Sequence[Any], *, conditional: bool
) -> Key:
    kinds = {domain["kind"] for domain in domains}
    if "choice" in kinds or not all(map(_is_plain_number, given)):
        values = [value for domain in domains for value in domain.get("values", ())] + list(given)
        if all(map(_is_plain_number, values)):
            values.sort()
        texts = dict.fromkeys(cut(spell(value)) for value in values)
        return Key(name, field, "choice", False, unit_of(name), tuple(texts), conditional)
    ends = [float(end) for domain in domains for end in _ends(domain)] + [float(value) for value in given]
    finite = [within(end) for end in ends if math.isfinite(end)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    log = low > 0 and (any(domain.get("log") for domain in domains) if domains else high / low > 100)
    return Key(name, field, "number", log, unit_of(name), (low, high), conditional)


def _ends(domain: Mapping[str, Any]) -> list[float]:
    if domain["kind"] == "interval":
        return [domain["low"], domain["high"]]
    if domain["kind"] == "range":
        return [domain["start"]]
    return []


def _is_plain_number(value: object) -> bool:
    return is_number(value) and not isinstance(value, bool)


def _reads_as_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _rungs(record: SweepRecord) -> list[int]:
    """ASHA's rungs by its settings; of another scheduler the epochs at which it stopped trials."""
    opened = record.opened
    scheduler = opened.scheduler
    stopped = {trial.epoch for trial in record.trials.values() if trial.state == "stopped"}
    planned = opened.config.get("epochs")
    rung, factor = scheduler.get("grace_epochs", 1), scheduler.get("reduction_factor", 3)
    asha = str(scheduler.get("_target_", "")).lower().endswith("asha")
    if not (asha and isinstance(planned, int) and _is_count(rung, 1) and _is_count(factor, 2)):
        return sorted(stopped)
    rungs = []
    while rung < planned:
        rungs.append(rung)
        rung *= factor
    return rungs


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
