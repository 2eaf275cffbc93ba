"""MLflow's REST API over plain connections that stay open, without importing MLflow. One request, one attempt."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from orchestrator.tracking import artifacts
from orchestrator.tracking.remote import RemoteRun
from orchestrator.tracking.store import (
    EXPERIMENT_TAGS,
    Artifact,
    Metric,
    RefusedError,
    UnavailableError,
    local_folder,
    without_credentials,
)

TIMEOUT_S = 20.0
UPLOAD_TIMEOUT_S = 120.0
_REFUSALS = {400, 404, 409}
_NEEDS_LIBRARY = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")


def reachable_directly(uri: str) -> bool:
    """Whether plain requests reach this server: no proxy in between, no signature that only MLflow's client can make."""
    parts = urlsplit(uri)
    proxies = urllib.request.getproxies()
    by_proxy = parts.scheme in proxies and not urllib.request.proxy_bypass(parts.hostname or "")
    return not by_proxy and not any(os.environ.get(name) for name in _NEEDS_LIBRARY)


def headers_of(uri: str) -> dict[str, str]:
    """The credentials that MLflow's own client would send: those in the address, else those of its environment variables."""
    parts = urlsplit(uri)
    user = unquote(parts.username) if parts.username else os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = unquote(parts.password) if parts.password else os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}


def tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class RestCalls:
    """The calls of `Calls`, to a server at `http(s)://host[:port][/prefix]`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._parts = urlsplit(uri)
        self._headers = headers_of(uri)
        self._prefix = self._parts.path.rstrip("/")
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []
        self._library: Any = None

    def get_experiment(self, name: str) -> tuple[str, bool] | None:
        try:
            answer = self._call("GET", f"experiments/get-by-name?experiment_name={quote(name, safe='')}")
        except RefusedError as error:
            if "RESOURCE_DOES_NOT_EXIST" in str(error):
                return None
            raise
        experiment = answer["experiment"]
        return experiment["experiment_id"], experiment.get("lifecycle_stage") == "deleted"

    def create_experiment(self, name: str) -> None:
        self._call(
            "POST",
            "experiments/create",
            {"name": name, "tags": [{"key": k, "value": v} for k, v in EXPERIMENT_TAGS.items()]},
        )

    def search(self, experiment_id: str, condition: str) -> list[RemoteRun]:
        return [_run(run) for run in self.found(experiment_id, condition)]

    def found(self, experiment_id: str, condition: str) -> Iterator[dict[str, Any]]:
        """The server's own answers on all runs that fulfil the condition, deleted ones included, page after page."""
        token = None
        while True:
            question = {
                "experiment_ids": [experiment_id],
                "filter": condition,
                "run_view_type": "ALL",
                "max_results": 500,
                **({"page_token": token} if token else {}),
            }
            answer = self._call("POST", "runs/search", question)
            yield from answer.get("runs", [])
            token = answer.get("next_page_token")
            if not token:
                return

    def create_run(self, experiment_id: str, name: str, user: str, start_ms: int, tags: Mapping[str, str]) -> RemoteRun:
        body = {
            "experiment_id": experiment_id,
            "user_id": user,
            "run_name": name,
            "start_time": start_ms,
            "tags": _pairs(tags),
        }
        return _run(self._call("POST", "runs/create", body)["run"])

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        rows = [{"key": m.key, "value": m.value, "timestamp": m.time_ms, "step": m.step} for m in metrics]
        body = {"run_id": run_id, "metrics": rows, "params": _pairs(params), "tags": _pairs(tags)}
        self._call("POST", "runs/log-batch", body)

    def update_run(self, run_id: str, status: str, end_ms: int | None) -> None:
        end = {"end_time": end_ms} if end_ms is not None else {}
        self._call("POST", "runs/update", {"run_id": run_id, "status": status, **end})

    def delete_run(self, run_id: str) -> None:
        self._call("POST", "runs/delete", {"run_id": run_id})

    def upload(self, run: RemoteRun, artifact: Artifact) -> None:
        folder = local_folder(run.artifact_uri)
        parts = urlsplit(run.artifact_uri)
        if folder is not None:
            artifacts.put(artifact, folder)
        elif parts.scheme == "mlflow-artifacts" and not parts.netloc:
            path = quote(f"{parts.path.strip('/')}/{artifact.name}")
            self._request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", _bytes_of(artifact), UPLOAD_TIMEOUT_S)
        else:
            # A bucket that clients write themselves: MLflow's client knows how.
            from orchestrator.tracking.library import LibraryCalls

            self._library = self._library or LibraryCalls(self.uri)
            self._library.upload(run, artifact)

    def close(self) -> None:
        for connection in self._opened:
            connection.close()

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        answer = self._request(method, f"/api/2.0/mlflow/{path}", data, TIMEOUT_S)
        try:
            decoded = json.loads(answer or b"{}")
        except ValueError as error:
            raise UnavailableError(f"{without_credentials(self.uri)} does not answer like an MLflow server") from error
        if not isinstance(decoded, dict):
            raise UnavailableError(f"{without_credentials(self.uri)} does not answer like an MLflow server")
        return decoded

    def _request(self, method: str, path: str, body: bytes | None, timeout_s: float) -> bytes:
        headers = {
            "Content-Type": "application/json" if "/mlflow/" in path else "application/octet-stream",
            **self._headers,
        }
        connection, fresh = self._connection(timeout_s)
        try:
            connection.request(method, self._prefix + path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop_connection()
            # A kept connection that the server has closed meanwhile says nothing about the server.
            stale = not fresh and isinstance(
                error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
            )
            if stale and _repeatable(path):
                return self._request(method, path, body, timeout_s)
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"no answer from {without_credentials(self.uri)} ({reason})") from error
        if response.status < 300:
            return answer
        message = _message(answer)
        if response.status in _REFUSALS and message:
            raise RefusedError(message)
        raise UnavailableError(
            f"{without_credentials(self.uri)} answers {response.status} {message or response.reason}"
        )

    def _connection(self, timeout_s: float) -> tuple[http.client.HTTPConnection, bool]:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(timeout_s)
            return connection, False
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=tls_context())
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        self._local.connection = connection
        self._opened.append(connection)
        return connection, True

    def _drop_connection(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._opened.remove(connection)
        self._local.connection = None


def _repeatable(path: str) -> bool:
    """Whether a request can be sent twice without thinking; creating a run cannot."""
    return not path.endswith("/runs/create")


def _message(answer: bytes) -> str:
    """What MLflow says in an error, "" where the answer is not MLflow's."""
    try:
        data = json.loads(answer)
        return f"{data['error_code']}: {data.get('message', '')}"[:500]
    except (ValueError, KeyError, TypeError):
        return ""


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _run(answer: Mapping[str, Any]) -> RemoteRun:
    info, data = answer["info"], answer.get("data", {})
    return RemoteRun(
        run_id=info["run_id"],
        artifact_uri=info["artifact_uri"],
        deleted=info.get("lifecycle_stage") == "deleted",
        tags={tag["key"]: tag["value"] for tag in data.get("tags", [])},
        num_metrics=len(data.get("metrics", [])),
    )


def _bytes_of(artifact: Artifact) -> bytes:
    if artifact.path is None:
        return (artifact.text or "").encode()
    try:
        return artifact.path.read_bytes()
    except FileNotFoundError as error:
        raise RefusedError(f"{artifact.path} is gone") from error
    except OSError as error:
        raise UnavailableError(str(error)) from error
