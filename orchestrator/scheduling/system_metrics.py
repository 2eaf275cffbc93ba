"""What the machine of a trial is busy with, sampled by a thread of its worker where a sweep asks for `system_metrics`.

The names are those of MLflow's own system metrics, without `system/`; each report carries the means since the one before.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import statistics
import threading
from collections.abc import Callable
from typing import Any

PERIOD_S = 1.0
MEGABYTE = 1e6


class Sampler:
    """Samples once a period until the process ends, and once more whenever it is asked.

    Args:
        sample: gives the numbers of a moment.
        period_s: no thread where it is 0.
    """

    def __init__(self, sample: Callable[[], dict[str, float]], *, period_s: float = PERIOD_S) -> None:
        self._sample, self._period_s = sample, period_s
        self._seen: list[dict[str, float]] = []
        self._lock = threading.Lock()
        if period_s:
            threading.Thread(target=self._watch, name="system metrics", daemon=True).start()

    def take(self) -> dict[str, float]:
        """The mean of each number since the last call; one that could not be read is left out."""
        self._look()
        with self._lock:
            seen, self._seen = self._seen, []
        keys = dict.fromkeys(key for one in seen for key in one)
        return {key: statistics.fmean(one[key] for one in seen if key in one) for key in keys}

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._period_s):
            self._look()

    def _look(self) -> None:
        found = self._sample()
        with self._lock:
            self._seen.append(found)


def sampler() -> Sampler:
    """That of this process; what it saw before the trial that asks for it is forgotten."""
    found = _of_this_process()
    found.take()
    return found


@functools.cache
def _of_this_process() -> Sampler:
    return Sampler(Machine().sample)


class Machine:
    """Reads the numbers of this machine; what cannot be read, in a container or without a driver, is left out."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._gpus: list[Any] = []
        with contextlib.suppress(Exception):  # whatever is missing: the package, the driver, a GPU
            self._nvml = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._gpus = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        self._network = self._transferred()
        self.sample()  # the first share of a CPU is since the process began

    def sample(self) -> dict[str, float]:
        """The numbers of now, by MLflow's names."""
        import psutil

        found: dict[str, float] = {}
        with contextlib.suppress(psutil.Error, OSError):
            found["cpu_utilization_percentage"] = psutil.cpu_percent()
            memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
            found["system_memory_usage_megabytes"] = memory.used / MEGABYTE
            found["system_memory_usage_percentage"] = memory.used / memory.total * 100
            found["disk_usage_percentage"] = disk.percent
            found["disk_usage_megabytes"] = disk.used / MEGABYTE
            found["disk_available_megabytes"] = disk.free / MEGABYTE
        received, sent = self._transferred()
        found["network_receive_megabytes"] = (received - self._network[0]) / MEGABYTE
        found["network_transmit_megabytes"] = (sent - self._network[1]) / MEGABYTE
        for index, gpu in enumerate(self._gpus):
            with contextlib.suppress(Exception):  # of the driver
                found |= self._of_gpu(index, gpu)
        return found

    def _of_gpu(self, index: int, gpu: Any) -> dict[str, float]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu)
        return {
            f"gpu_{index}_memory_usage_percentage": memory.used / memory.total * 100,
            f"gpu_{index}_memory_usage_megabytes": memory.used / MEGABYTE,
            f"gpu_{index}_utilization_percentage": float(self._nvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
            f"gpu_{index}_power_usage_watts": self._nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
        }

    @staticmethod
    def _transferred() -> tuple[int, int]:
        """Bytes received and sent since the machine began."""
        import psutil

        with contextlib.suppress(psutil.Error, OSError):
            counters = psutil.net_io_counters()
            if counters is not None:
                return counters.bytes_recv, counters.bytes_sent
        return 0, 0
