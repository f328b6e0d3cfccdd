"""Drift in simulated signal, cut as ingest cuts it: mains and swapped leads are found within two hundred windows."""

from dataclasses import replace

import numpy as np
import pytest

from configs.contract import FeatureSpec
from monitoring.drift_features import FEATURES, Key, Stream, removed_values, rhythm_values, score_values, signal_values
from monitoring.drift_reference import make_reference
from monitoring.drift_tests import SUDDEN, detect
from warehouse.signal.simulate import SimulatedSource, simulate_recording
from warehouse.signal.windows import concatenate, cut_windows

pytestmark = pytest.mark.unit

SPEC = FeatureSpec()
LEADS = ("MLII", "V1")
RATE_HZ = 250.0


def simulated(number, duration_s):
    rate = 60 + number % 5 * 6
    return simulate_recording(
        name=f"p{number}", duration_s=duration_s, sampling_rate_hz=RATE_HZ, leads=LEADS, seed=number,
        heart_rate_bpm=rate, noise_mv=0.01 + 0.002 * (number % 5), mains_mv=0.002 + 0.001 * (number % 3),
    )  # fmt: skip


def changed(source, change, from_s=0.0):
    time_s = np.arange(len(source.samples)) / RATE_HZ
    after = time_s >= from_s
    samples = source.samples.copy()
    samples[after] = change(source.samples[after], time_s[after, None])
    return SimulatedSource(source.header, samples.astype(np.float32), source.beats)


def stream_of(source, number):
    chunks = list(cut_windows(source, SPEC, block_s=60))
    w = concatenate([chunk.windows for chunk in chunks])
    removed = np.concatenate([chunk.removed for chunk in chunks])
    assert len(removed) == int(np.ceil(source.header.duration_s))
    values = signal_values(w.samples, w.lead_mask, LEADS, SPEC) | rhythm_values(w.rr)
    values |= removed_values(removed, w.r_peak_s, w.lead_mask, LEADS)
    at_us = np.rint(w.r_peak_s * 1e6).astype(np.int64)
    return Stream(number, f"r{number}", f"p{number}", "main", "d", w.beat_index, at_us, values, {"MLII": 0, "V1": 1})


def first(stream, n):
    return replace(
        stream, window_id=stream.window_id[:n], recorded_at_us=stream.recorded_at_us[:n],
        values={key: values[:n] for key, values in stream.values.items()},
    )  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    return make_reference([stream_of(simulated(i, 180), i) for i in range(8)])


def mains(x, time_s):
    return x + 0.1 * np.sin(2 * np.pi * 60 * time_s)


def swapped(x, time_s):
    return x[:, ::-1]


@pytest.mark.parametrize("change", [mains, swapped])
def test_a_change_within_a_recording_is_found_within_two_hundred_windows(reference, change):
    for number in (100, 101, 102, 103):
        stream = stream_of(changed(simulated(number, 330), change, from_s=130), number)
        at = int(np.searchsorted(stream.recorded_at_us, 130e6))
        assert len(stream) >= at + 200
        assert not [f for f in detect(reference, [first(stream, at)]).findings if f.kind == SUDDEN]
        found = [f for f in detect(reference, [first(stream, at + 200)]).findings if f.kind == SUDDEN]
        moved = {f.key for f in found}
        expected = (
            {Key("mains", lead) for lead in LEADS} if change is mains else {Key("polarity", lead) for lead in LEADS}
        )
        assert expected <= moved
        for f in found:
            if f.key in expected:
                assert abs(f.since.timestamp() - 946684800 - 130) < 25


def test_features_are_what_they_say():
    source = simulated(7, 60)
    plain, louder = stream_of(source, 1), stream_of(changed(source, lambda x, t: 2 * x), 1)
    hum, wander = (
        stream_of(changed(source, mains), 1),
        stream_of(changed(source, lambda x, t: x + 0.5 * np.sin(2 * np.pi * 0.25 * t)), 1),
    )
    turned = stream_of(changed(source, lambda x, t: -x), 1)

    def middle(stream, feature, lead="MLII"):
        return float(np.nanmedian(stream.values[Key(feature, lead)]))

    assert middle(louder, "amplitude") == pytest.approx(2 * middle(plain, "amplitude"), rel=0.01)
    assert middle(louder, "noise") == pytest.approx(2 * middle(plain, "noise"), rel=0.05)
    assert middle(louder, "polarity") == pytest.approx(middle(plain, "polarity"), abs=0.01)
    assert middle(turned, "polarity") == pytest.approx(-middle(plain, "polarity"), abs=0.01)
    assert middle(plain, "polarity") > 0.3
    assert middle(hum, "mains") == pytest.approx(0.1 / np.sqrt(2), rel=0.1)
    assert middle(plain, "mains") < 0.02
    assert middle(wander, "baseline") > 0.15 > 3 * middle(plain, "baseline")
    assert np.nanmedian(plain.values[Key("heart_rate")]) == pytest.approx(72, rel=0.1)
    assert {key.feature for key in plain.values} < set(FEATURES)
    scores = score_values(np.array([0.5, 1.5, 9.0, np.nan]), 1.5)
    np.testing.assert_array_equal(scores[Key("score")], [0.5, 1.5, 4.0, np.nan])
    np.testing.assert_array_equal(scores[Key("flagged")], [0.0, 1.0, 1.0, np.nan])


def test_an_unusable_lead_and_an_unknown_interval_have_no_number():
    samples = np.zeros((2, SPEC.window_samples, 2), np.int16)
    mask = np.array([[True, False], [True, True]])
    values = signal_values(samples, mask, ("MLII", ""), SPEC)
    assert {key.lead for key in values} == {"MLII"}
    assert np.isnan(signal_values(samples, mask, LEADS, SPEC)[Key("amplitude", "V1")]).tolist() == [True, False]
    assert np.isnan(rhythm_values(np.zeros((2, 5), np.float32))[Key("heart_rate")]).all()
    assert removed_values(None, np.zeros(2), mask, LEADS) == {}
    assert signal_values(samples[:0], mask[:0], LEADS, SPEC)[Key("noise", "V1")].shape == (0,)
