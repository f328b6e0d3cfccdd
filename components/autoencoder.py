"""The two autoencoders: one that knows normal beats, one that also knows this patient's own.

Both squeeze a window through a narrow bottleneck, by dense or by convolutional layers. Dense ones are the default: on
MIT-BIH they rank as well, train ten times faster and score several times faster on a CPU (docs/benchmark.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import layers

from components.layout import reduce_samples

KERNEL = 7
_LEAST_PEAK_TO_PEAK = 0.05  # in units of the leads' scale: a flat window is not blown up


@dataclass(frozen=True)
class Architecture:
    """Size of an autoencoder.

    Attributes:
        window_samples, n_leads: geometry of the windows.
        units: of each hidden layer, or filters of each stride-2 convolution, from the window inwards.
        latent_units: width of the bottleneck.
        convolutional: convolutions of kernel 7, not dense layers.
    """

    window_samples: int
    n_leads: int
    units: tuple[int, ...]
    latent_units: int
    convolutional: bool = False

    @property
    def padded_samples(self) -> int:
        """Window length rounded up so that every stride divides it."""
        step = 1 << len(self.units)
        return -(-self.window_samples // step) * step


def build_autoencoder(architecture: Architecture, *, conditioned: bool, name: str) -> keras.Model:
    """An autoencoder.

    Args:
        conditioned: also takes the template, and decodes the difference from it.
        name: of the Keras model.

    Returns:
        A model from [window] or [window, template], float32 (batch, window_samples, leads) each, to the
        reconstruction, of the same shape.
    """
    shape = (architecture.window_samples, architecture.n_leads)
    inputs = [keras.Input(shape, name="window")]
    if conditioned:
        inputs.append(keras.Input(shape, name="template"))
    if architecture.convolutional:
        x = layers.Concatenate()(inputs) if conditioned else inputs[0]
        decoded = _convolutional(x, architecture)
    else:
        flat = [layers.Flatten()(x) for x in inputs]
        decoded = _dense(layers.Concatenate()(flat) if conditioned else flat[0], architecture)
    if conditioned:
        decoded = layers.Add()([inputs[1], decoded])
    return keras.Model(inputs, decoded, name=name)


def _dense(x: keras.KerasTensor, architecture: Architecture) -> keras.KerasTensor:
    shape = (architecture.window_samples, architecture.n_leads)
    for width in architecture.units:
        x = layers.Dense(width, activation="swish")(x)
    x = layers.Dense(architecture.latent_units, name="latent")(x)
    for width in reversed(architecture.units):
        x = layers.Dense(width, activation="swish")(x)
    return layers.Reshape(shape)(layers.Dense(shape[0] * shape[1])(x))


def _convolutional(x: keras.KerasTensor, architecture: Architecture) -> keras.KerasTensor:
    padding = architecture.padded_samples - architecture.window_samples
    x = _encode(layers.ZeroPadding1D((0, padding))(x), architecture.units)
    latent = layers.Dense(architecture.latent_units, name="latent")(layers.Flatten()(x))
    decoded = _decode(latent, architecture)
    return layers.Cropping1D((0, padding))(decoded) if padding else decoded


def _encode(x: keras.KerasTensor, filters: Sequence[int]) -> keras.KerasTensor:
    for width in filters:
        x = layers.Conv1D(width, KERNEL, strides=2, padding="same", activation="swish")(x)
    return x


def _decode(latent: keras.KerasTensor, architecture: Architecture) -> keras.KerasTensor:
    length = architecture.padded_samples // 2 ** len(architecture.units)
    x = layers.Dense(length * architecture.units[-1], activation="swish")(latent)
    x = layers.Reshape((length, architecture.units[-1]))(x)
    for width in architecture.units[-2::-1]:
        x = layers.Conv1DTranspose(width, KERNEL, strides=2, padding="same", activation="swish")(x)
    return layers.Conv1DTranspose(architecture.n_leads, KERNEL, strides=2, padding="same")(x)


def peak_to_peak(signal: tf.Tensor, reference: tf.Tensor, has_reference: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """What windows are divided by, so that gain and electrode position matter less.

    Args:
        signal, reference: float32 (batch, W, L), 0 where masked.
        has_reference: float32 (batch, 1).
        mask: float32 (batch, L).

    Returns:
        float32 (batch, 1, L): of the reference where there is one, else of the signal; 1 where masked.
    """
    extents = [reduce_samples(tf.reduce_max, x) - reduce_samples(tf.reduce_min, x) for x in (reference, signal)]
    size = tf.where(has_reference > 0, *extents)
    size = tf.where(mask > 0, tf.maximum(size, _LEAST_PEAK_TO_PEAK), tf.ones_like(size))
    return size[:, tf.newaxis, :]


def masked_pseudo_huber(error: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean pseudo-Huber loss of the leads that are there: linear for large errors, so artefacts weigh little.

    Args:
        error: float32 (batch, W, L).
        mask: float32 (batch, L).

    Returns:
        float32 (): mean over batch.
    """
    delta = 0.1
    loss = delta * delta * (tf.sqrt(1.0 + tf.square(error / delta)) - 1.0)
    per_lead = tf.reduce_mean(loss, axis=1) * mask
    return tf.reduce_mean(tf.reduce_sum(per_lead, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0))
