"""Which trials may be members: the completed ones of the sweeps named, whose predictions are of the same examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.layout import JOURNAL, UID
from orchestrator.base.stored_predictions import UnfitError, read_header
from orchestrator.ensembles.alike import Read, of_one_kind
from orchestrator.ensembles.candidates import Candidate, LeftOut, Source, SweepTrials, trials_of
from orchestrator.ensembles.loading import load_test, load_validation
from orchestrator.ensembles.pool import Pool
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import is_number

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.served import Server

    Array = np.ndarray[Any, Any]

__all__ = ["Gathered", "LeftOut", "Source", "gather"]

REASONS_SHOWN = 6
# m members, N examples, K classes


@dataclass(frozen=True)
class Gathered:
    """The candidates.

    Args:
        fingerprint: of the data set and its split.
        ids_N: the rows of the data set that the pool's examples are.
        read_test: of members by their names: logits [m, N, K], labels [N] and ids [N] of the test; read at the call, not before.
            NotReadyError where a file is not there any more, or not as it was.
    """

    pool: Pool
    left_out: tuple[LeftOut, ...]
    sources: tuple[Source, ...]
    fingerprint: str
    ids_N: Array
    read_test: Callable[[Sequence[str]], tuple[Array, Array, Array]]


def gather(
    names: Sequence[str], runs_dir: Path, *, filter_string: str | None = None, uri: str | None = None
) -> Gathered:
    """The candidates of the sweeps named, and their validation predictions.

    Args:
        filter_string: in MLflow's filter language; only trials that meet it are looked at.
        uri: of a tracking server, from which sweeps are read that have no folder here.

    Raises:
        ConfigError: a sweep is unknown or named twice, the filter is wrong or met by none, or fewer than two trials fit.
        NotReadyError: a journal cannot be read, the server is away, or the memory is too small.
    """
    from orchestrator.ensembles.filters import check_filter, matching

    clauses = check_filter(filter_string) if filter_string is not None else None
    sweeps, left_out = _sweeps(names, runs_dir, uri)
    if clauses is not None:
        runs = {name: run for sweep in sweeps for name, run in sweep.runs().items()}
        met = matching(clauses, runs, filter_string or "")
        sweeps = [_only(sweep, met) for sweep in sweeps]
    left_out += [out for sweep in sweeps for out in sweep.left_out]
    left_out += [out for sweep in sweeps for out in sweep.bring(sweep.candidates)]
    gone = {out.name for out in left_out}
    found = [one for sweep in sweeps for one in sweep.candidates if one.member.name not in gone]
    found, doubled = _each_once(found)
    read, unfit = _with_headers(found)
    read, others = of_one_kind(read)
    read, unmeasured = _with_values(read)
    left_out += [*doubled, *unfit, *others, *unmeasured]
    _check_two(names, len(read), left_out)
    gathered = _gathered(read, sweeps, left_out)
    _check_two(names, len(gathered.pool), gathered.left_out)
    return gathered


def _sweeps(names: Sequence[str], runs_dir: Path, uri: str | None) -> tuple[list[SweepTrials], list[LeftOut]]:
    """The sweeps named, in that order; one whose journal cannot be read is left out, unless nothing else is there."""
    if not names:
        raise ConfigError(Problem("NAME", "name one sweep or several"))
    folders: dict[str, Path | None] = {}
    given: dict[str, str] = {}
    server = None
    if uri is not None:
        from orchestrator.ensembles.served import Server

        server = Server(uri)
    for name in names:
        folder = _folder_of(name, runs_dir, server)
        uid = folder.name if folder is not None else server.find(name) if server is not None else name
        if uid in given:
            raise ConfigError(Problem("NAME", f"is {uid}, which {given[uid]!r} names too; name each sweep once", name))
        given[uid], folders[uid] = name, folder
    found, left_out, errors = [], [], []
    for uid, folder in folders.items():
        if folder is None:
            assert server is not None
            found.append(server.trials_of(uid))  # a server that is away is no reason to compare without its sweeps
            continue
        try:
            found.append(trials_of(folder))
        except NotReadyError as error:
            errors.append(error)
            left_out.append(LeftOut(uid, str(error)))
    if not found:
        raise errors[0]
    _check_copies(found)
    return found, left_out


def _folder_of(name: str, runs_dir: Path, server: Server | None) -> Path | None:
    """The folder of a sweep, which is read before a server is, so that its journal counts the look; None where there is none."""
    if server is None:
        return find_sweep(runs_dir, name)
    here = runs_dir / (name if UID.fullmatch(name) and (runs_dir / name).is_dir() else server.find(name))
    return here if (here / JOURNAL).is_file() else None


def _check_copies(sweeps: Sequence[SweepTrials]) -> None:
    """
    Raises:
        ConfigError: two folders are of one sweep, so that each trial would be there twice.
    """
    places: dict[str, str] = {}
    for sweep in sweeps:
        where = sweep.source.folder.name if sweep.source.folder is not None else sweep.source.uid
        if (other := places.setdefault(sweep.source.uid, where)) != where:
            why = (
                f"{other} and {where} are both the sweep {sweep.source.uid}, one a copy of the other; name one of them"
            )
            raise ConfigError(Problem("NAME", why, where))


def _only(sweep: SweepTrials, names: set[str]) -> SweepTrials:
    """The sweep as if it had these trials alone."""
    return replace(
        sweep,
        candidates=tuple(one for one in sweep.candidates if one.member.name in names),
        left_out=tuple(out for out in sweep.left_out if out.name in names),
    )


def _each_once(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[LeftOut]]:
    """Without those whose file another has, too: a trial's file names the trial, so that one is a copy of the other."""
    first: dict[str, Candidate] = {}
    left_out = []
    for one in candidates:
        if (other := first.setdefault(one.sha256, one)) is not one:
            left_out.append(
                LeftOut(one.member.name, f"its predictions are the file of {other.member.name}: it is a copy")
            )
    return [*first.values()], left_out


def _with_headers(candidates: Iterable[Candidate]) -> tuple[list[Read], list[LeftOut]]:
    found, left_out = [], []
    for candidate in candidates:
        try:
            header = read_header(candidate.path)
            if candidate.uid is not None and header.uid != candidate.uid:
                raise UnfitError("its predictions are of another trial")
            found.append((candidate, header))
        except UnfitError as error:
            left_out.append(LeftOut(candidate.member.name, str(error)))
    return found, left_out


def _with_values(read: list[Read]) -> tuple[list[Read], list[LeftOut]]:
    """All with the objective of the first sweep; one of another objective has it in its file."""
    found: list[Read] = []
    left_out = []
    for one, header in read:
        first = read[0][0].source
        if (one.source.metric, one.source.mode) == (first.metric, first.mode):
            found.append((one, header))
            continue
        value = header.at_best.get(first.metric)
        if is_number(value):
            found.append((replace(one, member=replace(one.member, value=float(value))), header))
        else:
            left_out.append(
                LeftOut(one.member.name, f"it has no {first.metric}, by which {first.uid} orders its trials")
            )
    return found, left_out


def _check_two(names: Sequence[str], found: int, left_out: Sequence[LeftOut]) -> None:
    if found >= 2:
        return
    counts = Counter(out.reason for out in left_out)
    first = {out.reason: out.name for out in reversed(left_out)}
    shown = [
        f"{f'{count} trials, {first[reason]} the first' if count > 1 else first[reason]} ({reason})"
        for reason, count in counts.most_common(REASONS_SHOWN)
    ]
    if (rest := len(counts) - len(shown)) > 0:
        shown.append(f"{rest} other reasons")
    why = f"an ensemble takes two trials or more, and {'one' if found else 'none'} can be a member"
    why += f"; left out: {'; '.join(shown)}" if shown else ""
    raise ConfigError(Problem("NAME", why, " ".join(names)))


def _gathered(read: list[Read], sweeps: Sequence[SweepTrials], left_out: list[LeftOut]) -> Gathered:
    larger = read[0][0].source.mode == "max"
    sign = -1.0 if larger else 1.0
    ordered = sorted(read, key=lambda one: (sign * one[0].member.value, one[0].source.uid, one[0].index))
    loaded = load_validation(ordered)
    members = [ordered[place] for place in loaded.places]
    uids = {one.source.uid for one, _ in members}
    header = ordered[0][1]
    return Gathered(
        pool=Pool(tuple(one.member for one, _ in members), loaded.logits_MNK, loaded.labels_N, header.classes, larger),
        left_out=(*left_out, *loaded.left_out),
        sources=tuple(sweep.source for sweep in sweeps if sweep.source.uid in uids),
        fingerprint=header.fingerprint,
        ids_N=loaded.ids_N,
        read_test=partial(
            load_test, {one.member.name: one for one, _ in members}, header, [sweep.held for sweep in sweeps]
        ),
    )
