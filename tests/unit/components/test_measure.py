"""The raw measure: what each part counts, and that absent or absurd input is bounded."""

import numpy as np
import pytest
import tensorflow as tf

from components import layout, measure
from configs.contract import FeatureSpec

pytestmark = pytest.mark.unit
SPEC = FeatureSpec()
MEANS, WEIGHTS = measure.segment_means(SPEC)


def shape_of(squared, mask=(1.0, 1.0)):
    segments = np.einsum("sw,wl->sl", MEANS, squared)[None, None]
    return measure.shape_measure(tf.constant(segments, tf.float32), tf.constant([mask]), WEIGHTS).numpy()[0, 0]


def aligned(window, template):
    differences = measure.shifted_differences(tf.constant(window), tf.constant(template), 3)
    squares = [tf.square(difference) for difference in differences]
    shift = measure.best_shift(squares)
    found = measure.at_shift(differences, shift).numpy()
    weights = layout.by_lead(MEANS, 2)
    means = measure.means_at_shift(squares, tf.constant(weights), shift).numpy()
    np.testing.assert_allclose(means, np.square(found).reshape(1, -1) @ weights, rtol=1e-4, atol=1e-9)
    return found


def test_only_early_beats_and_pauses_add_to_the_timing():
    steady = 0.02
    early, late, pause = ([-0.5, -0.5, 0.0, steady], [0.5, 0.5, 0.0, steady], [0.0, 0.0, 0.5, steady])
    found = measure.timing_measure(tf.constant([early, pause, late])).numpy()
    assert found[0] > found[1] > 0
    assert found[2] == 0


def test_an_early_beat_says_less_where_no_beat_comes_on_time():
    found = measure.timing_measure(tf.constant([[-0.3, -0.3, 0, 0.01], [-0.3, -0.3, 0, 0.25]])).numpy()
    assert found[0] > 5 * found[1]
    assert measure.timing_measure(tf.constant([[-0.03, -0.03, 0, 0.05]])).numpy()[0] == 0


def test_segments_cover_the_window_once_and_centre_on_the_r_peak():
    assert (MEANS > 0).sum(axis=0).tolist() == [1] * SPEC.window_samples
    assert MEANS.sum(axis=1) == pytest.approx(1)
    assert WEIGHTS.sum() == pytest.approx(1)
    assert MEANS[1, SPEC.before_samples] > 0
    precut, alone = measure.segment_means(FeatureSpec(precut_samples=140, lead_slots=(("ECG",),)))
    assert precut.shape == (1, 140)
    assert alone.tolist() == [1]


def test_the_usual_error_measures_nothing_and_twice_the_error_its_logarithm():
    usual = np.ones((SPEC.window_samples, 2))
    assert shape_of(usual) == pytest.approx(0, abs=1e-5)
    assert shape_of(4 * usual) == pytest.approx(np.log(4), abs=1e-5)
    assert shape_of(np.stack([usual[:, 0], 1e9 * usual[:, 0]], axis=1), (1.0, 0.0)) == pytest.approx(0, abs=1e-5)


def test_noise_in_one_lead_is_bounded():
    noisy = np.ones((SPEC.window_samples, 2))
    noisy[:, 1] = 1e6
    assert shape_of(noisy) < measure.CAP


@pytest.mark.parametrize("shift", [-3, -1, 0, 2, 3])
def test_a_shifted_beat_is_compared_at_its_place(shift):
    random = np.random.default_rng(1)
    template = np.cumsum(random.normal(size=(1, 160, 2)), axis=1).astype(np.float32)
    window = np.roll(template, shift, axis=1)
    assert np.abs(aligned(window, template)[:, 3:-3]).max() < 1e-6
    assert np.abs(aligned(np.roll(template, 5, axis=1), template)[:, 5:-5]).max() > 0.1


@pytest.mark.parametrize(("samples", "leads"), [(160, 2), (140, 1), (97, 12)])
def test_factors_of_leads_are_spread_and_extremes_found_exactly(samples, leads):
    random = np.random.default_rng(3)
    factors = random.normal(size=(5, leads)).astype(np.float32)
    spread = layout.over_samples(tf.constant(factors), samples).numpy()
    np.testing.assert_array_equal(spread, np.repeat(factors[:, None], samples, axis=1))
    windows = random.normal(size=(5, samples, leads)).astype(np.float32)
    found = layout.reduce_samples(tf.reduce_max, tf.constant(windows)).numpy()
    np.testing.assert_array_equal(found, windows.max(axis=1))
