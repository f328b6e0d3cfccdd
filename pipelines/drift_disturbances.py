"""MIT-BIH records as a device with a fault would have sent them, from the start or from some moment on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from pipelines.benchmark_data import ArraySource
from warehouse.signal.ecg import FloatArray, RecordingHeader
from warehouse.signal.readers import find_sources, open_source

GAIN = 1.5
MAINS_MV, MAINS_HZ = 0.1, 60.0  # amplitude
WANDER_MV, WANDER_HZ = 0.5, 0.3
SECOND_RATE_HZ = 250.0


def _gain(x: FloatArray, time_s: FloatArray) -> FloatArray:
    louder: FloatArray = x * np.float32(GAIN)
    return louder


def _mains(x: FloatArray, time_s: FloatArray) -> FloatArray:
    return _with_sine(x, time_s, MAINS_MV, MAINS_HZ)


def _wander(x: FloatArray, time_s: FloatArray) -> FloatArray:
    return _with_sine(x, time_s, WANDER_MV, WANDER_HZ)


def _with_sine(x: FloatArray, time_s: FloatArray, amplitude_mv: float, frequency_hz: float) -> FloatArray:
    added: FloatArray = x + np.float32(amplitude_mv) * np.sin(2 * np.pi * frequency_hz * time_s[:, None]).astype("f4")
    return added


def _swapped(x: FloatArray, time_s: FloatArray) -> FloatArray:
    return x[:, ::-1]


Change = Callable[[FloatArray, FloatArray], FloatArray]

#: Disturbances of the signal by name: what is done to samples (n, leads) at times (n,).
CHANGES: dict[str, tuple[str, Change]] = {
    "gain": (f"gain x{GAIN:g}", _gain),
    "mains": (f"{MAINS_HZ:g} Hz at {MAINS_MV:g} mV added", _mains),
    "wander": (f"baseline wander, {WANDER_HZ:g} Hz at {WANDER_MV:g} mV", _wander),
    "swapped": ("leads swapped", _swapped),
}


def read_record(folder: Path, record: int, device: str) -> ArraySource:
    """A record with its reference beats, as that device's.

    Raises:
        SourceError: it is not there, or damaged.
    """
    (found,), failures = find_sources([str(folder / str(record))])
    for failure in failures:
        raise failure
    source = open_source(found)
    header = replace(source.header, device=device)
    return ArraySource(header, source.read(0, header.n_samples), source.annotations())


def disturbed(source: ArraySource, *, name: str, change: Change, from_s: float) -> ArraySource:
    """The record with a change from a moment on; it is another recording of the same patient."""
    time_s = np.arange(source.header.n_samples) / source.header.sampling_rate_hz
    after = time_s >= from_s
    samples = source.samples.copy()
    samples[after] = change(source.samples[after], time_s[after])
    return ArraySource(_renamed(source.header, f"{name} {from_s:g}"), samples, source.beats)


def at_second_rate(source: ArraySource) -> ArraySource:
    """The record as a device of another sampling rate has it."""
    rate_hz = source.header.sampling_rate_hz
    samples = resample_poly(source.samples, round(SECOND_RATE_HZ), round(rate_hz), axis=0).astype(np.float32)
    header = replace(source.header, sampling_rate_hz=SECOND_RATE_HZ, n_samples=len(samples))
    return ArraySource(_renamed(header, "second rate"), samples, source.beats)


def _renamed(header: RecordingHeader, what: str) -> RecordingHeader:
    return replace(header, checksum=f"{header.checksum} {what}", source_uri=f"{header.source_uri} {what}")
