"""The model that is served: preprocessing, autoencoders, rhythm, calibration and threshold, as one SavedModel."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components import preprocessing as p
from components.autoencoder import normalise
from components.calibration import TailCalibration
from configs import contract
from configs.contract import FeatureSpec

MORPHOLOGY_WEIGHT = 0.25
EARLY_WEIGHT = 2.0  # a beat that comes early against the median and against the 90th percentile of recent RRs
PAUSE_WEIGHT = 0.3  # the pause after it: bounded, because it also follows a missed beat

_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class ResidualVariance:
    """Mean squared residual of normal beats at each sample, float32 (W, L), one an autoencoder."""

    morphology: npt.NDArray[np.float32]
    context: npt.NDArray[np.float32]


class AnomalyModel(tf.Module):
    """Scores windows; its signatures are the contract of `configs.contract`.

    Args:
        transform: tf.Transform's layer from raw to transformed features.
        morphology: autoencoder of windows.
        context: autoencoder of windows given the template; None leaves it out.
        spec: geometry of the windows.
        use_rhythm: add the RR-interval term.
    """

    def __init__(
        self,
        transform: Any,
        morphology: keras.Model,
        context: keras.Model | None,
        spec: FeatureSpec,
        *,
        use_rhythm: bool,
    ) -> None:
        super().__init__()
        self._transform = transform
        self._morphology = morphology
        self._context = context
        self._spec = spec
        self._use_rhythm = use_rhythm
        shape = (spec.window_samples, spec.n_leads)
        self._variance_morphology = tf.Variable(tf.ones(shape), trainable=False)
        self._variance_context = tf.Variable(tf.ones(shape), trainable=False)
        self._calibration = TailCalibration(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 1.0)
        self._threshold = 1.0

    def set_variance(self, variance: ResidualVariance) -> None:
        """What normal beats' residuals look like; the unit of `sample_error`."""
        self._variance_morphology.assign(np.maximum(variance.morphology, _LEAST_VARIANCE))
        self._variance_context.assign(np.maximum(variance.context, _LEAST_VARIANCE))

    def set_calibration(self, calibration: TailCalibration, threshold: float) -> None:
        """What raw measures mean; must be set before `save`."""
        self._calibration = calibration
        self._threshold = threshold

    # --- what training uses, on transformed features -------------------------------------------------

    def residuals(self, features: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Residuals of both autoencoders on normalised windows: float32 (batch, W, L) each, 0 where masked."""
        return self._reconstruct(features)[2:]

    def raw_measure(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """The uncalibrated anomaly measure of transformed features: float32 (batch,)."""
        return self._measure(features)["raw"]

    def _reconstruct(self, features: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Size (batch, 1, L), reconstruction in units of SIGNAL (batch, W, L), and both residuals."""
        shape = (-1, self._spec.window_samples, self._spec.n_leads)
        signal = tf.reshape(features[p.SIGNAL], shape)
        reference = tf.reshape(features[p.REFERENCE], shape)
        mask = features[p.MASK]
        has_reference = features[p.HAS_REFERENCE]
        size = normalise(signal, reference, has_reference, mask)
        window = signal / size
        present = mask[:, tf.newaxis, :]
        expected = self._morphology(window, training=False) * present
        residual = (window - expected) * present
        if self._context is None:
            return size, expected * size, residual, tf.zeros_like(residual)
        use = has_reference[:, :, tf.newaxis]
        expected_context = self._context([window, reference / size], training=False) * present
        residual_context = (window - expected_context) * present * use
        best = tf.where(use > 0, expected_context, expected)
        return size, best * size, residual, residual_context

    def _measure(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        _, reconstruction, residual, residual_context = self._reconstruct(features)
        mask = features[p.MASK]
        squared = tf.square(residual) / self._variance_morphology
        log_error = tf.math.log(_mean_over_leads(squared, mask) + 1e-6)
        if self._context is not None:
            use = features[p.HAS_REFERENCE]
            squared_context = tf.square(residual_context) / self._variance_context
            log_context = tf.math.log(_mean_over_leads(squared_context, mask) + 1e-6)
            # Without a template only the first autoencoder speaks.
            log_error = tf.where(use[:, 0] > 0, (log_error + log_context) / 2, log_error)
            squared = tf.where(use[:, :, tf.newaxis] > 0, (squared + squared_context) / 2, squared)
        raw = MORPHOLOGY_WEIGHT * log_error
        if self._use_rhythm:
            raw += rhythm_term(features[p.RHYTHM])
        return {"raw": raw, "squared": squared, "reconstruction": reconstruction}

    # --- what callers use, on raw features -----------------------------------------------------------

    def _score(self, raw: tf.Tensor) -> tf.Tensor:
        return _interpolate(raw, self._calibration)

    def _answer(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        features = self._transform(inputs)
        measured = self._measure(features)
        score = self._score(measured["raw"])
        per_lead = tf.reduce_mean(measured["squared"], axis=1) * features[p.MASK]
        threshold = tf.constant(self._threshold, tf.float32)
        return {
            contract.SCORE: score,
            contract.VERDICT: tf.cast(score >= threshold, tf.int32),
            contract.LEAD: tf.argmax(per_lead, axis=1, output_type=tf.int32),
            contract.RECONSTRUCTION: measured["reconstruction"] * features[p.SCALE][:, tf.newaxis, :],
            contract.SAMPLE_ERROR: tf.sqrt(measured["squared"]),
            contract.THRESHOLD: tf.ones_like(score) * threshold,
            contract.RANK: score / (score + threshold),
        }

    def save(self, directory: str) -> None:
        """Writes the SavedModel with all its signatures."""
        shape = (None, self._spec.window_samples, self._spec.n_leads)
        inputs = {
            contract.SAMPLES: tf.TensorSpec(shape, tf.float32, contract.SAMPLES),
            contract.LEAD_MASK: tf.TensorSpec((None, self._spec.n_leads), tf.float32, contract.LEAD_MASK),
            contract.RR: tf.TensorSpec((None, len(contract.RR_COLUMNS)), tf.float32, contract.RR),
            contract.TEMPLATE: tf.TensorSpec(shape, tf.float32, contract.TEMPLATE),
            contract.TEMPLATE_BEATS: tf.TensorSpec((None, 1), tf.float32, contract.TEMPLATE_BEATS),
        }

        def answer(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = tf.shape(raw[contract.SAMPLES])[0]
            return self._answer({name: tf.reshape(value, (rows, -1)) for name, value in raw.items()})

        def parsed(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            width = self._spec.window_samples * self._spec.n_leads
            sizes = {
                contract.SAMPLES: width,
                contract.LEAD_MASK: self._spec.n_leads,
                contract.RR: len(contract.RR_COLUMNS),
                contract.TEMPLATE: width,
                contract.TEMPLATE_BEATS: 1,
            }
            spec = {name: tf.io.FixedLenFeature([size], tf.float32) for name, size in sizes.items()}
            parsed_features: dict[str, tf.Tensor] = tf.io.parse_example(examples, spec)
            return parsed_features

        default = tf.function(answer).get_concrete_function(**inputs)
        score = tf.function(
            lambda **raw: _pick(answer(**raw), contract.SCORE, contract.VERDICT, contract.LEAD)
        ).get_concrete_function(**inputs)
        examples = tf.function(
            lambda examples: _pick(self._answer(parsed(examples)), contract.SCORE, contract.VERDICT, contract.RANK)
        ).get_concrete_function(examples=tf.TensorSpec((None,), tf.string, contract.EXAMPLES_INPUT))
        tf.saved_model.save(
            self,
            directory,
            signatures={
                contract.SIGNATURE_DEFAULT: default,
                contract.SIGNATURE_SCORE: score,
                contract.SIGNATURE_EXAMPLES: examples,
            },
        )


def rhythm_term(rhythm: tf.Tensor) -> tf.Tensor:
    """What timing adds to the raw measure: premature beats, and the pause after them.

    Args:
        rhythm: float32 (batch, 3), see `preprocessing.rhythm_features`.

    Returns:
        float32 (batch,), at least 0.
    """
    early = (tf.nn.relu(-rhythm[:, 0]) + tf.nn.relu(-rhythm[:, 1])) / 2
    pause = tf.tanh(tf.nn.relu(rhythm[:, 2]))
    return EARLY_WEIGHT * early + PAUSE_WEIGHT * pause


def _mean_over_leads(squared: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    per_lead = tf.reduce_mean(squared, axis=1) * mask
    return tf.reduce_sum(per_lead, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)


def _interpolate(raw: tf.Tensor, calibration: TailCalibration) -> tf.Tensor:
    """`TailCalibration.__call__` in TensorFlow: float32 (batch,)."""
    x, y = calibration.raw, calibration.score
    slopes = np.append(np.diff(y) / np.diff(x), calibration.tail_slope)
    knots = tf.constant(x, tf.float32)
    # Counted, not searched: the knots are few, and runtimes for small devices know no search.
    reached = tf.cast(raw[:, tf.newaxis] >= knots[tf.newaxis, :], tf.int32)
    k = tf.maximum(tf.reduce_sum(reached, axis=1) - 1, 0)
    score = tf.gather(tf.constant(y, tf.float32), k) + (raw - tf.gather(knots, k)) * tf.gather(
        tf.constant(slopes, tf.float32), k
    )
    return tf.maximum(score, 0.0)


def _pick(answer: dict[str, tf.Tensor], *names: str) -> dict[str, tf.Tensor]:
    return {name: answer[name] for name in names}
