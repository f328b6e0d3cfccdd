"""The machine a process runs on: disk, load, memory, and GPUs where there are some."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_GPU_FIELDS = "index,utilization.gpu,memory.used,memory.total"
_GPU_EVERY_S = 15.0


class MachineCollector(Collector):
    """Read anew at each scrape, but for the GPUs, which another program is asked about.

    Args:
        data_dir: whose disk is told of.
        nvidia_smi: where NVIDIA's program is; None looks on PATH, and tells of no GPU where there is none.
    """

    def __init__(
        self, data_dir: Path, *, nvidia_smi: str | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._data_dir = data_dir
        self._nvidia_smi = nvidia_smi or shutil.which("nvidia-smi")
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._gpus: tuple[float, list[Metric]] | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing is promised: GPUs come and go."""
        return ()

    def collect(self) -> Iterable[Metric]:
        there = next(path for path in (self._data_dir, *self._data_dir.absolute().parents) if path.exists())
        disk = shutil.disk_usage(there)
        yield _gauge("ecg_disk_free_bytes", "Left on the disk of the data directory.", disk.free)
        yield _gauge("ecg_disk_size_bytes", "Size of that disk.", disk.total)
        load = GaugeMetricFamily("ecg_load_average", "Processes that run or wait to.", labels=["minutes"])
        for minutes, value in zip(("1", "5", "15"), os.getloadavg(), strict=True):
            load.add_metric([minutes], value)
        yield load
        yield _gauge("ecg_cpu_cores", "Cores this process may use.", len(os.sched_getaffinity(0)))
        yield from _memory()
        yield from self._gpu_metrics()

    def _gpu_metrics(self) -> list[Metric]:
        if self._nvidia_smi is None:
            return []
        with self._lock:
            now = self._monotonic()
            if self._gpus is None or now - self._gpus[0] >= _GPU_EVERY_S:
                self._gpus = (now, _read_gpus(self._nvidia_smi))
            return self._gpus[1]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _memory() -> Iterable[Metric]:
    found = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        found[name] = int(value.split()[0]) * 1024
    yield _gauge("ecg_memory_available_bytes", "Memory that can be had without swapping.", found["MemAvailable"])
    yield _gauge("ecg_memory_size_bytes", "Memory of the machine.", found["MemTotal"])


def _read_gpus(nvidia_smi: str) -> list[Metric]:
    """What nvidia-smi says of each GPU; nothing where it fails, as it does without a driver."""
    try:
        done = subprocess.run(
            [nvidia_smi, f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
        rows = [[float(value) for value in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    busy = GaugeMetricFamily("ecg_gpu_utilization_ratio", "Share of the time a GPU worked.", labels=["gpu"])
    used = GaugeMetricFamily("ecg_gpu_memory_used_bytes", "Memory of a GPU in use.", labels=["gpu"])
    size = GaugeMetricFamily("ecg_gpu_memory_size_bytes", "Memory of a GPU.", labels=["gpu"])
    for index, utilization, memory_used, memory_total in rows:
        gpu = [str(int(index))]
        busy.add_metric(gpu, utilization / 100)
        used.add_metric(gpu, memory_used * 2**20)
        size.add_metric(gpu, memory_total * 2**20)
    return [busy, used, size]
