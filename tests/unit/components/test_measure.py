"""The raw measure: what each part counts, and that absent or absurd input is bounded."""

import numpy as np
import pytest
import tensorflow as tf

from components import measure
from configs.contract import FeatureSpec

pytestmark = pytest.mark.unit
SPEC = FeatureSpec()
MEANS, WEIGHTS = measure.segment_means(SPEC)


def shape_of(squared, mask=(1.0, 1.0)):
    return measure.shape_measure(tf.constant(squared[None], tf.float32), tf.constant([mask]), MEANS, WEIGHTS).numpy()[0]


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
    mask = tf.constant([[1.0, 1.0]])
    aligned = measure.aligned_difference(tf.constant(window), tf.constant(template), mask, 3).numpy()
    assert np.abs(aligned[:, 3:-3]).max() < 1e-6
    too_far = measure.aligned_difference(tf.constant(np.roll(template, 5, axis=1)), tf.constant(template), mask, 3)
    assert np.abs(too_far.numpy()[:, 5:-5]).max() > 0.1


def test_a_masked_lead_does_not_choose_the_shift():
    random = np.random.default_rng(2)
    template = np.cumsum(random.normal(size=(1, 160, 2)), axis=1).astype(np.float32)
    window = template.copy()
    window[:, :, 1] = np.roll(template[:, :, 1], 3, axis=1) * 100
    mask = tf.constant([[1.0, 0.0]])
    found = measure.aligned_difference(tf.constant(window), tf.constant(template), mask, 3).numpy()
    assert np.abs(found[:, :, 0]).max() == 0
