"""The encoder without TensorFlow gives what Keras gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from components import preprocessing as p
from components.anomaly_model import AnomalyModel, Parts
from components.autoencoder import Architecture, build_autoencoder
from components.encoder import encoder_of
from configs import contract
from configs.contract import FeatureSpec
from configs.errors import ModelUnavailableError
from monitoring.drift_encoder import load_encoder, save_encoder

pytestmark = pytest.mark.unit

SPEC = FeatureSpec()
SCALE = np.array([0.3, 0.2], np.float32)


def windows(n=40):
    rng = np.random.default_rng(0)
    shape = (n, SPEC.window_samples, SPEC.n_leads)
    mask = (rng.random((n, SPEC.n_leads)) < 0.8).astype(np.float32)
    samples = rng.normal(0, 0.5, shape).astype(np.float32)
    samples[0, 3, 0] = np.nan
    return {
        contract.SAMPLES: samples, contract.LEAD_MASK: mask, contract.RR: np.ones((n, 5), np.float32),
        contract.TEMPLATE: rng.normal(0, 0.5, shape).astype(np.float32),
        contract.TEMPLATE_BEATS: (np.arange(n) % 3).astype(np.float32)[:, None],
    }  # fmt: skip


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("known_patients", [False, True])
def test_it_gives_the_latent_space_of_the_autoencoder(tmp_path, convolutional, known_patients):
    keras.utils.set_random_seed(3)
    units = (4, 8) if convolutional else (12, 6)
    architecture = Architecture(SPEC.window_samples, SPEC.n_leads, units, 3, convolutional)
    autoencoder = build_autoencoder(architecture, conditioned=False, name="morphology")

    def transform(raw):
        return p.transform(raw, SPEC, tf.constant(SCALE))

    parts = Parts(autoencoder, None, use_template=True, use_rhythm=True, known_patients=known_patients)
    model = AnomalyModel(transform, parts, SPEC)
    save_encoder(tmp_path / "e.npz", encoder_of(model, transform, SPEC))
    encoder = load_encoder(tmp_path / "e.npz")

    raw = windows()
    features = transform({name: tf.reshape(value, (len(value), -1)) for name, value in raw.items()})
    size, _ = model.window_size(features)
    signal = tf.reshape(features[p.SIGNAL], (-1, SPEC.window_samples, SPEC.n_leads))
    to_latent = keras.Model(autoencoder.input, autoencoder.get_layer("latent").output)
    np.testing.assert_allclose(encoder(raw), to_latent(signal / size).numpy(), rtol=1e-4, atol=1e-5)


def test_no_file_is_no_encoder_and_a_damaged_one_is_said(tmp_path):
    assert load_encoder(tmp_path / "e.npz") is None
    (tmp_path / "e.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ModelUnavailableError, match=r"e\.npz: is damaged"):
        load_encoder(tmp_path / "e.npz")
