"""tf.Transform's graph from raw windows to what the autoencoders see: in training and inside the SavedModel."""

from collections.abc import Mapping
from typing import Any, Final

import tensorflow as tf
import tensorflow_transform as tft

from components.layout import over_samples
from configs import contract
from configs.contract import FeatureSpec

# Transformed features. All float32; W window samples, L leads.
SIGNAL: Final = "signal"  # (batch, W * L), lead amplitudes divided by their scale on the training data; 0 where masked
REFERENCE: Final = "reference"  # (batch, W * L), the running template, scaled as the signal; 0 where there is none
MASK: Final = "mask"  # (batch, L)
HAS_REFERENCE: Final = "has_reference"  # (batch, 1), 1 when there is a template
RHYTHM: Final = "rhythm"  # (batch, 4), see `rhythm_features`
SCALE: Final = "scale"  # (batch, L), millivolts of one unit of SIGNAL

#: Keys of the configuration that Transform hands to `preprocessing_fn`.
SPEC: Final = "feature_spec"

_USUAL_SPREAD = 0.05  # log units, of RR intervals around their running median
_MOST_MV = 32767 * contract.MV_PER_COUNT
_LEAST_SCALE_MV = 0.01  # a lead that is flat in all training data is not blown up


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """tf.Transform's entry point; see `configs.contract` for the inputs and the top of this module for the outputs."""
    spec = FeatureSpec.model_validate(custom_config[SPEC])
    samples, mask = present_samples(inputs, spec)
    # Labels pass through for the Trainer; the model's signatures never feed them.
    labels = {name: inputs[name] for name in (contract.IS_ANOMALY, contract.LABEL_WEIGHT)}
    return transform(inputs, spec, _lead_scale(samples, mask)) | labels


def present_samples(inputs: Mapping[str, tf.Tensor], spec: FeatureSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """Samples (batch, W, L) in millivolts, 0 where masked or not finite, and the mask (batch, L).

    They are held within what the warehouse can store, so that nothing a caller sends overflows.
    """
    mask = _dense(inputs[contract.LEAD_MASK], (-1, spec.n_leads))
    return _held(inputs[contract.SAMPLES], spec) * over_samples(_as_float(mask > 0), spec.window_samples), mask


def transform(inputs: Mapping[str, tf.Tensor], spec: FeatureSpec, scale: tf.Tensor) -> dict[str, tf.Tensor]:
    """Raw to transformed features, the lead scales (L,) being known."""
    mask = _dense(inputs[contract.LEAD_MASK], (-1, spec.n_leads))
    unit = _as_float(mask > 0) / scale  # 0 where masked
    has_reference = _as_float(_dense(inputs[contract.TEMPLATE_BEATS], (-1, 1)) > 0)
    signal = _held(inputs[contract.SAMPLES], spec) * over_samples(unit, spec.window_samples)
    reference = _held(inputs[contract.TEMPLATE], spec) * over_samples(unit * has_reference, spec.window_samples)
    flat = (-1, spec.window_samples * spec.n_leads)
    return {
        SIGNAL: tf.reshape(signal, flat),
        REFERENCE: tf.reshape(reference, flat),
        MASK: mask,
        HAS_REFERENCE: has_reference,
        RHYTHM: rhythm_features(_dense(inputs[contract.RR], (-1, len(contract.RR_COLUMNS)))),
        SCALE: tf.ones_like(mask) * scale,
    }


def _held(value: tf.Tensor | tf.SparseTensor, spec: FeatureSpec) -> tf.Tensor:
    """Windows (batch, W, L) within what the warehouse can store, 0 where not finite."""
    windows = _dense(value, (-1, spec.window_samples, spec.n_leads))
    # The select of TensorFlow 1: that of 2 can broadcast, and takes thirty times as long where nothing needs it.
    finite = tf.compat.v1.where(tf.math.is_finite(windows), windows, tf.zeros_like(windows))
    return tf.clip_by_value(finite, -_MOST_MV, _MOST_MV)


def _as_float(true: tf.Tensor) -> tf.Tensor:
    return tf.cast(true, tf.float32)


def rhythm_features(rr: tf.Tensor) -> tf.Tensor:
    """How early this beat came and how long the next one took, against the patient's own recent rhythm.

    Args:
        rr: float32 (batch, 5), columns as `contract.RR_COLUMNS`; 0 = unknown.

    Returns:
        float32 (batch, 4): log(rr_prev / rr_median), log(rr_prev / rr_p90), log(rr_next / rr_median), each within
        +-log(5), and 0 (nothing unusual) where either of the two is unknown; and rr_spread, within 0 and 1, that of a
        quiet sinus rhythm where it is unknown.
    """
    rr = tf.where(tf.math.is_finite(rr), rr, tf.zeros_like(rr))
    previous, following, median, p90, spread = tf.unstack(rr, axis=1)
    spread = tf.where(spread > 0, tf.minimum(spread, 1.0), tf.fill(tf.shape(spread), _USUAL_SPREAD))
    ratios = [_log_ratio(previous, median), _log_ratio(previous, p90), _log_ratio(following, median)]
    return tf.stack([*ratios, spread], axis=1)


def _log_ratio(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    known = (a > 0) & (b > 0)
    one = tf.ones_like(a)
    limit = tf.math.log(5.0)
    return tf.clip_by_value(tf.math.log(tf.where(known, a, one) / tf.where(known, b, one)), -limit, limit)


def _lead_scale(samples: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Root mean square of each lead over all training windows that have it, millivolts: (leads,)."""
    power = tft.mean(tf.reduce_mean(tf.square(samples), axis=1) * mask, reduce_instance_dims=False)
    share = tft.mean(mask, reduce_instance_dims=False)
    return tf.maximum(tf.sqrt(power / tf.maximum(share, 1e-6)), _LEAST_SCALE_MV)


def _dense(value: tf.Tensor | tf.SparseTensor, shape: tuple[int, ...]) -> tf.Tensor:
    if isinstance(value, tf.SparseTensor):
        value = tf.sparse.to_dense(value)
    return tf.reshape(value, shape)
