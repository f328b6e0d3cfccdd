"""Models that a process asks: loading, requests, batch sizes, retries. Series of a version go when the version does."""

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.metrics import DURATION_BUCKETS_S

_WINDOWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class ModelMetrics:
    """Label `model_version` is of the versions that are loaded: few. Safe to share between threads.

    What is told of a version that was forgotten, such as by a request that was under way, is not counted: it would
    leave a series for ever.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        version = ("model_version",)
        self._loads = Counter("ecg_model_loads", "Models loaded.", ("outcome",), registry=registry)
        self._load_duration = Gauge(
            "ecg_model_load_duration_seconds", "Loading a model, until it can answer.", version, registry=registry
        )
        self._requests = Histogram(
            "ecg_model_request_duration_seconds", "A model's answer, with retries where it is on a server.",
            ("model_version", "signature"), buckets=DURATION_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._windows = Histogram(
            "ecg_model_request_windows", "Windows a request.", ("model_version", "signature"),
            buckets=_WINDOWS_BUCKETS, registry=registry,
        )  # fmt: skip
        self._errors = Counter(
            "ecg_model_errors", "Requests that a model did not answer.", ("model_version", "error"), registry=registry
        )
        self._retries = Counter("ecg_model_retries", "Requests sent again.", version, registry=registry)
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def loaded(self, model_version: int, seconds: float) -> None:
        """A version can be asked from here on."""
        with self._lock:
            self._known.add(str(model_version))
            self._load_duration.labels(model_version).set(seconds)
            self._retries.labels(model_version)
        self._loads.labels("loaded").inc()

    def load_failed(self) -> None:
        self._loads.labels("failed").inc()

    def answered(self, model_version: int, signature: str, windows: int, seconds: float) -> None:
        """A version answered for so many windows."""
        with self._lock:
            if str(model_version) in self._known:
                self._requests.labels(model_version, signature).observe(seconds)
                self._windows.labels(model_version, signature).observe(windows)

    def failed(self, model_version: int, error: str) -> None:
        """A version did not answer; `error` is a class's name."""
        with self._lock:
            if str(model_version) in self._known:
                self._errors.labels(model_version, error).inc()

    def retried(self, model_version: int) -> None:
        """A request to a version was sent again."""
        with self._lock:
            if str(model_version) in self._known:
                self._retries.labels(model_version).inc()

    def forget(self, model_version: int) -> None:
        """A version is no longer asked: its series go."""
        with self._lock:
            self._known.discard(str(model_version))
            for metric in (self._load_duration, self._requests, self._windows, self._errors, self._retries):
                metric.remove_by_labels({"model_version": str(model_version)})
