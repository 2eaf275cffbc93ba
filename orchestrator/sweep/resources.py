"""Where the trials of a sweep run and what they compute with: decided once, on the cluster that it is launched on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import NotReadyError
from orchestrator.base.settings import PRETRAINED_FILES
from orchestrator.config.plan import SweepPlan

if TYPE_CHECKING:
    from orchestrator.journal.record import SweepRecord
    from orchestrator.scheduling.ray.cluster import Cluster, Node

COMPUTES_ON = "computes_on"
"""Key of the environment in `sweep_opened`, and of a resume's changes: device and instruction set of the trials."""


@dataclass(frozen=True)
class Place:
    """Where a sweep runs.

    Args:
        plan: with GPUs a trial and precision decided.
        concurrent: trials at a time.
        computes_on: what they compute with, each kind once: `cpu AVX512`, `cuda NVIDIA H100`.
    """

    plan: SweepPlan
    concurrent: int
    computes_on: tuple[str, ...]


def find_place(plan: SweepPlan, cluster: Cluster, folder: Path) -> Place:
    """Decides what the plan leaves open, and asks every node that can hold a trial whether it runs there.

    Args:
        folder: where the sweep will write, or the first folder above it that is there.

    Raises:
        NotReadyError: no node holds a trial, or one that does cannot run it.
    """
    from orchestrator.scheduling.ray.survey import decide, survey

    plan = with_gpus(plan, max((node.gpus for node in cluster.nodes), default=0))
    root = plan.root
    concurrent = trials_at_a_time(plan, cluster.nodes)
    local = plan.part("cluster").kind == "local"
    if local and "capability" in plan.facts:  # found while planning, in a process that had torch anyway
        found = decide(root.precision, [("this machine", plan.facts["capability"])])
        plan = replace(plan, base={**plan.base, "precision": found.precision})
        return Place(plan, concurrent, found.computes_on)
    found = survey(
        [node for node in cluster.nodes if node.holds(root.cpus_per_trial, gpus_of(plan))],
        precision=root.precision,
        device=root.device,
        gpus_per_trial=gpus_of(plan),
        shared=None if local else nearest_existing(folder),
        files=[file["path"] for file in plan.base.get(PRETRAINED_FILES, {}).values()],
    )
    plan = replace(plan, base={**plan.base, "precision": found.precision})
    return Place(plan, concurrent, found.computes_on)


def check_same(place: Place, record: SweepRecord, old: SweepPlan) -> dict[str, Any]:
    """The change that a resume notes where trials compute with something else than before: on another they differ in rounding.

    Raises:
        NotReadyError: they would compute in another precision.
    """
    before, now = old.base["precision"], place.plan.base["precision"]
    if before not in (now, "auto"):  # sweeps of earlier versions left it to each worker
        raise NotReadyError(
            f"this sweep computes in {before}, and on this cluster it would be {now} ({', '.join(place.computes_on)}); resume it"
            " where every node can, or launch a new one"
        )
    known = [resume.changes.get(COMPUTES_ON) for resume in record.resumes]
    last = next((change[1] for change in reversed(known) if change), None)
    last = last or (record.opened.environment or {}).get(COMPUTES_ON)
    now_on = list(place.computes_on)
    return {COMPUTES_ON: [last, now_on]} if last and last != now_on else {}


def with_gpus(plan: SweepPlan, most: float) -> SweepPlan:
    """The plan with `gpus_per_trial` decided where it is left open: one if trials may use any and some node has one, else none.

    Args:
        most: GPUs of the node that has most of them.
    """
    if plan.settings["gpus_per_trial"] is not None:
        return plan
    gpus = float(plan.settings["device"] != "cpu" and most >= 1)
    return _with(plan, gpus)


def with_gpus_of(old: Mapping[str, Any], plan: SweepPlan) -> SweepPlan:
    """The plan of a resume, which leaves open what the sweep has decided: it stays so."""
    return _with(plan, old["gpus_per_trial"]) if plan.settings["gpus_per_trial"] is None else plan


def trials_at_a_time(plan: SweepPlan, nodes: Sequence[Node]) -> int:
    """How many trials the nodes hold, each as a whole on one of them, and the plan allows.

    Raises:
        NotReadyError: not even one fits.
    """
    root, gpus = plan.root, gpus_of(plan)
    room = sum(node.holds(root.cpus_per_trial, gpus) for node in nodes)
    if room < 1:
        there = "; ".join(f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in nodes) or "nothing"
        raise NotReadyError(
            f"a trial asks for {root.cpus_per_trial:g} CPUs and {gpus:g} GPUs on one node, "
            f"the cluster has {there}; lower cpus_per_trial or gpus_per_trial"
        )
    return min(room, root.max_concurrent or room, root.trials * root.repeat)


def gpus_of(plan: SweepPlan) -> float:
    return float(plan.settings["gpus_per_trial"] or 0)


def nearest_existing(folder: Path) -> Path:
    """`folder`, or the first above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _with(plan: SweepPlan, gpus: float) -> SweepPlan:
    return replace(plan, settings={**plan.settings, "gpus_per_trial": gpus}, base={**plan.base, "gpus_per_trial": gpus})
