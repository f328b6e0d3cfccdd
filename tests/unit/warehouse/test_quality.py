"""Signal quality: each kind of trouble is found, where it is and no further, and clean signal is left alone."""

import numpy as np
import pytest

from configs.contract import FeatureSpec
from warehouse.signal.codes import (
    AMPLITUDE,
    FLAT_LINE,
    GAP,
    LEAD_OFF,
    NOISE,
    SATURATION,
    USABLE,
    all_bad,
    reason_of,
    spans_of,
)
from warehouse.signal.ecg import Reason, UnusableSpan
from warehouse.signal.filtering import band_pass, bridge, resample
from warehouse.signal.quality import assess, block_grid_samples, recording_notes, suspect_inverted
from warehouse.signal.simulate import simulate_recording
from warehouse.signal.windows import concatenate, cut_windows

pytestmark = pytest.mark.unit

RATE = 250.0
BAND = (0.5, 45.0)
SPEC = FeatureSpec()


@pytest.fixture(scope="module")
def clean():
    """Sixty seconds of two clean leads; treat as read-only."""
    source = simulate_recording(name="clean", duration_s=60, sampling_rate_hz=RATE, leads=("MLII", "V1"), seed=11)
    return source.read(0, source.header.n_samples)


def codes(x, rate=RATE):
    return assess(x, sampling_rate_hz=rate, band_hz=BAND).code


def seconds(start_s, end_s):
    return slice(int(start_s * RATE), int(end_s * RATE))


def share(code, value, start_s, end_s):
    return float(np.mean(code[seconds(start_s, end_s)] == value))


def test_clean_signal_is_usable_throughout(clean):
    assert (codes(clean) == USABLE).all()


def test_a_line_without_any_noise_between_beats_is_no_flat_line():
    time = np.arange(int(30 * RATE)) / RATE
    beats = np.exp(-((time[:, None] - np.arange(0.5, 30, 0.9)) ** 2) / (2 * 0.015**2)).sum(axis=1)
    x = np.round(beats, 2).astype(np.float32)[:, None]
    assert (codes(x) == USABLE).all()


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_mains_that_the_band_pass_removes_is_no_reason(clean, mains_hz):
    time = np.arange(len(clean)) / RATE
    hum = 0.1 * np.sin(2 * np.pi * mains_hz * time).astype(np.float32)[:, None]
    assert (codes(clean + hum) == USABLE).all()


def test_mains_that_hides_the_beats_is_noise(clean):
    time = np.arange(len(clean)) / RATE
    hum = 3.0 * np.sin(2 * np.pi * 50 * time).astype(np.float32)
    x = clean.copy()
    x[seconds(20, 40), 0] += hum[seconds(20, 40)]
    code = codes(x)
    assert share(code[:, 0], NOISE, 21, 39) == 1.0
    assert (code[: int(18 * RATE), 0] == USABLE).all()
    assert (code[int(42 * RATE) :, 0] == USABLE).all()
    assert (code[:, 1] == USABLE).all()


def test_muscle_noise_counts_when_it_hides_the_beat_only(clean):
    noise = np.random.default_rng(1).standard_normal(clean.shape).astype(np.float32)
    assert np.mean(codes(clean + 0.05 * noise) == NOISE) == 0.0
    assert np.mean(codes(clean + 1.0 * noise) == NOISE) > 0.9


def test_a_slow_drift_of_several_millivolts_is_no_reason(clean):
    drift = 5 * np.sin(2 * np.pi * 0.1 * np.arange(len(clean)) / RATE).astype(np.float32)
    assert (codes(clean + drift[:, None]) == USABLE).all()


def test_missing_samples_are_a_gap_to_the_sample(clean):
    x = clean.copy()
    x[1000:1013, 0] = np.nan
    code = codes(x)
    assert np.array_equal(np.flatnonzero(code[:, 0] == GAP), np.arange(1000, 1013))
    assert (np.delete(code[:, 0], np.arange(1000, 1013)) == USABLE).all()
    assert (code[:, 1] == USABLE).all()


def test_infinite_samples_are_a_gap(clean):
    x = clean.copy()
    x[500, 1] = np.inf
    assert codes(x)[500, 1] == GAP


@pytest.mark.parametrize("converter_noise_mv", [0.0, 0.005])
def test_one_lead_off_while_the_other_goes_on(clean, converter_noise_mv):
    x = clean.copy()
    n = len(x[seconds(20, 35)])
    x[seconds(20, 35), 1] = 0.3 + converter_noise_mv * np.random.default_rng(2).integers(-1, 2, n)
    code = codes(x)
    assert share(code[:, 1], LEAD_OFF, 20.2, 34.8) == 1.0
    assert (code[: int(19.8 * RATE), 1] == USABLE).all()
    assert (code[int(35.2 * RATE) :, 1] == USABLE).all()
    assert (code[:, 0] == USABLE).all()


def test_all_leads_off_is_a_flat_line(clean):
    x = clean.copy()
    x[seconds(20, 35)] = 0.1
    code = codes(x)
    assert (code[seconds(20.2, 34.8)] == FLAT_LINE).all()
    assert (all_bad(code)[seconds(20.2, 34.8)] == FLAT_LINE).all()


def test_half_a_second_of_held_samples_is_found(clean):
    x = clean.copy()
    x[seconds(30, 30.5), 0] = x[int(30 * RATE), 0] + 0.2
    assert share(codes(x)[:, 0], LEAD_OFF, 30.01, 30.49) == 1.0


def test_clipped_peaks_are_saturation_around_the_peaks_only(clean):
    x = clean.copy()
    x[:, 0] = np.minimum(4 * x[:, 0], 1.2)
    code = codes(x)
    clipped = x[:, 0] == np.float32(1.2)
    assert clipped.sum() > 100
    assert np.mean(code[clipped, 0] == SATURATION) > 0.95
    assert 0.02 < np.mean(code[:, 0] == SATURATION) < 0.35
    assert (code[:, 1] == USABLE).all()


def test_stuck_far_out_is_saturation_however_long(clean):
    x = clean.copy()
    x[seconds(20, 45), 0] = 5.115
    assert share(codes(x)[:, 0], SATURATION, 20, 45) > 0.99


def test_what_the_store_cannot_hold_is_amplitude(clean):
    x = clean.copy()
    x[seconds(30, 30.2), 0] += 100.0
    code = codes(x)
    assert share(code[:, 0], AMPLITUDE, 30, 30.2) == 1.0
    assert (code[seconds(20, 29), 0] == USABLE).all()


def test_an_electrode_offset_is_not_amplitude(clean):
    assert (codes(clean + np.float32(200.0)) == USABLE).all()


def test_all_nan_and_all_constant(clean):
    assert (codes(np.full_like(clean, np.nan)) == GAP).all()
    assert (codes(np.zeros_like(clean)) == FLAT_LINE).all()


@pytest.mark.parametrize("n", [1, 2, 7, 60, 300])
def test_short_stretches_are_assessed_without_error(clean, n):
    found = assess(clean[:n], sampling_rate_hz=RATE, band_hz=BAND)
    assert found.code.shape == (n, 2)
    assert np.isfinite(found.filtered).all()


@pytest.mark.parametrize("rate", [50.0, 128.0, 257.3, 1000.0, 2000.0])
def test_clean_signal_is_usable_at_any_rate(rate):
    source = simulate_recording(name="r", duration_s=20, sampling_rate_hz=rate, leads=("MLII", "V5"), seed=3)
    assert (codes(source.read(0, source.header.n_samples), rate) == USABLE).all()


def test_a_stretch_gives_what_the_whole_gives(clean):
    x = clean.copy()
    x[seconds(22, 25), 0] = np.nan
    x[seconds(33, 36), 1] = 0.0
    whole = assess(x, sampling_rate_hz=RATE, band_hz=BAND)
    first = block_grid_samples(RATE) * 20
    part = assess(x[first:], sampling_rate_hz=RATE, band_hz=BAND)
    settled = int(6 * RATE)
    assert np.array_equal(part.code[settled:], whole.code[first + settled :])
    assert np.abs(part.filtered[settled:] - whole.filtered[first + settled :]).max() < 1e-4


def test_quality_falls_with_noise_and_drift(clean):
    noise = np.random.default_rng(1).standard_normal(clean.shape).astype(np.float32)
    drift = 2 * np.sin(2 * np.pi * 0.3 * np.arange(len(clean)) / RATE).astype(np.float32)[:, None]
    start = np.arange(2, 50) * int(RATE)
    usable = np.ones((len(start), 2), dtype=bool)

    def quality(x):
        return assess(x, sampling_rate_hz=RATE, band_hz=BAND).window_quality(start, start + 220, usable).mean()

    assert 0.8 < quality(clean) <= 1.0
    assert quality(clean + 0.05 * noise) < quality(clean) - 0.05
    assert quality(clean + drift) < quality(clean) - 0.1
    assert quality(clean + noise) < 0.1


def test_quality_is_of_the_usable_leads_only(clean):
    x = clean.copy()
    x[:, 1] += np.random.default_rng(1).standard_normal(len(x)).astype(np.float32)
    found = assess(x, sampling_rate_hz=RATE, band_hz=BAND)
    start = np.array([2500, 5000])
    both = found.window_quality(start, start + 220, np.array([[True, True]] * 2))
    good = found.window_quality(start, start + 220, np.array([[True, False]] * 2))
    none = found.window_quality(start, start + 220, np.zeros((2, 2), dtype=bool))
    assert (good > both).all()
    assert (none == 0).all()


def test_spans_of_codes():
    code = np.array([0, GAP, GAP, NOISE, 0, 0], dtype=np.uint8)
    assert spans_of(code, first_sample=10, sampling_rate_hz=10.0, lead="II") == [
        UnusableSpan(1.1, 1.3, Reason.GAP, "II"),
        UnusableSpan(1.3, 1.4, Reason.NOISE, "II"),
    ]
    assert spans_of(code[:0], first_sample=0, sampling_rate_hz=10.0, lead=None) == []
    assert reason_of(LEAD_OFF) is Reason.LEAD_OFF


def test_where_all_leads_are_bad_the_least_lost_one_gives_the_reason():
    code = np.array([[GAP, NOISE], [GAP, USABLE], [GAP, FLAT_LINE]], dtype=np.uint8)
    assert all_bad(code).tolist() == [NOISE, USABLE, FLAT_LINE]


def windows_of(**trouble):
    source = simulate_recording(name="p", duration_s=60, sampling_rate_hz=RATE, leads=("MLII", "V1"), seed=5, **trouble)
    return concatenate([chunk.windows for chunk in cut_windows(source, SPEC, block_s=60)])


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [({}, []), ({"invert_leads": ("MLII",)}, ["MLII"]), ({"invert_leads": ("V1",)}, []), ({"bundle_branch": True}, [])],
)
def test_swapped_electrodes_are_suspected(trouble, expected):
    windows = windows_of(**trouble)
    notes = recording_notes(windows, ["MLII", "V1"], SPEC)
    assert list(notes.suspect_inverted) == expected
    assert len(notes.lines()) == len(expected)
    assert suspect_inverted(windows, [None, None], SPEC).tolist() == [False, False]


def test_bridge_leads_from_level_to_level_and_holds_in_long_gaps():
    x = np.concatenate([np.full(1000, 1.0), np.full(500, np.nan), np.full(1000, 3.0), np.full(5000, np.nan), [5.0]])
    bridged = bridge(x, np.isnan(x), sampling_rate_hz=RATE)
    assert np.isfinite(bridged).all()
    assert np.allclose(bridged[1000:1500], np.interp(np.arange(500) + 0.5, [0, 500], [1.0, 3.0]))
    long = bridged[2500:7500]
    assert np.allclose(long[:2300], 3.0)
    assert np.allclose(long[2700:], 5.0)
    assert (bridge(np.full(9, np.nan), np.ones(9, bool), sampling_rate_hz=RATE) == 0).all()


@pytest.mark.parametrize("rate", [100.0, 250.0, 360.0, 1000.0])
def test_band_pass_keeps_ten_hertz_and_removes_drift_and_mains(rate):
    time = np.arange(0, 30, 1 / rate)
    middle = slice(int(10 * rate), int(20 * rate))

    def gain(frequency_hz):
        tone = np.sin(2 * np.pi * frequency_hz * time)
        return float(np.std(band_pass(tone, sampling_rate_hz=rate, band_hz=BAND)[middle]) * 2**0.5)

    assert gain(10.0) == pytest.approx(1.0, abs=0.01)
    assert gain(0.05) < 0.001
    if rate > 120:
        assert gain(50.0) < 0.16
        assert gain(60.0) < 0.01


@pytest.mark.parametrize("rate", [50.0, 90.0, 128.0, 180.0, 250.0, 257.3, 360.0, 500.0, 999.7, 2000.0])
def test_resampling_is_exact_at_any_time_of_a_day(rate):
    """Tones keep amplitude and phase; 24 hours into a recording as well as at its start."""
    for hour in (0, 23):
        first = round(hour * 3600 * rate)
        time = (first + np.arange(round(20 * rate))) / rate
        highest = min(45.0, 0.45 * rate)
        target_first = int(np.ceil(first / rate * 180.0)) + 900
        target_time = (target_first + np.arange(1800)) / 180.0
        for frequency_hz in (1.0, 8.0, 0.8 * highest):
            found = resample(
                np.sin(2 * np.pi * frequency_hz * time), sampling_rate_hz=rate, first_sample=first,
                target_rate_hz=180.0, target_first=target_first, target_n=1800, highest_hz=highest,
            )  # fmt: skip
            assert np.abs(found - np.sin(2 * np.pi * frequency_hz * target_time)).max() < 5e-3


def test_resampling_to_a_low_rate_does_not_fold_noise_back():
    """At 100 Hz out, 60 Hz would come back as 40 Hz."""
    time = np.arange(0, 20, 1 / 500.0)
    tone = band_pass(np.sin(2 * np.pi * 60 * time), sampling_rate_hz=500.0, band_hz=BAND)
    kept = resample(
        tone, sampling_rate_hz=500.0, first_sample=0,
        target_rate_hz=100.0, target_first=500, target_n=1000, highest_hz=45.0,
    )  # fmt: skip
    assert np.abs(kept).max() < 2e-3
