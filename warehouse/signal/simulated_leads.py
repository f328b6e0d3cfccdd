"""What the recorder of a simulated recording sees: beats, breathing, noise, hum and lost electrodes, lead by lead."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from warehouse.signal.beat_shapes import (
    AFTER_S,
    BEFORE_S,
    SHAPE_RATE_HZ,
    Heart,
    Shape,
    beat_shape,
    st_shape,
    standard_lead,
)
from warehouse.signal.ecg import FloatArray
from warehouse.signal.rhythm import Rhythm

ElectrodeLoss = tuple[str, float, float]

_COUNT_MV = 0.005  # the simulated converter's step
_KIND_OF_SYMBOL = {"N": "sinus", "L": "left_bundle", "A": "atrial", "V": "ventricular"}


@dataclass(frozen=True)
class Simulation:
    """Everything a simulated recording depends on; see `warehouse.signal.simulate.simulate_recording`."""

    name: str
    duration_s: float
    sampling_rate_hz: float
    leads: tuple[str, ...]
    seed: int
    heart_rate_bpm: float
    pvc_rate: float
    pac_rate: float
    st_shift_mv: float
    bundle_branch: bool
    af: bool
    pause_rate: float
    noise_mv: float
    mains_mv: float
    mains_hz: float
    electrode_loss: tuple[ElectrodeLoss, ...]
    invert_leads: tuple[str, ...]
    heart: Heart
    sex: str
    age_years: int | None
    start_time: datetime | None


def simulate_leads(p: Simulation, rhythm: Rhythm, n_samples: int, rng: np.random.Generator) -> FloatArray:
    """float32 (n_samples, leads): beats, then what the body and the recorder add, in steps of the converter."""
    if not n_samples:
        return np.zeros((0, len(p.leads)), dtype=np.float32)
    times = np.arange(n_samples) / p.sampling_rate_hz
    breath = rng.uniform(0.03, 0.07) * np.sin(rhythm.breathing(rhythm.time_s))
    beat_gain = 1 + breath + 0.02 * rng.standard_normal(len(breath))
    samples = np.zeros((n_samples, len(p.leads)), dtype=np.float32)
    for column, lead in enumerate(p.leads):
        standard = standard_lead(lead) or lead
        x = _beats(p, rhythm, standard, beat_gain, n_samples)
        if p.af:
            x += _fibrillatory_waves(times, standard, rng)
        x += _wander(times, rhythm, rng)
        x += p.noise_mv * _muscle_noise(n_samples, p.sampling_rate_hz, rng)
        if p.mains_mv:
            swell = 1 + 0.2 * np.sin(2 * np.pi * 0.05 * times + rng.uniform(0, 6))
            x += p.mains_mv * swell * np.sin(2 * np.pi * p.mains_hz * times + rng.uniform(0, 6))
        if lead in p.invert_leads:
            x = -x
        counts = np.rint(x / _COUNT_MV)
        for lost, start_s, end_s in p.electrode_loss:
            if lost == lead:
                start, end = max(0, round(start_s * p.sampling_rate_hz)), max(0, round(end_s * p.sampling_rate_hz))
                counts[start:end] = rng.integers(-1, 2, size=len(counts[start:end]))
        samples[:, column] = counts * _COUNT_MV
    return samples


def _beats(p: Simulation, rhythm: Rhythm, lead: str, gain: Shape, n_samples: int) -> Shape:
    """(n_samples,): each beat's shape put at its R peak; P and T move with the RR interval (QT as its square root)."""
    offsets = np.arange(round((BEFORE_S + 1.25 * AFTER_S) * p.sampling_rate_hz))
    first = np.ceil((rhythm.time_s - BEFORE_S) * p.sampling_rate_hz).astype(np.int64)
    stretch = np.sqrt(np.clip(rhythm.basic_rr_s, 0.4, 1.4))
    total = np.zeros(n_samples + len(offsets) + 1)
    for symbol in np.unique(rhythm.symbol):
        rows = np.flatnonzero((rhythm.symbol == symbol) & (first < n_samples) & (first + len(offsets) > 0))
        kind = "fibrillation" if p.af and symbol == "N" else _KIND_OF_SYMBOL[str(symbol)]
        shape = beat_shape(kind, lead, p.heart)
        if p.st_shift_mv and kind != "ventricular":
            shape = shape + (-p.st_shift_mv if lead == "AVR" else p.st_shift_mv) * st_shape()
        index = first[rows, None] + offsets
        t = index / p.sampling_rate_hz - rhythm.time_s[rows, None]
        late, early = np.maximum(t - 0.08, 0) * (1 / stretch[rows, None] - 1), np.minimum(t + 0.08, 0)
        t = t + late + early * (1 / np.sqrt(stretch[rows, None]) - 1)
        grid = np.arange(len(shape)) / SHAPE_RATE_HZ - BEFORE_S
        values = np.interp(t, grid, shape, left=0.0, right=0.0) * gain[rows, None]
        inside = (index >= 0) & (index < len(total))
        total += np.bincount(index[inside], weights=values[inside], minlength=len(total))
    return total[:n_samples]


def _fibrillatory_waves(times: Shape, lead: str, rng: np.random.Generator) -> Shape:
    size = 0.09 if lead == "V1" else 0.05
    phase = 2 * np.pi * rng.uniform(5.0, 7.5) * times + 1.5 * np.sin(2 * np.pi * 0.23 * times + rng.uniform(0, 6))
    swell = 1 + 0.4 * np.sin(2 * np.pi * 0.31 * times + rng.uniform(0, 6))
    waves: Shape = size * swell * (np.sin(phase) + 0.4 * np.sin(2 * phase + 0.5))
    return waves


def _wander(times: Shape, rhythm: Rhythm, rng: np.random.Generator) -> Shape:
    """Baseline: breathing, and a slow drift through random levels every five seconds."""
    knots = np.arange(0, times[-1] + 10, 5.0)
    drift = np.interp(times, knots, rng.normal(0, 0.06, len(knots)))
    wander: Shape = drift + rng.uniform(0.02, 0.08) * np.sin(rhythm.breathing(times) + rng.uniform(0, 6))
    return wander


def _muscle_noise(n_samples: int, rate_hz: float, rng: np.random.Generator) -> Shape:
    """Standard normal noise, half of it white and half of low frequency, coming and going over tens of seconds."""
    white = rng.standard_normal(n_samples)
    coloured = np.convolve(rng.standard_normal(n_samples), np.full(5, 5**-0.5), mode="same")
    knots = np.arange(0, n_samples / rate_hz + 30, 15.0)
    swell = np.interp(np.arange(n_samples) / rate_hz, knots, rng.uniform(0.6, 1.4, len(knots)))
    swell /= np.sqrt(np.mean(swell**2))
    noise: Shape = swell * (white + coloured[:n_samples]) * 2**-0.5
    return noise
