"""Absent context is a defined input; rhythm features mean what they say."""

import numpy as np
import pytest
import tensorflow as tf

from components.autoencoder import Architecture, build_autoencoder, masked_pseudo_huber, peak_to_peak
from components.preprocessing import rhythm_features

pytestmark = pytest.mark.unit


def test_a_beat_at_half_the_usual_interval_is_log_two_early():
    rr = tf.constant([[0.4, 1.2, 0.8, 0.8, 0.03], [0.8, 0.8, 0.8, 0.8, 0.0]])
    np.testing.assert_allclose(
        rhythm_features(rr).numpy(), [[-np.log(2), -np.log(2), np.log(1.5), 0.03], [0, 0, 0, 0.05]], atol=1e-6
    )


@pytest.mark.parametrize("row", [[0, 0.8, 0.8, 0.8, 0.1], [0.8, 0, 0, 0, 0], [0, 0, 0, 0, 0], [float("nan")] * 5])
def test_unknown_intervals_say_nothing_unusual(row):
    features = rhythm_features(tf.constant([row], tf.float32)).numpy()
    assert np.isfinite(features).all()
    assert features[0, 0] == 0


def test_absurd_intervals_are_bounded():
    features = rhythm_features(tf.constant([[1e-6, 1e6, 0.8, 0.8, 1e6]])).numpy()
    assert np.abs(features).max() <= np.log(5) + 1e-6


@pytest.mark.parametrize(("samples", "leads"), [(160, 2), (140, 1), (160, 12), (97, 3)])
@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize("convolutional", [False, True])
def test_autoencoders_give_back_the_shape_they_get(samples, leads, conditioned, convolutional):
    architecture = Architecture(samples, leads, (8, 8), 4, convolutional)
    model = build_autoencoder(architecture, conditioned=conditioned, name="a")
    window = tf.zeros((3, samples, leads))
    assert model([window, window] if conditioned else window).shape == (3, samples, leads)


def test_a_missing_lead_does_not_count_in_the_loss():
    error = tf.constant(np.stack([np.full(160, 0.1), np.full(160, 9.0)], axis=1)[None], tf.float32)
    alone = masked_pseudo_huber(error[:, :, :1], tf.constant([[1.0]]))
    masked = masked_pseudo_huber(error, tf.constant([[1.0, 0.0]]))
    np.testing.assert_allclose(masked, alone, rtol=1e-5)
    assert masked_pseudo_huber(error, tf.zeros((1, 2))).numpy() == 0


def test_windows_are_measured_by_their_template_where_there_is_one():
    signal = tf.constant(np.linspace(-1, 1, 160)[None, :, None].repeat(2, axis=2), tf.float32)
    template = signal * 3
    with_template = peak_to_peak(signal, template, tf.ones((1, 1)), tf.constant([[1.0, 0.0]])).numpy()
    without = peak_to_peak(signal, template, tf.zeros((1, 1)), tf.constant([[1.0, 0.0]])).numpy()
    np.testing.assert_allclose(with_template[0, 0], [6.0, 1.0], rtol=1e-5)
    np.testing.assert_allclose(without[0, 0], [2.0, 1.0], rtol=1e-5)
