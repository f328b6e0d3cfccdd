"""What a scorer does with windows: how many come, what becomes of them, how long each stage takes, how scores lie."""

import threading

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from monitoring.metrics import DURATION_BUCKETS_S

#: Upper edges of the score's histogram: -log10 of the share of normal beats that score as high; thresholds: some 1.5.
SCORE_BUCKETS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
_BLOCK_BUCKETS = (1, 16, 64, 256, 1024, 2048, 4096, 8192, 16384)


class ScorerMetrics:
    """Label `model_version` is of the versions that this scorer scores with: series of others go. Thread-safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        of = ("model_version", "shadow")
        self._windows_in = Counter("ecg_scorer_windows_in", "Windows read to be scored.", of, registry=registry)
        self._windows = Counter(
            "ecg_scorer_windows", "Windows whose outcome was committed: scored, or failed.", (*of, "outcome"),
            registry=registry,
        )  # fmt: skip
        self._flagged = Counter(
            "ecg_scorer_windows_flagged", "Scored windows that were flagged.", of, registry=registry
        )
        self._block = Histogram(
            "ecg_scorer_block_windows", "Windows a block.", of, buckets=_BLOCK_BUCKETS, registry=registry
        )
        self._stages = Histogram(
            "ecg_scorer_stage_duration_seconds", "A block's time in a stage: read, model, commit.", (*of, "stage"),
            buckets=DURATION_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._waits = Counter(
            "ecg_scorer_interruptions", "Times that something was not available and was waited for.", ("error",),
            registry=registry,
        )  # fmt: skip
        self._scores = ScoreHistogram()
        registry.register(self._scores)
        self._labelled = (self._windows_in, self._windows, self._flagged, self._block, self._stages)

    def begin(self, model_version: int, *, shadow: bool) -> None:
        """A version is scored with from here on: its counters are there, at 0."""
        labels = (str(model_version), str(shadow).lower())
        self._windows_in.labels(*labels)
        self._flagged.labels(*labels)
        for outcome in ("scored", "failed"):
            self._windows.labels(*labels, outcome)
        self._scores.observe(labels, np.zeros(0, np.float32))

    def stage(self, model_version: int, stage: str, seconds: float, *, shadow: bool) -> None:
        """A block took so long in a stage."""
        self._stages.labels(model_version, str(shadow).lower(), stage).observe(seconds)

    def block(
        self,
        model_version: int,
        score: npt.NDArray[np.float32],
        verdict: npt.NDArray[np.bool_],
        unreadable: int,
        *,
        shadow: bool,
    ) -> None:
        """The model answered for a block: scores and verdicts (n,), beside windows that could not be read."""
        labels = (str(model_version), str(shadow).lower())
        self._windows_in.labels(*labels).inc(len(score) + unreadable)
        self._flagged.labels(*labels).inc(int(verdict.sum()))
        self._block.labels(*labels).observe(len(score))
        self._scores.observe(labels, score[np.isfinite(score)])

    def committed(self, model_version: int, scored: int, failed: int, *, shadow: bool) -> None:
        """Outcomes are in the database."""
        labels = (str(model_version), str(shadow).lower())
        self._windows.labels(*labels, "scored").inc(scored)
        self._windows.labels(*labels, "failed").inc(failed)

    def interrupted(self, error: str) -> None:
        """Something was not available; `error` is a class's name."""
        self._waits.labels(error).inc()

    def forget(self, model_version: int) -> None:
        """A version is no longer scored with: its series go."""
        for metric in self._labelled:
            metric.remove_by_labels({"model_version": str(model_version)})
        self._scores.forget(str(model_version))


class ScoreHistogram(Collector):
    """`ecg_scorer_score`: counts a block of scores at once, which the library's own histogram does one by one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], npt.NDArray[np.int64]] = {}
        self._sums: dict[tuple[str, str], float] = {}

    def observe(self, labels: tuple[str, str], score: npt.NDArray[np.float32]) -> None:
        """Counts finite scores (n,) of a version, in shadow or not."""
        bins = np.searchsorted(np.asarray(SCORE_BUCKETS, np.float32), score, side="left")  # an upper edge is in its bin
        counts = np.bincount(bins, minlength=len(SCORE_BUCKETS) + 1)
        with self._lock:
            self._counts[labels] = self._counts.get(labels, 0) + counts
            self._sums[labels] = self._sums.get(labels, 0.0) + float(score.sum(dtype=np.float64))

    def forget(self, model_version: str) -> None:
        """A version's counts go."""
        with self._lock:
            for labels in [labels for labels in self._counts if labels[0] == model_version]:
                del self._counts[labels], self._sums[labels]

    def describe(self) -> list[Metric]:
        return self.collect()

    def collect(self) -> list[Metric]:
        family = HistogramMetricFamily("ecg_scorer_score", "Scores given.", labels=["model_version", "shadow"])
        edges = [str(edge) for edge in SCORE_BUCKETS] + ["+Inf"]
        with self._lock:
            for labels, counts in self._counts.items():
                buckets = list(zip(edges, np.cumsum(counts).astype(float).tolist(), strict=True))
                family.add_metric(list(labels), buckets, self._sums[labels])
        return [family]
