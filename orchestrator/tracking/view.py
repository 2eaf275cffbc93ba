"""The view of one sweep on MLflow's page of an experiment: which rows, columns and charts it shows, in what order.

MLflow keeps such a view as a tag of the experiment, `mlflow.sharedViewState.<key>`, and an address names the key. The names below
are those that the page of MLflow 3.17.2 uses inside; `tests/tracking/test_view.py` opens it in a browser.
"""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from orchestrator.base.rules import SHOWN_RULES, rules_of
from orchestrator.journal.events import SweepOpened
from orchestrator.stores.runs import VIEW_TAG, safe_name
from orchestrator.tracking.spelling import log_keys, log_name, plan_of

MAX_AXES = 8
MAX_COLUMNS = 12
MAX_SLICES = 6
"""MLflow takes 5,000 letters of a tag, and a chart of ten keys is not read."""

MAX_KEY_LENGTH = 100
"""A name longer than this is left out: MLflow's tags have an end, too."""

COLUMNS_OF_CHARTS = 2
RUN_NAME = "attributes.`Run Name`"
NAME_WIDTH, DATE_WIDTH = 320, 130

NAMESPACE = uuid.UUID("0f4be6a4-6f0b-4c39-9d0e-6a3f4a0d7c11")


class View:
    """What is known of a sweep's searched keys so far.

    Attributes:
        opened: the same.
        trials: how many were suggested.

    Args:
        opened: what the sweep began with.
        opened_ms: when, in milliseconds since 1970.
    """

    def __init__(self, opened: SweepOpened, opened_ms: int) -> None:
        self.opened, self._opened_ms = opened, opened_ms
        self.trials = 0
        self._counts: dict[str, int] = {}
        self._words: set[str] = set()
        current = rules_of(opened.plan) >= SHOWN_RULES
        self._logarithmic = log_keys(plan_of(opened)["space"]) if current else set()
        self._tag: tuple[object, tuple[str, str]] | None = None

    def suggested(self, params: Mapping[str, Any]) -> None:
        """Takes the searched values of one more trial."""
        self.trials += 1
        for key, value in params.items():
            self._counts[key] = self._counts.get(key, 0) + 1
            if not isinstance(value, int | float) or isinstance(value, bool):
                self._words.add(key)

    @property
    def tag(self) -> tuple[str, str]:
        """Key and value of the experiment's tag."""
        shape = (tuple(self._counts), tuple(self._everywhere), frozenset(self._words))
        if self._tag is None or self._tag[0] != shape:
            self._tag = shape, self._new_tag()
        return self._tag[1]

    @property
    def _everywhere(self) -> list[str]:
        """The keys that all trials have."""
        return [key for key, count in self._counts.items() if count == self.trials]

    def _new_tag(self) -> tuple[str, str]:
        value = {
            "name": f"trials of {self.opened.uid}",
            "createdAt": self._opened_ms,
            "updatedAt": self._opened_ms,
            "state": _packed(self.state()),
        }
        return VIEW_TAG + self.opened.uid, json.dumps(value)

    def state(self) -> dict[str, Any]:
        """The state of MLflow's page."""
        uid, mode, metric = self.opened.uid, self.opened.mode, safe_name(self.opened.metric)
        best = "best/" + metric.replace("/", "_")
        test = f"test/{metric.rpartition('/')[2]}"
        keys = [key for key in self._counts if len(key) <= MAX_KEY_LENGTH]
        columns = ["tags.`reason`", f"metrics.`{best}`", f"metrics.`{test}`"]
        columns += [f"params.`{safe_name(key)}`" for key in keys[:MAX_COLUMNS]]
        section = _id(uid, "section")
        return {
            "searchFilter": f"tags.sweep_uid = '{uid}' AND tags.kind = 'trial'",
            "orderByKey": f"metrics.`{best}`",
            "orderByAsc": mode == "min",
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": columns,
            "columnOrder": [RUN_NAME, *columns, "duration", "runDateAndNestInfo"],
            "columnWidths": {RUN_NAME: NAME_WIDTH, "runDateAndNestInfo": DATE_WIDTH},
            "runsHiddenMode": "SHOW_ALL",
            "isAccordionReordered": True,
            "hideEmptyCharts": True,
            "autoRefreshEnabled": True,
            "compareRunSections": [
                {
                    "uuid": section,
                    "name": f"Sweep {uid}",
                    "display": True,
                    "isReordered": True,
                    "columns": COLUMNS_OF_CHARTS,
                }
            ],
            "compareRunCharts": list(self._charts(section, best, test, metric, keys)),
        }

    def _charts(self, section: str, best: str, test: str, metric: str, keys: Sequence[str]) -> Iterable[dict[str, Any]]:
        def chart(kind: str, about: str, runs: int, **more: Any) -> dict[str, Any]:
            return {
                "uuid": _id(section, kind, about),
                "type": kind,
                "metricSectionId": section,
                "runsCountToCompare": runs,
                "deleted": False,
                "isGenerated": False,
                **more,
            }

        # A trial without one of the axes is not drawn at all.
        everywhere = [key for key in self._everywhere if key in keys]
        axes = everywhere[:MAX_AXES]
        logs = [log_name(key) for key in axes if key in self._logarithmic]
        params = [safe_name(key) for key in axes if key not in self._logarithmic]
        yield chart("PARALLEL", "", 100, selectedParams=params, selectedMetrics=[*logs, best], showAllRuns=True)
        yield chart("BAR", best, 100, metricKey=best, displayName=f"Best {metric}")
        for name in dict.fromkeys((metric, "train/loss")):
            yield chart("LINE", name, 100, metricKey=name, selectedMetricKeys=[name], xAxisKey="step", displayName=name)
        numbers = [key for key in keys if key not in self._words]
        for key in sorted(numbers, key=lambda key: key not in everywhere)[:MAX_SLICES]:
            if key in self._logarithmic:
                x = {"key": log_name(key), "type": "METRIC", "dataAccessKey": log_name(key)}
            else:
                x = {"key": safe_name(key), "type": "PARAM"}
            y = {"key": best, "type": "METRIC", "dataAccessKey": best}
            yield chart("SCATTER", key, 100, xaxis=x, yaxis=y)


def address(base: str, experiment_id: str, uid: str) -> str:
    """The address that shows the view of a sweep.

    Args:
        base: of MLflow's page: `http://127.0.0.1:5000`.
    """
    key = quote(uid, safe="")
    return (
        f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"
    )


def unpacked(value: str) -> dict[str, Any]:
    """The state in the value of a tag."""
    packed = json.loads(value)["state"].removeprefix("deflate;")
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return found


def _packed(state: Mapping[str, Any]) -> str:
    text = json.dumps(state, separators=(",", ":"))
    return "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _id(*parts: str) -> str:
    """The same for the same chart, so that a view that is written again is the same."""
    return uuid.uuid5(NAMESPACE, "/".join(parts)).hex
