"""Where a sweep is tracked and on which machines it runs.

Each choice is a frozen dataclass that a YAML in `conf/<group>` names as `_target_`; its fields are what may be set, and
it raises ValueError for a value that is no use. Samplers and schedulers bring their own settings (orchestrator.scheduling).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from orchestrator.base.secrets import PASSWORD, TOKEN, USERNAME, holds_credentials, redact

# tracking ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalTracking:
    """MLflow on a database of its own.

    Args:
        uri: `sqlite:///<absolute path>`; mlflow.db in runs_dir where absent.
        artifacts: the absolute folder of the artifacts; beside the database where absent.
        experiment: the name of the MLflow experiment; the sweep's where absent.
    """

    kind: ClassVar[str] = "local"
    uri: str | None = None
    artifacts: str | None = None
    experiment: str | None = None

    def __post_init__(self) -> None:
        if self.uri is not None:
            check_database_uri(self.uri)
        if self.artifacts is not None and not self.artifacts.startswith("/"):
            raise ValueError(f"artifacts must be an absolute folder, got {self.artifacts}")


@dataclass(frozen=True)
class ServerTracking:
    """An MLflow server that runs already.

    Args:
        required: an unreachable server at the start is an error; otherwise what waits is shipped later.
    """

    kind: ClassVar[str] = "server"
    uri: str
    required: bool = True
    experiment: str | None = None

    def __post_init__(self) -> None:
        check_server_uri(self.uri)


@dataclass(frozen=True)
class NoTracking:
    """The journal alone; `orchestrator sync` can ship it later."""

    kind: ClassVar[str] = "none"


def check_server_uri(uri: str) -> None:
    """Raise ValueError unless `uri` is `http(s)://host[:port]`."""
    parts = _split(uri)
    if parts.scheme in ("sqlite", "file", "postgresql", "mysql", "mssql", "postgres"):
        raise ValueError(
            f"uri must be the address of an MLflow server (http://host:5000), got {redact(uri)}; a database is"
            " tracking=local, or what the server itself is started with"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"uri must start with http:// or https:// and name a host, got {redact(uri)}")
    if holds_credentials(uri):
        raise ValueError(
            f"uri must hold no credentials, which would be recorded, got {redact(uri)}; set {USERNAME} and {PASSWORD},"
            f" or {TOKEN}, in the environment"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"uri must be http(s)://host[:port][/path] without ? and #, got {redact(uri)}")


def check_database_uri(uri: str) -> None:
    """Raise ValueError unless `uri` is a SQLite file with an absolute path."""
    parts = _split(uri)
    if parts.scheme in ("http", "https"):
        raise ValueError(f"uri is a server's: use tracking=server tracking.uri={redact(uri)}")
    if parts.scheme != "sqlite":
        raise ValueError(f"uri must be sqlite:///<absolute path>, got {redact(uri)} (MLflow's file store is gone)")
    if not uri.startswith("sqlite:////") or not parts.path.strip("/"):
        raise ValueError(
            f"uri must name an absolute path, with four slashes: sqlite:////path/mlflow.db, got {redact(uri)}"
        )


def _split(uri: str) -> Any:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"uri {redact(uri)} cannot be read: {error}") from error
    return parts


# clusters ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalCluster:
    """This machine."""

    kind: ClassVar[str] = "local"


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster that runs already; `address` is `host:port` of its head, or `auto` on one of its nodes."""

    kind: ClassVar[str] = "ray"
    address: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|(ray://)?[\w.-]+:\d{1,5}", self.address):
            raise ValueError(f"address must be host:port or auto, got {self.address}")
