"""R peaks without reference annotations: a published detector on the best lead, refined to the QRS's extremum.

Detection runs in cells of 30 s on a grid anchored at the recording's start, each with 5 s of margin, so the block
length of the caller does not matter.
"""

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import signal

from configs.errors import ConfigurationError
from warehouse.signal import detectors
from warehouse.signal.codes import LEAD_OFF, USABLE, CodeArray
from warehouse.signal.ecg import FloatArray

IntArray = npt.NDArray[np.int64]

CELL_S = 30.0
MARGIN_S = 5.0
REFRACTORY_S = 0.2

#: Detectors that need nothing but this package.
_OWN: dict[str, Callable[[npt.NDArray[np.float64], int], IntArray]] = {
    "neurokit": detectors.neurokit,
    "pantompkins1985": detectors.pan_tompkins,
}
#: Methods of neurokit2 that are fast and hold on any block of a recording, and the cleaning each was published with.
_OF_NEUROKIT2: dict[str, str | None] = {
    "hamilton2002": "hamilton2002",
    "elgendi2010": "elgendi2010",
    "kalidas2017": None,
    "rodrigues2021": None,
}
DETECTORS = (*_OWN, *_OF_NEUROKIT2)

_LEAST_RATE_HZ = 100.0  # detectors are given at least this rate
_REFINE_S = 0.08
_SMALLEST_OF_MEDIAN = 0.15  # a "beat" smaller than this share of the cell's median beat is none
_SMALLEST_MV = 0.03
_OPPOSITE = 1.5  # a beat is taken at its opposite extremum when that is so much larger (a ventricular beat may be)
_KEEP_LEAD = 0.95  # the lead in use stays while it is at least this good in comparison with the best
_LONG_INTERVAL = 1.5  # of the median interval: here a beat may have been missed
_SMALLEST_SEARCHED = 0.3  # share of the median beat's size that a beat found by searching back must have
_SEARCH_APART_S = 0.3
_TONE_MV = 0.005
_AGREE_S = 0.15  # two detectors mean the same beat


def check_detector(name: str) -> None:
    """Raises ConfigurationError unless `name` is a detector this module can run."""
    if name not in DETECTORS:
        known = ", ".join(DETECTORS)
        raise ConfigurationError("ingest.detector", f"unknown R-peak detector {name!r}", f"Known: {known}.")
    if name in _OF_NEUROKIT2 and importlib.util.find_spec("neurokit2") is None:
        own = " or ".join(_OWN)
        raise ConfigurationError("ingest.detector", f"{name} needs neurokit2, which is not installed", f"Use {own}.")


#: What two detectors found in a cell and its margins, by lead: the chosen one and another, indices into the stretch.
Looks = tuple[dict[int, IntArray], dict[int, IntArray]]


def look(detector: str, x: FloatArray, code: CodeArray, *, first: int, sampling_rate_hz: float) -> Looks:
    """The part of detection that needs to know nothing of earlier cells, and takes nearly all of its time.

    Args:
        detector, sampling_rate_hz: of the `RPeakDetector` that is given the result.
        x, code, first: as `RPeakDetector.detect` takes them.
    """
    x = _silenced(x, code >= LEAD_OFF, first)
    there = [lead for lead in range(x.shape[1]) if (code[:, lead] < LEAD_OFF).any()]
    second = "neurokit" if detector == "pantompkins1985" else "pantompkins1985"
    one, other = (
        {lead: _run_detector(name, x[:, lead], sampling_rate_hz) for lead in there} for name in (detector, second)
    )
    return one, other


class RPeakDetector:
    """Finds R peaks cell by cell; remembers the lead in use, each lead's polarity and the last R peak.

    Args:
        detector: one of `DETECTORS`.
        sampling_rate_hz: of the signals given to `detect`.
        n_leads: columns of those signals.
    """

    def __init__(self, detector: str, *, sampling_rate_hz: float, n_leads: int) -> None:
        check_detector(detector)
        self._detector = detector
        self._rate_hz = sampling_rate_hz
        self._polarity = np.zeros(n_leads)
        self._lead = 0
        self._last = -(2**62)

    def detect(
        self, x: FloatArray, code: CodeArray, *, first: int, start: int, stop: int, looks: Looks | None = None
    ) -> IntArray:
        """R peaks of one cell.

        Args:
            x: float32 (n, leads), band-passed millivolts: the cell and its margins.
            code: uint8 (n, leads), quality codes of the same samples.
            first: index of `x[0]` in the recording.
            start: first sample of the cell in the recording.
            stop: one past its last.
            looks: what `look` gave for the same stretch; None looks here.

        Returns:
            Indices in the recording, ascending, at least 200 ms apart from each other and from earlier cells'.
        """
        if looks is None:
            looks = look(self._detector, x, code, first=first, sampling_rate_hz=self._rate_hz)
        first_look, second_look = looks
        x = _silenced(x, code >= LEAD_OFF, first)
        order = self._best_first(code, first_look, second_look)
        owner = _owner(code, order)
        found = [self._peaks_of(x[:, lead], lead, first_look[lead], second_look[lead], owner == lead) for lead in order]
        peaks = first + np.sort(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
        slack = round(REFRACTORY_S / 2 * self._rate_hz)  # so that no beat falls between two cells
        peaks = peaks[(peaks >= start - slack) & (peaks < stop + slack)]
        return self._apart(peaks)

    def _apart(self, peaks: IntArray) -> IntArray:
        refractory = REFRACTORY_S * self._rate_hz
        kept = []
        for peak in peaks.tolist():
            if peak - self._last >= refractory:
                kept.append(peak)
                self._last = peak
        return np.array(kept, dtype=np.int64)

    def _best_first(self, code: CodeArray, one: dict[int, IntArray], other: dict[int, IntArray]) -> list[int]:
        """Leads by usable share times agreement of two detectors (bSQI of Li, Mark & Clifford 2008), best first."""
        score = {
            lead: float(np.mean(code[:, lead] == USABLE)) * _agreement(one[lead], other[lead], _AGREE_S * self._rate_hz)
            for lead in one
        }
        order = sorted(score, key=lambda lead: -score[lead])
        if self._lead in order and score[self._lead] >= _KEEP_LEAD * score[order[0]]:
            order.remove(self._lead)
            order.insert(0, self._lead)
        if order:
            self._lead = order[0]
        return order

    def _peaks_of(
        self, x: FloatArray, lead: int, candidates: IntArray, more: IntArray, owned: npt.NDArray[np.bool_]
    ) -> IntArray:
        """R peaks of one lead where it is the owner."""
        candidates, more = candidates[owned[candidates]], more[owned[more]]
        if not len(candidates):
            return candidates
        peaks, size = self._refine(x, candidates, lead)
        typical = float(np.median(size))
        peaks = np.unique(peaks[size >= max(_SMALLEST_MV, _SMALLEST_OF_MEDIAN * typical)])
        if len(more) and len(peaks) > 2:
            further, size = self._refine(x, more, lead)
            further = np.unique(further[size >= max(_SMALLEST_MV, _SMALLEST_SEARCHED * typical)])
            peaks = self._search_back(peaks, further)
        return peaks

    def _search_back(self, peaks: IntArray, more: IntArray) -> IntArray:
        """Adds beats that only the second detector has seen, where the first leaves out about a beat's time."""
        interval = np.diff(peaks)
        gap = np.searchsorted(peaks, more) - 1
        between = (gap >= 0) & (gap < len(interval))
        more, gap = more[between], gap[between]
        distance = np.minimum(more - peaks[gap], peaks[gap + 1] - more)
        missed = (interval[gap] > _LONG_INTERVAL * np.median(interval)) & (distance >= _SEARCH_APART_S * self._rate_hz)
        return np.union1d(peaks, more[missed])

    def _refine(self, x: FloatArray, candidates: IntArray, lead: int) -> tuple[IntArray, FloatArray]:
        """Moves candidates to the extremum in the lead's polarity; also gives each beat's peak-to-peak."""
        reach = round(_REFINE_S * self._rate_hz)
        around = np.clip(candidates[:, None] + np.arange(-reach, reach + 1), 0, len(x) - 1)
        beats = x[around]
        up, down = beats.max(axis=1), -beats.min(axis=1)
        balance = float(np.median(up)) / max(float(np.median(down)), 1e-9)
        if self._polarity[lead] == 0 or balance > 1.5 or balance < 1 / 1.5:
            self._polarity[lead] = 1.0 if balance >= 1 else -1.0
        main, other = (up, down) if self._polarity[lead] > 0 else (down, up)
        upward = (main * _OPPOSITE >= other) == (self._polarity[lead] > 0)
        best = np.where(upward, beats.argmax(axis=1), beats.argmin(axis=1))
        return around[np.arange(len(candidates)), best], up + down


def _silenced(x: FloatArray, lost: npt.NDArray[np.bool_], first: int) -> FloatArray:
    """Puts a still tone of 5 uV where a lead is lost.

    Adaptive detectors find "beats" in the rounding errors of an empty stretch, and judge the real ones by them.
    """
    tone = np.float32(_TONE_MV) * np.array([1, 1, -1, -1], dtype=np.float32)[(first + np.arange(len(x))) % 4]
    return np.where(lost, tone[:, None], x)


def _agreement(one: IntArray, other: IntArray, tolerance: float) -> float:
    """Share of the beats of two detectors that both have found, 0 to 1."""
    if not len(one) or not len(other):
        return 0.0
    matched = int((np.abs(one[:, None] - other[None, :]).min(axis=1) <= tolerance).sum())
    return matched / max(len(one) + len(other) - matched, 1)


def _owner(code: CodeArray, order: list[int]) -> npt.NDArray[np.int64]:
    """(n,) which lead finds the beats: the best that is usable, else the best that is there, else -1."""
    owner = np.full(len(code), -1, dtype=np.int64)
    for lead in reversed(order):
        owner[code[:, lead] < LEAD_OFF] = lead
    for lead in reversed(order):
        owner[code[:, lead] == USABLE] = lead
    return owner


def _run_detector(name: str, x: FloatArray, rate_hz: float) -> IntArray:
    """Candidates of a detector; none where it gives up on a signal without beats."""
    up = max(1, int(np.ceil(_LEAST_RATE_HZ / rate_hz)))
    scale = float(np.abs(x).max(initial=0.0))
    if len(x) < 2 * rate_hz or scale == 0:
        return np.empty(0, dtype=np.int64)
    raised = signal.resample_poly(x.astype(np.float64), up, 1)
    rate = round(rate_hz * up)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # empty means and divisions by zero on stretches without beats
        try:
            found = _OWN[name](raised, rate) if name in _OWN else _run_neurokit2(name, raised, rate)
        except (ValueError, IndexError, ZeroDivisionError):
            return np.empty(0, dtype=np.int64)  # their way to say: no beat here; the time is reported as no_beat
    peaks = np.rint(np.asarray(found, dtype=np.float64) / up).astype(np.int64)
    inside: IntArray = np.unique(peaks[(peaks >= 0) & (peaks < len(x))])
    return inside


def _run_neurokit2(name: str, x: npt.NDArray[np.float64], rate: int) -> IntArray:
    import neurokit2  # takes seconds, and most need none of it

    cleaning = _OF_NEUROKIT2[name]
    cleaned = neurokit2.ecg_clean(x, sampling_rate=rate, method=cleaning) if cleaning else x
    found: IntArray = neurokit2.ecg_findpeaks(cleaned, sampling_rate=rate, method=name)["ECG_R_Peaks"]
    return found
