"""What a beat is compared with: the RR intervals and the windows before it. State is carried from block to block."""

from typing import Any

import bottleneck as bn
import numpy as np
import numpy.typing as npt

from configs.contract import RR_COLUMNS, FeatureSpec
from warehouse.signal.ecg import FloatArray, Int16Array

MIN_RR_INTERVALS = 3
MIN_CHANGES = 5
MIN_TEMPLATE_BEATS = 5

_PREV, _NEXT, _MEDIAN, _P90, _SPREAD = (
    RR_COLUMNS.index(name) for name in ("rr_prev_s", "rr_next_s", "rr_median_s", "rr_p90_s", "rr_spread")
)


class RrContext:
    """RR columns of successive beats of one recording; all beats count, those without a window too."""

    def __init__(self, spec: FeatureSpec) -> None:
        self._median_beats = spec.rr_median_beats
        self._p90_beats = spec.rr_p90_beats
        self._past = np.empty(0, dtype=np.float64)  # known intervals, seconds
        self._past_change = np.empty(0, dtype=np.float64)  # |log(interval / its rr_median)|; NaN without a median

    def extend(self, rr_prev_s: npt.NDArray[np.float64]) -> FloatArray:
        """Context of the next beats.

        Args:
            rr_prev_s: (n,) seconds from the beat before; 0 where unknown.

        Returns:
            (n, 5), columns as `RR_COLUMNS`. `rr_next_s` of the last beat is 0: the next call's first `rr_prev_s`.
        """
        known = rr_prev_s > 0
        series = np.concatenate([self._past, rr_prev_s[known]])
        before = len(self._past) + np.cumsum(known) - known  # intervals known before rr_prev of each beat
        median = _at(_moving_percentile(series, self._median_beats, 0.5), before)
        context = np.zeros((len(rr_prev_s), len(RR_COLUMNS)), dtype=np.float32)
        context[:, _PREV] = rr_prev_s
        context[:-1, _NEXT] = rr_prev_s[1:]
        context[:, _MEDIAN] = median
        context[:, _P90] = _at(_moving_percentile(series, self._p90_beats, 0.9), before)
        with np.errstate(divide="ignore"):
            change = np.where(median > 0, np.abs(np.log(rr_prev_s / np.where(median > 0, median, 1))), np.nan)[known]
        changes = np.concatenate([self._past_change, change])
        context[:, _SPREAD] = _at(_moving_spread(changes, self._p90_beats), before)
        keep = max(self._median_beats, self._p90_beats)
        self._past, self._past_change = series[-keep:], changes[-keep:]
        return context


def comes_early(rr: npt.NDArray[np.floating[Any]], spec: FeatureSpec) -> npt.NDArray[np.bool_]:
    """Which beats came early for their recording's recent rhythm, and so do not enter its running template.

    Args:
        rr: (n, 5), columns as `RR_COLUMNS`; where an interval or its reference is unknown a beat is not early.
    """
    previous, least_of_median, least_of_p90 = rr[:, _PREV], *spec.template_min_rr
    early = (previous < least_of_median * rr[:, _MEDIAN]) | (previous < least_of_p90 * rr[:, _P90])
    return np.asarray(early & (previous > 0))


def _at(reference: npt.NDArray[np.float64], before: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The reference over the first `before` intervals; 0 where they are too few."""
    return np.where(before >= MIN_RR_INTERVALS, np.concatenate([[0.0], reference])[before], 0.0)


def _moving_spread(changes: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Median of the last up to `width` values at each of (n,) places; 0 where fewer than five are known."""
    if len(changes) < MIN_CHANGES:
        return np.zeros_like(changes)
    spread: npt.NDArray[np.float64] = bn.move_median(changes, min(width, len(changes)), min_count=MIN_CHANGES)
    return np.asarray(np.nan_to_num(spread))


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
    """What this recording's beats have looked like lately: the median of the beats before that did not come early.

    A lead's template is the median over the last `template_beats` such windows in which that lead is usable.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._spec = spec
        self._needed = min(MIN_TEMPLATE_BEATS, spec.template_beats)
        shape = (0, spec.window_samples)
        self._past = [np.empty(shape, dtype=np.float32) for _ in range(spec.n_leads)]  # a lead each, as they came

    def extend(self, samples: Int16Array, mask: npt.NDArray[np.bool_], rr: FloatArray) -> tuple[Int16Array, Int16Array]:
        """Templates of the next windows; a window is never part of its own.

        Args:
            samples: (n, window_samples, leads) microvolts.
            mask: (n, leads), the lead is usable in that window.
            rr: (n, 5), columns as `RR_COLUMNS`.

        Returns:
            Templates, int16 (n, window_samples, leads) microvolts, and how many windows they were made of, int16
            (n,): the least of the leads usable in that window. Fewer than five: 0, and the template is zeros.
        """
        template = np.zeros_like(samples)
        counts = np.full(mask.shape, self._spec.template_beats)
        enters = mask & ~comes_early(rr, self._spec)[:, None]
        for lead in range(mask.shape[1]):
            template[:, :, lead], counts[:, lead] = self._extend_lead(lead, samples[:, :, lead], enters[:, lead])
        least = np.where(mask, counts, self._spec.template_beats).min(axis=1, initial=self._spec.template_beats)
        absent = (least < self._needed) | ~mask.any(axis=1)
        template[absent] = 0
        return template, np.where(absent, 0, least).astype(np.int16)

    def _extend_lead(
        self, lead: int, samples: Int16Array, enters: npt.NDArray[np.bool_]
    ) -> tuple[Int16Array, npt.NDArray[np.int64]]:
        """Median of the windows that entered before each one, (n, window_samples), and their number (n,)."""
        past = self._past[lead]
        windows = np.concatenate([past, samples[enters].astype(np.float32)])
        self._past[lead] = windows[-self._spec.template_beats :]
        before = len(past) + np.cumsum(enters) - enters
        template = np.zeros_like(samples)
        ready = before >= self._needed
        if ready.any():
            # Time along the fast axis.
            width = min(self._spec.template_beats, len(windows))
            medians = bn.move_median(np.ascontiguousarray(windows.T), width, min_count=self._needed, axis=1).T
            template[ready] = np.rint(medians[before[ready] - 1]).astype(np.int16)
        return template, np.minimum(before, self._spec.template_beats)
