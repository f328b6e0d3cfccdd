"""What a beat is compared with: the RR intervals and the windows before it. State is carried from block to block."""

import bottleneck as bn
import numpy as np
import numpy.typing as npt

from configs.contract import RR_COLUMNS, FeatureSpec
from warehouse.signal.ecg import FloatArray, Int16Array

MIN_RR_INTERVALS = 3
MIN_TEMPLATE_BEATS = 5

_PREV, _NEXT, _MEDIAN, _P90 = (RR_COLUMNS.index(name) for name in ("rr_prev_s", "rr_next_s", "rr_median_s", "rr_p90_s"))


class RrContext:
    """RR columns of successive beats of one recording; all beats count, those without a window too."""

    def __init__(self, spec: FeatureSpec) -> None:
        self._median_beats = spec.rr_median_beats
        self._p90_beats = spec.rr_p90_beats
        self._past = np.empty(0, dtype=np.float64)

    def extend(self, rr_prev_s: npt.NDArray[np.float64]) -> FloatArray:
        """Context of the next beats.

        Args:
            rr_prev_s: (n,) seconds from the beat before; 0 where unknown.

        Returns:
            (n, 4), columns as `RR_COLUMNS`. `rr_next_s` of the last beat is 0: the next call's first `rr_prev_s`.
        """
        known = rr_prev_s > 0
        series = np.concatenate([self._past, rr_prev_s[known]])
        before = len(self._past) + np.cumsum(known) - known  # intervals known before rr_prev of each beat
        context = np.zeros((len(rr_prev_s), len(RR_COLUMNS)), dtype=np.float32)
        context[:, _PREV] = rr_prev_s
        context[:-1, _NEXT] = rr_prev_s[1:]
        context[:, _MEDIAN] = _at(_moving_percentile(series, self._median_beats, 0.5), before)
        context[:, _P90] = _at(_moving_percentile(series, self._p90_beats, 0.9), before)
        keep = max(self._median_beats, self._p90_beats)
        self._past = series[-keep:]
        return context


def _at(reference: npt.NDArray[np.float64], before: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The reference over the first `before` intervals; 0 where they are too few."""
    return np.where(before >= MIN_RR_INTERVALS, np.concatenate([[0.0], reference])[before], 0.0)


def _moving_percentile(series: npt.NDArray[np.float64], width: int, share: float) -> npt.NDArray[np.float64]:
    """Percentile (linear between ranks) of the last up to `width` values at each of (n,) places."""
    if not len(series):
        return series
    padded = np.concatenate([np.full(width - 1, np.inf), series])
    ranked = np.sort(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    rank = share * (np.minimum(np.arange(len(series)) + 1, width) - 1)
    lower = np.floor(rank).astype(np.int64)
    upper = np.ceil(rank).astype(np.int64)
    rows = np.arange(len(series))
    low, high = ranked[rows, lower], ranked[rows, upper]
    result: npt.NDArray[np.float64] = low + (high - low) * (rank - lower)
    return result


class RunningTemplate:
    """Median of the windows before each window: what this recording's beats have looked like lately.

    A lead's template is the median over those of the last `template_beats` windows in which that lead is usable.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._beats = spec.template_beats
        self._needed = min(MIN_TEMPLATE_BEATS, spec.template_beats)
        self._past = np.empty((0, spec.window_samples, spec.n_leads), dtype=np.int16)
        self._past_mask = np.empty((0, spec.n_leads), dtype=np.bool_)

    def extend(self, samples: Int16Array, mask: npt.NDArray[np.bool_]) -> tuple[Int16Array, Int16Array]:
        """Templates of the next windows; a window is never part of its own.

        Args:
            samples: (n, window_samples, leads) microvolts.
            mask: (n, leads), the lead is usable in that window.

        Returns:
            Templates, int16 (n, window_samples, leads) microvolts, and how many windows they were made of, int16
            (n,): the least of the leads usable in that window. Fewer than five: 0, and the template is zeros.
        """
        n, past = len(samples), len(self._past)
        template = np.zeros_like(samples)
        windows = np.concatenate([self._past, samples])
        usable = np.concatenate([self._past_mask, mask])
        self._past, self._past_mask = windows[-self._beats :], usable[-self._beats :]
        if not n:
            return template, np.zeros(0, dtype=np.int16)
        counts = np.zeros((n, mask.shape[1]), dtype=np.int64)
        for lead in range(mask.shape[1]):
            total = np.concatenate([[0], np.cumsum(usable[:, lead])])
            here = past + np.arange(n)
            counts[:, lead] = total[here] - total[np.maximum(0, here - self._beats)]
            if counts[:, lead].max() >= self._needed:
                template[:, :, lead] = self._median(windows[:, :, lead], usable[:, lead], past)
        least = np.where(mask, counts, self._beats).min(axis=1)
        absent = (least < self._needed) | ~mask.any(axis=1)
        template[absent] = 0
        return template, np.where(absent, 0, least).astype(np.int16)

    def _median(self, windows: Int16Array, usable: npt.NDArray[np.bool_], past: int) -> Int16Array:
        """Median of up to `template_beats` windows before each of the windows from `past` on, one lead."""
        values = windows.T.astype(np.float32)  # time along the fast axis
        values[:, ~usable] = np.nan
        medians = bn.move_median(values, min(self._beats, values.shape[1]), min_count=self._needed, axis=1)
        before = np.full((len(windows) - past, windows.shape[1]), np.nan, dtype=np.float32)
        shifted = medians[:, max(0, past - 1) : len(windows) - 1].T
        before[len(before) - len(shifted) :] = shifted
        return np.rint(np.nan_to_num(before)).astype(np.int16)
