"""What a sweep costs beyond its training: the same trials four ways in one run, as ratios to the bare training loop.

    python benchmarks/overhead.py                    200 trials, four ways, and the same with trials of one epoch
    python benchmarks/overhead.py --ways limit ours  only these
    python benchmarks/overhead.py slope              our cost of a trial apart from that of the end, from 200 and 1,000 trials
    python benchmarks/overhead.py memory             memory of all our processes but the workers, at 1,000 trials
    python benchmarks/overhead.py results            durable results a second, through journal and MLflow

A trial is an MLP on digits (batch 32, evaluated on the validation set after every epoch and on the test set at the end, its
predictions and configuration kept as files). The marginal cost of a trial is the time from the end of the tenth part of the
trials to the moment when everything of the last one is stored, divided by the number of trials between; start-up is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

CORES = len(os.sched_getaffinity(0))
OVERRIDES = ["data=digits", "model=mlp", "batch_size=32", "optimizer=sgd"]


def trial_config(epochs: int, width: int) -> dict[str, Any]:
    """The complete configuration of a trial, as `launch` would compose it."""
    from orchestrator.config.planning import plan

    return dict(plan([*OVERRIDES, f"epochs={epochs}", f"model.width={width}", "search=none", "trials=1"]).base)


def train_one(config: dict[str, Any], lr: float, folder: Path) -> Iterator[dict[str, float]]:
    """Trains one trial; yields each epoch's metrics, the test's last."""
    from orchestrator.base.records import Trial
    from orchestrator.training.trial import TrialRun

    config = {**config, "optimizer": {**config["optimizer"], "lr": lr}}
    run = TrialRun(Trial(str(folder), 0, config, folder=str(folder)))
    for result in run:
        yield dict(result.metrics)
    metrics = dict(run.finish().metrics)
    (folder / "artifacts" / "config.json").write_text(json.dumps(config))
    yield metrics


def learning_rate(index: int) -> float:
    """The same learning rates whichever way the trials are run."""
    return 10 ** (-3 + 2 * (index * 0.618034 % 1))


# four ways ------------------------------------------------------------------------------------------------------------


def _bare_worker(arguments: tuple[dict[str, Any], int, str]) -> float:
    config, index, folder = arguments
    for _ in train_one(config, learning_rate(index), Path(folder) / str(index)):
        pass
    return time.time()


def limit(trials: int, epochs: int, width: int, folder: Path) -> tuple[list[float], float]:
    """The bare loop in as many processes as cores."""
    config = trial_config(epochs, width)
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        work = ((config, index, str(folder)) for index in range(trials))
        ends = list(pool.imap_unordered(_bare_worker, work))
    return ends, max(ends)


def ours(trials: int, epochs: int, width: int, folder: Path) -> tuple[list[float], float]:
    """`orchestrator launch` with its defaults: journal, checkpoints, MLflow on SQLite, shipped to the last row."""
    from orchestrator.journal.file import Reader

    space = "optimizer.lr=tag(log,interval(1e-3,1e-1))"
    keys = [f"trials={trials}", f"epochs={epochs}", f"model.width={width}", f"runs_dir={folder}"]
    command = [sys.executable, "-m", "orchestrator", "launch", *OVERRIDES, *keys, space]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (sweep,) = (path.parent for path in folder.glob("*/journal.sqlite"))
    reader = Reader(sweep / "journal.sqlite")
    events = list(reader.events())
    reader.close()
    cursor = sweep / "tracking" / "cursor.json"
    shipped = json.loads(cursor.read_text())
    assert shipped["shipped"] == events[-1].seq, "not everything was shipped"
    return [event.time_ms / 1000 for event in events if event.kind == "terminal"], cursor.stat().st_mtime


def ray_tune(trials: int, epochs: int, width: int, folder: Path) -> tuple[list[float], float]:
    """Ray Tune as its documentation shows: a function trainable, MLflowLoggerCallback on SQLite."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    config = trial_config(epochs, width)
    ends: list[float] = []

    def trainable(space: dict[str, Any]) -> None:
        for metrics in train_one(config, space["lr"], folder / f"{space['lr']:.12f}"):
            tune.report(metrics)

    class Ends(tune.Callback):  # type: ignore[misc]
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ends.append(time.time())

    ray.init(address="local", num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    mlflow = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="b", save_artifact=True)
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"lr": tune.grid_search([learning_rate(index) for index in range(trials)])},
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), callbacks=[mlflow, Ends()], verbose=0),
    ).fit()
    end = time.time()
    ray.shutdown()
    return ends, end


def optuna(trials: int, epochs: int, width: int, folder: Path) -> tuple[list[float], float]:
    """Optuna in a loop, with MLflow's fluent interface on SQLite."""
    import mlflow
    import optuna as library

    config = trial_config(epochs, width)
    ends: list[float] = []
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("b")
    library.logging.set_verbosity(library.logging.ERROR)

    def objective(trial: Any) -> float:
        lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        place = folder / str(trial.number)
        value = 0.0
        with mlflow.start_run():
            mlflow.log_params({**trial.params, "epochs": epochs, "width": width})
            for epoch, metrics in enumerate(train_one(config, lr, place), start=1):
                mlflow.log_metrics(metrics, step=epoch)
                value = max(value, metrics.get("val/accuracy", 0.0))
            mlflow.log_artifacts(str(place / "artifacts"))
        ends.append(time.time())
        return value

    library.create_study(direction="maximize").optimize(objective, n_trials=trials)
    return ends, time.time()


WAYS: dict[str, Callable[[int, int, int, Path], tuple[list[float], float]]] = {
    "limit": limit,
    "ours": ours,
    "optuna": optuna,
    "ray_tune": ray_tune,
}


def marginal_s(ends: list[float], end: float) -> float:
    """Seconds a trial, start-up left out."""
    ends = sorted(ends)
    first = max(CORES, len(ends) // 10)
    return (end - ends[first - 1]) / (len(ends) - first)


def compare(options: argparse.Namespace) -> None:
    print(machine())
    for epochs in options.epochs:
        costs: dict[str, list[float]] = {way: [] for way in options.ways}
        for _ in range(options.repeats):
            for way in options.ways:
                trials = min(options.trials, options.slow_trials) if way == "ray_tune" else options.trials
                costs[way].append(_measured(way, trials, epochs, options.width))
                print(f"  {epochs} epochs, {way}: {costs[way][-1] * 1000:.1f} ms a trial ({trials} trials)", flush=True)
        base = statistics.median(costs.get("limit") or [float("nan")])
        print(f"{epochs} epochs, MLP of width {options.width}: {base * 1000 * CORES:.0f} ms a trial on one core")
        for way, values in costs.items():
            middle = statistics.median(values)
            spread = f"{min(values) * 1000:.1f} to {max(values) * 1000:.1f}"
            print(
                f"  {way:<9} {middle * 1000:8.1f} ms a trial ({spread}, n={len(values)})  {middle / base:6.2f} x limit"
            )


def _measured(way: str, trials: int, epochs: int, width: int) -> float:
    """One way in a process of its own, so that none inherits what another imported."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        command = [sys.executable, __file__, "one", way, str(trials), str(epochs), str(width), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        ends, end = json.loads(done.stdout.splitlines()[-1])
    assert len(ends) == trials, f"{way} ended {len(ends)} of {trials} trials"
    return marginal_s(ends, end)


# memory, results a second --------------------------------------------------------------------------------------------


def slope(options: argparse.Namespace) -> None:
    """What one more trial costs, and how long a sweep takes after its last one: report, model, last rows to MLflow."""
    print(machine())
    few, many = 200, 1000
    for _ in range(options.repeats):
        took: dict[int, tuple[float, float]] = {}
        for trials in (few, many):
            with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
                ended, stored = ours(trials, 1, options.width, Path(folder))
            took[trials] = max(ended) - sorted(ended)[trials // 10], stored - max(ended)
        each = (took[many][0] - took[few][0]) / (0.9 * (many - few))
        tails = ", ".join(f"{tail:.2f} s after the last of {trials}" for trials, (_, tail) in took.items())
        print(f"1 epoch: {1000 * each:.1f} ms a trial; {tails}")


def memory(options: argparse.Namespace) -> None:
    """Peak memory of every process of a sweep but its workers, sampled once a second."""
    print(machine())
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        keys = [f"trials={options.memory_trials}", "epochs=1", "model.width=16", f"runs_dir={folder}"]
        command = [sys.executable, "-m", "orchestrator", "launch", *OVERRIDES, *keys]
        space = "optimizer.lr=tag(log,interval(1e-3,1e-1))"
        start = time.monotonic()
        process = psutil.Popen([*command, space], stdout=subprocess.PIPE, text=True)
        first: list[float] = []

        def listen() -> None:
            for line in process.stdout:
                if not first and re.match(r"trial \d+  epoch", line):
                    first.append(time.monotonic() - start)

        threading.Thread(target=listen, daemon=True).start()
        peak: dict[str, float] = {}
        rss_peak = 0.0
        while process.poll() is None:
            time.sleep(1.0)
            sample, rss = _sample(process) if first else ({}, 0.0)
            if sum(sample.values()) > sum(peak.values()):
                peak = sample
            rss_peak = max(rss_peak, rss)
    print(f"from the command to the first epoch's line: {first[0]:.1f} s")
    for name, size in sorted(peak.items(), key=lambda item: -item[1]):
        print(f"  {size:7.0f} MB  {name}")
    print(f"{sum(peak.values()):.0f} MB (PSS) at the peak, {rss_peak:.0f} MB as RSS, without the workers")


def _sample(root: Any) -> tuple[dict[str, float], float]:
    """Proportional set size by process name, in MB, and the sum of resident sizes; workers left out."""
    sizes: dict[str, float] = {}
    rss = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                if not words or words[0].startswith(("ray::TrialWorker", "ray::IDLE")):
                    continue
                label = next(
                    (word for word in words if "orchestrator" in word and "/" not in word), Path(words[0]).name
                )
                info = process.memory_full_info()
                sizes[f"{label} ({process.pid})"] = info.pss / 1e6
                rss += info.rss / 1e6
    return sizes, rss


def results(options: argparse.Namespace) -> None:
    """Reports of 100 epochs with 5 metrics, appended as fast as the journal takes them, until the last is in MLflow."""
    from orchestrator.base.layout import JOURNAL
    from orchestrator.journal.events import Reported, Started, Suggested, SweepOpened
    from orchestrator.journal.file import Journal
    from orchestrator.journal.parts import Epoch
    from orchestrator.tracking.supervisor import start_shipper, wait_until_shipped

    print(machine())
    trials, epochs = options.result_trials, 100
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name) / "rate-00000000"
        folder.mkdir()
        tracking = {"kind": "local", "uri": f"sqlite:///{name}/mlflow.db", "artifacts": f"{name}/artifacts"}
        journal = Journal(folder / JOURNAL, create=True)
        config = {"choices": {}, "epochs": epochs}
        opened = SweepOpened(
            folder.name, "rate", "val/accuracy", "max", trials, str(folder), "", tracking=tracking, config=config
        )
        journal.append(opened, sync=True)
        shipper = start_shipper(folder)
        journal.append(Suggested({"x": 0}, config, 0), trial=0, sync=True)
        wait_until_shipped(folder, 60)
        start = time.monotonic()
        for trial in range(1, trials + 1):
            journal.append(Suggested({"x": trial}, config, trial), trial=trial, sync=True)
            journal.append(Started(), trial=trial, attempt=1)
            for first in range(1, epochs + 1, 10):
                rows: list[Epoch] = [
                    {
                        "epoch": epoch,
                        "time_ms": int(time.time() * 1000),
                        "metrics": {f"m{k}": epoch / (k + 1) for k in range(5)},
                    }
                    for epoch in range(first, first + 10)
                ]
                journal.append(Reported(rows), trial=trial, attempt=1)
        journal.commit()
        written = time.monotonic() - start
        status = wait_until_shipped(folder, 600)
        shipped = time.monotonic() - start
        journal.close()
        shipper.terminate()
        shipper.wait()
    count = trials * epochs
    print(f"{count:,} results of 5 metrics ({trials} trials of {epochs} epochs), error: {status.error}")
    print(f"  journal {count / written:,.0f} a second, into MLflow {count / shipped:,.0f} a second")


def machine() -> str:
    """Hardware and versions, for the record."""
    from importlib.metadata import version

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "?")
    names = ("torch", "ray", "mlflow", "optuna")
    return f"{name}, {CORES} cores, Python {platform.python_version()}, " + ", ".join(
        f"{n} {version(n)}" for n in names
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="compare", choices=["compare", "slope", "memory", "results"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument(
        "--slow-trials", type=int, default=200, help="at most so many for Ray Tune, which takes seconds each"
    )
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 1])
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--memory-trials", type=int, default=1000)
    parser.add_argument("--result-trials", type=int, default=100)
    if sys.argv[1:2] == ["one"]:
        way, trials, epochs, width, folder = sys.argv[2:]
        print(json.dumps(WAYS[way](int(trials), int(epochs), int(width), Path(folder))))
        return
    options = parser.parse_args()
    {"compare": compare, "slope": slope, "memory": memory, "results": results}[options.what](options)


if __name__ == "__main__":
    main()
