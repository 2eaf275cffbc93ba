"""`--filter`: which trials are to be candidates, in MLflow's own filter language and by MLflow's own parser and comparison.

The runs are made from the journal as the tracker would make them, so it does not matter whether any was shipped.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.layout import JOURNAL
from orchestrator.journal.file import Reader
from orchestrator.stores.runs import CONTEXT_TAG, RunWrite, StoredRun
from orchestrator.tracking.runs import SweepView

EXAMPLE = "params.norm = 'batch' and metrics.`best/val_accuracy` > 0.9"
LONGEST = 10_000
"""Characters of a filter."""

EVENTS_AT_ONCE = 2_000
KEYS_SHOWN, NEAR_SHOWN = 8, 3
BARE_KEY = re.compile(r"Invalid attribute key '([^']{1,100})' specified")
"""What MLflow says of a key without `params.`, `metrics.` or `tags.` before it."""

PLAIN_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
"""A key that a filter can name without backticks."""

Clause = Mapping[str, Any]
"""`type`, `key`, `comparator` and `value`, as MLflow's parser gives them."""


def check_filter(filter_string: str) -> list[Clause]:
    """The clauses of a filter, all of which a run has to meet.

    Raises:
        ConfigError: MLflow does not understand it, nothing is said in it, or it asks for the test.
    """
    if not filter_string.strip():
        raise ConfigError(Problem("--filter", f"is empty; leave it out, or say for example: {EXAMPLE}"))
    if len(filter_string) > LONGEST:
        raise ConfigError(Problem("--filter", f"is longer than {LONGEST:,} characters"))
    from mlflow.exceptions import MlflowException
    from mlflow.utils.search_utils import SearchUtils

    try:
        clauses: list[Clause] = SearchUtils.parse_search_filter(filter_string)  # type: ignore[no-untyped-call]
        for clause in clauses:  # comparators are looked at with the first run only, numbers too
            SearchUtils._does_run_match_clause(_entity(_NO_RUN), clause)  # type: ignore[no-untyped-call]
    except (MlflowException, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _misunderstood(filter_string, error) from error
    if not clauses:
        raise _misunderstood(filter_string, ValueError("it compares nothing"))
    if of_test := [clause["key"] for clause in clauses if clause["type"] == "metric" and _is_of_test(clause["key"])]:
        why = f"members cannot be chosen by {of_test[0]}: the test is read after the winner is fixed; take one of validation"
        raise ConfigError(Problem("--filter", why, filter_string[:500]))
    return clauses


def matching(clauses: Sequence[Clause], runs: Mapping[str, StoredRun], filter_string: str) -> set[str]:
    """The names of the runs that meet all clauses.

    Raises:
        ConfigError: none does; names the keys that there are.
    """
    from mlflow.utils.search_utils import SearchUtils

    def meets(run: StoredRun) -> bool:
        entity = _entity(run)
        return all(SearchUtils._does_run_match_clause(entity, clause) for clause in clauses)  # type: ignore[no-untyped-call]

    found = {name for name, run in runs.items() if meets(run)}
    if not found:
        raise _nothing(clauses, runs.values(), filter_string)
    return found


def runs_of(folder: Path) -> dict[str, StoredRun]:
    """The runs of the trials of the sweep in a folder, by their names, as its tracker makes them.

    Raises:
        NotReadyError: the journal cannot be read, or names a file elsewhere.
    """
    view, runs = SweepView(folder), dict[str, StoredRun]()
    with contextlib.closing(Reader(folder / JOURNAL)) as reader:
        for number, event in enumerate(reader.events(), 1):
            view.fold(event)
            if number % EVENTS_AT_ONCE == 0:
                _add(runs, view.take())
    _add(runs, view.take())
    return runs


def _add(runs: dict[str, StoredRun], writes: Iterable[RunWrite]) -> None:
    """Takes what a store would be given; of each metric the newest number stays."""
    for write in writes:
        if write.kind != "trial":
            continue
        run = runs.get(write.uid, _NO_RUN)
        newest = {metric.key: metric for metric in run.latest}
        for metric in write.metrics:
            newest[metric.key] = max(newest.get(metric.key, metric), metric)
        runs[write.uid] = replace(
            run,
            name=write.name or run.name,
            status=write.status or run.status,
            start_ms=write.start_ms or run.start_ms,
            end_ms=write.end_ms or run.end_ms,
            tags={**run.tags, **write.tags},
            params={**write.params, **run.params},
            latest=tuple(newest.values()),
            datasets=(write.dataset,) if write.dataset else run.datasets,
        )


_NO_RUN = StoredRun("", "", "RUNNING", 0, None, deleted=False, artifact_uri="")


def _entity(run: StoredRun) -> Any:
    """The run as MLflow's comparison takes it."""
    from mlflow import entities

    numbers = [entities.Metric(m.key, m.value, m.time_ms, m.step) for m in run.latest]
    params = [entities.Param(key, value) for key, value in run.params.items()]
    tags = [entities.RunTag(key, value) for key, value in {**run.tags, "mlflow.runName": run.name}.items()]
    info = entities.RunInfo(
        run.run_id, run.experiment_id, run.user, run.status, run.start_ms or 0, run.end_ms, "active", run_name=run.name
    )
    given = [
        entities.DatasetInput(
            entities.Dataset(one.name, one.digest, one.source_type, one.source),
            [entities.InputTag(CONTEXT_TAG, one.context)],
        )
        for one in run.datasets
    ]
    data = entities.RunData(numbers, params, tags)  # type: ignore[no-untyped-call]
    return entities.Run(info, data, entities.RunInputs(given))


def _misunderstood(filter_string: str, error: Exception) -> ConfigError:
    said = " ".join(str(getattr(error, "message", None) or error).split())[:500].rstrip(".")
    if found := BARE_KEY.search(said):
        key = _spelled("parameter", found[1])
        why = f"{found[1]} is no attribute of a run; did you mean {key}? For example: {EXAMPLE}"
        return ConfigError(Problem("--filter", why, filter_string[:500]))
    return ConfigError(
        Problem("--filter", f"is none in MLflow's filter language: {said}; for example: {EXAMPLE}", filter_string[:500])
    )


def _nothing(clauses: Sequence[Clause], runs: Iterable[StoredRun], filter_string: str) -> ConfigError:
    """Tells of a filter that no trial meets which keys there are."""
    runs = list(runs)
    if not runs:
        return ConfigError(Problem("--filter", "no trial has begun", filter_string[:500]))
    keys = _keys(runs)
    wanted = [_spelled(clause["type"], clause["key"]) for clause in clauses if clause["type"] in _KINDS]
    unknown = [key for key in wanted if key not in keys]
    why = f"no trial of {len(runs)} meets it"
    if not unknown and (said := _values(clauses, runs)):
        return ConfigError(Problem("--filter", f"{why}; {said}", filter_string[:500]))
    if unknown:
        why += f"; none has {', '.join(unknown)[:300]}"
        near = _nearest(unknown[0], keys)
        why += f" (did you mean {' or '.join(near)}?)" if near else ""
    shown = [key for key in keys if not key.startswith("tags.")] or list(keys)
    listed = ", ".join(shown[:KEYS_SHOWN])
    rest = f" and {len(shown) - KEYS_SHOWN} more, which each run shows in MLflow: orchestrator dashboard"
    there = f"; there are {listed}{rest if len(shown) > KEYS_SHOWN else ''}"
    return ConfigError(Problem("--filter", why + there, filter_string[:500]))


def _nearest(wanted: str, keys: Iterable[str]) -> list[str]:
    """The keys that are spelled nearly so, of whichever kind."""
    bare = {_bare(key): key for key in keys}
    return [bare[name] for name in difflib.get_close_matches(_bare(wanted), bare, n=NEAR_SHOWN, cutoff=0.6)]


def _bare(key: str) -> str:
    """A key without its kind."""
    return key.partition(".")[2].strip("`")


def _values(clauses: Sequence[Clause], runs: Sequence[StoredRun]) -> str:
    """What the parameters are that a filter asks for; empty where it asks for none."""
    parts = []
    for key in dict.fromkeys(clause["key"] for clause in clauses if clause["type"] == "parameter"):
        values = sorted({run.params[key] for run in runs if key in run.params})
        more = f" and {len(values) - KEYS_SHOWN} more" if len(values) > KEYS_SHOWN else ""
        parts.append(f"{_spelled('parameter', key)} is {', '.join(values[:KEYS_SHOWN])}{more}"[:500])
    return "; ".join(parts[:NEAR_SHOWN])


_KINDS = {"parameter": "params", "metric": "metrics", "tag": "tags"}


def _is_of_test(metric: str) -> bool:
    return metric.startswith("test/")


def _keys(runs: Sequence[StoredRun]) -> dict[str, None]:
    """What a filter can ask for: parameters that differ from trial to trial first, then metrics, then the other parameters."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.params.items():
            values.setdefault(key, set()).add(value)
    metrics = {metric.key: None for run in runs for metric in run.latest if not _is_of_test(metric.key)}
    differing = [key for key, found in values.items() if len(found) > 1]
    names = [_spelled("parameter", key) for key in differing]
    names += [_spelled("metric", key) for key in sorted(metrics, key=lambda key: not key.startswith("best/"))]
    names += [_spelled("parameter", key) for key in values if key not in set(differing)]
    return dict.fromkeys(names + [_spelled("tag", key) for run in runs for key in run.tags])


def _spelled(kind: str, key: str) -> str:
    """A key as a filter names it."""
    return f"{_KINDS[kind]}.{key if PLAIN_KEY.fullmatch(key) else f'`{key}`'}"
