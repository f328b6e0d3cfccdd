"""Two published QRS detectors, as neurokit2 has them, without it.

neurokit2 takes seconds to load and brings scikit-learn, matplotlib and pandas; the service's image has none of them,
and still finds the beats of a strip. What is found here is what neurokit2 finds, sample for sample
(tests/unit/test_detectors.py).
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

IntArray = npt.NDArray[np.int64]
_Signal = npt.NDArray[np.float64]

_EMPTY = np.empty(0, dtype=np.int64)


def neurokit(x: _Signal, rate_hz: int) -> IntArray:
    """R peaks where steepness stands out of its surroundings (Makowski et al. 2021, doi:10.3758/s13428-020-01516-y).

    A QRS complex is where the absolute gradient, averaged over 0.1 s, is over 1.5 times its own average over 0.75 s;
    its peak is the most prominent maximum in there. Complexes shorter than 0.4 of the mean are none, and peaks are more
    than 0.3 s apart.

    Args:
        x: float64 (n,), high-passed.
        rate_hz: sampling rate.

    Returns:
        Indices, ascending.

    Raises:
        ValueError: `x` is shorter than 0.75 s.
    """
    short, long = (int(np.rint(seconds * rate_hz)) for seconds in (0.1, 0.75))
    if len(x) < long:
        raise ValueError("too short")
    steepness = ndimage.uniform_filter1d(np.abs(np.gradient(x)), short, mode="nearest")
    inside = steepness > 1.5 * ndimage.uniform_filter1d(steepness, long, mode="nearest")
    begins = np.flatnonzero(~inside[:-1] & inside[1:])
    ends = np.flatnonzero(inside[:-1] & ~inside[1:])
    if not len(begins):
        return _EMPTY
    ends = ends[ends > begins[0]]
    begins = begins[: len(ends)]
    if not len(begins):
        return _EMPTY
    shortest = 0.4 * np.mean(ends - begins)
    apart = int(np.rint(0.3 * rate_hz))
    peaks = [0]
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=False):
        if end - begin < shortest:
            continue
        tops, found = signal.find_peaks(x[begin:end], prominence=(None, None))
        if len(tops):
            peak = begin + int(tops[np.argmax(found["prominences"])])
            if peak - peaks[-1] > apart:
                peaks.append(peak)
    return np.array(peaks[1:], dtype=np.int64)


def pan_tompkins(x: _Signal, rate_hz: int) -> IntArray:
    """QRS complexes by Pan & Tompkins (1985, doi:10.1109/TBME.1985.325532), a little late: where their energy peaks.

    Band-pass of 5 to 15 Hz, squared difference, mean over the last 0.12 s; then peaks over a threshold between those of
    noise and of complexes so far, with a search back where a beat is overdue.

    Args:
        x: float64 (n,).
        rate_hz: sampling rate.

    Returns:
        Indices, ascending.
    """
    sections = signal.butter(1, [5, 15], btype="bandpass", output="sos", fs=rate_hz)
    passed, _ = signal.sosfilt(sections, x, zi=signal.sosfilt_zi(sections) * np.mean(x))
    steps: _Signal = np.diff(passed)
    energy = _mean_of_last(steps * steps, int(0.12 * rate_hz))
    energy[: int(0.2 * rate_hz)] = 0
    return _over_adaptive_threshold(energy, rate_hz)


def _mean_of_last(x: _Signal, n: int) -> _Signal:
    """Of the last `n` samples; of as many as there are at the beginning."""
    mean: _Signal = ndimage.uniform_filter1d(x, n, origin=(n - 1) // 2)
    first = min(n - 1, len(x))
    mean[:first] = np.cumsum(x[:first]) / np.arange(1, first + 1)
    return mean


def _over_adaptive_threshold(energy: _Signal, rate_hz: int) -> IntArray:
    tops, _ = signal.find_peaks(energy, plateau_size=(1, 1))  # a flat top is a saturated amplifier's
    refractory, margin = int(0.3 * rate_hz), int(0.25 * rate_hz)
    beats: list[int] = []
    of_beats = of_noise = 0.0
    last, last_index = 0, -1
    for index, (top, height) in enumerate(zip(tops.tolist(), energy[tops].tolist(), strict=True)):
        threshold = of_noise + 0.25 * (of_beats - of_noise)
        if height <= threshold or top <= last + refractory:
            of_noise = 0.125 * height + 0.875 * of_noise
            continue
        beats.append(top)
        if len(beats) > 9 and top - last > int(1.66 * ((beats[-2] - beats[-10]) // 8)):
            passed_over = tops[last_index + 1 : index]
            passed_over = passed_over[(passed_over > last + margin) & (passed_over < top - margin)]
            passed_over = passed_over[energy[passed_over] > 0.5 * threshold]
            if len(passed_over):
                beats[-1:] = [int(passed_over[np.argmax(energy[passed_over])]), top]
        last, last_index = top, index
        of_beats = 0.125 * height + 0.875 * of_beats
    return np.array(beats, dtype=np.int64)
