"""What stands on the terminal when a sweep has ended: who won and why, where everything lies, what to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.base.rights import Rights
from orchestrator.base.text import duration
from orchestrator.cli.fitting import cell, fitting, wrapped
from orchestrator.journal.finding import runs_dir_option

if TYPE_CHECKING:
    from orchestrator.analysis.claims import Verdict
    from orchestrator.analysis.findings import Findings
    from orchestrator.sweep.session import Result

CAUSES_SHOWN = 3
CHOICES_SHOWN = 8


def closing_lines(result: Result, metric: str, rights: Rights) -> list[str]:
    """The best trials and why, where everything lies, and what to do next."""
    totals = ", ".join(f"{number} {state}" for state, number in result.totals.items()) or "no trial ended"
    lines = ["", f"{result.uid}: {totals} in {duration(result.seconds)} ({result.closed_for})"]
    if result.best:
        tied = result.found.margin.tied if result.found.margin else []
        lines += ["", "best trials:", *best_table(result.best, metric, tied)]
        lines += ["", *why_lines(result.found, causes=CAUSES_SHOWN, choices=CHOICES_SHOWN)]
    if result.claims:
        lines += ["", *claim_lines(result.claims)]
    if not result.best and result.last_error:
        lines += ["", "no trial completed; the last error was:", result.last_error.strip()]
    if result.best and result.too_many_failed:
        why = f"{result.failed_share:.0%} of the trials failed, more than max_failed={result.max_failed:g} allows"
        lines += ["", f"{why}; the last error was:", (result.last_error or "unknown").strip()]
    lines += ["", result.report.summary, f"everything lies in  {result.folder}"]
    lines += [f"its report is      {result.page}"] if result.page else []
    if result.ship is not None and result.waiting_events > 0:
        why = result.ship.error or "still busy"
        lines.append(f"MLflow has not taken {result.waiting_events} events ({why}); they are kept, ship them later:")
        lines.append(f"  orchestrator sync {result.uid}{runs_dir_option(result.folder)}")
    return lines + _next(result, rights) + _in_python(result)


def _next(result: Result, rights: Rights) -> list[str]:
    from orchestrator.config.rights import retyped

    allowed, runs_dir = retyped(rights), runs_dir_option(result.folder)
    lines = ["next:", f"  orchestrator dashboard{runs_dir}    curves and comparisons in MLflow"]
    lines.append(f"  orchestrator report {result.uid}{runs_dir}    the report, refreshed: all of it in linked figures")
    lines.append(
        f"  orchestrator results {result.uid}{runs_dir}    all trials as a table; --csv and --json for programs"
    )
    if len(result.best) > 1:
        lines.append(
            f"  orchestrator compare {result.uid}{runs_dir}    ensembles of the trials: which is best, how sure, at what cost"
        )
    if result.diverged is not None:
        trial = f"{result.uid}/{result.diverged}"
        lines.append(f"  orchestrator show {trial}{runs_dir}    where that trial diverged, and what to try")
    if result.best:
        trial = f"from={result.uid}/{result.best[0]['trial']}"
        lines.append(f"  orchestrator train {trial}{runs_dir}{allowed}    the best trial again, alone")
    more = "time_budget_s=600" if result.closed_for == "budget" else "--more 20"
    lines.append(f"  orchestrator resume {result.uid}{runs_dir} {more}{allowed}    more trials of this search")
    lines.append("  orchestrator launch search=all trials=64    a larger search; orchestrator list search names more")
    return lines


def _in_python(result: Result) -> list[str]:
    """How a program reaches the sweep: ours, and MLflow's own way."""
    elsewhere = f", runs_dir={json.dumps(str(result.folder.parent))}" if runs_dir_option(result.folder) else ""
    lines = [
        "in Python:",
        f"  orchestrator.results({json.dumps(result.uid)}{elsewhere})    a pandas frame of the trials",
    ]
    if result.mlflow:
        trials = json.dumps(f"tags.kind = 'trial' and tags.sweep_uid = '{result.uid}'")
        lines.append(
            f"  mlflow.set_tracking_uri({json.dumps(result.mlflow)});"
            f" mlflow.search_runs(search_all_experiments=True, filter_string={trials})"
        )
    return lines


def why_lines(found: Findings, *, causes: int, choices: int) -> list[str]:
    """By how much the best won, what mattered, a table of the choices, and what failed; wrapped to the terminal."""
    from orchestrator.analysis.findings import choice_table, what_failed, what_mattered, who_won

    lines = [*who_won(found), *filter(None, [what_mattered(found)])]
    failed = what_failed(found)
    rest = [f"and {len(failed) - causes} other causes"] if len(failed) > causes else []
    wide = [*wrapped(lines), *(f"  {line}" for line in choice_table(found, choices))]
    return wide + wrapped([*failed[:causes], *rest])


def claim_lines(claims: Sequence[Verdict]) -> list[str]:
    """A line for each claim with both sides, then what those say that do not hold, or are undecided."""
    from orchestrator.analysis.claims import HEADS, HOLDS, LEGEND, claim_row, tally

    rows = [claim_row(one) for one in claims]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(HEADS)}
    lines, left_out = fitting(columns, ("claim", "verdict", "left", "right", "n", "interval"))
    legend = [LEGEND, *([f"no room for {', '.join(left_out)}: a wider terminal shows them"] if left_out else [])]
    told = [f"{one.claim.id} {one.verdict}: {one.claim.says}" for one in claims if one.verdict != HOLDS]
    reasons = [f" ({one.why})" if one.why else "" for one in claims if one.verdict != HOLDS]
    return [
        tally(claims),
        *lines,
        *wrapped(legend),
        *wrapped([line + why for line, why in zip(told, reasons, strict=True)]),
    ]


def best_table(best: Sequence[Mapping[str, Any]], metric: str, tied: Sequence[int] = ()) -> list[str]:
    """The best configurations; those in `tied` carry the sign for what cannot be told from the first."""
    selected = any(row["selected"] is not None for row in best)
    columns = {
        "trial": [f"{row['trial']}{' =' if row['trial'] in tied else ''}" for row in best],
        metric: [f"{row['value']:.4f}" for row in best],
    }
    if any(row["repeats"] > 1 for row in best):
        columns["sd"] = [_number(row["spread"]) for row in best]
        columns["seeds"] = [str(row["repeats"] - (row["selected"] is not None)) for row in best]
    if selected:
        columns["selected seed"] = [_number(row["selected"]) for row in best]
    if any("test/accuracy" in row["metrics"] for row in best):
        columns["test/accuracy"] = [_number(row["metrics"].get("test/accuracy")) for row in best]
    columns["epoch"] = [str(row["epoch"]) for row in best]
    fixed = [name for name in columns if name not in ("test/accuracy", "epoch")]
    keys = list(dict.fromkeys(key for row in best for key in row["params"]))
    for key in keys:
        columns[key] = [cell(row["params"].get(key)) for row in best]
    lines, left_out = fitting(columns, list(dict.fromkeys([*fixed, *keys, *columns])))
    if any(row["trial"] in tied for row in best):
        lines.append(f"= a tie: cannot be told from trial {best[0]['trial']}")
    if left_out:
        lines += wrapped([f"no room for {', '.join(left_out)}"])
    if selected:
        lines.append(f"{metric} is the mean without the selected seed, which early stopping kept because it did well")
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
