"""Models by the addresses of MLflow: `models:/NAME@champion`, `models:/NAME/3`, `runs:/RUN/model`."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from orchestrator.base.errors import ConfigError, NotReadyError, Problem, nearest
from orchestrator.base.layout import MLFLOW_DATABASE
from orchestrator.base.removal import temporary_folder
from orchestrator.base.secrets import redact
from orchestrator.journal.place import SQLITE

ADDRESS = re.compile(r"(models|runs):/(?!/)[^\x00-\x1f]{1,500}")
BARE = re.compile(r"(models|runs):/([^/@]+)/?")
"""What lacks a version, or the path of the model in a run."""
NAMED = re.compile(r"models:/([^/@]+)([/@])([^/@]+)")
"""The name of a model, and its version or alias."""

SET = "MLFLOW_TRACKING_URI"


def is_address(text: str) -> bool:
    """Whether a text is meant as an address of MLflow."""
    return text.startswith(("models:", "runs:"))


@contextlib.contextmanager
def fetched(address: str, runs_dir: Path) -> Iterator[Path]:
    """A folder with the files of a model, which is gone afterwards.

    It is looked for where MLflow is told to (`MLFLOW_TRACKING_URI`, `mlflow.set_tracking_uri`), else in the store of the runs
    folder.

    Raises:
        ConfigError: it is no such address.
        NotReadyError: nothing tells which store, or the model is not there, or does not come.
    """
    if not ADDRESS.fullmatch(address):
        why = "is no address of a model; models:/NAME@champion, models:/NAME/3 and runs:/RUN/model are"
        raise ConfigError(Problem("MODEL", why, address))
    if bare := BARE.fullmatch(address):
        raise ConfigError(_without_end(address, *bare.groups()))
    with temporary_folder(Path(tempfile.gettempdir()), "orchestrator-model-") as folder:
        with _store_of(runs_dir):
            found = _downloaded(address, folder)
        yield found


def _without_end(address: str, kind: str, name: str) -> Problem:
    if kind == "runs":
        return Problem("MODEL", "names a run, and no model in it", address, hint=f"write  runs:/{name}/model")
    hint = f"write  models:/{name}@champion  or a version, models:/{name}/1"
    return Problem("MODEL", "names a model without its version", address, hint=hint)


def _downloaded(address: str, to: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    try:
        return Path(download_artifacts(artifact_uri=address, dst_path=str(to)))
    except Exception as error:  # drivers and clouds raise exceptions of their own
        if why := _not_there(address):
            raise why from error
        text = redact(" ".join(f"{type(error).__name__}: {error}".split()))[:500]
        raise NotReadyError(f"MLflow does not give the model {address}: {text}") from error


def _not_there(address: str) -> ConfigError | None:
    """That MLflow has no model, or no version or alias, of this name; None where it has it, or does not say."""
    if (named := NAMED.fullmatch(address)) is None:
        return None
    from mlflow import MlflowClient

    name, at, wanted = named.groups()
    try:
        known = {model.name: model for model in MlflowClient().search_registered_models()}
        if name not in known:
            near = nearest(name, known)
            why = "MLflow has no registered model of that name"
            return ConfigError(Problem("MODEL", why, address, nearest=near, known=tuple(known)))
        versions = sorted(int(one.version) for one in MlflowClient().search_model_versions(f"name = '{name}'"))
        aliases = [f"models:/{name}@{alias}" for alias in known[name].aliases]
    except Exception:  # the first error says more
        return None
    there = [*aliases, *(f"models:/{name}/{version}" for version in versions)]
    is_there = address in there or (at == "/" and not wanted.isdecimal())  # models:/NAME/latest, and stages
    return (
        None if is_there else ConfigError(Problem("MODEL", "MLflow has no such version", address, known=tuple(there)))
    )


@contextlib.contextmanager
def _store_of(runs_dir: Path) -> Iterator[None]:
    """MLflow asks the store of the runs folder meanwhile, unless it was told which."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

    if mlflow.is_tracking_uri_set():  # type: ignore[no-untyped-call]
        yield
        return
    database = runs_dir.absolute() / MLFLOW_DATABASE
    if not database.is_file():
        raise NotReadyError(
            f"there is no MLflow store in {runs_dir}; name another folder of sweeps (--runs-dir), or a server"
            f" ({SET}=http://host:port)"
        )
    before = os.environ.get(SET)
    mlflow.set_tracking_uri(f"{SQLITE}{database}")
    try:
        yield
    finally:
        mlflow.set_tracking_uri("")
        if before is None:
            os.environ.pop(SET, None)
