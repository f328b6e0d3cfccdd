"""The model that is served: preprocessing, autoencoders, rhythm, calibration and threshold, as one SavedModel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components import measure
from components import preprocessing as p
from components.autoencoder import peak_to_peak
from components.calibration import TailCalibration
from components.layout import averages, by_lead, over_samples
from components.measure import KNOWN_PATIENTS, NEW_PATIENTS
from configs import contract
from configs.contract import FeatureSpec

_LEAST_VARIANCE = 1e-6

#: What residuals are of, in the order of every stack of them.
RESIDUALS = ("morphology", "context", "template")


@dataclass(frozen=True)
class Parts:
    """What a model is made of; leaving parts out is for ablations.

    Attributes:
        morphology: autoencoder of windows.
        context: autoencoder of windows given the template; None leaves it out.
        use_template: measure against the running template.
        use_rhythm: measure timing.
        known_patients: the patients to score are those of the training data. Then amplitude tells something, and
            windows go into the morphology autoencoder as they are; else they are divided by their peak to peak.
    """

    morphology: keras.Model
    context: keras.Model | None
    use_template: bool
    use_rhythm: bool
    known_patients: bool


@dataclass(frozen=True)
class _Comparison:
    """Windows beside what was expected of them. All float32; (batch, W, L) where nothing else is said.

    Attributes:
        reconstruction: in units of SIGNAL.
        morphology, context: what the autoencoders did not reproduce, 0 where masked or where there is no template.
        differences: from the template at each shift, see `measure.shifted_differences`; not yet 0 without a template.
        compared: 1 where there is a lead and a template; `use` the same as (batch, L).
    """

    reconstruction: tf.Tensor
    morphology: tf.Tensor
    context: tf.Tensor
    differences: list[tf.Tensor]
    compared: tf.Tensor
    use: tf.Tensor

    def residuals(self) -> tf.Tensor:
        """(batch, residuals, W, L)."""
        shift = measure.best_shift([tf.square(difference) for difference in self.differences])
        template = measure.at_shift(self.differences, shift) * self.compared
        return tf.stack([self.morphology, self.context, template], axis=1)


class AnomalyModel(tf.Module):
    """Scores windows; its signatures are the contract of `configs.contract`.

    Args:
        transform: raw to transformed features: tf.Transform's layer, or `preprocessing.transform`.
        parts: what it is made of.
        spec: geometry of the windows.
    """

    def __init__(
        self, transform: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]], parts: Parts, spec: FeatureSpec
    ) -> None:
        super().__init__()
        self._transform = transform
        self._parts = parts
        self._morphology, self._context = parts.morphology, parts.context  # tf.Module tracks attributes
        self._spec = spec
        self._align_samples = int(measure.ALIGN_MS * spec.sampling_rate_hz / 1000)
        fusion = KNOWN_PATIENTS if parts.known_patients else NEW_PATIENTS
        self._overall = fusion.overall
        self._means, self._weights = measure.segment_means(spec, fusion)
        weights = [
            fusion.morphology,
            fusion.context if parts.context is not None else 0.0,
            fusion.template if parts.use_template else 0.0,
        ]
        self._fusion = np.asarray(weights, np.float32) / max(sum(weights), 1e-6)
        shape = (len(RESIDUALS), spec.window_samples, spec.n_leads)
        self._variance = tf.Variable(tf.ones(shape), trainable=False)
        self._level = tf.Variable(tf.zeros(len(RESIDUALS)), trainable=False)
        self._calibration = TailCalibration(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 1.0)
        self._threshold = 1.0

    def autoencoders(self) -> dict[str, keras.Model]:
        """The autoencoders it has, by name: "morphology", and "context" unless it is left out."""
        found = {"morphology": self._morphology, "context": self._context}
        return {name: autoencoder for name, autoencoder in found.items() if autoencoder is not None}

    @property
    def known_patients(self) -> bool:
        """See `Parts`."""
        return self._parts.known_patients

    def set_variance(self, variance: npt.NDArray[np.float32]) -> None:
        """Mean squared residual of normal beats at each sample, (residuals, W, L): the unit of `sample_error`."""
        self._variance.assign(np.maximum(variance, _LEAST_VARIANCE))

    def set_level(self, level: npt.NDArray[np.float32]) -> None:
        """Median shape measure of normal beats by each residual, (residuals,): what counts as 0."""
        self._level.assign(level)

    def set_calibration(self, calibration: TailCalibration, threshold: float) -> None:
        """What raw measures mean; must be set before `save`."""
        self._calibration = calibration
        self._threshold = threshold

    # --- what training uses, on transformed features -------------------------------------------------

    def residuals(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """All residuals: float32 (batch, residuals, W, L), 0 where masked or where there is no template."""
        return self._compare(features).residuals()

    def shape_measures(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Shape measures by each residual, before any weight: float32 (batch, residuals)."""
        return self._shapes(self._mean_squares(self._compare(features)), features[p.MASK])

    def raw_measure(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The uncalibrated anomaly measure of transformed features: float32 (batch,)."""
        return self._measure(features)["raw"]

    def window_size(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """What windows are divided by before they go into the morphology and the context autoencoder: (batch, 1, L)."""
        shape = (-1, self._spec.window_samples, self._spec.n_leads)
        signal, reference = tf.reshape(features[p.SIGNAL], shape), tf.reshape(features[p.REFERENCE], shape)
        size = peak_to_peak(signal, reference, features[p.HAS_REFERENCE], features[p.MASK])
        return tf.ones_like(size) if self._parts.known_patients else size, size

    def _compare(self, features: Mapping[str, tf.Tensor]) -> "_Comparison":
        shape = (-1, self._spec.window_samples, self._spec.n_leads)
        signal, reference = tf.reshape(features[p.SIGNAL], shape), tf.reshape(features[p.REFERENCE], shape)
        own_size, size = (one[:, 0] for one in self.window_size(features))
        mask, use = features[p.MASK], features[p.HAS_REFERENCE]
        present, compared = self._over_samples(mask), self._over_samples(mask * use)
        unit = self._over_samples(1.0 / size)
        window, template = signal * unit, reference * unit
        own = signal if self._parts.known_patients else window
        expected = self._morphology(own, training=False) * present
        best, residual_context = expected * self._over_samples(own_size), tf.zeros_like(window)
        if self._context is not None:
            expected_context = self._context([window, template], training=False)
            residual_context = (window - expected_context) * compared
            best = tf.where(use[:, :, tf.newaxis] > 0, expected_context * present * self._over_samples(size), best)
        differences = measure.shifted_differences(window, template, self._align_samples)
        return _Comparison(best, own - expected, residual_context, differences, compared, mask * use)

    def _over_samples(self, by_lead: tf.Tensor) -> tf.Tensor:
        return over_samples(by_lead, self._spec.window_samples)

    def _mean_squares(self, compared: "_Comparison") -> tf.Tensor:
        """Mean squared residuals in units of normal beats': (batch, residuals, segments + 1, L), the last of all."""
        w, n = self._spec.window_samples, self._spec.n_leads
        means = np.concatenate([self._means, np.full((1, w), 1 / w, np.float32)])
        weighted = by_lead(means, n) / tf.reshape(self._variance, (len(RESIDUALS), w * n, 1))
        squares = [tf.square(difference) for difference in compared.differences]
        shifted = measure.means_at_shift(squares, weighted[2], measure.best_shift(squares))
        residuals = (compared.morphology, compared.context)
        found = [averages(tf.square(residual), weighted[i]) for i, residual in enumerate(residuals)]
        shifted *= tf.tile(compared.use, (1, len(means)))
        return tf.reshape(tf.stack([*found, shifted], axis=1), (-1, len(RESIDUALS), len(means), n))

    def _shapes(self, mean_squares: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return measure.shape_measure(mean_squares[:, :, :-1], mask, self._weights)

    def _measure(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        compared = self._compare(features)
        mean_squares = self._mean_squares(compared)
        mask = features[p.MASK]
        # Without a template only the first autoencoder speaks; without any lead, no shape does.
        alone = tf.one_hot(0, len(RESIDUALS))
        weights = tf.where(features[p.HAS_REFERENCE] > 0, self._fusion[tf.newaxis, :], alone[tf.newaxis, :])
        weights *= tf.cast(tf.reduce_any(mask > 0, axis=1, keepdims=True), tf.float32)
        by_residual = self._overall * weights * (self._shapes(mean_squares, mask) - self._level)
        timing = measure.timing_measure(features[p.RHYTHM])
        if not self._parts.use_rhythm:
            timing = tf.zeros_like(timing)
        parts = tf.stack([by_residual[:, 0], by_residual[:, 1] + by_residual[:, 2], timing], axis=1)
        squared = tf.square(compared.residuals()) / self._variance  # not made by the signatures that do not give it
        return {
            "raw": tf.reduce_sum(parts, axis=1),
            "parts": parts,
            "per_lead": tf.reduce_sum(mean_squares[:, :, -1] * weights[:, :, tf.newaxis], axis=1) * mask,
            "squared": tf.einsum("br,brwl->bwl", weights, squared),
            "reconstruction": compared.reconstruction,
        }

    # --- what callers use, on raw features -----------------------------------------------------------

    def answer(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Everything the contract's default signature gives, from raw inputs flattened to (batch, width)."""
        features = self._transform(inputs)
        measured = self._measure(features)
        score = _interpolate(measured["raw"], self._calibration)
        threshold = tf.constant(self._threshold, tf.float32)
        return {
            contract.SCORE: score,
            contract.VERDICT: tf.cast(score >= threshold, tf.int32),
            contract.LEAD: tf.argmax(measured["per_lead"], axis=1, output_type=tf.int32),
            contract.PARTS: measured["parts"],
            contract.RECONSTRUCTION: measured["reconstruction"] * self._over_samples(features[p.SCALE]),
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
            return self.answer({name: tf.reshape(value, (rows, -1)) for name, value in raw.items()})

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
            lambda examples: _pick(self.answer(parsed(examples)), contract.SCORE, contract.VERDICT, contract.RANK)
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
