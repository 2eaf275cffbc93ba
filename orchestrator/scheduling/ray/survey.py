"""Asks every node, before anything is created, whether trials can run there and what they would compute with."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import NotReadyError
from orchestrator.base.removal import PROBE, temporary_folder

if TYPE_CHECKING:
    from orchestrator.scheduling.ray.cluster import Node

ANSWER_TIMEOUT_S = 300.0
"""How long a node has for its first answer: a worker process imports torch, which takes minutes where all cores are busy."""

BUSY_TIMEOUT_S = 15.0
"""How long further GPUs of a node are waited for: on a shared cluster others may use them."""

NONCE = "nonce"


Answers = list[tuple["Node", list[dict[str, Any] | str]]]
"""What each node answered, once for each GPU: what `_look` returns, or a sentence on what went wrong."""


@dataclass(frozen=True)
class Survey:
    """What the nodes said.

    Args:
        precision: of every trial of the sweep: fp32, bf16 or tf32.
        computes_on: what they compute with, each kind once: `cpu AVX512`, `cuda NVIDIA H100`.
    """

    precision: str
    computes_on: tuple[str, ...]


def survey(
    nodes: Sequence[Node],
    *,
    precision: str,
    device: str,
    gpus_per_trial: float,
    shared: Path | None,
    files: Sequence[str] = (),
) -> Survey:
    """Asks all `nodes`; needs a connected Ray.

    No node is left out: `auto` becomes bf16 where all of them multiply it in hardware, and fp32 elsewhere.

    Args:
        precision: as it is asked for.
        files: that every node has to read.
        shared: a folder in which each node has to read what the driver writes, and the other way round; None: not looked at.

    Raises:
        NotReadyError: some node does not answer, does not see the folder or cannot use its device; all of them are named.
    """
    with _nonce(shared) as (folder, nonce):
        answers = _ask(nodes, device, gpus_per_trial, folder, files)
        if folder:
            _check_written(folder, nonce, answers)
    problems = [f"{node.name}: {answer}" for node, replies in answers for answer in replies if isinstance(answer, str)]
    if problems:
        raise NotReadyError("trials cannot run on every node:\n  " + "\n  ".join(dict.fromkeys(problems)))
    return decide(precision, [(node.name, answer) for node, replies in answers for answer in replies])


def decide(precision: str, answers: Sequence[tuple[str, Any]]) -> Survey:
    """What follows from (node, its capability) of every node.

    Raises:
        NotReadyError: some node lacks the precision that is asked for.
    """
    if precision == "auto":
        precision = "bf16" if all(answer["bf16"] for _, answer in answers) else "fp32"
    if precision == "tf32" and (without := sorted({name for name, answer in answers if not answer["tf32"]})):
        raise NotReadyError(
            f"precision=tf32: {', '.join(without)} cannot (CUDA devices from Ampere on can); use precision=fp32, or a cluster"
            " of nodes that can"
        )
    return Survey(precision, tuple(sorted({f"{answer['device']} {answer['name']}" for _, answer in answers})))


@contextlib.contextmanager
def _nonce(shared: Path | None) -> Iterator[tuple[Path | None, str]]:
    """A folder of its own in `shared` with a text that only a node that sees it can know."""
    nonce = uuid.uuid4().hex
    if shared is None:
        yield None, nonce
        return
    try:
        with temporary_folder(shared, PROBE, mode=0o777) as folder:
            (folder / NONCE).write_text(nonce, encoding="ascii")
            yield folder, nonce
    except OSError as error:
        raise NotReadyError(f"{shared} cannot be written ({error}); name another folder with runs_dir=...") from error


def _ask(
    nodes: Sequence[Node], device: str, gpus_per_trial: float, folder: Path | None, files: Sequence[str]
) -> Answers:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Whole GPUs, so that those asked at a time are different ones; no CPUs, so that a busy node answers, too.
    gpus = max(1, int(gpus_per_trial)) if gpus_per_trial else 0
    look = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=0)(_look)
    asked: dict[Any, int] = {}
    for place, node in enumerate(nodes):
        pinned = look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False))
        for _ in range(max(1, int(node.gpus // gpus)) if gpus else 1):
            asked[pinned.remote(device, gpus_per_trial, folder and str(folder), node.id, files)] = place
    answers: Answers = [(node, []) for node in nodes]
    for reference in _answered(asked):
        answers[asked[reference]][1].append(_outcome(reference))
    for _, replies in answers:
        if not replies:
            replies.append(f"no answer within {ANSWER_TIMEOUT_S:g} s; are its GPUs all in use, or is it overloaded?")
    return answers


def _answered(asked: dict[Any, int]) -> list[Any]:
    """Those that were answered in time; the others are withdrawn."""
    import ray

    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    done: list[Any] = []
    waiting, silent = list(asked), set(asked.values())
    while waiting and (left_s := deadline - time.monotonic()) > 0:
        ready, waiting = ray.wait(waiting, timeout=left_s)
        done += ready
        if silent and not (silent := silent - {asked[reference] for reference in ready}):
            deadline = min(deadline, time.monotonic() + BUSY_TIMEOUT_S)
    for reference in waiting:
        ray.cancel(reference, force=True)
    return done


def _outcome(reference: Any) -> dict[str, Any] | str:
    import ray
    from ray.exceptions import RayError

    try:
        answer: dict[str, Any] = ray.get(reference)
    except (RayError, ImportError) as error:
        return _why(error)
    return answer


def _why(error: Exception) -> str:
    """The last line of an error, which names it; and what to do where that is clear."""
    last = str(error).strip().splitlines()[-1]
    if "No module named" in last:
        return f"{last}; install the same packages there as here"
    if "cannot be used" in last:
        return f"{last.removeprefix('RuntimeError: ')}; gpus_per_trial=0 device=auto trains on the CPU"
    return last


def _look(
    device: str, gpus_per_trial: float, folder: str | None, node_id: str, files: Sequence[str] = ()
) -> dict[str, Any]:
    """Runs on a node."""
    from orchestrator.training.capability import capability

    if folder is not None:
        try:
            nonce = Path(folder, NONCE).read_text(encoding="ascii")
            Path(folder, node_id).write_text(nonce, encoding="ascii")
        except OSError as error:
            raise RuntimeError(_NOT_SHARED.format(folder=Path(folder).parent, why=error.strerror)) from error
    for file in files:
        if not os.access(file, os.R_OK):
            raise RuntimeError(f"the pretrained weights {file} cannot be read; put them where every node sees them")
    return vars(capability(device, gpus_per_trial))


_NOT_SHARED = (
    "{folder} is not the folder that it is here ({why}); every node has to write to the same runs_dir: name one on a shared file"
    " system with runs_dir=..."
)


def _check_written(folder: Path, nonce: str, answers: Answers) -> None:
    """Adds a complaint for each node that answered, and whose file is not seen here."""
    for node, replies in answers:
        if any(isinstance(reply, str) for reply in replies):
            continue
        try:
            seen = (folder / node.id).read_text(encoding="ascii") == nonce
        except OSError:
            seen = False
        if not seen:
            why = "what it writes is not seen"
            replies.append(_NOT_SHARED.format(folder=folder.parent, why=why))
