"""Rhythm of simulated recordings: when each beat comes, and what it is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warehouse.signal.ecg import TimeArray

_STEP_S = 0.25
_LEAST_AF_RR_S = 0.32


@dataclass(frozen=True)
class Rhythm:
    """Beats in time order.

    Attributes:
        time_s: float64 (n,), R peaks.
        symbol: str (n,), MIT-BIH symbols.
        basic_rr_s: float64 (n,), the interval that the beat's repolarisation has adapted to.
        breath_hz: breathing rate.
        breath_phase: breathing phase at time 0, radians.
    """

    time_s: TimeArray
    symbol: npt.NDArray[np.str_]
    basic_rr_s: TimeArray
    breath_hz: float
    breath_phase: float

    def breathing(self, times: TimeArray) -> TimeArray:
        """Phase of breathing at `times`, radians; drifts slowly about its mean rate."""
        steady = 2 * np.pi * self.breath_hz * times + self.breath_phase
        phase: TimeArray = steady + 0.8 * np.sin(2 * np.pi * 0.017 * times) + 0.5 * np.sin(2 * np.pi * 0.043 * times)
        return phase


def make_rhythm(
    rng: np.random.Generator,
    *,
    duration_s: float,
    heart_rate_bpm: float,
    pvc_rate: float,
    pac_rate: float,
    pause_rate: float,
    af: bool,
    normal_symbol: str,
) -> Rhythm:
    """Draws a rhythm over `duration_s`.

    Sinus beats come from integral pulse frequency modulation: the rate swings with breathing and with Mayer waves at
    0.1 Hz and drifts slowly (the components of heart rate variability: Task Force of the ESC and NASPE 1996,
    Circulation 93:1043-1065), and a beat falls whenever its integral reaches the next whole number. In fibrillation
    intervals are independent, gamma distributed with a coefficient of variation of 0.22. Then some beats are made
    premature or late; no two of them in a row.
    """
    breath_hz, breath_phase = float(rng.uniform(0.2, 0.3)), float(rng.uniform(0, 2 * np.pi))
    blank = Rhythm(np.empty(0), np.empty(0, dtype="<U4"), np.empty(0), breath_hz, breath_phase)
    mean_rr_s = 60 / heart_rate_bpm
    if af:
        n = int(duration_s / mean_rr_s * 1.1) + 20
        rr = np.maximum(rng.gamma(20.0, mean_rr_s / 20.0, n), _LEAST_AF_RR_S)
    else:
        rr = _sinus_intervals(rng, blank, duration_s + 10, heart_rate_bpm)
    basic = np.convolve(np.pad(rr, (4, 0), mode="edge"), np.full(5, 0.2), mode="valid")
    rr, symbol = _disturb(rng, rr, (pvc_rate, pac_rate, pause_rate), normal_symbol)
    time_s = float(rng.uniform(0.1, 0.9)) + np.cumsum(rr) - rr[0]
    seen = time_s < duration_s + 1  # a beat just after the end still has its P wave in the recording
    return Rhythm(time_s[seen], symbol[seen], basic[seen], breath_hz, breath_phase)


def _sinus_intervals(rng: np.random.Generator, breath: Rhythm, duration_s: float, rate_bpm: float) -> TimeArray:
    times = np.arange(0, duration_s + _STEP_S, _STEP_S)
    mayer = 2 * np.pi * rng.uniform(0.08, 0.12) * times + rng.uniform(0, 6) + np.sin(2 * np.pi * 0.011 * times)
    knots = np.arange(0, duration_s + 120, 60.0)
    drift = np.interp(times, knots, rng.normal(0, 0.03, len(knots)))
    swing = rng.uniform(0.01, 0.045) * np.sin(breath.breathing(times)) + rng.uniform(0.01, 0.035) * np.sin(mayer)
    beats = np.cumsum(rate_bpm / 60 * (1 + swing + drift) * _STEP_S)
    at = np.interp(np.arange(1, int(beats[-1])), beats, times)
    jitter: TimeArray = np.diff(at) * (1 + 0.004 * rng.standard_normal(max(0, len(at) - 1)))
    return jitter if len(jitter) else np.array([60 / rate_bpm])


def _disturb(
    rng: np.random.Generator, rr: TimeArray, rates: tuple[float, float, float], normal_symbol: str
) -> tuple[TimeArray, npt.NDArray[np.str_]]:
    """Makes beats premature or late. A disturbed beat is followed by an undisturbed one, which lowers the shares."""
    rr, symbol = rr.copy(), np.full(len(rr), normal_symbol, dtype="<U4")
    total = sum(rates)
    if not total:
        return rr, symbol
    chance = total / (1 - total)
    kinds = rng.choice(3, size=len(rr), p=np.array(rates) / total)
    draw, early, after = rng.random(len(rr)), rng.uniform(0.55, 0.78, len(rr)), rng.uniform(1.0, 1.15, len(rr))
    i = 3
    while i < len(rr) - 1:
        if draw[i] >= chance:
            i += 1
            continue
        if kinds[i] == 0:
            rr[i], rr[i + 1], symbol[i] = early[i] * rr[i], rr[i + 1] + (1 - early[i]) * rr[i], "V"
        elif kinds[i] == 1:
            rr[i], rr[i + 1], symbol[i] = early[i] * rr[i], after[i] * rr[i + 1], "A"
        else:
            rr[i] += 1.5 + 2.5 * draw[i] / chance
        i += 2
    return rr, symbol
