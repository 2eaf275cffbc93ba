"""The head of the report: what was asked, what the answer is, and how the sweep went in one line."""

from __future__ import annotations

import html
from collections import Counter

from orchestrator.base.text import duration, visible, word
from orchestrator.reports.data import SweepData, cut


def head(sweep: SweepData) -> str:
    """As HTML."""
    name = _text(sweep.record.opened.name)
    return f"<header><h1>{name}</h1>\n{_paragraphs(question(sweep), answer(sweep), course(sweep))}</header>"


def question(sweep: SweepData) -> str:
    """What was searched, and by which measure."""
    keys = [cut(key.name) for key in sweep.keys]
    searched = f"Which {_listed(keys)} gives" if keys else "What is"
    choices = sweep.record.opened.config.get("choices", {})
    what = " ".join(cut(str(choices[group])) for group in ("model", "data") if group in choices)
    extreme = "highest" if sweep.mode == "max" else "lowest"
    return f"{searched} the {extreme} {cut(sweep.metric)}{f' of {what}' if what else ''}?"


def answer(sweep: SweepData) -> str:
    """The winner and its value."""
    best = sweep.record.scores.best if sweep.record.scores else None
    if best is None:
        return "No trial has a value" + (" yet." if _running(sweep) else ".")
    trial = sweep.record.trials[min(best.trials)]
    params = ", ".join(f"{cut(key)}={cut(word(value))}" for key, value in trial.params.items())
    what = f"{cut(sweep.metric)} {best.mean:.4g}"
    if len(best.unselected) > 1:
        what = f"mean {what} over {len(best.unselected)} seeds"
    return f"Trial {trial.index}, {what}" + (f": {params}." if params else ".")


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


def _listed(words: list[str], most: int = 8) -> str:
    shown = words if len(words) <= most else [*words[: most - 1], f"{len(words) - most + 1} more keys"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _paragraphs(asked: str, answered: str, went: str) -> str:
    return (
        f'<p class="question">{_text(asked)}</p>\n<p class="answer">{_text(answered)}</p>\n'
        f'<p class="course">{_text(went)}</p>\n'
    )


def _text(value: str) -> str:
    return html.escape(visible(value))
