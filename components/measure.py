"""How unusual a beat is, from residuals and rhythm: the raw measure, before it is calibrated into a score.

Three residuals of a window are looked at: what the morphology autoencoder, and what the conditioned autoencoder, did
not reproduce, and what differs from the running template. Each is divided by what it is like on normal beats, averaged
over the P wave, the QRS complex and the rest, and taken as a logarithm: so a small Q wave counts beside a tall R, and
no stretch of a beat drowns the others. Timing comes in relation to how regular this rhythm is.

The constants were chosen on DS1 patients of MIT-BIH left out of training; docs/benchmark.md has the protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.layout import averages, by_lead
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


def shape_measure(segments: tf.Tensor, mask: tf.Tensor, weights: npt.NDArray[np.float32]) -> tf.Tensor:
    """Weighted mean of log errors over segments, bounded, then over the leads that are there.

    Args:
        segments: float32 (batch, residuals, S, L), mean squared residuals of each segment in units of normal beats'.
        mask: float32 (batch, L).
        weights: (S,), see `segment_means`.

    Returns:
        float32 (batch, residuals).
    """
    _, n_residuals, n_segments, n_leads = segments.shape
    logs = tf.reshape(tf.math.log(segments + 1e-6), (-1, n_segments * n_leads))
    per_lead = tf.matmul(logs, by_lead(weights[np.newaxis], n_leads))
    per_lead = tf.reshape(per_lead, (-1, n_residuals, n_leads))
    per_lead = tf.minimum(per_lead, CAP + SLOPE_BEYOND * (per_lead - CAP))
    present = mask[:, tf.newaxis, :]
    return tf.reduce_sum(per_lead * present, axis=2) / tf.maximum(tf.reduce_sum(present, axis=2), 1.0)


def shifted_differences(window: tf.Tensor, template: tf.Tensor, most_samples: int) -> list[tf.Tensor]:
    """Window minus template at each shift from -most_samples to most_samples, where both are.

    Args:
        window, template: float32 (batch, W, L), 0 where masked.

    Returns:
        For shift k float32 (batch, W - |k|, L).
    """
    w = window.shape[1]
    return [
        window[:, max(k, 0) : w + min(k, 0)] - template[:, max(-k, 0) : w - max(k, 0)]
        for k in range(-most_samples, most_samples + 1)
    ]


def best_shift(squares: Sequence[tf.Tensor]) -> tf.Tensor:
    """At which shift window and template differ least: int64 (batch,), of `shifted_differences` squared."""
    energy = [tf.reduce_sum(tf.reshape(s, (-1, s.shape[1] * s.shape[2])), axis=1) for s in squares]
    return tf.argmin(tf.stack(energy, axis=1), axis=1)


def at_shift(differences: Sequence[tf.Tensor], shift: tf.Tensor) -> tf.Tensor:
    """The differences at the shift that was chosen.

    Args:
        differences: of `shifted_differences`.
        shift: int64 (batch,), of `best_shift`.

    Returns:
        float32 (batch, W, L), 0 where the shifted window does not reach.
    """
    paddings = [[[0, 0], [before, after], [0, 0]] for before, after in _reach(len(differences))]
    padded = [tf.pad(d, padding) for d, padding in zip(differences, paddings, strict=True)]
    return tf.gather(tf.stack(padded, axis=1), shift, axis=1, batch_dims=1)


def means_at_shift(squares: Sequence[tf.Tensor], means: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """What `at_shift` squared gives when it is averaged, without ever being made.

    Args:
        squares: of `shifted_differences`.
        means: float32 (W * L, n), see `layout.by_lead`.
        shift: int64 (batch,).

    Returns:
        float32 (batch, n).
    """
    at_each = []
    for squared, (before, _) in zip(squares, _reach(len(squares)), strict=True):
        _, w, n_leads = squared.shape
        at_each.append(averages(squared, means[before * n_leads : (before + w) * n_leads]))
    return tf.gather(tf.stack(at_each, axis=1), shift, axis=1, batch_dims=1)


def _reach(n_shifts: int) -> list[tuple[int, int]]:
    """Samples before and after that a window at each shift does not reach."""
    most = n_shifts // 2
    return [(max(-k, 0), max(k, 0)) for k in range(-most, most + 1)]


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
