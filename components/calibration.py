"""From a raw anomaly measure to a score that means something: -log10 of the share of normal beats that score as high.

A score of 1.5 is reached by 3% of held-out normal beats, a score of 3 by one in a thousand; so a threshold is a false
alarm rate. Inside the observed range the map follows the empirical quantiles; beyond it, where there are too few beats
to count, an exponential tail is fitted (peaks over threshold with zero shape: Pickands 1975), which keeps the order of
the most anomalous beats.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import DataInvalidError

#: False alarm rates that the card of every model names a threshold for.
PRESETS = (0.01, 0.03, 0.05, 0.1)

_TAIL_SHARES = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001)
_LEAST_BEATS_ABOVE = 15  # a quantile with fewer beats above it is noise; the fitted tail takes over


@dataclass(frozen=True)
class TailCalibration:
    """A piecewise-linear, strictly increasing map from raw measure to score.

    Attributes:
        raw: float64 (k,), strictly increasing.
        score: float64 (k,), strictly increasing, from 0.
        tail_slope: score a unit of raw beyond the last knot.
    """

    raw: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    tail_slope: float

    def __call__(self, raw: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Scores of raw measures (n,): 0 below all normal beats, never capped above."""
        inside = np.interp(raw, self.raw, self.score)
        beyond = np.maximum(np.asarray(raw, dtype=np.float64) - self.raw[-1], 0.0)
        return np.asarray(inside + beyond * self.tail_slope)


def fit_tail(raw_of_normals: npt.NDArray[np.floating[Any]], minimum: int = 50) -> TailCalibration:
    """Fits the map on held-out normal beats.

    Args:
        raw_of_normals: raw measures (n,), higher is more anomalous.
        minimum: fewest beats to calibrate on.

    Raises:
        DataInvalidError: too few beats, or measures that are not finite.
    """
    n = len(raw_of_normals)
    if n < minimum:
        raise DataInvalidError(
            "calibration split", f"has {n} normal windows, at least {minimum} are needed", "Ingest more recordings."
        )
    values = np.sort(np.asarray(raw_of_normals, dtype=np.float64))
    if not np.isfinite(values).all():
        raise DataInvalidError("model", "gives scores that are not finite on normal beats", "Lower the learning rate.")
    shares = [share for share in _TAIL_SHARES if share * n >= min(_LEAST_BEATS_ABOVE, 0.1 * n)]
    raw = np.concatenate([[values[0]], np.quantile(values, [1 - share for share in shares])])
    score = np.concatenate([[0.0], [-math.log10(share) for share in shares]])
    smallest_step = max(1e-6, 1e-6 * abs(raw[-1]))
    for i in range(1, len(raw)):  # ties in the data must not make the map flat
        raw[i] = max(raw[i], raw[i - 1] + smallest_step)
    excess = values[values > raw[-1]] - raw[-1]
    mean_excess = float(excess.mean()) if len(excess) else float(raw[-1] - raw[0]) / 10
    return TailCalibration(raw, score, 1.0 / (math.log(10) * max(mean_excess, smallest_step)))


def threshold_at(false_alarm_rate: float) -> float:
    """The score that a share `false_alarm_rate` of normal beats reaches."""
    return -math.log10(false_alarm_rate)
