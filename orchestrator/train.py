"""`orchestrator train`: one configuration, here, without Ray and MLflow."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.errors import EXIT_NO_RESULT, EXIT_OK, ConfigError, Problem
from orchestrator.plan import trial_config
from orchestrator.progress import say
from orchestrator.records import EpochResult, Trial


def train_one(
    overrides: Sequence[str], *, config_dir: Path | None = None, config_name: str = "launch", folder: Path | None = None
) -> int:
    """Trains the configuration with a progress bar, tests it once and says how it went; returns the exit code.

    Args:
        folder: where checkpoints, weights and predictions are kept, and continued from; nothing is kept where absent.

    Raises:
        ConfigError: the overrides leave something to search.
    """
    from orchestrator.config import plan as make_plan

    given = list(overrides)
    if not any(override.split("=")[0].lstrip("+") == "search" for override in given):
        given.append("search=none")
    plan = make_plan(given, config_dir=config_dir, config_name=config_name, say=partial(say, out=sys.stderr))
    if plan.space.parameters:
        keys = ", ".join(plan.space.keys)
        raise ConfigError(Problem(keys, "train takes one configuration; give each key one value, or use launch"))
    config = trial_config(plan, {})
    if folder is not None:
        return _train(config, str(folder.resolve()))
    with tempfile.TemporaryDirectory(prefix="orchestrator-train-") as scratch:
        return _train(config, scratch)


def _train(config: dict[str, Any], folder: str) -> int:
    from orchestrator.training.trial import Diverged, Infeasible, TrialRun

    epochs = int(config["epochs"])
    with _bar(epochs) as bar:
        try:
            run = TrialRun(Trial("train/0", 0, config, folder=folder))
            _tell(run.notes, bar)
            if run.history:
                bar.console.print(f"continues after epoch {run.epoch}")
            for result in run:
                run.save()
                bar.update(bar.task_ids[0], completed=result.epoch, text=_numbers(result))
                if not bar.console.is_terminal:
                    say(f"epoch {result.epoch}/{epochs}  {_numbers(result)}")
            outcome = run.finish()
        except (Diverged, Infeasible) as ended:
            say(f"no result: {ended}")
            return EXIT_NO_RESULT
    best_epoch, value = run.best or (0, float("nan"))
    say(f"best {config['metric']} {value:.4f} at epoch {best_epoch}")
    say("  ".join(f"{name} {number:.4f}" for name, number in outcome.metrics.items()))
    return EXIT_OK


def _bar(epochs: int) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        "epoch {task.completed}/{task.total}",
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, transient=True)
    if not bar.console.is_terminal:
        bar.live.auto_refresh = False
        bar.disable = True
    bar.add_task("train", total=epochs, text="")
    return bar


def _tell(notes: list[str], bar: Any) -> None:
    for note in notes:
        bar.console.print(note, markup=False)


def _numbers(result: EpochResult) -> str:
    shown = ("train/loss", "val/loss", "val/accuracy", "lr", "images_per_s")
    return "  ".join(f"{name} {result.metrics[name]:.4g}" for name in shown if name in result.metrics)
