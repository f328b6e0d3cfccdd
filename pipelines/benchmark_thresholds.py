"""How even thresholds that follow a recording make false alarms, before and after some of its beats were reviewed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from components.calibration import PRESETS
from pipelines.benchmark_data import Dataset
from warehouse.signal.alarm_rate import own_thresholds
from warehouse.signal.ecg import FloatArray
from warehouse.signal.reviewed_threshold import beats_to_review

#: Reviewed beats a recording, one after the other.
REVIEWS = (0, 10, 20, 30, 50)
Verdicts = npt.NDArray[np.bool_]


def threshold_figures(data: Dataset, score: FloatArray) -> dict[str, dict[str, dict[str, float]]]:
    """By preset and number of reviews a recording: sensitivity, PPV, false alarms, and how even these are.

    Beats are reviewed in the order that `beats_to_review` asks for them, and what is said is the reference label.
    """
    recordings = [np.flatnonzero(data.recording == name) for name in np.unique(data.recording)]
    recordings = [rows[np.argsort(data.r_peak_s[rows], kind="stable")] for rows in recordings]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for rate in PRESETS:
        flagged = {n: np.zeros(len(data), np.bool_) for n in REVIEWS}
        for rows in recordings:
            own = score[rows].astype(np.float32)
            for n, verdicts in _as_reviewed(own, data.anomalous[rows], rate):
                flagged[n][rows] = verdicts
        found[f"{rate:g}"] = {str(n): _figures(data, verdicts, rate) for n, verdicts in flagged.items()}
    return found


def _as_reviewed(score: FloatArray, anomalous: Verdicts, rate: float) -> Iterator[tuple[int, Verdicts]]:
    """A recording's verdicts once so many of its beats were reviewed."""
    said = np.where(anomalous, -1, 1).astype(np.int8)
    reviewed = np.zeros(len(score), np.int8)
    for n in range(max(REVIEWS) + 1):
        if n in REVIEWS:
            yield n, score >= own_thresholds(score, rate, reviewed)
        chosen = beats_to_review(score, reviewed, reviewed != 0, rate, 1)
        reviewed[chosen] = said[chosen]


def _figures(data: Dataset, flagged: Verdicts, rate: float) -> dict[str, Any]:
    normal = ~data.anomalous
    rates = [flagged[(data.recording == name) & normal].mean() for name in np.unique(data.recording[normal])]
    return {
        "sensitivity": float(flagged[data.anomalous].mean()) if data.anomalous.any() else 0.0,
        "ppv": float(data.anomalous[flagged].mean()) if flagged.any() else 0.0,
        "false_alarm_rate": float(flagged[normal].mean()) if normal.any() else 0.0,
        "recordings_within_half_and_twice": float(np.mean([rate / 2 <= one <= rate * 2 for one in rates])),
    }
