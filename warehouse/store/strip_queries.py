"""Strips and overviews: the signal of a recording as it is drawn."""

import math
from dataclasses import dataclass

import numpy as np

from configs.contract import MV_PER_COUNT, FeatureSpec
from warehouse.signal.ecg import FloatArray, Int16Array
from warehouse.store.records import WindowSet
from warehouse.store.signal_queries import CHUNK_S, NO_SAMPLE, SignalQueries, envelope_of
from warehouse.store.window_queries import WindowQueries


@dataclass(frozen=True)
class Strip:
    """Part of a recording's signal, band-passed, at the windows' rate.

    Attributes:
        first_sample: of the recording; `first_sample / sampling_rate_hz` is seconds from its start.
        leads: names of the columns.
        samples_mv: float32 (n, leads), NaN where there is no sample.
    """

    first_sample: int
    sampling_rate_hz: float
    leads: tuple[str, ...]
    samples_mv: FloatArray


@dataclass(frozen=True)
class Overview:
    """Least and greatest of each step of `step_s` seconds from `start_s` on: float32 (n, leads), NaN where none."""

    start_s: float
    step_s: float
    leads: tuple[str, ...]
    low_mv: FloatArray
    high_mv: FloatArray


class StripQueries(SignalQueries, WindowQueries):
    """What is drawn. Where a recording has no stored signal, its windows stand in, with gaps between them."""

    def strip(self, window_set: WindowSet, spec: FeatureSpec, start_s: float, end_s: float) -> Strip:
        """The samples of [start_s, end_s), cut to the recording."""
        first, stop = _sample_range(window_set, spec, start_s, end_s)
        leads = _leads(window_set)
        counts = np.full((stop - first, len(leads)), NO_SAMPLE, np.int16)
        chunk = _second(spec) * CHUNK_S
        found = self.read_signal(window_set.window_set_id, first, stop, len(leads), chunk)
        for part in found:
            counts[part.first_sample - first : part.first_sample - first + len(part.samples)] = part.samples
        if not found and not self.has_signal([window_set.window_set_id]):
            self._fill_from_windows(counts, window_set, spec, first)
        return Strip(first, spec.sampling_rate_hz, leads, _millivolts(counts))

    def overview(
        self, window_set: WindowSet, spec: FeatureSpec, start_s: float, end_s: float, max_points: int
    ) -> Overview:
        """[start_s, end_s) in at most `max_points` steps; long ones are read from the stored envelope."""
        first, stop = _sample_range(window_set, spec, start_s, end_s)
        leads, second = _leads(window_set), _second(spec)
        step = max(1, math.ceil((stop - first) / max_points))
        if step >= 2 * second and self.has_signal([window_set.window_set_id]):
            seconds = math.ceil(step / second)
            first = first // second * second
            both = self._seconds(window_set, first, stop, len(leads), second)
            low, high = both[:, :, 0], both[:, :, 1]
            starts = np.arange(0, len(both), seconds)
            high = np.maximum.reduceat(high, starts, axis=0)
            low = np.minimum.reduceat(np.where(low == NO_SAMPLE, np.iinfo(np.int16).max, low), starts, axis=0)
            low = np.where(high == NO_SAMPLE, NO_SAMPLE, low)
            step = seconds * second
        else:
            strip = self.strip(window_set, spec, start_s, end_s)
            counts = np.where(np.isnan(strip.samples_mv), NO_SAMPLE, np.rint(strip.samples_mv / MV_PER_COUNT))
            both = envelope_of(counts.astype(np.int16), step)
            low, high = both[:, :, 0], both[:, :, 1]
        rate_hz = spec.sampling_rate_hz
        return Overview(first / rate_hz, step / rate_hz, leads, _millivolts(low), _millivolts(high))

    def _seconds(self, window_set: WindowSet, first: int, stop: int, n_leads: int, second: int) -> Int16Array:
        """int16 (seconds, leads, 2): least and greatest of each second from sample `first` on."""
        n = math.ceil((stop - first) / second)
        both = np.full((n, n_leads, 2), NO_SAMPLE, np.int16)
        for part in self.read_envelope(window_set.window_set_id, first, stop, n_leads, second * CHUNK_S):
            rows = part.samples.reshape(-1, n_leads, 2)
            at = (part.first_sample - first) // second
            low, high = max(0, -at), min(len(rows), n - at)
            if high > low:
                both[at + low : at + high] = rows[low:high]
        return both

    def _fill_from_windows(self, counts: Int16Array, window_set: WindowSet, spec: FeatureSpec, first: int) -> None:
        """Puts the windows' samples where they were cut from."""
        rate_hz, before = spec.sampling_rate_hz, 0 if spec.precut_samples else spec.before_samples
        margin_s = spec.window_samples / rate_hz
        span = first / rate_hz - margin_s, (first + len(counts)) / rate_hz + margin_s
        for first_id, stop_id in self.beats_between(window_set, *span):
            block = self.read_block(spec, first_id, stop_id, well_formed=True)
            slots = [slot for slot, lead in enumerate(window_set.lead_slots) if lead]
            for row in range(len(block)):
                at = round(block.r_peak_s[row] * rate_hz) - before - first
                low, high = max(0, -at), min(spec.window_samples, len(counts) - at)
                if high <= low:
                    continue
                for column, slot in enumerate(slots):
                    if block.lead_mask[row, slot]:
                        counts[at + low : at + high, column] = block.samples[row, low:high, slot]


def _leads(window_set: WindowSet) -> tuple[str, ...]:
    return tuple(lead for lead in window_set.lead_slots if lead)


def _second(spec: FeatureSpec) -> int:
    return max(1, round(spec.sampling_rate_hz))


def _sample_range(window_set: WindowSet, spec: FeatureSpec, start_s: float, end_s: float) -> tuple[int, int]:
    end_s = min(end_s, window_set.duration_s)
    first = max(0, math.ceil(start_s * spec.sampling_rate_hz - 1e-6))
    return first, max(first, math.ceil(end_s * spec.sampling_rate_hz - 1e-6))


def _millivolts(counts: Int16Array) -> FloatArray:
    values = counts.astype(np.float32) * np.float32(MV_PER_COUNT)
    values[counts == NO_SAMPLE] = np.nan
    return values
