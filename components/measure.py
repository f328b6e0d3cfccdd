"""How unusual a beat is, from residuals and rhythm: the raw measure, before it is calibrated into a score.

Three residuals of a window are looked at: what the morphology autoencoder, and what the conditioned autoencoder, did
not reproduce, and what differs from the running template. Each is divided by what it is like on normal beats, averaged
over the P wave, the QRS complex and the rest, and taken as a logarithm: so a small Q wave counts beside a tall R, and
no stretch of a beat drowns the others. Timing comes in relation to how regular this rhythm is.

The constants were chosen on DS1 patients of MIT-BIH left out of training; docs/benchmark.md has the protocol.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from configs.contract import FeatureSpec

QRS_BEFORE_MS, QRS_AFTER_MS = 90.0, 100.0
CAP, SLOPE_BEYOND = 4.0, 0.25  # log units: noise in one lead must not outrank everything
ALIGN_MS = 17.0  # a template is shifted at most so much: about the jitter of an R-peak detector

EARLY_WEIGHT, EARLY_FREE = 0.3, 1.0  # earliness counts from one spread of this rhythm on
LEAST_SPREAD = 0.02  # log units; a pacemaker's rhythm has less, and no beat comes on time to the millisecond
PAUSE_WEIGHT = 0.6  # the pause after: bounded, because it also follows a missed beat


@dataclass(frozen=True)
class Fusion:
    """Weights of the three shape measures, which add up to 1, and of their sum against timing."""

    morphology: float
    context: float
    template: float
    overall: float
    segments: tuple[float, float, float]  # before the QRS, QRS, after it


#: For patients the model has never seen: mostly against their own template.
NEW_PATIENTS = Fusion(morphology=0.1, context=0.4, template=0.5, overall=0.3, segments=(0.5, 2.0, 1.0))
#: For patients whose normal beats are in the training data: mostly against those. ST and T vary with the heart rate
#: more than what precedes them does, and tell less there.
KNOWN_PATIENTS = Fusion(morphology=2 / 3, context=1 / 6, template=1 / 6, overall=0.4, segments=(1.0, 1.5, 0.25))


def segment_means(
    spec: FeatureSpec, fusion: Fusion = NEW_PATIENTS
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Averages over segments as a matrix (segments, window_samples), and the segments' weights (segments,).

    Windows that came already cut have no known R peak: they are one segment.
    """
    w, rate, r = spec.window_samples, spec.sampling_rate_hz, spec.before_samples
    first, last = r - round(QRS_BEFORE_MS * rate / 1000), r + round(QRS_AFTER_MS * rate / 1000)
    if spec.precut_samples or not 0 < first < last < w:
        return np.full((1, w), 1 / w, np.float32), np.ones(1, np.float32)
    means = np.zeros((3, w), np.float32)
    for row, (a, b) in zip(means, ((0, first), (first, last), (last, w)), strict=True):
        row[a:b] = 1 / (b - a)
    weights = np.asarray(fusion.segments, np.float32)
    return means, weights / weights.sum()


def shape_measure(
    squared: tf.Tensor, mask: tf.Tensor, means: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]
) -> tf.Tensor:
    """Weighted mean of log errors over segments, bounded, then over the leads that are there.

    Args:
        squared: float32 (batch, W, L), squared residuals in units of normal beats' mean square.
        mask: float32 (batch, L).
        means, weights: see `segment_means`.

    Returns:
        float32 (batch,).
    """
    logs = tf.math.log(tf.einsum("sw,bwl->bsl", means, squared) + 1e-6)
    per_lead = tf.einsum("s,bsl->bl", weights, logs)
    per_lead = tf.minimum(per_lead, CAP + SLOPE_BEYOND * (per_lead - CAP))
    return tf.reduce_sum(per_lead * mask, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)


def aligned_difference(window: tf.Tensor, template: tf.Tensor, mask: tf.Tensor, most_samples: int) -> tf.Tensor:
    """Window minus template, at the shift of up to `most_samples` at which they differ least.

    Args:
        window, template: float32 (batch, W, L).
        mask: float32 (batch, L).

    Returns:
        float32 (batch, W, L), 0 where the shifted window does not reach.
    """
    shifts = range(-most_samples, most_samples + 1)
    length = window.shape[1]
    differences = tf.stack(
        [
            tf.pad(
                window[:, max(k, 0) : length + min(k, 0)] - template[:, max(-k, 0) : length - max(k, 0)],
                [[0, 0], [max(-k, 0), max(k, 0)], [0, 0]],
            )
            for k in shifts
        ],
        axis=1,
    )
    energy = tf.reduce_sum(tf.reduce_sum(tf.square(differences), axis=2) * mask[:, tf.newaxis, :], axis=2)
    return tf.gather(differences, tf.argmin(energy, axis=1), axis=1, batch_dims=1)


def timing_measure(rhythm: tf.Tensor) -> tf.Tensor:
    """Premature beats, in units of how irregular this rhythm is, and the pause after them.

    Args:
        rhythm: float32 (batch, 4), see `preprocessing.rhythm_features`.

    Returns:
        float32 (batch,), at least 0.
    """
    early = (tf.nn.relu(-rhythm[:, 0]) + tf.nn.relu(-rhythm[:, 1])) / 2
    pause = tf.tanh(tf.nn.relu(rhythm[:, 2]))
    return EARLY_WEIGHT * tf.nn.relu(early / (LEAST_SPREAD + rhythm[:, 3]) - EARLY_FREE) + PAUSE_WEIGHT * pause
