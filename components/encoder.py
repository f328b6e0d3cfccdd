"""Takes the encoder out of a trained model, so that drift can be looked for in its latent space without TensorFlow."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from components import preprocessing as p
from components.anomaly_model import AnomalyModel
from components.autoencoder import Architecture
from configs import contract
from configs.contract import FeatureSpec
from monitoring.drift_encoder import CONVOLUTION, DENSE, Encoder


def encoder_of(model: AnomalyModel, transform: keras.layers.Layer, spec: FeatureSpec) -> Encoder:
    """The way of a window to the bottleneck of the morphology autoencoder.

    Args:
        transform: raw to transformed features, which knows the leads' scale.
    """
    w, n = spec.window_samples * spec.n_leads, spec.n_leads
    widths = {
        contract.SAMPLES: w, contract.LEAD_MASK: n, contract.RR: len(contract.RR_COLUMNS),
        contract.TEMPLATE: w, contract.TEMPLATE_BEATS: 1,
    }  # fmt: skip
    scale = transform({name: tf.zeros((1, width)) for name, width in widths.items()})[p.SCALE]
    found, pad = [], 0
    for layer in model.autoencoders()["morphology"].layers:
        if isinstance(layer, layers.ZeroPadding1D):
            units = tuple(1 for other in model.autoencoders()["morphology"].layers if type(other) is layers.Conv1D)
            architecture = Architecture(spec.window_samples, spec.n_leads, units, 1, convolutional=True)
            pad = architecture.padded_samples - spec.window_samples
        if type(layer) in (layers.Conv1D, layers.Dense):
            kernel, bias = (np.asarray(weights, np.float32) for weights in layer.get_weights())
            found.append((CONVOLUTION if type(layer) is layers.Conv1D else DENSE, kernel, bias))
        if layer.name == "latent":
            break
    return Encoder(np.asarray(scale[0], np.float32), not model.known_patients, pad, tuple(found))
