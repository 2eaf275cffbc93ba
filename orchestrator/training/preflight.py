"""A try of every configuration before anything is started: data loaded, every part built, one batch through the model.

Models are built on the meta device, which has shapes but no numbers: the largest costs neither time nor memory.
"""

from __future__ import annotations

import json
import math
import re
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from models import facts as facts_of_model
from models.checks import RefusedError
from models.initializers import Needing
from models.network import part_names
from models.outputs import Outputs
from models.pretrained import described
from models.tracing import Tracer, trace
from orchestrator.base.build import build
from orchestrator.base.costs import COSTS, MULTIPLY_ADDS, key_of
from orchestrator.base.errors import ConfigError, OrchestratorError, Problem
from orchestrator.base.groups import OF_MODEL, TRIAL_GROUPS
from orchestrator.base.settings import TRIAL_KEYS
from orchestrator.base.targets import resolve
from orchestrator.base.text import about
from orchestrator.training import pretrained
from orchestrator.training.batches import batch_sizes
from orchestrator.training.build import (
    build_evaluation,
    build_loss,
    build_model,
    build_optimizer,
    build_schedule,
    build_transfer,
    check_clipping,
    check_evaluation,
    check_pruning,
    load_data,
    prepare_transfer,
)
from orchestrator.training.data import Dataset, cache_folder
from orchestrator.training.data.cache import UndecodedError
from orchestrator.training.data.source import Progress, Source
from orchestrator.training.device import check_precision
from orchestrator.training.losses import Batch
from orchestrator.training.penalties import refuse_decay_twice
from orchestrator.training.remarks import of_early_stopping, of_optimizer, of_preprocess, of_schedule
from orchestrator.training.snapshots import snapshot_epochs

T = TypeVar("T")

PROBE_IMAGES = 2

CALLED = frozenset(group.name for group in TRIAL_GROUPS if group.called)

BUILT_ALONE = tuple(group.name for group in TRIAL_GROUPS if not group.provided and group.name != "data")
"""Groups whose targets need nothing from the engine."""

MODEL_KEYS = ("data", "model", *OF_MODEL)
"""What decides a model's shape."""

PART_KEYS = (*MODEL_KEYS, "transfer")
"""What decides the shape of the part of it that is trained."""

COSTS_S = 1.0
"""Before a launch, so many seconds are spent on what networks cost."""

DECODING_TOLD_AFTER_S = 2.0
DECODING_TOLD_EVERY_S = 3.0

AS_INITIALIZED = "as_initialized"
"""The fact of what `pretrained` leaves: value and choice of model -> the names of the tensors that the file does not give."""

RANDOM_FEATURES = "transfer={} without pretrained=: what is not trained stays as it was initialized"

COMPUTED_PARAMETERS = 30_000_000
"""A user's models up to this size compute their probe on the CPU: the first forward pass on the meta device imports torch's
compiler, which takes as long as starting the whole program (torch 2.15), and code of theirs may need numbers. Those of the
catalogue need neither: their shapes are known (`models.tracing`)."""


@dataclass(frozen=True)
class Preflight:
    """What was found out.

    Args:
        problems: each with the key or `group=choice` at fault; the configurations in which it occurs are in `where`.
        facts: `num_classes`, `in_channels`, `image_size`, `train`, `val`, `test` (examples), `fingerprint`, `data_entry` of the
            first data set; `parameters` of the largest model and `largest`, the label of its configuration; what the models
            decided from their sizes (`models.facts`), such as `group_norm`.
        tried: so many of the configurations, the first ones; fewer than all where there was no more time.
        notes: sentences for the user.
    """

    problems: list[Problem]
    facts: dict[str, Any]
    tried: int
    notes: tuple[str, ...] = ()


def check(
    configs: Sequence[tuple[str, Mapping[str, Any]]],
    say: Callable[[str], None] | None = None,
    *,
    fetch: bool = True,
    costs: bool = False,
    networks: Sequence[tuple[str, Mapping[str, Any]]] = (),
    budget_s: float = math.inf,
    weights: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Preflight:
    """Try each (label, configuration) in turn; parts that are the same in several are tried once.

    The data, which may have to be downloaded and decoded, are loaded only where all that can be tried without them is right.

    Args:
        say: told how far the decoding of images is, where it takes long.
        fetch: bring data that are not here, and decode them; otherwise nothing is tried on them, and the facts are empty.
        costs: work out what each model costs, as the fact `COSTS`: of each its label, its parameters, and the multiply-adds
            of an image in each epoch and once. Otherwise those that take less than `COSTS_S` in all are worked out, as the
            fact of `base.costs`.
        networks: further (label, configuration) of which only the network is built, however long it takes, to know its costs.
        weights: whether the weights to begin with are here; nothing is tried with them otherwise.
        budget_s: seconds for all configurations after the first, with which modules and data are loaded.
        clock: in seconds, never backwards.

    Raises:
        NotReadyError: the data are missing or damaged.
    """
    probe = _Probe(say, math.inf if costs or networks else COSTS_S, weights, decode=fetch)
    tried = _try(probe.check_without_data, configs, budget_s / 2, clock)
    if not probe.found and (fetch or all(data_are_here(config) for _, config in configs)):
        tried = _try(probe.check_on_data, configs[:tried], budget_s / 2, clock)
        for label, config in networks:
            probe.count_network(label, config)
    return Preflight(probe.problems(), probe.facts, tried, tuple(dict.fromkeys(probe.notes)))


def _try(
    check_one: Callable[[str, Mapping[str, Any]], None],
    configs: Sequence[tuple[str, Mapping[str, Any]]],
    budget_s: float,
    clock: Callable[[], float],
) -> int:
    """Check the configurations until the time is used up; how many were checked, at least one."""
    deadline = math.inf
    for place, (label, config) in enumerate(configs):
        if clock() >= deadline:
            return place
        check_one(label, config)
        if place == 0:
            deadline = clock() + budget_s
    return len(configs)


@dataclass
class _Probe:
    say: Callable[[str], None] | None
    costs_s: float = math.inf
    weights: bool = True
    decode: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    found: dict[tuple[str, str, str], tuple[Problem, list[str]]] = field(default_factory=dict)
    _tried: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> list[Problem]:
        """Each problem once, with the configurations that have it, unless all say so in the key already."""
        return [replace(p, where=p.where or _labels(f"{p.key}={p.value}", labels)) for p, labels in self.found.values()]

    def check_without_data(self, label: str, config: Mapping[str, Any]) -> None:
        """Try the parts of one configuration that need neither the data nor the model."""
        with self._collect(label, config, "precision"):
            check_precision(expected_device(config), config["precision"])
        for group in BUILT_ALONE:
            with self._collect(label, config, group):
                self._once(group, config, (group,), partial(build_alone, config, group))
        with self._collect(label, config, "schedule"):
            self._once("schedule", config, ("schedule", "epochs"), partial(build_schedule, config, steps_per_epoch=1))
        for about_it in (of_schedule(config), of_early_stopping(config)):
            if about_it is not None:
                self.notes.append(about_it)
        with self._collect(label, config, "evaluate"):
            self._once("evaluate", config, ("evaluate",), partial(build_evaluation, config))
        with self._collect(label, config, "snapshots"):
            snapshot_epochs(config)
        with self._collect(label, config, "data"):
            self._once("source", config, ("data",), partial(build_source, config))
        with self._collect(label, config, "optimizer"):
            self._once(
                "optimizer alone", config, ("optimizer",), partial(build_optimizer, config, nn.Linear(2, 2), alone=True)
            )
        with self._collect(label, config, "clip_grad_norm"):
            self._once("clipping", config, ("optimizer", "clip_grad_norm"), partial(check_shortened, config))
        with self._collect(label, config, "penalty"):
            self._once("penalty and decay", config, ("optimizer", "penalty"), partial(check_decay, config))

    def check_on_data(self, label: str, config: Mapping[str, Any]) -> None:
        """Load the data and try a training step's parts on it, going on after a problem as far as they do not depend on it."""
        dataset: Dataset | None = None
        with self._collect(label, config, "data"):
            progress = self.say and decoding_progress(self.say, config["data_cache"])
            told = partial(load_data, config, progress, decode=self.decode)
            with suppress(UndecodedError):
                dataset = self._once("data", config, ("data",), told)
        if dataset is None:
            return
        self._note(dataset)
        with self._collect(label, config, "preprocess"):
            self._once("preprocess on data", config, ("data", "preprocess"), partial(check_preprocess, config, dataset))
        images = PROBE_IMAGES
        with self._collect(label, config, "batch_size"):
            images = min([PROBE_IMAGES, *batch_sizes(len(dataset.train_ids), config["batch_size"])])
        model: nn.Module | None = None
        with self._collect(label, config, "model", dataset):
            whole = {**config, "transfer": {}}
            try:
                model = self._once(f"model {images}", config, MODEL_KEYS, partial(probe_model, whole, dataset, images))
            except RefusedError as error:
                group = refused_group(whole, dataset, images)
                self._add(label, Problem(group, str(error), config["choices"].get(group)))
        if model is None:
            return
        with self._collect(label, config, "init"):
            self._once("init on model", config, (*MODEL_KEYS, "init"), partial(check_init, config, model))
        with suppress(Exception):  # of a preprocessing that cannot be had is told above
            if (about_it := of_preprocess(config, model)) is not None:
                self.notes.append(about_it)
        with self._collect(label, config, "pretrained"):
            self._once("pretrained", config, (*MODEL_KEYS, "pretrained"), partial(self._try_weights, config, model))
        if config["transfer"]:
            with self._collect(label, config, "transfer"):
                model = self._once(
                    f"transfer {images}", config, PART_KEYS, partial(probe_model, config, dataset, images)
                )
                keys = (*PART_KEYS, "augment")
                self._once("transfer", config, keys, partial(prepare_transfer, config, model))
                if config["pretrained"] is None and not all_trained(model):
                    self.notes.append(RANDOM_FEATURES.format(config["choices"].get("transfer")))
        with self._collect(label, config, "evaluate", dataset):
            evaluation = build_evaluation(config)
            asked = partial(check_evaluation, config, evaluation, model, dataset)
            self._once("evaluate on model", config, (*PART_KEYS, "evaluate"), asked)
        if config.get("prune"):
            with self._collect(label, config, "prune"):
                self._once("ticket", config, (*PART_KEYS, "ticket", "prune"), partial(check_pruning, config, model))
        if self.costs_s > 0:
            self._once("costs", config, PART_KEYS, partial(self._add_cost, label, config, model, dataset))
        parameters = count_parameters(model)
        if parameters > self.facts.get("parameters", -1):
            self.facts |= {"parameters": parameters, "largest": label}
        for name, values in facts_of_model(model).items():
            self.facts[name] = sorted([*values, *(v for v in self.facts.get(name, []) if v not in values)])
        with self._collect(label, config, "loss"):
            self._once("loss on data", config, ("data", "loss"), partial(probe_loss, config, dataset))
        with self._collect(label, config, "optimizer"):
            optimizer = self._once(
                "optimizer",
                config,
                (*PART_KEYS, "optimizer"),
                partial(build_optimizer, config, model),
            )
            if (about_it := of_optimizer(config, optimizer)) is not None:
                self.notes.append(about_it)

    def count_network(self, label: str, config: Mapping[str, Any]) -> None:
        """Add what a network costs to the facts, whether or not its configuration was tried."""
        with self._collect(label, config, "data"), suppress(UndecodedError):
            dataset = self._once("data", config, ("data",), partial(load_data, config, None, decode=self.decode))
            with self._collect(label, config, "model"):
                model = self._once("network", config, PART_KEYS, partial(probe_model, config, dataset))
                self._once("costs", config, PART_KEYS, partial(self._add_cost, label, config, model, dataset))

    def _add_cost(self, label: str, config: Mapping[str, Any], model: nn.Module, dataset: Dataset) -> None:
        began = time.monotonic()
        if key_of(config) in self.facts.get(MULTIPLY_ADDS, {}):
            return  # the same network on data of other labels
        shown = [part for part in label.split(", ") if part.split("=")[0].split(".")[0] in PART_KEYS]
        for group in ("transfer", "model"):  # the model stands first
            chosen = config["choices"].get(group, "default")
            if chosen != "default" and not any(part.startswith(f"{group}=") for part in shown):
                shown.insert(0, f"{group}={chosen}")
        image = torch.zeros(1, dataset.in_channels, *dataset.image_size, device="meta")
        try:
            affine = trace(model.eval(), image)[1].affine
        except Exception:  # code of the user's may do what has no answer without numbers; it was tried with them
            return
        each_epoch, once = sum(a.multiply_adds for a in affine), 0
        transfer = build_transfer(config)
        if transfer is not None and transfer.features_once:
            last = part_names(model)[-1]
            once = sum(a.multiply_adds for a in affine if a.module.partition(".")[0] != last)
            each_epoch -= once
        cost = [", ".join(shown), count_parameters(model), each_epoch, once]
        self.facts.setdefault(COSTS, []).append(cost)
        self.facts.setdefault(MULTIPLY_ADDS, {})[key_of(config)] = [each_epoch, once]
        self.costs_s -= time.monotonic() - began

    def _try_weights(self, config: Mapping[str, Any], model: nn.Module) -> None:
        """Whether the weights to begin with fit the whole network."""
        file = pretrained.file_of(config) if self.weights else None
        if file is not None:
            weights = pretrained.read(Path(file["path"]), file["sha256"])
            fitted = pretrained.fits(config, model, weights)
            begun = self.facts.setdefault(AS_INITIALIZED, {})
            begun[f"{config['pretrained']} {config['choices']['model']}"] = [*fitted.replaced, *fitted.absent]
            self.notes.append(f"pretrained={config['pretrained']}: {described(fitted, self.facts['num_classes'])}")

    def _note(self, dataset: Dataset) -> None:
        if "fingerprint" not in self.facts:
            self.facts |= {
                "num_classes": dataset.num_classes,
                "in_channels": dataset.in_channels,
                "image_size": dataset.image_size,
                **{name: len(ids) for name, ids in dataset.splits.items()},
                "fingerprint": dataset.fingerprint,
                "data_entry": dataset.entry,
            }

    def _once(self, part: str, config: Mapping[str, Any], keys: Iterable[str], make: Callable[[], T]) -> T:
        """What `make` gives, made once for equal values of `keys`; its failure is remembered too."""
        key = json.dumps([part, [config[k] for k in keys]], sort_keys=True)
        if key not in self._tried:
            try:
                self._tried[key] = make()
            except (ValueError, ConfigError) as error:
                self._tried[key] = error
            except OrchestratorError:
                raise
            except Exception as error:  # a target may be code of the user's, which raises what it likes
                self._tried[key] = ValueError(_raised(error))
        made = self._tried[key]
        if isinstance(made, ValueError | ConfigError):
            raise made
        return made  # type: ignore[no-any-return]

    @contextmanager
    def _collect(self, label: str, config: Mapping[str, Any], group: str, dataset: Dataset | None = None) -> Any:
        """Write down the problems of a part of the configuration."""
        try:
            yield
        except ConfigError as error:
            for p in error.problems:
                near = p.nearest and (p.nearest if p.key == "_target_" else f"{group}.{p.nearest}")
                self._add(label, replace(p, key=f"{group}.{p.key}", nearest=near))
        except ValueError as error:
            value = config["choices"].get(group, config[group] if group in TRIAL_KEYS else None)
            why = str(error)
            if dataset is not None:
                # the model knows the size only, the user the name of the data
                data = config["choices"].get("data", dataset.name)
                why = re.sub(r"\bgot (\d+x\d+)$", rf"data={data} gives \1", why)
            if group == "batch_size":
                why = why.removeprefix("batch_size ").partition(", got")[0]
            self._add(label, Problem(group, why, value))

    def _add(self, label: str, problem: Problem) -> None:
        labels = self.found.setdefault((problem.key, str(problem.value), problem.why), (problem, []))[1]
        if label not in labels:
            labels.append(label)


def expected_device(config: Mapping[str, Any]) -> torch.device:
    """The device that trials will have, as far as the driver knows: meta where that is a GPU, of which it may have none."""
    on_cpu = config["device"] == "cpu" or (config["device"] == "auto" and config["gpus_per_trial"] == 0)
    return torch.device("cpu" if on_cpu else "meta")


def build_alone(config: Mapping[str, Any], group: str) -> Any:
    """What the target of a group returns, which needs nothing from the engine.

    Raises:
        ValueError: a value is refused, or the engine has no use for what it returns.
    """
    built = build(config[group])
    if group in CALLED and built is not None and not callable(built):
        raise ValueError(f"must give a callable, gave {type(built).__name__}")
    return built


def check_decay(config: Mapping[str, Any]) -> None:
    """Whether penalty and optimizer, each right by itself, go together.

    Raises:
        ValueError: both penalize squares.
    """
    try:
        penalty = build(config["penalty"])
        optimizer = build_optimizer(config, nn.Linear(2, 2), alone=True) if penalty else None
    except Exception:  # is told as a problem of the part
        return
    if optimizer is not None:
        refuse_decay_twice(penalty, optimizer)


def check_shortened(config: Mapping[str, Any]) -> None:
    """Whether optimizer and clipping, each right by itself, go together.

    Raises:
        ValueError: the optimizer cannot do with gradients that are shortened.
    """
    if config.get("clip_grad_norm") is None:
        return
    try:
        optimizer = build_optimizer(config, nn.Linear(2, 2), alone=True)
    except Exception:  # is told as a problem of the part
        return
    check_clipping(config, optimizer)


def data_are_here(config: Mapping[str, Any]) -> bool:
    """Whether the data can be loaded without bringing files from elsewhere."""
    source = build_source(config)
    return source is None or source.ready() or not getattr(source, "download", True)


def build_source(config: Mapping[str, Any]) -> Source | None:
    """The data's `Source`, which touches no file yet; other targets of data may load them, and are not called.

    Raises:
        ValueError: a value is refused.
    """
    target = resolve(config["data"]["_target_"]) if config["data"] else None
    if getattr(target, "__annotations__", {}).get("return") in (Source, "Source"):
        source: Source = build(config["data"])
        return source
    return None


def decoding_progress(
    say: Callable[[str], None], cache: str | None, clock: Callable[[], float] = time.monotonic
) -> Progress:
    """Tells how far decoding is, once it takes longer than DECODING_TOLD_AFTER_S."""
    start, begun = clock(), False
    due = start + DECODING_TOLD_AFTER_S
    first: tuple[int, float] | None = None

    def progress(done: int, total: int) -> None:
        nonlocal due, begun, first
        first = first or (done, clock())
        if clock() < due or done >= total:
            return
        due = clock() + DECODING_TOLD_EVERY_S
        if not begun:
            say(f"decoding {total:,} images once into {cache_folder(cache)} ...")
        begun = True
        say(f"  {done:,} of {total:,} images{_eta(done - first[0], total - done, clock() - first[1])}")

    return progress


def _eta(done: int, to_do: int, seconds: float) -> str:
    """The time left, from the speed since the first images were told of; nothing before there is one."""
    return f", {about(to_do * seconds / done)}" if done > 0 and seconds > 0 else ""


def probe_model(config: Mapping[str, Any], dataset: Dataset, count: int = PROBE_IMAGES) -> nn.Module:
    """The model on the meta device, after a training batch of `count` images went through it or its like.

    Raises:
        ValueError: it cannot be built, cannot be trained on so few, or does not take these images to one logit a class.
    """
    meta = torch.device("meta")
    with Tracer():
        model, _ = build_model({**config, "init": {}}, dataset, meta)
    traced = str(config["model"]["_target_"]).startswith("models.")
    computed = not traced and count_parameters(model) <= COMPUTED_PARAMETERS
    device = torch.device("cpu") if computed else meta
    tried = build_model({**config, "init": {}}, dataset, device)[0] if computed else model
    images = torch.zeros(count, dataset.in_channels, *dataset.image_size, device=device)
    try:
        with torch.no_grad(), Tracer() if traced else nullcontext():
            outputs = tried.train()(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"batch norm has no variance over the single value that batch_size={count} leaves a channel;"
            " set a larger batch_size or another norm"
        ) from error
    except Exception as error:  # the model may be of the user's own
        size = "x".join(map(str, images.shape[1:]))
        why = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"does not take images of {size} ({why})") from error
    for logits in (outputs.main, *outputs.auxiliary) if isinstance(outputs, Outputs) else (outputs,):
        if not isinstance(logits, Tensor) or logits.shape != (count, dataset.num_classes):
            gave = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"must give logits of shape {(count, dataset.num_classes)} for a batch, gave {gave}")
    return model


def refused_group(config: Mapping[str, Any], dataset: Dataset, count: int) -> str:
    """Of a network that refuses a choice: the group without which it takes the rest, or else `model`."""
    for group in ("norm", "activation"):
        with suppress(ValueError):
            probe_model({**config, group: {}}, dataset, count)
            return group
    return "model"


def check_preprocess(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Whether the preprocessing can be had for images of this size; nothing is computed.

    Raises:
        ValueError: it cannot.
    """
    check_size = getattr(build(config["preprocess"]), "check_size", None)
    if check_size is not None:
        check_size((dataset.in_channels, *dataset.image_size))


def check_init(config: Mapping[str, Any], model: nn.Module) -> None:
    """Whether the initialization can do with the structure of the network; nothing is computed.

    Raises:
        ValueError: it cannot.
    """
    scheme = build(config["init"])
    if isinstance(scheme, Needing):
        scheme.check(model)


def all_trained(model: nn.Module) -> bool:
    return all(parameter.requires_grad for parameter in model.parameters())


def count_parameters(model: nn.Module) -> int:
    """The number of parameters, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def probe_loss(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Build the loss and try it on a batch.

    Raises:
        ValueError: it is refused, or gives no scalar.
    """
    labels = torch.zeros(PROBE_IMAGES, dtype=torch.int64)
    batch = Batch(
        torch.zeros(PROBE_IMAGES, dataset.in_channels, *dataset.image_size), labels, torch.arange(PROBE_IMAGES)
    )
    value = build_loss(config)(torch.zeros(PROBE_IMAGES, dataset.num_classes), labels, batch)
    if not isinstance(value, Tensor) or value.ndim != 0:
        raise ValueError("must give a scalar tensor")


def _raised(error: Exception) -> str:
    """An exception in one line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    lines = str(error).splitlines()
    return f"raises {type(error).__name__}{': ' + lines[0] if lines else ''}{place}"


def _labels(own: str, labels: Sequence[str]) -> str | None:
    """The configurations with a problem, in few words; None where the problem's own text says it."""
    if own in labels or not any(labels):
        return None
    others = [label.removeprefix(f"{own}, ") for label in labels if label]
    return "; ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
