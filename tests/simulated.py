"""Simulated sweeps of any size, for tables, reports and dashboards: a real journal with curves of a known truth, no training.

The objective follows from the parameters: a bump over log10(lr) whose height and width depend on the norm, a smaller effect of
the optimizer, none of the seed but noise. Large learning rates diverge, a few trials fail, poor ones are stopped at epoch 5.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.base.layout import SWEEP_MARK
from orchestrator.base.rules import RULES
from orchestrator.journal.events import event_from
from orchestrator.journal.file import Journal, finite

START_MS = 1_700_000_000_000
VALIDATION = 5000
"""Examples of validation: accuracies are multiples of one in so many."""

SPACE = [
    {"key": "optimizer", "domain": "choice(sgd, adam)"},
    {"key": "optimizer.lr", "domain": "tag(log, interval(1e-4, 10))"},
    {"key": "norm", "domain": "choice(none, batch, layer)"},
    {"key": "init.scale", "domain": "tag(log, interval(1e-2, 10))"},
    {"key": "batch_size", "domain": "choice(32, 64, 128)"},
    {"key": "optimizer.momentum", "domain": "interval(0, 0.99)", "condition": "optimizer=sgd"},
]


def simulated_sweep(
    folder: Path,
    *,
    trials: int = 16,
    epochs: int = 20,
    workers: int = 2,
    repeat: int = 1,
    seed: int = 0,
    stops: bool = True,
    tracking: str = "none",
    rules: int = RULES,
    claims: Sequence[Mapping[str, Any]] = (),
    request: Mapping[str, Any] | None = None,
    ends: str = "finished",
) -> Path:
    """Makes the folder of a finished sweep, with a journal and nothing else; returns it.

    Args:
        repeat: trials of each configuration.
        stops: whether a scheduler stops about half of the trials at epoch 5.
        tracking: its kind.
        rules: those that it began with.
        claims: those of its experiment.
        request: what was typed for it, as its journal records it.
        ends: why it was closed.
    """
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    (folder / SWEEP_MARK).write_text(f'{{"sweep": "{folder.name}"}}')
    events: list[tuple[int, str, int | None, dict[str, Any]]] = []

    def append(time_ms: int, kind: str, trial: int | None = None, **data: Any) -> None:
        events.append((time_ms, kind, trial, data))

    scheduler = {"_target_": "orchestrator.scheduling.schedulers.asha.asha", "grace_epochs": 5} if stops else {}
    append(
        START_MS,
        "sweep_opened",
        uid=folder.name,
        name=folder.name.rsplit("-", 1)[0],
        metric="val/accuracy",
        mode="max",
        trials=trials,
        folder=".",
        plan=_plan(epochs, rules, claims),
        config=_config({}, epochs, 0),
        space=SPACE,
        sampler={"_target_": "orchestrator.scheduling.samplers.random.random"},
        scheduler=scheduler,
        tracking={"kind": tracking},
        environment={"command": "orchestrator launch search=all", "torch": "2.15.0"},
        request=request or {},
    )
    free = [START_MS] * workers
    totals: dict[str, int] = {}
    params: dict[str, Any] = {}
    best: tuple[float, int, dict[str, Any]] | None = None
    for index in range(trials):
        lane = free.index(min(free))
        begin = free[lane] + 5
        if index % repeat == 0:
            params = _params(draw)
        append(
            begin,
            "suggested",
            index,
            params=params,
            config=_config(params, epochs, index),
            config_index=index // repeat,
            repeat=index % repeat,
        )
        append(begin, "started", index, began_ms=begin)
        end = _end(params, draw)
        top = _top(params) + draw.gauss(0, 0.004)
        length = {"diverged": 2, "failed": 1, "infeasible": 0}.get(end, epochs)
        if end == "completed" and stops and top < 0.75 and draw.random() < 0.9:
            end, length = "stopped", min(5, epochs)
        ms = 40 + params["batch_size"] // 4
        curve = []
        for epoch in range(1, length + 1):
            value = 0.1 + (top - 0.1) * (1 - math.exp(-epoch / 4)) + draw.gauss(0, 0.003)
            value = round(min(max(value, 0.0), 1.0) * VALIDATION) / VALIDATION
            metrics = {
                "train/loss": 2.3 * math.exp(-epoch / 5) * (1.1 - top) + 0.05,
                "train/accuracy": min(1.0, value + 0.01 * epoch / epochs * 5),
                "val/loss": 2.3 * math.exp(-epoch / 6) * (1.2 - top) + 0.1 + 0.002 * epoch,
                "val/accuracy": value,
                "lr": params["optimizer.lr"],
                "grad_norm": 1.0 / epoch,
                "images_per_s": 50_000 / ms,
            }
            curve.append({"epoch": epoch, "time_ms": begin + ms * epoch, "metrics": metrics})
        values = [epoch["metrics"]["val/accuracy"] for epoch in curve]
        value = max(values) if values and end in ("completed", "stopped") else None
        best_epoch = values.index(value) + 1 if value is not None else None
        if curve:
            append(
                begin + ms * length,
                "reported",
                index,
                epochs=curve,
                checkpoint=None,
                best=[best_epoch, value] if best_epoch else None,
                ran_on={"device": "cpu", "precision": "fp32", "threads": 1},
            )
        free[lane] = begin + ms * max(length, 1) + 10
        reasons = {
            "diverged": "train/loss is nan at step 37",
            "failed": "RuntimeError: stumbled",
            "infeasible": "the images are too small for this model",
            "stopped": "stopped at rung 5",
        }
        append(
            free[lane],
            "terminal",
            index,
            state=end,
            reason=reasons.get(end, end),
            epoch=length,
            value=value,
            best_epoch=best_epoch,
            metrics={"test/accuracy": round(value - 0.01, 4), "test/loss": 0.4} if end == "completed" else {},
            artifacts=[],
            error="Traceback ...\nRuntimeError: stumbled" if end == "failed" else None,
        )
        totals[end] = totals.get(end, 0) + 1
        if value is not None and (best is None or value > best[0]):
            best = (value, index, params)
    found = None
    if best is not None:
        found = {"trial": best[1], "value": best[0], "params": best[2], "repeats": repeat}
    seconds = (max(free) - START_MS) / 1000
    append(max(free), "sweep_closed", reason=ends, totals=totals, best=found, seconds=seconds, weights=[])
    _write(folder, events)
    return folder


def _plan(epochs: int, rules: int, claims: Sequence[Mapping[str, Any]]) -> str:
    """The plan, with as much in it as a reader of finished sweeps looks for."""
    choices = {
        "optimizer": {name: _config({"optimizer": name}, epochs, 0)["optimizer"] for name in ("sgd", "adam")},
        "norm": {name: {} for name in ("none", "batch", "layer")},
    }
    base = _config({}, epochs, 0)
    space = [
        _searched("optimizer", kind="choice", values=["sgd", "adam"]),
        _searched("optimizer.lr", kind="interval", low=1e-4, high=10, log=True, integer=False),
        _searched("norm", kind="choice", values=["none", "batch", "layer"]),
        _searched("init.scale", kind="interval", low=1e-2, high=10, log=True, integer=False),
        _searched("batch_size", kind="choice", values=[32, 64, 128]),
        _searched("optimizer.momentum", "sgd", kind="interval", low=0, high=0.99, log=False, integer=False),
    ]
    facts = {"val": VALIDATION, "num_classes": 10, "fingerprint": "0123456789abcdef" * 4}
    plan = {"settings": {}, "base": base, "choices": choices, "space": space, "facts": facts}
    return json.dumps(plan | {"rules": rules} | ({"claims": list(claims)} if claims else {}))


def _searched(key: str, optimizer: str = "", **domain: Any) -> dict[str, Any]:
    conditions = [{"key": "optimizer", "values": [optimizer]}] if optimizer else []
    return {"key": key, "domain": domain, "conditions": conditions}


def _write(folder: Path, events: list[tuple[int, str, int | None, dict[str, Any]]]) -> None:
    """Appends the events in the order of their times."""
    now = START_MS
    journal = Journal(folder / "journal.sqlite", create=True, clock=lambda: now / 1000)
    for time_ms, kind, trial, data in sorted(events, key=lambda event: event[0]):
        now = time_ms
        attempt = None if trial is None or kind == "suggested" else 1
        journal.append(event_from(kind, finite(data), trial), trial=trial, attempt=attempt)
    journal.commit()
    journal.close()


def _params(draw: random.Random) -> dict[str, Any]:
    params: dict[str, Any] = {
        "optimizer": draw.choice(["sgd", "adam"]),
        "optimizer.lr": 10 ** draw.uniform(-4, 1),
        "norm": draw.choice(["none", "batch", "layer"]),
        "init.scale": 10 ** draw.uniform(-2, 1),
        "batch_size": draw.choice([32, 64, 128]),
    }
    if params["optimizer"] == "sgd":
        params["optimizer.momentum"] = draw.uniform(0, 0.99)
    return params


def _top(params: dict[str, Any]) -> float:
    """The accuracy that a trial tends to: learning rate matters most, then norm, then optimizer; the batch size not at all."""
    width = {"none": 0.6, "batch": 1.5, "layer": 1.0}[params["norm"]]
    center = -1.0 if params["optimizer"] == "sgd" else -2.5
    bump = math.exp(-(((math.log10(params["optimizer.lr"]) - center) / width) ** 2))
    scale = 1.0 if params["norm"] == "batch" else math.exp(-(math.log10(params["init.scale"]) ** 2) / 4)
    return 0.1 + 0.84 * bump * (0.7 + 0.3 * scale) + (0.01 if params["optimizer"] == "adam" else 0.0)


def _end(params: dict[str, Any], draw: random.Random) -> str:
    limit = 0.0 if params["optimizer"] == "sgd" else -1.0
    if math.log10(params["optimizer.lr"]) > limit + (0.5 if params["norm"] == "batch" else 0.0):
        return "diverged"
    chance = draw.random()
    return "failed" if chance < 0.01 else "infeasible" if chance < 0.02 else "completed"


def _config(params: dict[str, Any], epochs: int, seed: int) -> dict[str, Any]:
    optimizer = params.get("optimizer", "sgd")
    return {
        "choices": {"data": "digits", "model": "mlp", "norm": params.get("norm", "none"), "optimizer": optimizer},
        "model": {"_target_": "models.mlp.mlp", "hidden": 2, "width": 100},
        "norm": {},
        "optimizer": {
            "_target_": f"orchestrator.training.optimizers.{optimizer}",
            "lr": params.get("optimizer.lr", 0.1),
        },
        "batch_size": params.get("batch_size", 32),
        "epochs": epochs,
        "seed": seed,
        "metric": "val/accuracy",
        "mode": "max",
    }
