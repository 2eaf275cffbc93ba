"""A comparison as runs of MLflow: one for the comparison with its table and files, and below it one an ensemble."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.base.layout import COMPARISON, COMPARISON_PAGE, MODEL
from orchestrator.ensembles.comparison import Comparison, Estimate, Row, network_of
from orchestrator.stores.runs import MAX_PARAM_LENGTH, MAX_TAG_LENGTH, Artifact, Metric, RunWrite, safe_name, text_of
from orchestrator.tracking.markdown import code, plain, table

UID_TAGS = ("comparison_uid", "ensemble_uid")
TABLE = "table.md"
RECORD = "ensemble.json"
NOTE = "mlflow.note.content"
NUMBERS = ("parameters", "multiply_adds", "latency_ms", "disagreement", "q_statistic", "kl")
ESTIMATES = {"accuracy": "test/accuracy", "nll": "test/nll", "gain_accuracy": "gain/accuracy", "gain_nll": "gain/nll"}
"""Field of a row -> how its interval is called."""


def writes(comparison: Comparison, folder: Path) -> tuple[RunWrite, list[RunWrite]]:
    """The run of the comparison, and those of its ensembles in the order of its table."""
    return _of_comparison(comparison, folder), [_of_ensemble(comparison, row, folder) for row in comparison["rows"]]


def ensemble_uid(comparison: Comparison, method: str) -> str:
    return f"{comparison['uid']}/{method}"


def _of_comparison(comparison: Comparison, folder: Path) -> RunWrite:
    uid, created = comparison["uid"], comparison["created_ms"]
    shown = _table(comparison)
    winner = next((row for row in comparison["rows"] if row["method"] == comparison["winner"]), None)
    tags = {
        "kind": "comparison",
        UID_TAGS[0]: uid,
        "sweeps": _listed([sweep["uid"] for sweep in comparison["sweeps"]]),
        "winner": comparison["winner"],
        NOTE: _cut(shown),
    }
    params = {"command": " ".join(comparison["command"]), **comparison["settings"]}
    files = [Artifact(name, path=folder / name) for name in (COMPARISON, COMPARISON_PAGE) if (folder / name).is_file()]
    return RunWrite(
        uid,
        "comparison",
        create=True,
        name=uid,
        start_ms=created,
        tags={key: text[:MAX_TAG_LENGTH] for key, text in tags.items()},
        params={safe_name(key): text_of(value)[:MAX_PARAM_LENGTH] for key, value in params.items()},
        metrics=_metrics(winner, created) if winner else [],
        artifacts=[Artifact(TABLE, text=shown), *files],
        status="FINISHED",
        end_ms=created,
    )


def _of_ensemble(comparison: Comparison, row: Row, folder: Path) -> RunWrite:
    uid, created, method = comparison["uid"], comparison["created_ms"], row["method"]
    names = [comparison["members"][place]["name"] for place in row["members"]]
    is_winner = method == comparison["winner"]
    tags = {
        "kind": "ensemble",
        UID_TAGS[0]: uid,
        UID_TAGS[1]: ensemble_uid(comparison, method),
        "members": _listed(names),
        "winner": text_of(is_winner),
        NOTE: plain(row["described"], MAX_PARAM_LENGTH),
    }
    if (network := network_of(comparison, row)) is not None:
        tags["ingredients"] = _listed([comparison["members"][place]["name"] for place in network["ingredients"]])
    if "in_set" in row:
        tags["in_set"] = text_of(row["in_set"])
    params = {
        "method": method,
        "pooling": row["pooling"],
        "temperature": row["temperature"],
        "members": len(names),
    }
    record = json.dumps({**row, "members": names}, indent=1)
    return RunWrite(
        ensemble_uid(comparison, method),
        "ensemble",
        create=True,
        name=method[:200],
        start_ms=created,
        tags={key: text[:MAX_TAG_LENGTH] for key, text in tags.items()},
        params={key: text_of(value)[:MAX_PARAM_LENGTH] for key, value in params.items()},
        metrics=_metrics(row, created),
        artifacts=[Artifact(RECORD, text=record), *(_model(folder) if is_winner else ())],
        status="FINISHED",
        end_ms=created,
    )


def _model(folder: Path) -> Iterator[Artifact]:
    """The files of the winner as a model, where it was written."""
    for path in sorted((folder / MODEL).rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield Artifact(path.relative_to(folder).as_posix(), path=path)


def _metrics(row: Row, time_ms: int) -> list[Metric]:
    found: dict[str, Any] = {"members": len(row["members"])}
    of_row: Mapping[str, Any] = row
    for split in ("val", "test"):
        found |= {f"{split}/{key}": value for key, value in of_row.get(split, {}).get("measures", {}).items()}
    for field, name in ESTIMATES.items():
        estimate = of_row.get(field)
        if isinstance(estimate, Mapping):
            ends = {f"{name}_low": estimate.get("low"), f"{name}_high": estimate.get("high")}
            found |= {name: estimate.get("value"), **ends}
    found |= {key: of_row.get(key) for key in (*NUMBERS, "p_value", "p_holm")}
    found["gain/over_mean"] = of_row.get("gain_over_mean")
    return [Metric(safe_name(key), 0, time_ms, float(value)) for key, value in found.items() if _is_number(value)]


def _is_number(value: Any) -> bool:
    """Whether a store takes it: a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _table(comparison: Comparison) -> str:
    """The methods in their order, in Markdown."""
    heads = ["method", "members", "val accuracy", "test accuracy", "gain over the best single", "p (Holm)", "test NLL"]
    rows = []
    for row in comparison["rows"]:
        of_row: Mapping[str, Any] = row
        mark = " (winner)" if row["method"] == comparison["winner"] else ""
        p_holm = of_row.get("p_holm")
        rows.append(
            [
                code(row["method"]) + mark,
                str(len(row["members"])),
                _percent(row["val"]["measures"].get("accuracy")),
                _interval(of_row.get("accuracy"), 100, " %"),
                _interval(of_row.get("gain_accuracy"), 100, " points"),
                f"{p_holm:.3g}" if _is_number(p_holm) else "",
                _interval(of_row.get("nll"), 1, ""),
            ]
        )
    looks = ", ".join(f"{code(sweep['uid'])} (look {sweep.get('look', '?')})" for sweep in comparison["sweeps"])
    return f"Comparison of {looks}. The winner was chosen by validation, before the test was read.\n\n{table(heads, rows)}\n"


def _percent(value: Any) -> str:
    return f"{100 * value:.2f} %" if _is_number(value) else ""


def _interval(estimate: Estimate | None, factor: int, unit: str) -> str:
    if not isinstance(estimate, Mapping) or not _is_number(estimate.get("value")):
        return ""
    digits = 2 if factor == 100 else 4
    text = f"{factor * estimate['value']:.{digits}f}{unit}"
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None or not (_is_number(low) and _is_number(high)):
        return text
    return f"{text} [{factor * low:.{digits}f}, {factor * high:.{digits}f}]"


def _listed(names: Sequence[str]) -> str:
    """Names in the length of a tag, and how many more there are."""
    text = ", ".join(names)
    if len(text) <= MAX_TAG_LENGTH:
        return text
    shown = text[: MAX_TAG_LENGTH - 30].rpartition(", ")[0]
    return f"{shown} and {len(names) - shown.count(', ') - 1} more"


def _cut(text: str) -> str:
    """The first lines, as many as a tag holds."""
    return text if len(text) <= MAX_TAG_LENGTH else text[:MAX_TAG_LENGTH].rpartition("\n")[0]
