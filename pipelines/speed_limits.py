"""What `make bench` is held to: a limit a figure, and what is aimed at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limit:
    """At most `limit`, or with `least` at least so much; `aim` is better still. None: there is none."""

    limit: float | None = None
    aim: float | None = None
    least: bool = False

    def __str__(self) -> str:
        sign = "≥" if self.least else "≤"
        told = [] if self.limit is None else [f"{sign} {self.limit:g}"]
        return ", ".join(told + ([] if self.aim is None else [f"aim {self.aim:g}"]))

    def verdict(self, value: float) -> str:
        """missed; ok; reached, which is the aim; or nothing where there is no limit."""
        if self.limit is not None and not self._holds(value, self.limit):
            return "missed"
        if self.aim is not None and self._holds(value, self.aim):
            return "reached"
        return "" if self.limit is None else "ok"

    def _holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.least else value <= bound


LIMITS: Mapping[str, Limit] = {
    "score_over_bare_model": Limit(0.7, 0.9, least=True),
    "score_over_alibi": Limit(3.0, 10.0, least=True),
    "score_over_pyod": Limit(3.0, 10.0, least=True),
    "holter_seconds": Limit(60.0, 20.0),
    "holter_over_ecg_peaks": Limit(),
    "holter_memory_24h_over_2h": Limit(1.2),
    "cost_16x_over_1x": Limit(1.1),
    "tfx_overhead_seconds": Limit(aim=60.0),
    "client_rest_over_in_process": Limit(),
    "client_grpc_over_in_process": Limit(),
    "post_score_over_client_p50": Limit(aim=1.5),
    "anomalies_10m_over_10k_p99": Limit(1.5),
    "anomalies_page_p99_ms": Limit(50.0),
    "load_errors": Limit(0.0),
    "release_failed_requests": Limit(0.0),
    "switch_p99_over_steady": Limit(2.0),
    "rollback_seconds": Limit(5.0),
    "bench_seconds": Limit(900.0),
}


def median_of(figure: Any) -> float | None:
    """The value that counts of a figure; None for what is none."""
    if isinstance(figure, Mapping):
        return float(figure["median"])
    return float(figure) if isinstance(figure, int | float) else None
