"""Addresses of tracking stores and clusters."""

from __future__ import annotations

import pytest

from orchestrator.config.settings import LocalTracking, RayCluster, ServerTracking


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("htp://host", "http:// or https://"), ("http://", "name a host"), ("host:5000", "http:// or https://"),
        ("postgresql://u:secret@h/db", "tracking=local"), ("http://h:99999", "Port out of range"), ("", "http:// or https://"),
    ],
)  # fmt: skip
def test_server_addresses(uri: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        ServerTracking(uri=uri)
    assert "secret" not in str(caught.value)
    ServerTracking(uri="https://host:5000/path")


@pytest.mark.parametrize("uri", ["sqlite:///relative.db", "file:///tmp/x", "http://host", "sqlite:////", "mlflow.db"])
def test_database_addresses(uri: str) -> None:
    with pytest.raises(ValueError, match=r"^uri "):
        LocalTracking(uri=uri)
    assert LocalTracking(uri="sqlite:////tmp/mlflow.db").kind == "local"


def test_artifacts_are_absolute() -> None:
    with pytest.raises(ValueError, match="artifacts must be an absolute folder, got here"):
        LocalTracking(artifacts="here")


@pytest.mark.parametrize("address", ["", "host", "http://host:1", "host:port"])
def test_cluster_addresses(address: str) -> None:
    with pytest.raises(ValueError, match="host:port or auto"):
        RayCluster(address=address)
    assert RayCluster("10.0.0.1:6379").kind == RayCluster("auto").kind == "ray"


@pytest.mark.parametrize("uri", ["http://user:secret@host/x", "http://host?token=secret", "http://secret@host"])
def test_an_address_with_credentials_is_refused_without_showing_them(uri: str) -> None:
    with pytest.raises(ValueError, match=r"must hold no credentials.*MLFLOW_TRACKING_PASSWORD") as refused:
        ServerTracking(uri=uri)
    assert "secret" not in str(refused.value)
