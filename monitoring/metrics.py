"""Prometheus metrics: prefix `ecg_`, base units, no patient, recording or window in a label.

A process makes one registry and hands it on; nothing is registered globally, so tests and tools that make several
services in one process do not meet.
"""

import platform
import tomllib
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from monitoring.machine import MachineCollector

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

#: Upper edges in seconds: a listing takes milliseconds, an explanation by the model some tens of them.
DURATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def platform_version() -> str:
    """This platform's version: of the checkout it runs from (pyproject.toml), which is never installed as a package."""
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    if not pyproject.is_file():
        return "0+unknown"
    return str(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"])


def new_registry(data_dir: Path | None = None) -> CollectorRegistry:
    """A registry with what every process reports: `ecg_build_info`, and its memory, CPU and open files.

    Args:
        data_dir: to report the machine too (`monitoring.machine`), with the disk that this folder is on.
    """
    registry = CollectorRegistry()
    build = Info("ecg_build", "What runs here.", registry=registry)
    build.info({"version": platform_version(), "python": platform.python_version()})
    ProcessCollector(namespace="ecg", registry=registry)
    if data_dir is not None:
        registry.register(MachineCollector(data_dir))
    return registry


class ApiMetrics:
    """Requests to the REST service.

    Labels: `route` is the route's template (`/anomalies/{anomaly_id}`) or `unmatched`, `method` an HTTP method or
    `other`, `status` the class of the status (`2xx`), `exception` a class's name: all of them are few.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("route", "method", "status")
        self._requests = Counter("ecg_api_requests", "Requests answered.", labels, registry=registry)
        self._duration = Histogram(
            "ecg_api_request_duration_seconds",
            "From the request's arrival to the end of its response.",
            labels,
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self._in_progress = Gauge(
            "ecg_api_requests_in_progress", "Requests that are being answered.", registry=registry
        )
        self._exceptions = Counter(
            "ecg_api_exceptions",
            "Requests that ended in a 5xx, by what was raised.",
            ("route", "exception"),
            registry=registry,
        )

    def request_started(self) -> None:
        self._in_progress.inc()

    def request_ended(
        self, *, route: str | None, method: str, status: int, duration_s: float, exception: str | None = None
    ) -> None:
        """Counts a request that `request_started` was called for.

        Args:
            route: its route's template; None when no route matched.
            exception: class of what made it a 5xx; None otherwise.
        """
        self._in_progress.dec()
        route = route or "unmatched"
        labels = (route, method if method in _METHODS else "other", f"{status // 100}xx")
        self._requests.labels(*labels).inc()
        self._duration.labels(*labels).observe(duration_s)
        if exception is not None:
            self._exceptions.labels(route, exception).inc()
