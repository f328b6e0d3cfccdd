"""What drift is looked for in: a few numbers of every window, in units that a person knows.

A `Stream` holds those of one recording in beat order. Order is that of the beats, never that of the clock: a device
whose clock jumps, or that sends yesterday's data, does not look as if the signal had jumped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from configs.contract import MV_PER_COUNT, RR_COLUMNS, FeatureSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

INPUT, PREDICTION, CONCEPT, SKEW = "input", "prediction", "concept", "skew"


@dataclass(frozen=True)
class Feature:
    """A number of a window.

    Attributes:
        drift: which drift its change is: input or prediction.
        unit: of the number itself.
        log: compared as logarithms: what changes by a factor changes as much in a small heart as in a large one.
        least: smallest difference that means anything, on the compared scale; a constant feature has no less.
        smallest: numbers are held at or above this before the logarithm: the store's resolution.
        text: in words.
    """

    drift: str
    unit: str
    log: bool
    least: float
    smallest: float
    text: str

    def compared(self, values: FloatArray) -> FloatArray:
        """Numbers on the scale they are compared on; NaN stays."""
        return np.log(np.maximum(values, self.smallest)) if self.log else values

    def natural(self, compared: float) -> float:
        """Back to the unit."""
        return float(np.exp(compared)) if self.log else float(compared)


#: Features by name. Those of the latent space are `latent_1`, `latent_2`, ...; see `feature_of`.
FEATURES: Final[Mapping[str, Feature]] = {
    "amplitude": Feature(INPUT, "mV", True, 0.02, 0.01, "peak to peak"),
    "polarity": Feature(INPUT, "", False, 0.02, 0.0, "(highest + lowest) / peak to peak: 1 upright, -1 inverted"),
    "noise": Feature(INPUT, "mV", True, 0.05, 0.0005, "high-frequency noise inside the band"),
    "mains": Feature(INPUT, "mV", True, 0.05, 0.001, "what the band-pass removed above the band: mains, muscle"),
    "baseline": Feature(INPUT, "mV", True, 0.05, 0.001, "wander of the baseline over five seconds"),
    "heart_rate": Feature(INPUT, "1/min", True, 0.02, 10.0, "from the RR interval before"),
    "quality": Feature(INPUT, "", False, 0.01, 0.0, "signal quality, 0 worst to 1 best"),
    "score": Feature(PREDICTION, "", False, 0.02, 0.0, "the model's score, held at 4"),
    "flagged": Feature(PREDICTION, "", False, 0.005, 0.0, "share of windows at or above the threshold"),
}
_LATENT = Feature(INPUT, "", False, 0.01, 0.0, "coordinate in the latent space of the model's autoencoder")
LATENT_PREFIX: Final = "latent_"
SCORE_CAP: Final = 4.0  # one beat in ten thousand: a single absurd score must not be a recording's mean
_WANDER_S: Final = 5
_THIRD_DIFFERENCE = np.array([1.0, -3.0, 3.0, -1.0]) / np.sqrt(20.0)  # white noise keeps its spread


def feature_of(name: str) -> Feature:
    """The feature of a name.

    Raises:
        KeyError: there is none.
    """
    return _LATENT if name.startswith(LATENT_PREFIX) else FEATURES[name]


class Key(NamedTuple):
    """A feature, and the lead it is of; '' for those of the whole window."""

    feature: str
    lead: str = ""

    def __str__(self) -> str:
        return f"{self.feature} of {self.lead}" if self.lead else self.feature


@dataclass(frozen=True)
class Stream:
    """The features of one recording's windows, in beat order.

    Attributes:
        patient: what recordings of the same person share.
        window_id: int64 (n,).
        recorded_at_us: int64 (n,), microseconds since 2000-01-01 UTC.
        values: float64 (n,) a key, in the feature's unit; NaN where it is not known.
        slots: lead to the model's input slot it is in.
    """

    recording_id: int
    recording: str
    patient: str
    site: str
    device: str
    window_id: IntArray
    recorded_at_us: IntArray
    values: Mapping[Key, FloatArray]
    slots: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.window_id)


def signal_values(
    samples: npt.NDArray[np.int16], lead_mask: npt.NDArray[np.bool_], lead_slots: tuple[str, ...], spec: FeatureSpec
) -> dict[Key, FloatArray]:
    """Amplitude, polarity and noise by lead.

    Args:
        samples: int16 (n, window_samples, leads), microvolts, band-passed.
        lead_mask: bool (n, leads); a lead that is not usable in a window has no number there.
        lead_slots: lead in each slot, '' for none.
    """
    found: dict[Key, FloatArray] = {}
    for slot, lead in enumerate(lead_slots):
        if not lead:
            continue
        x = samples[:, :, slot].astype(np.float64) * MV_PER_COUNT
        high, low = x.max(axis=1, initial=-np.inf), x.min(axis=1, initial=np.inf)
        size = high - low
        usable = lead_mask[:, slot]
        residual = np.abs(sum(w * x[:, i : x.shape[1] - 3 + i] for i, w in enumerate(_THIRD_DIFFERENCE)))
        # The median is of the quiet stretches: a QRS complex fills a tenth of a window.
        noise = np.median(residual, axis=1) / 0.6745 if len(x) and x.shape[1] > 3 else np.zeros(len(x))
        of_lead = {
            "amplitude": size,
            "polarity": np.divide(high + low, size, out=np.zeros(len(x)), where=size > 0),
            "noise": noise,
        }
        for name, values in of_lead.items():
            found[Key(name, lead)] = np.where(usable, values, np.nan)
    return found


def rhythm_values(rr: npt.NDArray[np.float32]) -> dict[Key, FloatArray]:
    """Heart rate, from float32 (n, 5) as `contract.RR_COLUMNS`; unknown where the interval before is."""
    previous = rr[:, RR_COLUMNS.index("rr_prev_s")].astype(np.float64)
    return {Key("heart_rate"): np.where(previous > 0, 60.0 / np.maximum(previous, 1e-3), np.nan)}


def removed_values(
    removed: npt.NDArray[np.int16] | None,
    r_peak_s: FloatArray,
    lead_mask: npt.NDArray[np.bool_],
    lead_slots: tuple[str, ...],
) -> dict[Key, FloatArray]:
    """Mains and baseline by lead, from what the band-pass removed.

    Args:
        removed: int16 (seconds, leads in use, 2), see `warehouse.signal.ecg.WindowChunk.removed`; None: not known.
        r_peak_s: (n,), seconds from the recording's start.
    """
    found: dict[Key, FloatArray] = {}
    if removed is None or len(removed) == 0:
        return found
    second = np.clip(np.floor(r_peak_s).astype(np.int64), 0, len(removed) - 1)
    in_use = [slot for slot, lead in enumerate(lead_slots) if lead]
    for column, slot in enumerate(in_use[: removed.shape[1]]):
        above = removed[second, column, 1].astype(np.float64) * MV_PER_COUNT
        wander = _wander(removed[:, column, 0].astype(np.float64) * MV_PER_COUNT)[second]
        usable = lead_mask[:, slot]
        found[Key("mains", lead_slots[slot])] = np.where(usable, above, np.nan)
        found[Key("baseline", lead_slots[slot])] = np.where(usable, wander, np.nan)
    return found


def _wander(level: FloatArray) -> FloatArray:
    """Spread of the level over the seconds around each: (seconds,)."""
    padded = np.pad(level, _WANDER_S // 2, mode="edge")
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, _WANDER_S).std(axis=1))


def score_values(score: npt.NDArray[Any], threshold: float) -> dict[Key, FloatArray]:
    """Scores (n,), NaN where a window has none, and whether they reach the threshold."""
    score = np.asarray(score, dtype=np.float64)
    flagged = np.where(np.isnan(score), np.nan, (score >= threshold).astype(np.float64))
    return {Key("score"): np.minimum(score, SCORE_CAP), Key("flagged"): flagged}
