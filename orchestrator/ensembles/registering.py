"""Registers the winner of a comparison: a version of a model in MLflow's registry, with the alias `champion`."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.layout import MODEL
from orchestrator.base.secrets import bare_address, redact
from orchestrator.ensembles.runs import UID_TAGS, ensemble_uid
from orchestrator.ensembles.shipping import kept, opened_store, recorded, ship_into
from orchestrator.serving.mlmodel import MLMODEL

if TYPE_CHECKING:
    from orchestrator.stores.client import ClientStore
    from orchestrator.stores.runs import StoredRun

ALIAS = "champion"
NAME = re.compile(r"[^/:'\"`%\x00-\x1f\x7f\s](?:[^/:'\"`%\x00-\x1f\x7f]{0,198}[^/:'\"`%\x00-\x1f\x7f\s])?")


def check_name(name: str) -> None:
    """
    Raises:
        ConfigError: no registered model can be called so.
    """
    if not NAME.fullmatch(name):
        why = "the name of a registered model has 1 to 200 characters, and none of / : % ' \" ` or a line break"
        raise ConfigError(Problem("--register", why, name[:80]))


@dataclass(frozen=True)
class Registered:
    """What was registered.

    Args:
        version: of the model; that of before, where this winner was registered already.
        before: in words, what had the alias until now, where that was another version.
    """

    version: str
    before: str | None

    def of(self, name: str) -> str:
        """What the winner is, and what it took the alias from."""
        return f"version {self.version} of {name}" + (f"; before, its {ALIAS} was {self.before}" if self.before else "")


def register(name: str, folder: Path, uri: str | None = None) -> Registered:
    """Ships the comparison in a folder, and makes its winner the newest version of a registered model, with the alias `champion`.

    Args:
        uri: of a store or server; None as for `shipping.ship`.

    Raises:
        ConfigError: no model can be called so.
        NotReadyError: there is no model of the winner, or the store does not take it now; `orchestrator sync` registers it later.
        CopyError, RunningElsewhereError: as for `shipping.ship`.
    """
    check_name(name)
    comparison = recorded(folder)
    if not (folder / MODEL / MLMODEL).is_file():
        raise NotReadyError(f"{folder} holds no model of the winner, so that none can be registered as {name}")
    with kept(folder, uri=uri, register=name), opened_store(comparison, folder, uri) as store:
        ship_into(store, comparison, folder)
        run = store.run(ensemble_uid(comparison, comparison["winner"]))
        if run is None or run.deleted:
            raise NotReadyError(f"the run of the winner of {folder.name} was deleted in MLflow; restore it there")
        try:
            return _version(store, name, run, {UID_TAGS[0]: comparison["uid"], "winner": comparison["winner"]})
        except Exception as error:  # drivers and clouds raise exceptions of their own
            text = redact(" ".join(f"{type(error).__name__}: {error}".split()))[:500]
            raise NotReadyError(f"MLflow does not register {name}: {text}") from error


def _version(store: ClientStore, name: str, run: StoredRun, tags: dict[str, str]) -> Registered:
    client = _client(store.uri)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    known = [one for one in client.search_model_versions(f"name = '{name}'") if one.run_id == run.run_id]
    if known:
        version = max(known, key=lambda one: int(one.version))
    else:
        source = f"{run.artifact_uri}/{MODEL}"
        version = client.create_model_version(name, source, run_id=run.run_id, tags=tags, await_creation_for=0)
    before = _champion(client, name, str(version.version))
    client.set_registered_model_alias(name, ALIAS, str(version.version))
    return Registered(str(version.version), before)


def _champion(client: Any, name: str, version: str) -> str | None:
    """Which other version has the alias, in words; None where none has it."""
    had = client.get_registered_model(name).aliases.get(ALIAS)
    if had is None or str(had) == version:
        return None
    comparison = client.get_model_version(name, str(had)).tags.get(UID_TAGS[0])
    return f"version {had}" + (f" of comparison {comparison}" if comparison else "")


def _client(uri: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

    address = bare_address(uri)
    return mlflow.MlflowClient(address, registry_uri=address)
