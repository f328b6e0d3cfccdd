"""The detectors of warehouse.signal.detectors find what neurokit2's find."""

import warnings
from typing import Any

import neurokit2
import numpy as np
import pytest

from warehouse.signal import detectors

pytestmark = pytest.mark.unit

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def ecg(seed: int, rate_hz: int, seconds: float = 40.0) -> FloatArray:
    """Beats of uneven size and distance, some missing and some wide, with noise, wander, and a saturated stretch."""
    source = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    x = 0.02 * source.standard_normal(len(time_s)) + 0.3 * np.sin(0.5 * time_s)
    at = 0.4
    while at < seconds:
        if source.uniform() > 0.1:
            width = source.choice([0.012, 0.012, 0.045])
            x += source.uniform(0.2, 1.5) * np.exp(-0.5 * ((time_s - at) / width) ** 2)
        at += source.uniform(0.35, 1.2)
    return np.clip(x, -0.6, 1.4)


@pytest.mark.parametrize("rate_hz", [100, 250, 360])
def test_they_find_what_neurokit2_finds(rate_hz: int) -> None:
    n_found = 0
    for seed in range(12):
        x = ecg(seed, rate_hz, seconds=40.0 if seed else 5.3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = neurokit2.ecg_findpeaks(x, sampling_rate=rate_hz, method="neurokit")["ECG_R_Peaks"]
            cleaned = neurokit2.ecg_clean(x, sampling_rate=rate_hz, method="pantompkins1985")
            energy = neurokit2.ecg_findpeaks(cleaned, sampling_rate=rate_hz, method="pantompkins1985")["ECG_R_Peaks"]
        np.testing.assert_array_equal(detectors.neurokit(x, rate_hz), reference)
        np.testing.assert_array_equal(detectors.pan_tompkins(x, rate_hz), energy)
        n_found += len(reference)
    assert n_found > 12 * 30


def test_nothing_is_found_in_nothing() -> None:
    assert len(detectors.neurokit(np.zeros(1000), 250)) == len(detectors.pan_tompkins(np.zeros(1000), 250)) == 0
    with pytest.raises(ValueError, match="too short"):
        detectors.neurokit(np.ones(100), 250)
