"""What tries find: each part tried once, and its problems with the configurations that have them."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from orchestrator.base.errors import ConfigError, OrchestratorError, Problem
from orchestrator.base.settings import TRIAL_KEYS
from orchestrator.training.data import Dataset

T = TypeVar("T")


@dataclass(kw_only=True)
class Findings:
    """Collects the problems of configurations; what is the same in several is tried once."""

    found: dict[tuple[str, str, str], tuple[Problem, list[str]]] = field(default_factory=dict)
    _tried: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> list[Problem]:
        """Each problem once, with the configurations that have it, unless all say so in the key already."""
        return [replace(p, where=p.where or _labels(f"{p.key}={p.value}", labels)) for p, labels in self.found.values()]

    def _once(self, part: str, config: Mapping[str, Any], keys: Iterable[str], make: Callable[[], T]) -> T:
        """What `make` gives, made once for equal values of `keys`; its failure is remembered too."""
        key = json.dumps([part, [config[k] for k in keys]], sort_keys=True)
        if key not in self._tried:
            try:
                self._tried[key] = make()
            except (ValueError, ConfigError) as error:
                self._tried[key] = error
            except OrchestratorError:
                raise
            except Exception as error:  # a target may be code of the user's, which raises what it likes
                self._tried[key] = ValueError(_raised(error))
        made = self._tried[key]
        if isinstance(made, ValueError | ConfigError):
            raise made
        return made  # type: ignore[no-any-return]

    @contextmanager
    def _collect(self, label: str, config: Mapping[str, Any], group: str, dataset: Dataset | None = None) -> Any:
        """Write down the problems of a part of the configuration."""
        try:
            yield
        except ConfigError as error:
            for p in error.problems:
                near = p.nearest and (p.nearest if p.key == "_target_" else f"{group}.{p.nearest}")
                self._add(label, replace(p, key=f"{group}.{p.key}", nearest=near))
        except ValueError as error:
            value = config["choices"].get(group, config[group] if group in TRIAL_KEYS else None)
            why = str(error)
            if dataset is not None:
                # the model knows the size only, the user the name of the data
                data = config["choices"].get("data", dataset.name)
                why = re.sub(r"\bgot (\d+x\d+)$", rf"data={data} gives \1", why)
            if group == "batch_size":
                why = why.removeprefix("batch_size ").partition(", got")[0]
            self._add(label, Problem(group, why, value))

    def _add(self, label: str, problem: Problem) -> None:
        labels = self.found.setdefault((problem.key, str(problem.value), problem.why), (problem, []))[1]
        if label not in labels:
            labels.append(label)


def _raised(error: Exception) -> str:
    """An exception in one line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    lines = str(error).splitlines()
    return f"raises {type(error).__name__}{': ' + lines[0] if lines else ''}{place}"


def _labels(own: str, labels: Sequence[str]) -> str | None:
    """The configurations with a problem, in few words; None where the problem's own text says it."""
    if own in labels or not any(labels):
        return None
    others = [label.removeprefix(f"{own}, ") for label in labels if label]
    return "; ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
