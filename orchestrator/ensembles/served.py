"""Sweeps of another machine, as a tracking server shows them: the runs of their trials, whose predictions are an artifact."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.base import yaml_files
from orchestrator.base.decode import DecodeError, check, read_json
from orchestrator.base.errors import ConfigError, NotReadyError, Problem, nearest
from orchestrator.base.groups import OF_COSTS
from orchestrator.base.inputs import checked_inputs
from orchestrator.base.layout import MODEL, RUN_CONFIG, UID
from orchestrator.base.records import State
from orchestrator.base.regular import read_regular
from orchestrator.base.secrets import bare_address, redact
from orchestrator.config.settings import check_server_uri
from orchestrator.ensembles.candidates import (
    UNKNOWN,
    Candidate,
    LeftOut,
    Priced,
    Source,
    SweepTrials,
    best_key,
    first_of_equals,
    priced,
    why_not,
)
from orchestrator.ensembles.everywhere import ARTIFACT, Everywhere
from orchestrator.ensembles.networks import Networks, Shape
from orchestrator.ensembles.pool import Member
from orchestrator.stores.client import CONNECTIONS
from orchestrator.stores.runs import StoredRun, UnavailableError, safe_name
from orchestrator.tracking.spelling import NONE

SHOWN = 8
PRICED = (*OF_COSTS, "evaluate")
"""Groups whose values decide what the prediction of an image costs."""

DIGEST_TAG = safe_name(f"sha256.{ARTIFACT}")
MOST_DIGITS = 16
DESCRIPTION = f"{MODEL}/data/model.json"
"""What the best trial's model, an artifact of its sweep, says of itself."""
DATABASES = ("postgresql", "mysql", "mssql", "databricks")
"""Schemes of other stores that MLflow reads from."""

STATES = frozenset(state.value for state in State)


class Server:
    """A tracking server, of whatever address MLflow knows; it is only read.

    Args:
        uri: its address.

    Raises:
        ConfigError: it is no such address.
        NotReadyError: it does not answer; of every method too.
    """

    def __init__(self, uri: str) -> None:
        self.uri = bare_address(uri)
        check_uri(self.uri)
        self._store = Everywhere(uri)
        with self._answers():
            self._sweeps = {
                run.tags["sweep_uid"]: run
                for run in self._store.active("tags.kind = 'sweep'")  # the newest first
                if UID.fullmatch(run.tags.get("sweep_uid", ""))
            }

    def find(self, name: str) -> str:
        """The identity of the sweep with the identity `name`, of the newest one of that name, or of the only one that begins so.

        Raises:
            ConfigError: there is none, or several begin so.
        """
        uids = sorted(self._sweeps, key=lambda uid: -(self._sweeps[uid].start_ms or 0))
        if name in self._sweeps:
            return name
        if named := [uid for uid in uids if uid.rsplit("-", 1)[0] == name]:
            return named[0]
        begun = [uid for uid in uids if name and uid.startswith(name)]
        if len(begun) == 1:
            return begun[0]
        listed = ", ".join((begun or uids)[:SHOWN])
        if begun:
            why = f"is the beginning of several sweeps; say which: {listed}"
            raise ConfigError(Problem("NAME", why, name))
        why = f"MLflow at {self.uri} has no sweep of that name; newest there: {listed or 'none'}"
        near = nearest(name, [*uids, *(uid.rsplit("-", 1)[0] for uid in uids)])
        raise ConfigError(Problem("NAME", why, name, nearest=near))

    def trials_of(self, uid: str) -> SweepTrials:
        """The trials of a sweep; the predictions of the completed ones are brought here, into a folder that goes with them."""
        sweep = self._sweeps[uid]
        source = Source(uid, sweep.tags.get("metric", ""), sweep.tags.get("mode", "max"), None, self.uri, sweep.run_id)
        with self._answers():
            runs = _by_trial(self._store.active(f"tags.kind = 'trial' and tags.sweep_uid = '{uid}'"), uid)
        folder = _Folder()
        searched = _searched(list(runs.values()))
        configurations = first_of_equals((_configuration(run), run.params) for run in runs.values())
        candidates, left_out = [], []
        for index, run in sorted(runs.items()):
            if reason := _why_not(run, source.metric):
                left_out.append(LeftOut(f"{uid}/{index}", reason))
            else:
                configuration = configurations[_configuration(run)]
                path = folder.path / str(index) / ARTIFACT
                candidates.append(_candidate(run, source, index, configuration, searched, path))
        with self._answers():
            candidates = self._priced(candidates, runs, sweep.run_id, folder.path)
        named = {f"{uid}/{index}": run for index, run in runs.items()}

        def bring(only: Sequence[Candidate]) -> list[LeftOut]:
            return self._bring(only, named)

        return SweepTrials(source, tuple(candidates), tuple(left_out), lambda: named, bring, folder)

    def _priced(
        self, candidates: Sequence[Candidate], runs: Mapping[int, StoredRun], sweep_run: str, folder: Path
    ) -> list[Candidate]:
        """With what their networks cost; the configuration is asked of one trial for each different network."""
        networks = Networks(_shape(self._store.fetched(sweep_run, DESCRIPTION, folder / "sweep")))
        known: dict[str, Priced] = {}
        found = []
        for one in candidates:
            run = runs[one.index]
            network = json.dumps([(k, v) for k, v in sorted(run.params.items()) if k.partition(".")[0] in PRICED])
            if network not in known:
                file = self._store.fetched(run.run_id, RUN_CONFIG, folder / f"config-{one.index}")
                known[network] = priced((None, None), _config(file), networks)
            found.append(replace(one, member=replace(one.member, **known[network])))
        return found

    def _bring(self, candidates: Sequence[Candidate], runs: Mapping[str, StoredRun]) -> list[LeftOut]:
        """Downloads the predictions of the candidates; returns those of which the server has none, or none that is read."""

        def bring(candidate: Candidate) -> LeftOut | None:
            candidate.path.parent.mkdir()
            reason = self._store.download(runs[candidate.member.name].run_id, candidate.path.parent)
            return LeftOut(candidate.member.name, reason) if reason else None

        with self._answers(), ThreadPoolExecutor(CONNECTIONS) as pool:
            return [out for out in pool.map(bring, candidates) if out is not None]

    @contextlib.contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except UnavailableError as error:
            why = f"{error}; nothing was compared: try again when the server answers, or compare sweeps that are here"
            raise NotReadyError(why) from error


def check_uri(uri: str) -> None:
    """Nothing is asked of MLflow that it would answer by making a new, empty store.

    Raises:
        ConfigError: it is no address of a tracking server or of a database.
        NotReadyError: it is a file that is not there.
    """
    scheme = uri.partition(":")[0]
    try:
        if scheme in ("http", "https"):
            check_server_uri(uri)
        elif scheme == "sqlite":
            path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
            if not path.is_file():
                raise NotReadyError(f"--uri={uri}: there is no database {path}")
        elif not scheme.startswith(DATABASES):
            raise ValueError("must be the address of a tracking server, such as http://HOST:5000")
    except ValueError as error:
        raise ConfigError(Problem("--uri", str(error).removeprefix("uri "), redact(uri))) from error


class _Folder:
    """A folder of this process that goes with the object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="orchestrator-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _by_trial(runs: Sequence[StoredRun], uid: str) -> dict[int, StoredRun]:
    """Number of the trial -> its run. Of several, left by requests whose answer was lost, the fullest stays."""
    found: dict[int, StoredRun] = {}
    for run in sorted(runs, key=lambda run: (len(run.latest), run.run_id)):
        sweep, _, index = run.tags.get("trial_uid", "").rpartition("/")
        if sweep == uid and index.isdecimal() and len(index) < MOST_DIGITS:
            found[int(index)] = run
    return found


def _why_not(run: StoredRun, metric: str) -> str | None:
    state = run.tags.get("reason", "")
    value, test_loss = (_latest(run, key) for key in (best_key(metric), "test/loss"))
    return why_not(state if state in STATES else "unknown", value, metric, test_loss, run.tags.get(DIGEST_TAG))


def _candidate(
    run: StoredRun, source: Source, index: int, configuration: int, searched: Sequence[str], path: Path
) -> Candidate:
    """
    Args:
        searched: the parameters that it shows.
        path: where its predictions are to lie.
    """
    member = Member(
        name=f"{source.uid}/{index}",
        params={key: _plain(run.params[key]) for key in searched if run.params.get(key, NONE) != NONE},
        architecture=run.params.get("model") or UNKNOWN,
        configuration=f"{source.uid}/c{configuration}",
        value=_latest(run, best_key(source.metric)) or 0.0,
    )
    return Candidate(member, source, index, path, run.tags[DIGEST_TAG], None)


def _shape(file: Path | None) -> Shape | None:
    """What the networks of a sweep are told of its data, as the description of its best trial's model says."""
    if file is None:
        return None
    try:
        said = read_json(read_regular(file))
        check(said, Mapping[str, Any])
        inputs = checked_inputs(said.get("inputs"))
    except (OSError, DecodeError):
        return None
    size = [inputs["height"], inputs["width"]]
    return Shape.of({"num_classes": len(inputs["classes"]), "in_channels": inputs["channels"], "image_size": size})


def _config(file: Path | None) -> Mapping[str, Any]:
    """A trial's configuration; empty where it cannot be read, which no network is."""
    if file is None:
        return {}
    try:
        return yaml_files.read(file)
    except (ConfigError, OSError):
        return {}


def _latest(run: StoredRun, key: str) -> float | None:
    return next((metric.value for metric in run.latest if metric.key == key), None)


def _searched(runs: Sequence[StoredRun]) -> list[str]:
    """The parameters that differ from trial to trial, the seed aside: the server does not say which were searched."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.params.items():
            values.setdefault(key, set()).add(value)
    return [key for key, found in values.items() if len(found) > 1 and key != "seed"]


def _configuration(run: StoredRun) -> int:
    text = run.tags.get("config_index", "")
    return int(text) if text.isdecimal() and len(text) < MOST_DIGITS else 0


def _plain(text: str) -> Any:
    """What `text_of` was given, as far as it can be told."""
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


_WORDS = {"true": True, "false": False, "null": None}
