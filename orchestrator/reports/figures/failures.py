"""What went wrong: trials that failed, diverged or did not fit, grouped by cause, with where it happened and what to try."""

from __future__ import annotations

import re
import shlex
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from orchestrator.base.records import NODE_LOST
from orchestrator.journal.record import SweepRecord, TrialRecord, is_number
from orchestrator.reports.data import Key, SweepData, cut
from orchestrator.reports.figure import GREY, STATES, Figure
from orchestrator.reports.parts.drawing import escaped

KINDS = ["failed", "diverged", "infeasible", "restarted"]
"""In the order of the table; the last are trials of which an attempt broke off, and another one followed."""

GROUPS, EXAMPLES, LONGEST = 30, 3, 200
NUMBER = re.compile(r"0x[0-9a-f]+|(?<![A-Za-z_])[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?|\b(?:nan|inf)\b", re.IGNORECASE)

FEWER = "fewer trials at a time (max_concurrent)"
ADVICE = [
    (
        r"out of memory|tried to allocate|CUDA_ERROR_OUT_OF_MEMORY",
        f"A smaller batch_size or model, precision=bf16 on a GPU, or {FEWER}.",
    ),
    (
        r"no heartbeat",
        "It hung, or was silent for longer than heartbeat_timeout_s: raise that, or look into the code and data of the trial.",
    ),
    (re.escape(NODE_LOST), "No fault of the trial's: it went on elsewhere, and its retries are not charged."),
    (
        r"worker process died|died unexpectedly|SIGKILL",
        f"Often the machine was out of memory: {FEWER}, or a smaller batch_size.",
    ),
    (r"No space left", "Room on the disk of runs_dir; then resume."),
    (
        r"too small|Kernel size can't be greater",
        "Larger images, or a model that takes small ones; orchestrator list model says which.",
    ),
    (r"No such file|cannot be read|is damaged|is truncated", "Check the files that it names; then launch again."),
]
"""Pattern of a reason -> what to try; the first that fits."""

DIVERGED = (
    "A lower learning rate or weight scale (narrow the range of the search), a warm-up (schedule=cosine "
    "schedule.warmup_epochs=1), or a normalization (norm=batch)."
)
TRACEBACK = "The traceback is in what `orchestrator show` says; what the trials of the group share is a hint."


@dataclass(frozen=True)
class Cause:
    """Trials that ended in one way for one reason.

    Args:
        kind: one of `KINDS`.
        pattern: the reason on one line, its numbers written as #.
        example: the reason of the first trial, as it is.
        alike: whether the reasons of all are that one.
        trials: their numbers.
    """

    kind: str
    pattern: str
    example: str
    trials: list[int]
    alike: bool = True

    @property
    def advice(self) -> str:
        """What to try, in words."""
        if self.kind == "diverged":
            return DIVERGED
        return next((words for pattern, words in ADVICE if re.search(pattern, self.example, re.IGNORECASE)), TRACEBACK)


def pattern_of(reason: str) -> str:
    """The reason's first line with its numbers as #, so that two steps or addresses make no two causes."""
    lines = reason.strip().splitlines()
    return NUMBER.sub("#", cut(lines[0], LONGEST)) if lines else "no reason is recorded"


def causes(record: SweepRecord) -> list[Cause]:
    """All causes, those of most trials first within each kind."""
    found: dict[tuple[str, str], Cause] = {}
    for trial in sorted(record.trials.values(), key=lambda trial: trial.index):
        for kind, reason in _reasons(trial):
            pattern, text = pattern_of(reason), cut(reason, LONGEST)
            cause = found.setdefault((kind, pattern), Cause(kind, pattern, text, []))
            if text != cause.example:
                found[kind, pattern] = cause = replace(cause, alike=False)
            if trial.index not in cause.trials[-1:]:
                cause.trials.append(trial.index)
    return sorted(found.values(), key=lambda cause: (KINDS.index(cause.kind), -len(cause.trials), cause.pattern))


def _reasons(trial: TrialRecord) -> Iterator[tuple[str, str]]:
    if trial.state in KINDS:
        told = trial.reason if trial.reason and trial.reason != trial.state else ""
        yield trial.state.value, told or _last_line(trial.error)
    else:
        yield from (("restarted", reason) for reason in trial.retries)


def _last_line(error: str | None) -> str:
    """What a traceback ends with."""
    return error.strip().splitlines()[-1] if error and error.strip() else ""


# Where ----------------------------------------------------------------------------------------------------------------

APART = 0.75
"""The chance that a trial of the group has a higher (or lower) number than one of the others, from which on it is told."""

OVER = 1.5
"""A choice is told that is this much more frequent in the group than elsewhere, and has most of the group."""

FEWEST = 3


def where(sweep: SweepData, trials: Sequence[int]) -> str:
    """What the values of a group have in common that those of trials with a value have not; "" where nothing stands out."""
    inside = [sweep.record.trials[index] for index in trials]
    outside = [t for t in sweep.record.trials.values() if is_number(t.value) and t.index not in set(trials)]
    if len(inside) < FEWEST or len(outside) < FEWEST:
        return ""
    told = [(strength, words) for key in sweep.keys for strength, words in _told(key, inside, outside)]
    return max(told)[1] if told else ""


def _told(key: Key, inside: Sequence[TrialRecord], outside: Sequence[TrialRecord]) -> Iterator[tuple[float, str]]:
    ours, theirs = ([value for t in of if (value := key.of(t.params)) is not None] for of in (inside, outside))
    if len(ours) < FEWEST or len(theirs) < FEWEST:
        return
    if key.kind == "number":
        higher = _chance_of_higher(ours, theirs)
        if max(higher, 1 - higher) >= APART:
            side = "high" if higher > 0.5 else "low"
            yield (
                max(higher, 1 - higher),
                f"at {side} {key.name}: {min(ours):.2g} to {max(ours):.2g}, half of them "
                f"{'above' if higher > 0.5 else 'below'} {statistics.median(ours):.2g}; "
                f"the others' median is {statistics.median(theirs):.2g}",
            )
        return
    for value in dict.fromkeys(ours):
        share, usual = ours.count(value) / len(ours), theirs.count(value) / len(theirs)
        if share > 0.5 and share >= OVER * usual:
            # on the scale of the chance above: that of guessing the group by this choice
            yield 0.5 + (share - usual) / 2, f"{ours.count(value)} of {len(ours)} with {key.name}={value}"


def _chance_of_higher(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The chance that one of ours is above one of theirs, a tie being half: the Mann-Whitney U over all pairs."""
    ordered = sorted(theirs)
    above = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in ours)
    return above / (2 * len(ours) * len(theirs))


# The table ------------------------------------------------------------------------------------------------------------


def figure(sweep: SweepData) -> Figure | None:
    """None where nothing went wrong."""
    found = causes(sweep.record)
    if not found:
        return None
    counts = {kind: sum(len(cause.trials) for cause in found if cause.kind == kind) for kind in KINDS}
    said = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    more = f" The {GROUPS} most frequent are shown." if len(found) > GROUPS else ""
    shown = sorted(sorted(found, key=lambda cause: -len(cause.trials))[:GROUPS], key=found.index)
    head = "".join(f"<th>{title}</th>" for title in ("trials", "cause", "what to try", "look at"))
    body = "".join(_row(sweep, cause) for cause in shown)
    return Figure(
        name="failures",
        title="What went wrong, and what to try?",
        text=f"Of {len(sweep.trials):,} trials: {said}; {'one cause' if len(found) == 1 else f'{len(found)} causes'}.{more}",
        html=f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>',
    )


def _row(sweep: SweepData, cause: Cause) -> str:
    color = STATES.get(cause.kind, GREY)
    state = f'<span style="color:{color}">&#9632;</span>&nbsp;{len(cause.trials):,}&nbsp;{cause.kind}'
    place = where(sweep, cause.trials)
    left = _left_first(sweep, cause)
    told = "".join(f"<br><small>{escaped(words[0].upper() + words[1:])}.</small>" for words in (place, left) if words)
    lines = "<br>".join(_look(sweep, index) for index in cause.trials[:EXAMPLES])
    rest = len(cause.trials) - EXAMPLES
    lines += f"<br>and {rest:,} more" if rest > 0 else ""
    wide = 'style="white-space:normal;vertical-align:top;min-width:14rem"'
    top = 'style="vertical-align:top"'
    return (
        f"<tr><td {top}>{state}</td><td {wide}>{'' if cause.alike else 'For example: '}{escaped(cause.example)}{told}</td>"
        f"<td {wide}>{escaped(cause.advice)}</td><td {top}>{lines}</td></tr>"
    )


def _left_first(sweep: SweepData, cause: Cause) -> str:
    """What left the finite range first in the trials that diverged, the most frequent first."""
    stories = [told for index in cause.trials if (told := sweep.record.trials[index].divergence) and "signal" in told]
    counts = Counter(
        f"{told['signal']} of module {told['layer']}" if "layer" in told else told["signal"] for told in stories
    )
    if not counts:
        return ""
    shown = ", ".join(f"{what} ({count:,})" for what, count in counts.most_common(EXAMPLES))
    return f"not finite first: {cut(shown, LONGEST)}"


def _look(sweep: SweepData, index: int) -> str:
    name = shlex.quote(f"{sweep.record.uid}/{index}")
    return f'<code data-trial="{index}">orchestrator show {escaped(name)}</code>'
