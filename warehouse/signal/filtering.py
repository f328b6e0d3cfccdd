"""Zero-phase band-pass, bridging of lost samples, and time-anchored resampling.

Everything here is local: what a sample becomes depends on a few seconds around it. So a recording that is cut
into blocks with some seconds of margin gives the same result as the whole recording at once.
"""

import functools
import math

import bottleneck as bn
import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Butterworth orders of one pass; filtering both ways squares the gain. Two at the low edge leave the ST segment
#: alone; eight at the high edge take 50 Hz down to 15 % and 60 Hz to 1 % with the default edge of 45 Hz.
LOW_EDGE_ORDER = 2
HIGH_EDGE_ORDER = 8

#: Share of the Nyquist frequency that the high edge may reach when the recording's own rate is low.
HIGHEST_EDGE_OF_NYQUIST = 0.9

#: After this long the low edge's response (0.5 Hz, order 2) has died away to less than 1e-4.
SETTLE_S = 5.0

_ANCHOR_S = 1.0  # a gap is bridged between the medians of this much signal on either side
_LINE_S = 4.0  # bridge longer gaps by two levels and a ramp half way, out of the filter's reach
_RAMP_S = 1.0
_SPLINE_ORDER = 5
_SPLINE_OVERSAMPLING = 5.0  # samples a period of the highest frequency at which the spline errs by less than 3e-4
_NEGLIGIBLE_GAIN = 1e-3


def usable_band(band_hz: tuple[float, float], *, sampling_rate_hz: float) -> tuple[float, float]:
    """The band that a recording of this rate can fill: the high edge stays below its Nyquist frequency."""
    low, high = band_hz
    return low, min(high, HIGHEST_EDGE_OF_NYQUIST * sampling_rate_hz / 2)


def runs(flags: BoolArray) -> npt.NDArray[np.int64]:
    """Runs of True: int64 (n, 2), start and stop (one past the end) of each."""
    padded = np.zeros(len(flags) + 2, dtype=np.int8)
    padded[1:-1] = flags
    edges = np.flatnonzero(np.diff(padded))
    return edges.reshape(-1, 2).astype(np.int64)


def bridge(x: Float64Array, bad: BoolArray, *, sampling_rate_hz: float) -> Float64Array:
    """Replaces bad samples by a bridge that does not ring in the filters.

    Args:
        x: (n,) millivolts; may be NaN where bad.
        bad: (n,), True where `x` must not be used.
        sampling_rate_hz: of `x`.

    Returns:
        (n,) without NaN. A bridge leads from the median of the last second before to that of the first second
        after; over more than four seconds it holds each level and ramps half way. Zeros when all is bad.
    """
    if not bad.any():
        return x
    filled = np.where(bad, 0.0, x)
    anchor = max(1, round(_ANCHOR_S * sampling_rate_hz))
    stretches = runs(bad)
    for start, stop in stretches:
        before = _level(x[max(0, start - anchor) : start], bad[max(0, start - anchor) : start])
        after = _level(x[stop : stop + anchor], bad[stop : stop + anchor])
        if before is None and after is None:
            continue
        left = after if before is None else before
        right = before if after is None else after
        filled[start:stop] = _bridge_samples(left, right, stop - start, sampling_rate_hz)
    return filled


def _level(x: Float64Array, bad: BoolArray) -> float | None:
    good = x[~bad]
    return float(bn.median(good)) if len(good) else None


def _bridge_samples(left: float | None, right: float | None, n: int, sampling_rate_hz: float) -> Float64Array:
    ramp_s = min(_RAMP_S, n / sampling_rate_hz) if n > _LINE_S * sampling_rate_hz else n / sampling_rate_hz
    middle, half_ramp = n / 2, ramp_s * sampling_rate_hz / 2
    return np.interp(np.arange(n) + 0.5, [middle - half_ramp, middle + half_ramp], [left or 0.0, right or 0.0])


@functools.lru_cache(maxsize=32)
def _band_pass_sections(sampling_rate_hz: float, band_hz: tuple[float, float]) -> Float64Array:
    low, high = usable_band(band_hz, sampling_rate_hz=sampling_rate_hz)
    lowest = signal.butter(LOW_EDGE_ORDER, low, "highpass", fs=sampling_rate_hz, output="sos")
    highest = signal.butter(HIGH_EDGE_ORDER, high, "lowpass", fs=sampling_rate_hz, output="sos")
    return np.vstack([lowest, highest])


def zero_phase(sections: Float64Array, x: Float64Array, *, sampling_rate_hz: float) -> Float64Array:
    """Filters (n,) forwards and backwards, the ends extended by three seconds (or what there is)."""
    padding = min(len(x) - 1, round(3 * sampling_rate_hz))
    filtered: Float64Array = signal.sosfiltfilt(sections, x, padlen=max(0, padding))
    return filtered


def band_pass(x: Float64Array, *, sampling_rate_hz: float, band_hz: tuple[float, float]) -> Float64Array:
    """Zero-phase Butterworth band-pass of (n,) millivolts without NaN."""
    return zero_phase(_band_pass_sections(sampling_rate_hz, band_hz), x, sampling_rate_hz=sampling_rate_hz)


def resample(
    x: Float64Array,
    *,
    sampling_rate_hz: float,
    first_sample: int,
    target_rate_hz: float,
    target_first: int,
    target_n: int,
    highest_hz: float,
) -> Float64Array:
    """Samples a band-passed signal at another rate, both grids anchored at the recording's start.

    Sample k of a grid is at k / rate seconds, so a day at any ratio of rates does not drift. The band-pass
    already ended what lies above `highest_hz`; where its roll-off reaches too far for the target's rate, a linear
    phase FIR low-pass goes first. Between samples a quintic spline is taken, on a signal brought to at least five
    samples a period of `highest_hz` by a polyphase filter (for splines as interpolators: Unser 1999, IEEE Signal
    Processing Magazine 16(6)).

    Args:
        x: (n,), samples first_sample .. first_sample + n of the recording.
        sampling_rate_hz: of `x`.
        first_sample: index of `x[0]` in the recording.
        target_rate_hz: of the result.
        target_first: index of the result's first sample on the target's grid.
        target_n: samples wanted.
        highest_hz: high edge of the band-pass `x` went through.

    Returns:
        (target_n,).
    """
    x = _end_aliases(x, sampling_rate_hz, target_rate_hz, highest_hz)
    step = sampling_rate_hz / target_rate_hz
    if step == round(step):
        begin = target_first * round(step) - first_sample
        return x[begin : begin + (target_n - 1) * round(step) + 1 : round(step)] if target_n > 0 else x[:0]
    up = max(1, math.ceil(_SPLINE_OVERSAMPLING * highest_hz / sampling_rate_hz))
    if up > 1:
        x = signal.resample_poly(x, up, 1, window=_interpolator(up), padtype="edge")
    positions = ((target_first + np.arange(target_n)) * step - first_sample) * up
    values: Float64Array = ndimage.map_coordinates(x, positions[None, :], order=_SPLINE_ORDER, mode="mirror")
    return values


@functools.lru_cache(maxsize=32)
def _interpolator(up: int) -> Float64Array:
    taps: Float64Array = signal.firwin(2 * 48 * up + 1, 1 / up, window=("kaiser", 6.0))
    return taps


def _end_aliases(x: Float64Array, rate_hz: float, target_rate_hz: float, highest_hz: float) -> Float64Array:
    """Low-passes `x` when what would fold back below `highest_hz` is not negligible after the band-pass."""
    folds_hz = target_rate_hz - highest_hz
    if folds_hz >= rate_hz / 2 or (1 + (folds_hz / highest_hz) ** (2 * HIGH_EDGE_ORDER)) ** -1 < _NEGLIGIBLE_GAIN:
        return x
    taps = _anti_alias(rate_hz, target_rate_hz / 2, max(folds_hz - highest_hz, 0.05 * target_rate_hz))
    half = len(taps) // 2
    extended = np.pad(x, half, mode="edge")
    filtered: Float64Array = signal.oaconvolve(extended, taps, mode="valid")
    return filtered


@functools.lru_cache(maxsize=32)
def _anti_alias(rate_hz: float, cutoff_hz: float, width_hz: float) -> Float64Array:
    n_taps, beta = signal.kaiserord(60.0, width_hz / (rate_hz / 2))
    cutoff_hz = min(cutoff_hz, 0.99 * rate_hz / 2)
    taps: Float64Array = signal.firwin(n_taps | 1, cutoff_hz, window=("kaiser", beta), fs=rate_hz)
    return taps
