"""Beat shapes of the simulator: what one beat of a kind looks like in one lead, made by ECGSYN.

ECGSYN (McSharry, Clifford, Tarassenko & Smith 2003, IEEE Trans. Biomed. Eng. 50(3):289-294) describes a beat as
five waves on a limit cycle, each with an angle, a size and a width. Here the five are set per kind of beat and
lead; neurokit2 integrates them. At 60 beats a minute one degree is 2.8 ms.
"""

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Shape = npt.NDArray[np.float64]

SHAPE_RATE_HZ: Final = 500.0
BEFORE_S: Final = 0.35
AFTER_S: Final = 0.65

_CYCLE_S = 4  # of ECGSYN; the beat at 2 s is taken, by when the start has died away
_PRECORDIAL = {  # P, Q, R, S, T in millivolts, in health
    "V1": (0.06, 0.0, 0.22, -0.95, 0.08),
    "V2": (0.06, 0.0, 0.40, -1.30, 0.40),
    "V3": (0.06, -0.02, 0.80, -0.90, 0.42),
    "V4": (0.07, -0.05, 1.40, -0.50, 0.40),
    "V5": (0.07, -0.07, 1.30, -0.25, 0.32),
    "V6": (0.07, -0.07, 1.00, -0.10, 0.25),
}
_FRONTAL_DEG = {"I": 0.0, "II": 60.0, "III": 120.0, "AVF": 90.0, "AVL": -30.0, "AVR": -150.0}
_ALIASES = {"MLI": "I", "MLII": "II", "ML2": "II", "MLIII": "III", "CM5": "V5"}
_ALIASES |= {f"MV{i}": f"V{i}" for i in range(1, 7)}

#: Main deflection in the chest leads, millivolts: of a beat from the right ventricle, of a left bundle branch block.
_VENTRICULAR = {"V1": -1.5, "V2": -1.8, "V3": -1.1, "V4": 0.9, "V5": 1.5, "V6": 1.4}
_LEFT_BUNDLE = {"V1": -1.4, "V2": -1.9, "V3": -1.4, "V4": 0.6, "V5": 1.1, "V6": 1.0}

LEADS: Final = (*_FRONTAL_DEG, *_PRECORDIAL)


@dataclass(frozen=True)
class Heart:
    """What makes one simulated patient's beats look like that patient's.

    Attributes:
        axis_deg: electrical axis in the frontal plane; 0 points to lead I, 90 to aVF.
        amplitude: factor on everything.
        p_mv: P wave in the direction of the axis.
        qrs_mv: R wave in the direction of the axis.
        t_mv: T wave in the direction of the axis.
        width: factor on the QRS's width.
    """

    axis_deg: float = 50.0
    amplitude: float = 1.0
    p_mv: float = 0.14
    qrs_mv: float = 1.15
    t_mv: float = 0.30
    width: float = 1.0


@dataclass(frozen=True)
class _Waves:
    """Five waves: angles in degrees, widths in radians, sizes in millivolts."""

    angle_deg: tuple[float, ...]
    width_rad: tuple[float, ...]
    size_mv: tuple[float, ...]


def standard_lead(name: str) -> str | None:
    """The standard lead a name stands for ("MLII" is II), in capitals; None when it is none."""
    capitals = name.strip().upper()
    lead = _ALIASES.get(capitals, capitals)
    return lead if lead in LEADS else None


def beat_shape(kind: str, lead: str, heart: Heart) -> Shape:
    """One beat, without baseline.

    Args:
        kind: "sinus"; "atrial" (other P wave, shorter PR); "fibrillation" (no P wave); "ventricular" (wide, no P
            wave, T wave against the QRS); "left_bundle" (wide, notched, T wave against the QRS).
        lead: one of `LEADS`.
        heart: the patient.

    Returns:
        float64 (500,), millivolts at 500 Hz from 0.35 s before the R peak on.
    """
    p, q, r, s, t = _healthy(lead, heart)
    if kind == "ventricular":
        return heart.amplitude * _ecgsyn(_ventricular(_main(lead, heart, _VENTRICULAR, 1.35), heart))
    if kind == "left_bundle":
        return heart.amplitude * _ecgsyn(_left_bundle(p, _main(lead, heart, _LEFT_BUNDLE, 0.95), heart))
    p_scale, p_deg = {"sinus": (1.0, -62.0), "atrial": (-0.45, -48.0), "fibrillation": (0.0, -62.0)}[kind]
    widths = (0.24, 0.08 * heart.width, 0.085 * heart.width, 0.085 * heart.width, 0.36)
    angles = (p_deg, -13.0 * heart.width, 0.0, 13.0 * heart.width, 98.0)
    return heart.amplitude * _ecgsyn(_Waves(angles, widths, (p * p_scale, q, r, s, t)))


def st_shape() -> Shape:
    """The ST segment alone, 1 mV high, at 500 Hz from 0.35 s before the R peak on: five waves that make a plateau."""
    plateau = _ecgsyn(_Waves((24.0, 38.0, 52.0, 66.0, 80.0), (0.2, 0.22, 0.22, 0.22, 0.3), (0.45, 0.5, 0.5, 0.45, 0.4)))
    segment: Shape = plateau / plateau.max()
    return segment


def _healthy(lead: str, heart: Heart) -> tuple[float, float, float, float, float]:
    if lead in _PRECORDIAL:
        return _PRECORDIAL[lead]
    along = _along(lead, heart)
    r = heart.qrs_mv * along
    return heart.p_mv * along, -0.07 * r, r, -0.17 * r, heart.t_mv * along


def _along(lead: str, heart: Heart) -> float:
    """Share of a vector along the axis that a frontal lead sees; never quite nothing."""
    along = math.cos(math.radians(heart.axis_deg - _FRONTAL_DEG[lead]))
    return along if abs(along) > 0.15 else math.copysign(0.15, along)


def _main(lead: str, heart: Heart, chest: dict[str, float], frontal_mv: float) -> float:
    return chest[lead] if lead in chest else frontal_mv * _along(lead, heart)


def _ventricular(main: float, heart: Heart) -> _Waves:
    width = 0.19 * heart.width
    return _Waves((-30.0, 0.0, 12.0, 44.0, 124.0), (0.13, width, width, 0.2, 0.42), (
        0.15 * main, 0.7 * main, 0.45 * main, -0.3 * main, -0.42 * main,
    ))  # fmt: skip


def _left_bundle(p: float, main: float, heart: Heart) -> _Waves:
    """Upright leads: a broad notched R; right chest leads: a small r and a broad S."""
    width = 0.14 * heart.width
    if main > 0:
        return _Waves((-66.0, -9.0, 6.0, 26.0, 116.0), (0.24, width, width, width, 0.4), (
            p, 0.5 * main, 0.6 * main, 0.8 * main, -0.3 * main,
        ))  # fmt: skip
    return _Waves((-66.0, -16.0, 4.0, 25.0, 112.0), (0.24, 0.07, 0.15, 0.17, 0.42), (
        p, -0.1 * main, 0.6 * main, 0.75 * main, -0.34 * main,
    ))  # fmt: skip


@functools.lru_cache(maxsize=512)
def _ecgsyn(waves: _Waves) -> Shape:
    """Integrates the waves at 60 beats a minute and brings the beat back to millivolts."""
    import neurokit2  # takes seconds; only the simulator needs it here

    angle = np.radians(waves.angle_deg)
    width, size = np.array(waves.width_rad), np.array(waves.size_mv)
    theta = 2 * np.pi * (np.arange(round((BEFORE_S + AFTER_S) * SHAPE_RATE_HZ)) / SHAPE_RATE_HZ - BEFORE_S)
    meant = (size * np.exp(-((theta[:, None] - angle) ** 2) / (2 * width**2))).sum(axis=1)
    if np.ptp(meant) < 1e-6:
        return np.zeros_like(meant)
    trace = neurokit2.ecg_simulate(
        duration=_CYCLE_S,
        sampling_rate=round(SHAPE_RATE_HZ),
        heart_rate=60,
        heart_rate_std=0,
        noise=0,
        method="ecgsyn",
        random_state=0,
        ti=np.degrees(angle),
        ai=2 * np.pi * size / width**2,  # the size of a wave is a * b**2 / angular velocity
        bi=width,
    )
    first = round((_CYCLE_S / 2 - BEFORE_S) * SHAPE_RATE_HZ)
    beat = np.asarray(trace, dtype=np.float64)[first : first + len(theta)]
    beat = beat - np.linspace(beat[0], beat[-1], len(beat))
    shape: Shape = beat * (np.ptp(meant) / np.ptp(beat))
    shape.flags.writeable = False
    return shape
