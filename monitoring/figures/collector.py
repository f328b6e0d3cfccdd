"""The figures as a Prometheus collector: read from the databases once in a while, however many ask."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from configs.errors import EcgError
from configs.logging import get_logger
from monitoring.figures.base import FigureContext, Figures, Gauges


class FiguresCollector(Collector):
    """Reads all groups of figures; what it read is given to everybody who asks within `cache_s`.

    Who asks while they are read waits for them. A group that cannot be read has no series, but `ecg_figures_up` 0: no
    old value passes for a new one.

    Args:
        read_context: what groups are handed, made anew each time.
        groups: by name.
        monotonic: seconds; the wall clock may jump, this one does not.
    """

    def __init__(
        self,
        read_context: Callable[[], FigureContext],
        groups: Mapping[str, Figures],
        *,
        cache_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_context = read_context
        self._groups = groups
        self._cache_s = cache_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._metrics: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Nothing is promised: registering must not read the databases."""
        return ()

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            now = self._monotonic()
            if self._read_at is None or now - self._read_at >= self._cache_s:
                self._metrics = self._read()
                self._read_at = self._monotonic()
            metrics = self._metrics
        return iter(metrics)

    def _read(self) -> list[Metric]:
        state = Gauges()
        state.describe("ecg_figures_up", "1 if a group of figures could be read from the databases.", "group")
        state.describe("ecg_figures_duration_seconds", "How long that took.", "group")
        metrics: list[Metric] = []
        try:
            context = self._read_context()
        except EcgError as error:
            get_logger("exporter").error("figures_not_read", error=str(error))
            for name in self._groups:
                state.set("ecg_figures_up", 0, name)
            return list(state.families())
        for name, figures in self._groups.items():
            started = time.perf_counter()
            try:
                metrics += list(figures(context))
                up = 1
            except Exception as error:  # noqa: BLE001 - one group must not take the others with it
                get_logger("exporter").error(
                    "figures_not_read", group=name, error=str(error), exc_info=not isinstance(error, EcgError)
                )
                up = 0
            state.set("ecg_figures_up", up, name)
            state.set("ecg_figures_duration_seconds", time.perf_counter() - started, name)
        return [*metrics, *state.families()]
