"""Signal quality: which samples of which lead cannot be used, and why; how good a window is; which leads look inverted.

Checks run at the recording's own rate, before anything is filtered away, on a grid of 0.1 s that is anchored at the
recording's start. Every check looks at most `CONTEXT_S` to either side, so blocks give what the whole would give.

A beat is only given up when it cannot be seen: mains and drift that the band-pass removes are no reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

from configs.contract import MV_PER_COUNT, FeatureSpec
from warehouse.signal.codes import AMPLITUDE, FLAT_LINE, GAP, LEAD_OFF, NOISE, SATURATION, USABLE, CodeArray
from warehouse.signal.ecg import FloatArray, Windows
from warehouse.signal.filtering import BoolArray, Float64Array, band_pass, bridge, runs, usable_band, zero_phase

#: No check looks further to either side than this, filters included.
CONTEXT_S = 5.0

GRID_S = 0.1
NOISE_GRID = 5  # grid cells in which noise is measured: 0.5 s

FLAT_S = 1.0  # a second that stays within FLAT_MV is no ECG; the stillest of MIT-BIH's pauses moves 0.045 mV
FLAT_MV = 0.015
STEP_MV, STEP_S = 0.05, 0.01  # equal samples only count when the signal changes so much just before or after them
STUCK_S = 0.2  # equal samples for so long: the last sample was held
CLIPPED_S = 0.025  # equal samples for so long at the local extreme: the converter's or amplifier's end
CLIPPED_RANGE_MV = 0.5
LONGEST_CLIP_S = 4.0
RAIL_MV = 4.0  # a line stuck as far out as this is at a rail, however long
LARGEST_MV = 32.0  # from the local median: as much as the store holds
LARGEST_FILTERED_MV = 20.0
NOISE_RATIO = 0.05  # median high-frequency amplitude over the QRS band's peak-to-peak, see `_noise_ratio`
NOISE_FLOOR_MV = 0.03
_GUARD_S = 0.05  # around a clipped stretch


@dataclass(frozen=True)
class Assessment:
    """What `assess` found in a stretch of n samples.

    Attributes:
        code: uint8 (n, leads), see `warehouse.signal.codes`; 0 where the lead can be used.
        filtered: float32 (n, leads), millivolts, bridged where lost and band-passed.
        grid_samples: samples a cell of the grid.
        in_band: (cells, leads), mean square of `filtered`.
        out_of_band: (cells, leads), mean and mean square of what the band-pass removed, stacked on axis 2.
        noise_ratio: (cells, leads), high-frequency noise over QRS amplitude; `NOISE_RATIO` hides the beat.
    """

    code: CodeArray
    filtered: FloatArray
    grid_samples: int
    in_band: Float64Array
    out_of_band: Float64Array
    noise_ratio: Float64Array

    def window_quality(
        self, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64], usable: BoolArray
    ) -> FloatArray:
        """Quality of windows [start, stop), 0 worst to 1 best: mean over the usable leads of two factors.

        In-band share: power the band-pass keeps over all power about the window's mean, which falls with baseline
        wander and mains (the baseline and power-spectrum indices of Zhao & Zhang 2018, Front. Physiol. 9:727).
        Noise headroom: 1 without high-frequency noise, 0 where it hides the beat (after the spectral index of
        Li, Mark & Clifford 2008, Physiol. Meas. 29:15-32).

        Args:
            start: (n,) first sample of each window.
            stop: (n,) one past the last.
            usable: (n, leads).

        Returns:
            float32 (n,); 0 where no lead is usable.
        """
        first, last = start // self.grid_samples, -(-stop // self.grid_samples)
        kept = _mean_between(self.in_band, first, last)
        removed = _mean_between(self.out_of_band, first, last)
        variance = np.maximum(removed[..., 1] - removed[..., 0] ** 2, 0.0)
        share = kept / np.maximum(kept + variance, 1e-12)
        headroom = 1 - np.clip(_mean_between(self.noise_ratio, first, last) / NOISE_RATIO, 0, 1)
        total = np.where(usable, share * headroom, 0.0).sum(axis=1)
        quality: FloatArray = np.clip(total / np.maximum(usable.sum(axis=1), 1), 0.0, 1.0).astype(np.float32)
        return quality

    def removed_levels(self, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]) -> Float64Array:
        """What the band-pass removed from [start, stop): its mean, and the root mean square of its fast part.

        A cell of 0.1 s holds whole periods of mains, so a cell's mean is the baseline, and what varies about it is not.

        Args:
            start: (n,) first sample of each stretch.
            stop: (n,) one past the last.

        Returns:
            float64 (n, leads, 2), millivolts.
        """
        level, square = self.out_of_band[..., 0], self.out_of_band[..., 1]
        parts = np.stack([level, np.maximum(square - level**2, 0.0)], axis=-1)
        found = _mean_between(parts, start // self.grid_samples, -(-stop // self.grid_samples))
        found[..., 1] = np.sqrt(found[..., 1])
        return found


def _mean_between(cells: Float64Array, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> Float64Array:
    total = np.concatenate([np.zeros_like(cells[:1]), np.cumsum(cells, axis=0)])
    last = np.minimum(last, len(cells))
    count = np.maximum(last - first, 1).reshape(-1, *[1] * (cells.ndim - 1))
    result: Float64Array = (total[last] - total[np.minimum(first, last)]) / count
    return result


def grid_samples(sampling_rate_hz: float) -> int:
    """Samples a cell of the quality grid."""
    return max(1, round(GRID_S * sampling_rate_hz))


def block_grid_samples(sampling_rate_hz: float) -> int:
    """A stretch must start at a multiple of this, counted from the recording's start, to be assessed like the whole."""
    return NOISE_GRID * grid_samples(sampling_rate_hz)


def assess(x: FloatArray, *, sampling_rate_hz: float, band_hz: tuple[float, float]) -> Assessment:
    """Assesses and band-passes a stretch of signal.

    Args:
        x: float32 (n, leads), n > 0, millivolts, NaN where there are no samples.
        sampling_rate_hz: of `x`.
        band_hz: the band-pass whose result is to be usable.

    Returns:
        Codes a sample, the filtered signal and what `Assessment.window_quality` needs. The first and last
        `CONTEXT_S` seconds can differ from what the whole recording would give.
    """
    grid = grid_samples(sampling_rate_hz)
    columns = [_assess_lead(column.astype(np.float64), sampling_rate_hz, grid, band_hz) for column in x.T]
    code = np.stack([column[0] for column in columns], axis=1)
    dead = (code == GAP) | (code == FLAT_LINE)
    others_go_on = (~dead).any(axis=1, keepdims=True)
    code[(code == FLAT_LINE) & others_go_on] = LEAD_OFF
    return Assessment(
        code=code,
        filtered=np.stack([column[1] for column in columns], axis=1),
        grid_samples=grid,
        in_band=np.stack([column[2] for column in columns], axis=1),
        out_of_band=np.stack([column[3] for column in columns], axis=1),
        noise_ratio=np.stack([column[4] for column in columns], axis=1),
    )


def _assess_lead(
    x: Float64Array, rate_hz: float, grid: int, band_hz: tuple[float, float]
) -> tuple[CodeArray, FloatArray, Float64Array, Float64Array, Float64Array]:
    code = _lost_samples(x, rate_hz, grid)
    bridged = bridge(x, _to_bridge(code, rate_hz), sampling_rate_hz=rate_hz)
    filtered = band_pass(bridged, sampling_rate_hz=rate_hz, band_hz=band_hz)
    cells = _cells(filtered, grid)
    huge = ndimage.maximum_filter1d(np.abs(cells).max(axis=1), 3) > LARGEST_FILTERED_MV
    ratio, noisy = _noise_ratio(filtered, rate_hz, NOISE_GRID * grid, usable_band(band_hz, sampling_rate_hz=rate_hz)[1])
    for flags, cell, reason in ((huge, grid, AMPLITUDE), (noisy, NOISE_GRID * grid, NOISE)):
        for start, stop in runs(flags).tolist():
            np.maximum(code[start * cell : stop * cell], reason, out=code[start * cell : stop * cell])
    removed = _cells(bridged - filtered, grid)
    out_of_band = np.stack([removed.mean(axis=1), (removed**2).mean(axis=1)], axis=1)
    in_band = (cells**2).mean(axis=1)
    return code, filtered.astype(np.float32), in_band, out_of_band, np.repeat(ratio, NOISE_GRID)[: len(cells)]


def _cells(x: Float64Array, cell: int) -> Float64Array:
    """(cells, cell): the stretch in cells, the last one filled up with its last sample."""
    missing = -len(x) % cell
    cells: Float64Array = (np.concatenate([x, np.full(missing, x[-1])]) if missing else x).reshape(-1, cell)
    return cells


def _lost_samples(x: Float64Array, rate_hz: float, grid: int) -> CodeArray:
    """Codes for what is wrong with the raw samples: gap, amplitude, saturation, flat line (not yet lead off)."""
    gap = ~np.isfinite(x)
    held = _hold(x, gap)
    cells = _cells(held, grid)
    middle = ndimage.median_filter(np.median(cells, axis=1), size=51, mode="nearest")
    level = np.repeat(middle, grid)[: len(x)]
    code = np.where(np.abs(held - level) > LARGEST_MV, AMPLITUDE, USABLE).astype(np.uint8)
    highest, lowest = cells.max(axis=1), cells.min(axis=1)
    no_sample = _cells(gap.astype(np.float64), grid).min(axis=1) > 0 if gap.any() else np.zeros(len(cells), np.bool_)
    still = _still(np.where(no_sample, np.inf, highest), lowest, round(FLAT_S / GRID_S))
    code[np.repeat(still & (np.abs(middle) < RAIL_MV), grid)[: len(x)]] = FLAT_LINE
    code[np.repeat(still & (np.abs(middle) >= RAIL_MV), grid)[: len(x)]] = SATURATION
    _mark_stuck(code, x, highest, lowest, rate_hz, grid)
    code[gap] = GAP
    return code


def _hold(x: Float64Array, gap: BoolArray) -> Float64Array:
    """Repeats the last sample before a gap (the first after, at the start), so that a gap adds no change."""
    if not gap.any():
        return x
    if gap.all():
        return np.zeros_like(x)
    last = np.maximum.accumulate(np.where(gap, -1, np.arange(len(x))))
    held: Float64Array = x[np.where(last < 0, np.argmin(gap), last)]
    return held


def _still(highest: Float64Array, lowest: Float64Array, width: int) -> BoolArray:
    """Cells that lie in some run of `width` cells within FLAT_MV, peak to peak."""
    if len(highest) < width:
        return np.full(len(highest), highest.max() - lowest.min() < FLAT_MV)
    spread = np.lib.stride_tricks.sliding_window_view(highest, width).max(
        axis=1
    ) - np.lib.stride_tricks.sliding_window_view(lowest, width).min(axis=1)
    change = np.zeros(len(highest) + 1, dtype=np.int64)
    starts = np.flatnonzero(spread < FLAT_MV)
    np.add.at(change, starts, 1)
    np.add.at(change, starts + width, -1)
    still: BoolArray = np.cumsum(change[:-1]) > 0
    return still


def _mark_stuck(
    code: CodeArray, x: Float64Array, highest: Float64Array, lowest: Float64Array, rate_hz: float, grid: int
) -> None:
    """Marks runs of equal samples: saturation at the local extreme or far out, flat line where a sample was held."""
    equal = runs(np.diff(x) == 0)
    equal = equal[equal[:, 1] - equal[:, 0] + 1 >= max(4, round(CLIPPED_S * rate_hz))]
    if not len(equal):
        return
    around = 2 * round(CONTEXT_S / GRID_S) - 1
    top = ndimage.maximum_filter1d(highest, around, mode="nearest")
    bottom = ndimage.minimum_filter1d(lowest, around, mode="nearest")
    guard, reach = round(_GUARD_S * rate_hz), max(1, round(STEP_S * rate_hz))
    for start, stop in equal.tolist():
        seconds, value, cell = (stop - start + 1) / rate_hz, x[start], start // grid
        at_end = value >= top[cell] - 1e-6 or value <= bottom[cell] + 1e-6
        clipped = at_end and top[cell] - bottom[cell] >= CLIPPED_RANGE_MV and seconds <= LONGEST_CLIP_S
        if seconds < STUCK_S and code[start] != USABLE:
            continue  # the converter's steps in a line that is flat already
        stepped = _step(x, start, stop, reach) > STEP_MV
        if (clipped and stepped) or (seconds >= STUCK_S and abs(value) >= RAIL_MV):
            code[max(0, start - guard) : stop + 1 + guard] = SATURATION
        elif seconds >= FLAT_S or (stepped and seconds >= STUCK_S):
            code[start : stop + 1] = FLAT_LINE


def _step(x: Float64Array, start: int, stop: int, reach: int) -> float:
    """Larger of the changes just before and just after samples start to stop, both included; small on a quiet line."""
    into = abs(x[start] - x[max(0, start - reach)])
    out_of = abs(x[min(len(x) - 1, stop + reach)] - x[stop])
    return float(np.fmax(into, out_of))


def _to_bridge(code: CodeArray, rate_hz: float) -> BoolArray:
    """Samples the filter must not see. Short clips stay: what is left of the beat is still where the beat is."""
    lost: BoolArray = code >= LEAD_OFF
    lost |= code == AMPLITUDE
    for start, stop in runs(code == SATURATION).tolist():
        if stop - start > (STUCK_S + 2 * _GUARD_S) * rate_hz:
            lost[start:stop] = True
    return lost


def _noise_ratio(filtered: Float64Array, rate_hz: float, cell: int, high_hz: float) -> tuple[Float64Array, BoolArray]:
    """High-frequency noise over QRS amplitude in cells of 0.5 s, and where it hides the beat.

    Noise is the median of |x| above 25 Hz, over three cells: QRS complexes fill too little of a cell to move a
    median. Amplitude is the peak-to-peak of 5-25 Hz over 2.5 s. Noise alone gives a ratio of about 0.07 to 0.1.
    Both are taken after the band-pass, so that mains only counts by what the band-pass leaves of it.
    """
    split_hz = min(25.0, 0.55 * high_hz)
    above = signal.butter(2, split_hz, "highpass", fs=rate_hz, output="sos")
    qrs = signal.butter(2, (0.2 * split_hz, split_hz), "bandpass", fs=rate_hz, output="sos")
    noise = np.median(np.abs(_cells(zero_phase(above, filtered, sampling_rate_hz=rate_hz), cell)), axis=1)
    noise = ndimage.uniform_filter1d(noise, 3, mode="nearest")
    band = _cells(zero_phase(qrs, filtered, sampling_rate_hz=rate_hz), cell)
    amplitude = ndimage.maximum_filter1d(band.max(axis=1), 5) - ndimage.minimum_filter1d(band.min(axis=1), 5)
    ratio = noise / np.maximum(amplitude, 1e-9)
    noisy = (ratio > NOISE_RATIO) & (noise > NOISE_FLOOR_MV)
    noisy = ndimage.binary_closing(np.pad(noisy, 2), structure=np.ones(3, dtype=bool))[2:-2]
    return np.where(noise > 1e-6, ratio, 0.0), noisy


@dataclass(frozen=True)
class RecordingNotes:
    """What a reader of the recording should know, though it was windowed as it is.

    Attributes:
        suspect_inverted: names of leads whose electrodes look swapped.
    """

    suspect_inverted: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The notes in words."""
        return [f"lead {name} looks inverted: QRS and T wave are negative" for name in self.suspect_inverted]


#: Leads in which QRS and T wave are upright in health; V1, V2, aVR, III, aVL have no polarity to rely on.
_UPRIGHT = frozenset({"I", "MLI", "II", "MLII", "ML2", "AVF", "V4", "MV4", "V5", "MV5", "CM5", "V6"})


def suspect_inverted(windows: Windows, leads: Sequence[str | None], spec: FeatureSpec) -> npt.NDArray[np.bool_]:
    """Leads that look wired the wrong way round: QRS mainly negative and the T wave negative too.

    A left axis or a bundle branch block makes the QRS negative, but then the T wave is upright. Looked at is the
    median beat of the windows in which the lead is usable, at least ten of them.

    Args:
        windows: some minutes of a recording.
        leads: name of the lead in each slot, None for an empty one.
        spec: the windows' geometry.

    Returns:
        bool (leads,); False for leads without a usual polarity, and for too few windows.
    """
    suspect = np.zeros(len(leads), dtype=np.bool_)
    rate_hz, r = spec.sampling_rate_hz, spec.before_samples
    for slot, name in enumerate(leads):
        rows = windows.samples[windows.lead_mask[:, slot], :, slot]
        if name is None or name.upper() not in _UPRIGHT or len(rows) < 10:
            continue
        beat = np.median(rows, axis=0) * MV_PER_COUNT
        beat -= np.median(beat)  # about its isoelectric line
        qrs = beat[max(0, r - round(0.08 * rate_hz)) : r + round(0.08 * rate_hz) + 1]
        t_wave = beat[r + round(0.16 * rate_hz) : r + round(0.4 * rate_hz)]
        if not len(t_wave):
            continue
        suspect[slot] = -qrs.min() > 1.5 * qrs.max() and -t_wave.min() > 1.5 * t_wave.max() and t_wave.min() < -0.05
    return suspect


def recording_notes(windows: Windows, leads: Sequence[str | None], spec: FeatureSpec) -> RecordingNotes:
    """Notes about the recording these windows are from; arguments as `suspect_inverted`."""
    flags = suspect_inverted(windows, leads, spec)
    return RecordingNotes(tuple(name for name, flag in zip(leads, flags, strict=True) if flag and name is not None))
