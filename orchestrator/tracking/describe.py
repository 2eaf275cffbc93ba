"""What people read of a sweep in MLflow: the parameters of its runs and the Markdown on the sweep's run. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from orchestrator.base.groups import GROUPS, SHOWN_GROUPS
from orchestrator.base.layout import RUN_CONFIG
from orchestrator.base.secrets import redact
from orchestrator.base.settings import SHOWN_KEYS
from orchestrator.journal.events import Published, SweepClosed
from orchestrator.journal.publishing import text_event
from orchestrator.journal.record import SweepRecord
from orchestrator.stores.runs import MAX_PARAM_LENGTH, MAX_TAG_LENGTH, safe_name, text_of

MAX_PARAMS = 20

NOTE = "mlflow.note.content"
"""MLflow's UI shows this tag as the description of a run."""


def trial_params(searched: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """Searched keys first, then the fixed settings that tell trials apart, up to `MAX_PARAMS` in all.

    First the names of the choices, then the root keys, then the choices' own arguments in the order of the groups.
    """
    params = {safe_name(key): text_of(value)[:MAX_PARAM_LENGTH] for key, value in searched.items()}
    for key, value in _fixed(config):
        if len(params) >= MAX_PARAMS:
            break
        params.setdefault(safe_name(key), text_of(value)[:MAX_PARAM_LENGTH])
    return params


def _fixed(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    choices = config.get("choices") or {}
    for group in GROUPS:
        if choices.get(group) not in (None, "default", "none"):
            yield group, choices[group]
    for key in SHOWN_KEYS:
        if config.get(key) is not None:
            yield key, config[key]
    for group in SHOWN_GROUPS:
        spec = config.get(group)
        if isinstance(spec, Mapping):
            for name, value in spec.items():
                if name != "_target_":
                    yield f"{group}.{name}", value


def to_yaml(config: Mapping[str, Any]) -> str:
    """Plain data as YAML. The parts that a sweep's trials share are written once: the C library takes 0.3 ms a trial."""
    return "".join(_yaml_of(json.dumps({key: value})) for key, value in config.items())


@lru_cache(1_000)
def _yaml_of(text: str) -> str:
    return yaml.dump(json.loads(text), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def note(record: SweepRecord, folder: Path, closed: SweepClosed | None = None) -> Published:
    """The description of a sweep so far, to be published on its run.

    Args:
        folder: where the sweep lies now.
        closed: how it ends, once it does.
    """
    opened = record.opened.to_data() | {
        "folder": str(folder.absolute()),
        "resumes": [event.changes for event in record.resumes],
    }
    opened["trials"] = next((e.trials for e in reversed(record.resumes) if e.trials is not None), opened["trials"])
    return text_event(record.uid, NOTE, description(opened, closed.to_data() if closed else None))


def description(opened: Mapping[str, Any], closed: Mapping[str, Any] | None = None) -> str:
    """The Markdown on a sweep's parent run, at most what a tag of MLflow holds.

    Args:
        opened: data of `sweep_opened`.
        closed: data of `sweep_closed`, once there is one.
    """
    space = opened.get("space") or []
    config = opened.get("config") or {}
    aim = "highest" if opened.get("mode", "max") == "max" else "lowest"
    searched = list(dict.fromkeys(entry["key"] for entry in space))
    keys = ", ".join(f"`{key}`" for key in searched)
    parts = [
        f"Which {keys} gives the {aim} `{opened['metric']}`?" if keys else f"One setting, by `{opened['metric']}`."
    ]
    if closed is not None:
        parts.append(_result(opened, closed))
    if space:
        parts.append(_table(("searched", "domain", "only when"), [_row(entry) for entry in space]))
    choices = config.get("choices") or {}
    named = {group: choices.get(group) for group in GROUPS if group not in searched}
    fixed = [f"{group} `{name}`" for group, name in named.items() if name not in (None, "default", "none")]
    plan = [f"{opened.get('trials')} trials"]
    if config.get("epochs") is not None and "epochs" not in searched:
        plan.append(f"{config['epochs']} epochs")
    plan += [f"{key} `{_name(opened[key])}`" for key in ("sampler", "scheduler") if opened.get(key)]
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
        settings = ", ".join(f"`{key}={text_of(value)}`" for key, value in (best.get("params") or {}).items())
        value = f"{best['value']:.6g}"
        if best.get("selected") is not None:
            spread = f", standard deviation {best['spread']:.2g}" if best.get("spread") is not None else ""
            value += (
                f" (mean of {best['repeats'] - 1} seeds{spread}; the seed that early stopping selected, which is not in it:"
                f" {best['selected']:.6g})"
            )
        elif best.get("spread") is not None:
            value += f" (mean of {best['repeats']} seeds, standard deviation {best['spread']:.2g})"
        lines.append(
            f"**Best:** trial {best['trial']}, `{opened['metric']}` = {value}, with {settings or 'no setting'}."
        )
    return "\n\n".join(lines)


def _resumes(changes: Sequence[Mapping[str, Any]]) -> str:
    """How often the sweep was resumed, and what was given anew."""
    lines = [
        f"- resume {number}: `{key}` was {_flat(before)}, is {_flat(now)}"
        for number, changed in enumerate(changes, 1)
        for key, (before, now) in changed.items()
    ]
    return "\n".join([f"Resumed {len(changes)} times.", *(["", *lines] if lines else [])])


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return f"`{entry['key']}`", f"`{entry['domain']}`", f"`{entry['condition']}`" if entry.get("condition") else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


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
        lines[0] += f"; the command was\n\n```\n{words}\n```"
    else:
        lines[0] += "."
    lines.append(f"Journal, checkpoints and predictions: `{opened['folder']}`.")
    rest = {key: value for key, value in environment.items() if key != "command" and value not in (None, {}, [])}
    if rest:
        lines.append(_table(("environment", ""), [(key, _flat(value)) for key, value in rest.items()]))
    return "\n\n".join(lines)


def _flat(value: Any) -> str:
    """A value of a table's cell; a mapping as `torch 2.15.0, ray 2.60.0`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text_of(item)}" for key, item in value.items())
    return text_of(value)
