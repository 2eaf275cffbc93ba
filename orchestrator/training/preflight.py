"""A try of every configuration before anything is started: data loaded, every part built, one batch through the model.

What is tried is in `tries/`: parts, the network, and what is found; the order in which is here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models import facts as facts_of_model
from models.checks import RefusedError
from models.network import part_names
from models.pretrained import described
from models.tracing import trace
from orchestrator.base.costs import COSTS, MULTIPLY_ADDS, key_of
from orchestrator.base.errors import Problem
from orchestrator.base.groups import OF_MODEL
from orchestrator.training import pretrained
from orchestrator.training.batches import batch_sizes
from orchestrator.training.build import (
    build_evaluation,
    build_optimizer,
    build_schedule,
    build_transfer,
    check_evaluation,
    check_pruning,
    load_data,
    prepare_transfer,
)
from orchestrator.training.data import Dataset
from orchestrator.training.data.cache import UndecodedError
from orchestrator.training.device import check_precision
from orchestrator.training.remarks import of_early_stopping, of_optimizer, of_preprocess, of_schedule
from orchestrator.training.snapshots import snapshot_epochs
from orchestrator.training.tries.decoding import decoding_progress
from orchestrator.training.tries.findings import Findings
from orchestrator.training.tries.network import all_trained, count_parameters, probe_model, refused_group
from orchestrator.training.tries.parts import (
    BUILT_ALONE,
    PROBE_IMAGES,
    build_alone,
    build_source,
    check_decay,
    check_init,
    check_preprocess,
    check_shortened,
    data_are_here,
    expected_device,
    probe_loss,
)

MODEL_KEYS = ("data", "model", *OF_MODEL)
"""What decides a model's shape."""

PART_KEYS = (*MODEL_KEYS, "transfer")
"""What decides the shape of the part of it that is trained."""

COSTS_S = 1.0
"""Before a launch, so many seconds are spent on what networks cost."""


AS_INITIALIZED = "as_initialized"
"""The fact of what `pretrained` leaves: value and choice of model -> the names of the tensors that the file does not give."""

RANDOM_FEATURES = "transfer={} without pretrained=: what is not trained stays as it was initialized"


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
class _Probe(Findings):
    say: Callable[[str], None] | None
    costs_s: float = math.inf
    weights: bool = True
    decode: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

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
