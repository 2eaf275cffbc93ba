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
        is_champion: whether it has the alias now.
        was_champion: whether it had that already.
    """

    version: str
    before: str | None
    is_champion: bool = True
    was_champion: bool = False

    def of(self, name: str) -> str:
        """What the winner is, and what it took the alias from, or left it to."""
        of = f"version {self.version} of {name}"
        if not self.is_champion:
            return f"{of}; its {ALIAS} stays {self.before}, which is newer"
        if self.was_champion:
            return f"{of}, as before"
        return of + (f"; before, its {ALIAS} was {self.before}" if self.before else "")


def register(name: str, folder: Path, uri: str | None = None, *, late: bool = False) -> Registered:
    """Ships the comparison in a folder, and makes its winner the newest version of a registered model, with the alias `champion`.

    Args:
        uri: of a store or server; None as for `shipping.ship`.
        late: it was asked for some time ago: the alias is not taken from what is newer than the comparison.

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
            tags = {UID_TAGS[0]: comparison["uid"], "winner": comparison["winner"]}
            return _version(store, name, run, tags, since_ms=comparison["created_ms"] if late else None)
        except Exception as error:  # drivers and clouds raise exceptions of their own
            text = redact(" ".join(f"{type(error).__name__}: {error}".split()))[:500]
            raise NotReadyError(f"MLflow does not register {name}: {text}") from error


def _version(
    store: ClientStore, name: str, run: StoredRun, tags: dict[str, str], *, since_ms: int | None
) -> Registered:
    """
    Args:
        since_ms: the alias stays with a version that is of later than this; None takes it from any.
    """
    client = _client(store.uri)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    known = [one for one in client.search_model_versions(f"name = '{name}'") if one.run_id == run.run_id]
    if known:
        version = max(known, key=lambda one: int(one.version))
    else:
        source = f"{run.artifact_uri}/{MODEL}"
        version = client.create_model_version(name, source, run_id=run.run_id, tags=tags, await_creation_for=0)
    number = str(version.version)
    champion = _champion(client, name)
    before = None if champion is None or str(champion.version) == number else _in_words(champion)
    if before is not None and since_ms is not None and _made_ms(client, champion) > since_ms:
        return Registered(number, before, is_champion=False)
    client.set_registered_model_alias(name, ALIAS, number)
    return Registered(number, before, was_champion=champion is not None and before is None)


def _champion(client: Any, name: str) -> Any:
    """The version that has the alias; None where none has it."""
    number = client.get_registered_model(name).aliases.get(ALIAS)
    return None if number is None else client.get_model_version(name, str(number))


def _in_words(version: Any) -> str:
    comparison = version.tags.get(UID_TAGS[0])
    return f"version {version.version}" + (f" of comparison {comparison}" if comparison else "")


def _made_ms(client: Any, version: Any) -> int:
    """When the comparison was made whose winner a version is; of another version, when that was made."""
    if version.tags.get(UID_TAGS[0]) and version.run_id:
        return int(client.get_run(version.run_id).info.start_time)
    return int(version.creation_timestamp)


def _client(uri: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

    address = bare_address(uri)
    return mlflow.MlflowClient(address, registry_uri=address)
