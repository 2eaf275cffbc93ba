"""What people read of a sweep in MLflow: the Markdown on the sweep's run, and configurations as YAML. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from orchestrator.analysis.claims import HEADS, LEGEND, Verdict, claim_row, tally
from orchestrator.analysis.findings import CHOICE_HEADS, Findings, choice_rows, what_failed, what_mattered, who_won
from orchestrator.base.groups import GROUPS
from orchestrator.base.layout import RUN_CONFIG
from orchestrator.base.secrets import redact
from orchestrator.journal.events import Published, SweepClosed
from orchestrator.journal.publishing import text_event
from orchestrator.journal.record import SweepRecord
from orchestrator.stores.runs import MAX_TAG_LENGTH, text_of
from orchestrator.tracking.markdown import block, code, plain, table

CAUSES_SHOWN = 8

NOTE = "mlflow.note.content"
"""MLflow's UI shows this tag as the description of a run."""


def to_yaml(config: Mapping[str, Any]) -> str:
    """Plain data as YAML. The parts that a sweep's trials share are written once: the C library takes 0.3 ms a trial."""
    return "".join(_yaml_of(json.dumps({key: value})) for key, value in config.items())


@lru_cache(1_000)
def _yaml_of(text: str) -> str:
    return yaml.dump(json.loads(text), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def note(
    record: SweepRecord,
    folder: Path,
    closed: SweepClosed | None = None,
    found: Findings | None = None,
    claims: Sequence[Verdict] = (),
) -> Published:
    """The description of a sweep so far, to be published on its run.

    Args:
        folder: where the sweep lies now.
        closed: how it ends, once it does.
        found: what it found then.
        claims: what its claims came to.
    """
    opened = record.opened.to_data() | {
        "folder": str(folder.absolute()),
        "resumes": [event.changes for event in record.resumes],
    }
    opened["trials"] = next((e.trials for e in reversed(record.resumes) if e.trials is not None), opened["trials"])
    return text_event(record.uid, NOTE, description(opened, closed.to_data() if closed else None, found, claims))


def claim_tags(uid: str, claims: Sequence[Verdict]) -> list[Published]:
    """A tag of the sweep's run for each claim, to filter by in MLflow: `tags.claim.E05-better-at-22 = 'holds'`."""
    return [text_event(uid, f"claim.{one.claim.id}", one.verdict) for one in claims]


def description(
    opened: Mapping[str, Any],
    closed: Mapping[str, Any] | None = None,
    found: Findings | None = None,
    claims: Sequence[Verdict] = (),
) -> str:
    """The Markdown on a sweep's parent run, at most what a tag of MLflow holds: question, answer, and what the answer rests on.

    Args:
        opened: data of `sweep_opened`.
        closed: data of `sweep_closed`, once there is one.
        found: what the whole sweep found, once it is closed.
        claims: what its claims came to, once it is closed.
    """
    space = opened.get("space") or []
    config = opened.get("config") or {}
    aim = "highest" if opened.get("mode", "max") == "max" else "lowest"
    searched = list(dict.fromkeys(entry["key"] for entry in space))
    keys = ", ".join(map(code, searched))
    metric = code(opened["metric"])
    parts = [
        f"Which {keys} give{'s' if len(searched) == 1 else ''} the {aim} {metric}?"
        if keys
        else f"One setting, by {metric}."
    ]
    if closed is not None:
        parts.append(_result(opened, closed))
    if claims:
        parts.append(_claims(claims))
    if closed is not None and found is not None:
        parts += _findings(found)
    if space:
        parts.append(table(("searched", "domain", "only when"), [_row(entry) for entry in space]))
    choices = config.get("choices") or {}
    named = {group: choices.get(group) for group in GROUPS if group not in searched}
    fixed = [f"{group} {code(str(name))}" for group, name in named.items() if name not in (None, "default", "none")]
    plan = [f"{opened.get('trials')} trials"]
    if config.get("epochs") is not None and "epochs" not in searched:
        plan.append(f"{config['epochs']} epochs")
    plan += [f"{key} {code(_name(opened[key]))}" for key in ("sampler", "scheduler") if opened.get(key)]
    parts.append(" · ".join([*fixed, *plan]))
    if opened.get("resumes"):
        parts.append(_resumes(opened["resumes"]))
    parts.append(_reproduce(opened))
    return "\n\n".join(parts)[:MAX_TAG_LENGTH]


def _result(opened: Mapping[str, Any], closed: Mapping[str, Any]) -> str:
    best = closed.get("best")
    totals = ", ".join(f"{count} {state}" for state, count in (closed.get("totals") or {}).items() if count)
    lines = [
        f"**Ended ({closed.get('reason')})** after {float(closed.get('seconds') or 0):.0f} s: {totals or 'no trial'}."
    ]
    if best:
        settings = ", ".join(code(f"{key}={text_of(value)}") for key, value in (best.get("params") or {}).items())
        value = f"{best['value']:.6g}"
        if best.get("selected") is not None:
            spread = f", standard deviation {best['spread']:.2g}" if best.get("spread") is not None else ""
            value += (
                f" ({_mean_of(best['repeats'] - 1)}{spread}; the seed that early stopping selected, which is not in it:"
                f" {best['selected']:.6g})"
            )
        elif best.get("spread") is not None:
            value += f" (mean of {best['repeats']} seeds, standard deviation {best['spread']:.2g})"
        metric = code(opened["metric"])
        lines.append(f"**Best:** trial {best['trial']}, {metric} = {value}, with {settings or 'no setting'}.")
    return "\n\n".join(lines)


def _mean_of(seeds: int) -> str:
    return "of one seed" if seeds == 1 else f"mean of {seeds} seeds"


def _resumes(changes: Sequence[Mapping[str, Any]]) -> str:
    """How often the sweep was resumed, and what was given anew."""
    lines = [
        f"- resume {number}: {code(key)} was {plain(_flat(before))}, is {plain(_flat(now))}"
        for number, changed in enumerate(changes, 1)
        for key, (before, now) in changed.items()
    ]
    return "\n".join([f"Resumed {len(changes)} times.", *(["", *lines] if lines else [])])


def _findings(found: Findings) -> list[str]:
    """The runner-up and the margin, what mattered, what each choice came to, what failed."""
    parts = []
    if said := who_won(found):
        parts.append(f"**Margin:** {'. '.join(_sentence(line) for line in said)}.")
    if said_of_keys := what_mattered(found):
        head, _, answer = said_of_keys.partition(":")
        parts.append(f"**{_sentence(head)}:** {plain(answer)}.")
    if rows := choice_rows(found):
        cells = [(code(choice), *(plain(cell) for cell in rest)) for choice, *rest in rows]
        parts.append(table([*CHOICE_HEADS], cells))
    if failed := what_failed(found):
        shown = [f"- {plain(line)}" for line in failed[:CAUSES_SHOWN]]
        others = len(failed) - CAUSES_SHOWN
        parts.append(
            "\n".join(["**What failed:**", "", *shown, *([f"- and {others} other causes"] if others > 0 else [])])
        )
    return parts


def _claims(claims: Sequence[Verdict]) -> str:
    """The claims of the lectures, each with both sides, and what they say in words."""
    rows = [tuple(map(plain, claim_row(one))) for one in claims]
    said = [f"- {plain(one.claim.id)} ({plain(one.claim.lecture)}): {plain(one.claim.says, 300)}" for one in claims]
    return "\n\n".join([f"**{tally(claims)}.**", table(HEADS, rows), f"{LEGEND}.", "\n".join(said)])


def _sentence(text: str) -> str:
    return plain(text[:1].upper() + text[1:])


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return code(entry["key"]), code(entry["domain"], 500), code(entry["condition"]) if entry.get("condition") else ""


def _name(choice: Any) -> str:
    """The name of a sampler or scheduler, whether it is given alone or as the spec of its class."""
    if isinstance(choice, Mapping):
        name = str(choice.get("_target_", "")).rpartition(".")[2].lower()
        return {"noscheduler": "none"}.get(name, name)
    return str(choice)


def _reproduce(opened: Mapping[str, Any]) -> str:
    environment = opened.get("environment") or {}
    lines = [f"**To reproduce:** the resolved configuration is the artifact `{RUN_CONFIG}` of this run"]
    command = environment.get("command")
    if command:
        words = " ".join(redact(str(word)) for word in ([command] if isinstance(command, str) else command))
        lines[0] += f"; the command was\n\n{block(words)}"
    else:
        lines[0] += "."
    lines.append(f"Journal, checkpoints and predictions: {code(opened['folder'], MAX_TAG_LENGTH)}.")
    rest = {key: value for key, value in environment.items() if key != "command" and value not in (None, {}, [])}
    if rest:
        lines.append(
            table(("environment", ""), [(plain(key), plain(_flat(value), 1_000)) for key, value in rest.items()])
        )
    return "\n\n".join(lines)


def _flat(value: Any) -> str:
    """A value of a table's cell; a mapping as `torch 2.15.0, ray 2.60.0`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text_of(item)}" for key, item in value.items())
    return text_of(value)
