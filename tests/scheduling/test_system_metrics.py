"""What a trial's machine is busy with: means since the last report, under MLflow's own names."""

from __future__ import annotations

import json
import time

from orchestrator.base.settings import ROOT_KEYS, launch_defaults
from orchestrator.journal.events import Reported, event_from
from orchestrator.scheduling.system_metrics import Machine, Sampler


def test_a_report_carries_the_means_since_the_one_before() -> None:
    moments = iter([{"cpu": 10.0}, {"cpu": 30.0, "gpu": 5.0}, {"cpu": 50.0}])
    sampler = Sampler(lambda: next(moments), period_s=0)
    assert sampler.take() == {"cpu": 10.0}
    sampler._look()
    assert sampler.take() == {"cpu": 40.0, "gpu": 5.0}


def test_a_thread_samples_between_reports() -> None:
    sampler = Sampler(lambda: {"one": 1.0}, period_s=0.01)
    deadline = time.monotonic() + 30
    while len(sampler._seen) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sampler.take() == {"one": 1.0}


def test_the_names_are_those_of_mlflow() -> None:
    found = Machine().sample()
    cpu = {"cpu_utilization_percentage", "system_memory_usage_megabytes", "system_memory_usage_percentage"}
    disk = {"disk_usage_percentage", "disk_usage_megabytes", "disk_available_megabytes"}
    network = {"network_receive_megabytes", "network_transmit_megabytes"}
    assert {key for key in found if not key.startswith("gpu_")} == cpu | disk | network
    assert 0 < found["system_memory_usage_percentage"] <= 100
    assert found["disk_available_megabytes"] > 0


def test_it_is_off_by_default_and_changes_no_result() -> None:
    assert launch_defaults()["system_metrics"] is False
    key = ROOT_KEYS["system_metrics"]
    assert (key.on_resume, key.computes, key.searchable) == ("free", False, False)


def test_a_report_of_an_earlier_version_has_none() -> None:
    event = event_from("reported", json.loads('{"epochs": []}'), 0)
    assert isinstance(event, Reported)
    assert event.system is None
