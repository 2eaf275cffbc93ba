"""The head of the report: what was asked, what the answer is, and how the sweep went in one line."""

from __future__ import annotations

import html
from collections import Counter

from orchestrator.base.text import duration, visible, word
from orchestrator.reports.data import SweepData, cut


def head(sweep: SweepData) -> str:
    """As HTML."""
    lines = {
        "question": question(sweep),
        "answer": answer(sweep),
        "certainty": certainty(sweep),
        "course": course(sweep),
    }
    told = "".join(f'<p class="{kind}">{_text(line)}</p>\n' for kind, line in lines.items() if line)
    return f"<header><h1>{_text(cut(sweep.record.opened.name, 100))}</h1>\n{told}</header>"


def question(sweep: SweepData) -> str:
    """What was searched, and by which measure."""
    keys = [cut(key.name) for key in sweep.keys]
    searched = f"Which {_listed(keys)} give{'' if len(keys) > 1 else 's'}" if keys else "What is"
    choices = sweep.record.opened.config.get("choices", {})
    what = " on ".join(cut(str(choices[group])) for group in ("model", "data") if group in choices)
    extreme = "highest" if sweep.mode == "max" else "lowest"
    return f"{searched} the {extreme} {cut(sweep.metric)}{f' of {what}' if what else ''}?"


def answer(sweep: SweepData) -> str:
    """The winner with its values."""
    best = sweep.record.scores.best if sweep.record.scores else None
    if best is None:
        return "No trial has a value" + (" yet." if _running(sweep) else ".")
    trial = sweep.record.trials[min(best.trials)]
    params = ", ".join(f"{cut(key)}={cut(word(value))}" for key, value in trial.params.items())
    who = (
        f"Trial {trial.index}"
        if len(best.trials) == 1
        else f"The configuration of trials {_listed(_names(sorted(best.trials)))}"
    )
    return f"{who}: {cut(sweep.metric)} {best.mean:.4g}" + (f" with {params}." if params else ".")


def certainty(sweep: SweepData) -> str:
    """By how much it won, and which others cannot be told from it; empty where there is nothing to compare."""
    from orchestrator.analysis.findings import who_won

    best = sweep.record.scores.best if sweep.record.scores else None
    said = [line[:1].upper() + line[1:] for line in who_won(sweep.found)] if best else []
    return "".join(f"{line}. " for line in said).rstrip()


def course(sweep: SweepData) -> str:
    """Counts of states, epochs and seconds."""
    states = Counter(row["state"] for row in sweep.trials)
    record = sweep.record
    counts = ", ".join(f"{count:,} {state}" for state, count in states.most_common()) or "no trial yet"
    seconds = (record.worked_ms + max(0, record.last_ms - record.session_ms)) / 1000
    planned = "" if record.closed else f" of {record.opened.trials:,}"
    going = " The sweep has not ended; this is how it stood." if _running(sweep) else ""
    return (
        f"{len(sweep.trials):,}{planned} trials ({counts}), {len(sweep.epochs):,} epochs, {duration(seconds)}.{going}"
    )


def _running(sweep: SweepData) -> bool:
    return sweep.record.closed is None


def _names(numbers: list[int]) -> list[str]:
    return [str(number) for number in numbers]


def _listed(words: list[str], most: int = 8, what: str = "keys") -> str:
    shown = words if len(words) <= most else [*words[: most - 1], f"{len(words) - most + 1:,} more {what}"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _text(value: str) -> str:
    return html.escape(visible(value))
