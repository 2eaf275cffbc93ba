"""The root keys of a sweep, each described once: its type and bounds, what it concerns, and what may be done with it.

Their defaults stand in `conf/launch.yaml`. Whatever the program asks about a root key is derived from `Settings`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from orchestrator.base import yaml_files
from orchestrator.base.errors import Problem, nearest
from orchestrator.base.layout import CONF as CONF
from orchestrator.base.names import check_name
from orchestrator.base.records import METRICS

MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class RootKey:
    """What a root key is, besides its type and its default.

    Args:
        least, most, above: its bounds; `above` is excluded.
        of_trial: every trial's configuration holds it; otherwise it says how the sweep runs.
        searchable: a search space may hold it.
        on_resume: "refused": it may not change; "free": it may be given anew; "kept": the sweep keeps that of its launch.
        computes: the results of a trial depend on it, so that a checkpoint of another value is refused.
        decides: which trials a sweep has, what they give or what is kept of them depends on it.
        shown: MLflow shows it among the parameters of a trial.
        since_first: every version has recorded it with a trial.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    of_trial: bool = False
    searchable: bool = False
    on_resume: Literal["refused", "free", "kept"] = "refused"
    computes: bool = True
    decides: bool = True
    shown: bool = False
    since_first: bool = False


def _is(**described: Any) -> dict[str, Any]:
    """The metadata of a field of `Settings`: the arguments of `RootKey`."""
    return asdict(RootKey(**described))


@dataclass(frozen=True)
class Settings:
    """The root keys of a sweep, each in one line, which `launch --help` shows.

    Args:
        name: of the sweep; by time where absent.
        trials: at most; a grid has as many as it has points.
        epochs: of a trial, at most; a scheduler may stop it earlier.
        batch_size: images a step.
        seed: of sampler, weights, batches and augmentation; the split has data.split_seed.
        metric: the objective: val/accuracy, val/loss, val/nll, val/top5_accuracy, train/accuracy or train/loss.
        mode: max or min; as the metric says where absent.
        pretrained: the weights that trials begin with: a file, a trial of ours (SWEEP/7) or a name that torchvision knows.
        ticket: the trained trial of search=lottery_ticket, whose initial weights trials begin with; written from=SWEEP/7.
        clip_grad_norm: gradients longer than this are shortened to it; never where absent.
        ema_decay: of the moving average of the weights, which is evaluated and kept in place of the weights themselves.
        average_from: the share of the epochs after which weights are averaged once an epoch, for swa; never where absent.
        snapshots: the weights at the ends of so many cycles are kept, with schedule=cyclic_cosine; none where absent.
        max_concurrent: trials at a time; as many as fit where absent.
        cpus_per_trial: CPUs that a trial reserves.
        gpus_per_trial: may be a fraction below 1; one where there are GPUs if absent, none elsewhere or with device=cpu.
        time_budget_s: seconds after which what still runs is cancelled; no limit where absent.
        runs_dir: the folder of sweeps, and of their MLflow store.
        precision: of the arithmetic; auto is bf16 where all nodes have it in hardware, else fp32.
        device: auto, cpu, cuda or cuda:N.
        report_every_s: epochs shorter than this are reported together.
        system_metrics: whether MLflow shows what each trial's machine was busy with: CPU, memory, disk, network, GPUs.
        diagnostics: whether the metrics of each epoch tell of every layer: activations, gradients, dead units, updates.
        max_retries: of a trial whose process died.
        max_failed: the share of ended trials that may have failed; a sweep with more ends with exit code 4.
        disk_wait_s: so long a sweep waits for room on a disk that is full, before it ends with exit code 5.
        repeat: trials of each configuration: the first with seed, the others with seeds derived from it.
        heartbeat_timeout_s: a trial without a heartbeat for this many seconds is killed and restarted; never where absent.
        keep_weights: the best configurations whose weights are kept, so many of them.
        data_cache: the folder of decoded images; $ORCHESTRATOR_CACHE or ~/.cache/orchestrator/data where absent.
        allowed_targets: targets of the user's own, beyond the catalogue: packages, modules or single names.
        import_paths: the folders of their modules; --config-dir and the current folder where absent.
    """

    name: str | None = field(metadata=_is(on_resume="kept", decides=False))
    trials: int = field(metadata=_is(least=1, most=1_000_000, on_resume="free"))
    epochs: int = field(
        metadata=_is(least=1, most=1_000_000, of_trial=True, searchable=True, shown=True, since_first=True)
    )
    batch_size: int = field(metadata=_is(least=1, most=1_000_000, of_trial=True, searchable=True, shown=True))
    seed: int = field(
        metadata=_is(least=0, most=MAX_SEED, of_trial=True, searchable=True, shown=True, since_first=True)
    )
    metric: str = field(metadata=_is(of_trial=True, since_first=True))
    mode: Literal["max", "min"] | None = field(metadata=_is(of_trial=True, since_first=True))
    pretrained: str | None = field(metadata=_is(of_trial=True, searchable=True, shown=True))
    ticket: str | None = field(metadata=_is(of_trial=True))
    clip_grad_norm: float | None = field(metadata=_is(above=0, of_trial=True, searchable=True))
    ema_decay: float | None = field(metadata=_is(least=0, most=0.999999, of_trial=True, searchable=True))
    average_from: float | None = field(metadata=_is(least=0, most=0.99, of_trial=True))
    snapshots: int | None = field(metadata=_is(least=2, most=1_000, of_trial=True))
    max_concurrent: int | None = field(metadata=_is(least=1, on_resume="free", decides=False))
    cpus_per_trial: float = field(metadata=_is(above=0, of_trial=True))
    gpus_per_trial: float | None = field(metadata=_is(least=0, of_trial=True))
    time_budget_s: float | None = field(metadata=_is(above=0, on_resume="free"))
    runs_dir: str = field(metadata=_is(on_resume="kept", decides=False))
    precision: Literal["auto", "fp32", "tf32", "bf16"] = field(metadata=_is(of_trial=True, searchable=True))
    device: str = field(metadata=_is(of_trial=True))
    report_every_s: float = field(metadata=_is(least=0, of_trial=True, on_resume="free", computes=False, decides=False))
    system_metrics: bool = field(metadata=_is(of_trial=True, on_resume="free", computes=False, decides=False))
    diagnostics: bool = field(metadata=_is(of_trial=True, on_resume="free", computes=False, decides=False))
    max_retries: int = field(metadata=_is(least=0, most=100, on_resume="free", decides=False))
    max_failed: float = field(metadata=_is(least=0, most=1, on_resume="free", decides=False))
    disk_wait_s: float = field(metadata=_is(least=0, on_resume="free", decides=False))
    repeat: int = field(metadata=_is(least=1, most=1_000))
    heartbeat_timeout_s: float | None = field(metadata=_is(above=0, on_resume="free", decides=False))
    keep_weights: int = field(metadata=_is(least=0, most=1_000_000, on_resume="free"))
    data_cache: str | None = field(metadata=_is(of_trial=True, on_resume="free", computes=False, decides=False))
    allowed_targets: list[str] = field(metadata=_is(of_trial=True, on_resume="free", computes=False, decides=False))
    import_paths: list[str] | None = field(metadata=_is(on_resume="kept", decides=False))


ROOT_KEYS: Mapping[str, RootKey] = {declared.name: RootKey(**declared.metadata) for declared in fields(Settings)}
TRIAL_KEYS = tuple(name for name, key in ROOT_KEYS.items() if key.of_trial)
SWEEP_KEYS = tuple(name for name, key in ROOT_KEYS.items() if not key.of_trial)
SEARCHABLE_KEYS = tuple(name for name, key in ROOT_KEYS.items() if key.searchable)
SHOWN_KEYS = tuple(name for name, key in ROOT_KEYS.items() if key.shown)
FREE_KEYS = tuple(name for name, key in ROOT_KEYS.items() if key.on_resume == "free")
KEPT_KEYS = tuple(name for name, key in ROOT_KEYS.items() if key.on_resume == "kept")
BESIDE_KEYS = tuple(name for name, key in ROOT_KEYS.items() if not key.decides)
PRETRAINED_FILES = "pretrained_files"
FOUND_KEYS = ("import_paths", "data_entry", PRETRAINED_FILES)
"""What planning adds to a trial's configuration: where modules of the user's own, decoded images and pretrained weights lie."""

PLACE_KEYS = (*FOUND_KEYS, *(name for name in TRIAL_KEYS if not ROOT_KEYS[name].computes))
"""Entries of a trial's configuration that say where things lie, or when they are reported, and not what is computed."""


@functools.cache
def launch_defaults() -> Mapping[str, Any]:
    """`conf/launch.yaml`: the defaults of the root keys, and the list of the groups' default choices under `defaults`."""
    return yaml_files.read(CONF / "launch.yaml")


def described() -> dict[str, str]:
    """Root key -> what it is, in one line: as the docstring of `Settings` says."""
    lines = (Settings.__doc__ or "").partition("Args:")[2].splitlines()
    return dict(line.strip().removesuffix(".").split(": ", 1) for line in lines if line.strip())


def settings_problems(values: Mapping[str, Any], wrong: Collection[str] = ()) -> list[Problem]:
    """What is wrong with root keys beyond their types; those in `wrong` have the wrong type and are left out."""
    sound = {name: value for name, value in values.items() if name not in wrong and value is not None}
    problems = []
    for name, key in ROOT_KEYS.items():
        if name in sound and (why := _out_of_bounds(sound[name], key)):
            problems.append(Problem(name, why, sound[name]))
    if "name" in sound and (why := check_name(sound["name"])):
        problems.append(Problem("name", why, repr(sound["name"])))
    if (metric := sound.get("metric")) is not None:
        if metric not in METRICS:
            problems.append(Problem("metric", f"must be one of {', '.join(METRICS)}", metric, nearest(metric, METRICS)))
        elif sound.get("mode", METRICS[metric]) != METRICS[metric]:
            problems.append(Problem("mode", f"{metric} is better when {_DIRECTION[metric]}", sound["mode"]))
    if "device" in sound and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", sound["device"]):
        problems.append(Problem("device", "must be auto, cpu, cuda or cuda:N", sound["device"]))
    for name in ("cpus_per_trial", "gpus_per_trial"):
        if name in sound and sound[name] > 1 and sound[name] != int(sound[name]):
            problems.append(Problem(name, "must be whole above 1, or a fraction below", sound[name]))
    together = sound.get("trials", 0) * max(1, sound.get("repeat", 1))
    if "max_concurrent" in sound and sound["max_concurrent"] > together >= 1:
        why = f"is more than there are trials ({together})"
        problems.append(Problem("max_concurrent", why, sound["max_concurrent"]))
    return problems


_DIRECTION = {metric: {"max": "higher (mode=max)", "min": "lower (mode=min)"}[mode] for metric, mode in METRICS.items()}


def _out_of_bounds(value: float, key: RootKey) -> str | None:
    if key.least is not None and value < key.least:
        return f"must be at least {key.least:g}"
    if key.above is not None and value <= key.above:
        return f"must be above {key.above:g}"
    if key.most is not None and value > key.most:
        return f"must be at most {key.most:,}"
    return None
