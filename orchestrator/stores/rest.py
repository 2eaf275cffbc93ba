"""MLflow's REST API to a server, without importing MLflow: one request, one attempt. The only way to http(s) addresses.

MLflow's own client would take 220 MB and 5 s of CPU, in the tracker and in a driver that verifies; and it asks for the history
of one metric of one run at a time, where the server can answer for a hundred runs at once.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from orchestrator.stores import artifacts
from orchestrator.stores.remote import CONNECTIONS, RUNS_A_PAGE
from orchestrator.stores.runs import (
    EXPERIMENT_TAGS,
    REFUSALS,
    Artifact,
    Metric,
    RefusedError,
    StoredRun,
    UnavailableError,
    chunks,
    local_folder,
    without_credentials,
)

if TYPE_CHECKING:
    import urllib3

TIMEOUT_S = 20.0
UPLOAD_TIMEOUT_S = 120.0
RUNS_A_HISTORY_CALL = 100
ROWS_A_CALL = 25_000
"""What MLflow's server answers at most for the histories of several runs."""


class Connection:
    """Open connections to one server, with the credentials, certificates and proxy that MLflow's own client would use."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self.name = without_credentials(uri)
        self._base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
        self._headers = _credentials(uri)
        self._pool = _pool(parts.scheme, parts.hostname or "")

    def request(
        self, method: str, path: str, body: bytes | None = None, *, timeout_s: float | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            UnavailableError: there is none.
        """
        import urllib3

        kind = "application/octet-stream" if "/mlflow-artifacts/" in path else "application/json"
        try:
            answer = self._pool.request(
                method,
                self._base + path,
                body=body,
                headers={"Content-Type": kind, **self._headers},
                timeout=timeout_s or TIMEOUT_S,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(f"no answer from {self.name} ({error})") from error
        return answer.status, answer.data

    def close(self) -> None:
        self._pool.clear()


def _pool(scheme: str, host: str) -> urllib3.PoolManager:
    import urllib3

    options: dict[str, Any] = {"maxsize": CONNECTIONS}
    if scheme == "https":
        options["ssl_context"] = _tls_context()
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


def _credentials(uri: str) -> dict[str, str]:
    """Those in the address, else those of MLflow's environment variables."""
    parts = urlsplit(uri)
    user = unquote(parts.username) if parts.username else os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = unquote(parts.password) if parts.password else os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if own := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(own)
    return context


class RestApi:
    """The requests of `Api`, to a server at `http(s)://host[:port][/prefix]`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._connection = Connection(uri)

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
        self._call("POST", "experiments/create", {"name": name, "tags": _pairs(EXPERIMENT_TAGS)})

    def search(self, experiment_id: str, condition: str) -> Iterator[StoredRun]:
        question = {
            "experiment_ids": [experiment_id],
            "filter": condition,
            "run_view_type": "ALL",
            "max_results": RUNS_A_PAGE,
        }
        while True:
            answer = self._call("POST", "runs/search", question)
            yield from map(_run, answer.get("runs", []))
            if not answer.get("next_page_token"):
                return
            question["page_token"] = answer["next_page_token"]

    def histories(self, runs: Sequence[StoredRun]) -> Iterator[tuple[str, Metric]]:
        for key in sorted({metric.key for run in runs for metric in run.latest}):
            steps = {run.run_id: metric.step for run in runs for metric in run.latest if metric.key == key}
            # Twice what is expected, so that a doubled history is not cut off.
            at_once = max(1, min(RUNS_A_HISTORY_CALL, ROWS_A_CALL // (2 * max(steps.values()) + 2)))
            for part in chunks(list(steps), at_once):
                yield from self._histories(part, key)

    def create_run(self, experiment_id: str, name: str, user: str, start_ms: int, tags: Mapping[str, str]) -> StoredRun:
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

    def upload(self, run: StoredRun, artifact: Artifact) -> None:
        folder = local_folder(run.artifact_uri)
        parts = urlsplit(run.artifact_uri)
        if folder is not None:
            artifacts.put(artifact, folder)
        elif parts.scheme == "mlflow-artifacts" and not parts.netloc:
            path = quote(f"{parts.path.strip('/')}/{artifact.name}")
            body = _bytes_of(artifact)
            self._accepted("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", body, UPLOAD_TIMEOUT_S)
        else:
            # A bucket that clients write themselves: MLflow's client knows how.
            from orchestrator.stores.client import ClientApi

            ClientApi(self.uri).upload(run, artifact)

    def close(self) -> None:
        self._connection.close()

    def _histories(self, run_ids: Sequence[str], key: str) -> Iterator[tuple[str, Metric]]:
        question = urlencode({"run_id": run_ids, "metric_key": key, "max_results": ROWS_A_CALL}, doseq=True)
        metrics = self._json("GET", f"/ajax-api/2.0/mlflow/metrics/get-history-bulk?{question}").get("metrics", [])
        if len(metrics) < ROWS_A_CALL:
            yield from ((metric["run_id"], _metric(metric)) for metric in metrics)
            return
        for run_id in run_ids:
            yield from ((run_id, metric) for metric in self._history(run_id, key))

    def _history(self, run_id: str, key: str) -> Iterator[Metric]:
        question: dict[str, Any] = {"run_id": run_id, "metric_key": key, "max_results": ROWS_A_CALL}
        while True:
            answer = self._call("GET", f"metrics/get-history?{urlencode(question)}")
            yield from map(_metric, answer.get("metrics", []))
            if not answer.get("next_page_token"):
                return
            question["page_token"] = answer["next_page_token"]

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        return self._json(method, f"/api/2.0/mlflow/{path}", data)

    def _json(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            decoded = json.loads(self._accepted(method, path, body) or b"{}")
        except ValueError as error:
            raise UnavailableError(f"{self._connection.name} does not answer like an MLflow server") from error
        if not isinstance(decoded, dict):
            raise UnavailableError(f"{self._connection.name} does not answer like an MLflow server")
        return decoded

    def _accepted(self, method: str, path: str, body: bytes | None, timeout_s: float | None = None) -> bytes:
        """The body of an answer that reports no error."""
        status, answer = self._connection.request(method, path, body, timeout_s=timeout_s)
        if status < 300:
            return answer
        code, message = _error(answer)
        if code in REFUSALS:
            raise RefusedError(message)
        raise UnavailableError(f"{self._connection.name} answers {status} {message}".rstrip())


def _error(answer: bytes) -> tuple[str, str]:
    """MLflow's error code and message, both empty where the answer is not MLflow's."""
    try:
        data = json.loads(answer)
        return data["error_code"], " ".join(f"{data['error_code']}: {data.get('message', '')}".split())[:500]
    except (ValueError, KeyError, TypeError):
        return "", ""


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _run(answer: Mapping[str, Any]) -> StoredRun:
    info, data = answer["info"], answer.get("data", {})
    return StoredRun(
        run_id=info["run_id"],
        name=info.get("run_name", ""),
        status=info["status"],
        start_ms=_number(info.get("start_time")),
        end_ms=_number(info.get("end_time")),
        deleted=info.get("lifecycle_stage") == "deleted",
        artifact_uri=info["artifact_uri"],
        tags={tag["key"]: tag["value"] for tag in data.get("tags", [])},
        params={param["key"]: param["value"] for param in data.get("params", [])},
        latest=tuple(sorted(map(_metric, data.get("metrics", [])))),
    )


def _metric(answer: Mapping[str, Any]) -> Metric:
    """Protobuf's JSON leaves zeros out and writes large integers as strings."""
    step, time_ms = int(answer.get("step", 0)), int(answer.get("timestamp", 0))
    return Metric(answer["key"], step, time_ms, float(answer.get("value", 0.0)))


def _number(value: Any) -> int | None:
    return None if value in (None, "") else int(value)


def _bytes_of(artifact: Artifact) -> bytes:
    if artifact.path is None:
        return (artifact.text or "").encode()
    try:
        return artifact.path.read_bytes()
    except FileNotFoundError as error:
        raise RefusedError(f"{artifact.path} is gone") from error
    except OSError as error:
        raise UnavailableError(str(error)) from error
