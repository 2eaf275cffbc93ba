"""Root keys beyond their types, tracking addresses and cluster addresses."""

from __future__ import annotations

import pytest

from orchestrator.config.settings import LocalTracking, RayCluster, ServerTracking, masked, settings_problems


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("trials", 0, "at least 1"), ("epochs", -1, "at least 1"), ("batch_size", 10**7, "at most 1,000,000"),
        ("seed", -1, "at least 0"), ("seed", 2**32, "at most 4,294,967,295"), ("max_concurrent", 0, "at least 1"),
        ("cpus_per_trial", 0, "above 0"), ("cpus_per_trial", 1.5, "whole above 1"), ("gpus_per_trial", -0.5, "at least 0"),
        ("time_budget_s", 0, "above 0"), ("max_retries", -1, "at least 0"), ("device", "gpu", "auto, cpu, cuda"),
        ("metric", "test/accuracy", "one of train/loss"), ("name", "a/b", "1 to 100 letters"),
    ],
)  # fmt: skip
def test_out_of_bounds(key: str, value: object, why: str) -> None:
    (problem,) = settings_problems({key: value})
    assert problem.key == key
    assert why in problem.why


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 2**32 - 1), ("gpus_per_trial", 0.1), ("gpus_per_trial", 2), ("device", "cuda:3"), ("name", None)],
)
def test_within_bounds(key: str, value: object) -> None:
    assert settings_problems({key: value}) == []


def test_keys_of_the_wrong_type_are_left_out() -> None:
    assert settings_problems({"trials": "many", "seed": -1}, wrong={"trials"})[0].key == "seed"


def test_mode_must_fit_the_metric() -> None:
    assert settings_problems({"metric": "val/loss", "mode": "min"}) == []
    assert "lower (mode=min)" in settings_problems({"metric": "val/loss", "mode": "max"})[0].why


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
    ServerTracking(uri="https://u:secret@host:5000/path")


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


def test_passwords_are_masked() -> None:
    assert masked("http://user:secret@host/x") == "http://user:***@host/x"
