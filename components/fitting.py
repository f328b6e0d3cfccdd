"""Fits the model on normal beats: the autoencoders, what their residuals are like, and the calibration."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components import preprocessing as p
from components.anomaly_model import AnomalyModel, Parts
from components.autoencoder import Architecture, build_autoencoder, masked_pseudo_huber
from components.calibration import PRESETS, fit_tail, threshold_at
from components.flops import flops_per_example
from configs.contract import FeatureSpec
from configs.errors import DataInvalidError
from configs.settings import TrainingSettings

#: Transformed features of normal windows: float32 (n, ...) each, keys of `preprocessing`.
Features = dict[str, npt.NDArray[np.float32]]


def fit_model(
    train: Features,
    held_out: Features,
    transform: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]],
    spec: FeatureSpec,
    settings: TrainingSettings,
    logs: Path,
) -> tuple[AnomalyModel, dict[str, Any]]:
    """Fits on the normal windows `train`, calibrates on the normal windows `held_out`.

    Args:
        transform: raw to transformed features, for the model's signatures.
        logs: TensorBoard logs go to a folder for each autoencoder in it.

    Returns:
        The model, and what its card says about it.

    Raises:
        DataInvalidError: too few windows, or a loss or measure that is not finite.
    """
    started = time.monotonic()
    keras.utils.set_random_seed(settings.seed)
    model = AnomalyModel(transform, _build(spec, settings), spec)
    for name, autoencoder in model.autoencoders().items():
        rows, checked = ((_with_template(f) if name == "context" else f) for f in (train, held_out))
        fit(autoencoder, _windows(model, rows, name), _windows(model, checked, name), settings, logs / name)
    model.set_variance(residual_variance(model, train))
    measures = in_batches(tf.function(model.shape_measures, reduce_retracing=True), train)
    with_template = train[p.HAS_REFERENCE][:, 0] > 0
    level = [np.median(m[rows]) if rows.any() else 0.0 for m, rows in zip(
        measures.T, (np.ones_like(with_template), with_template, with_template), strict=True
    )]  # fmt: skip
    model.set_level(np.asarray(level, np.float32))
    calibration = fit_tail(in_batches(tf.function(model.raw_measure, reduce_retracing=True), held_out))
    threshold = threshold_at(settings.false_alarm_rate)
    model.set_calibration(calibration, threshold)
    return model, {
        "threshold": threshold,
        "false_alarm_rate": settings.false_alarm_rate,
        "presets": {f"{rate:g}": threshold_at(rate) for rate in PRESETS},
        "normal_windows": {"train": len(train[p.MASK]), "calibration": len(held_out[p.MASK])},
        "parameters": sum(ae.count_params() for ae in model.autoencoders().values()),
        "flops_per_window": sum(flops_per_example(ae) for ae in model.autoencoders().values()),
        "training_seconds": round(time.monotonic() - started, 1),
        "calibration_raw": calibration.raw.tolist(),
        "calibration_score": calibration.score.tolist(),
        "calibration_tail_slope": calibration.tail_slope,
    }


def _build(spec: FeatureSpec, settings: TrainingSettings) -> Parts:
    def architecture(units: tuple[int, ...], latent_units: int) -> Architecture:
        convolutional = settings.layers == "convolutional"
        return Architecture(
            spec.window_samples, spec.n_leads, settings.filters if convolutional else units, latent_units, convolutional
        )

    morphology = architecture(settings.hidden_units, settings.latent_units)
    context = architecture(settings.context_hidden_units, settings.context_latent_units)
    use_context = settings.use_template and settings.use_context
    return Parts(
        morphology=build_autoencoder(morphology, conditioned=False, name="morphology"),
        context=build_autoencoder(context, conditioned=True, name="context") if use_context else None,
        use_template=settings.use_template,
        use_rhythm=settings.use_rhythm,
        known_patients=settings.population == "known_patients",
    )


def _windows(model: AnomalyModel, features: Features, name: str) -> Features:
    """What an autoencoder sees: "window" and "template" (n, W, L) divided by their size, and "mask" (n, L)."""
    n, leads = features[p.MASK].shape
    sizes = [np.concatenate(s) for s in zip(*(model.window_size(batch) for batch in _batches(features)), strict=True)]
    size = sizes[name == "context"] if sizes else np.ones((0, 1, leads), np.float32)
    window = features[p.SIGNAL].reshape(n, -1, leads) / size
    template = features[p.REFERENCE].reshape(n, -1, leads) / size if name == "context" else window[:1]
    return {"window": window, "template": template, "mask": features[p.MASK]}


def fit(autoencoder: keras.Model, train: Features, held_out: Features, settings: TrainingSettings, logs: Path) -> None:
    """Fits one autoencoder by Adam with cosine decay; a shifted window must still give the shifted window.

    Args:
        train, held_out: see `_windows`.

    Raises:
        DataInvalidError: the loss is not finite.
    """
    conditioned = len(autoencoder.inputs) == 2
    n = len(train["window"])
    steps = max(1, n // settings.batch_size)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps * settings.epochs)
    )
    data = {name: tf.constant(values) for name, values in train.items()}
    generator = tf.random.Generator.from_seed(settings.seed)

    def loss_of(window: tf.Tensor, template: tf.Tensor, mask: tf.Tensor, *, training: bool) -> tf.Tensor:
        expected = autoencoder([window, template] if conditioned else window, training=training)
        return masked_pseudo_huber(expected - window, mask)

    @tf.function  # type: ignore[untyped-decorator,unused-ignore]
    def step(rows: tf.Tensor) -> tf.Tensor:
        shift = generator.uniform((), -settings.shift_samples, settings.shift_samples + 1, tf.int32)
        window = tf.roll(tf.gather(data["window"], rows), shift, axis=1)
        template = tf.gather(data["template"], rows) if conditioned else window
        with tf.GradientTape() as tape:
            loss = loss_of(window, template, tf.gather(data["mask"], rows), training=True)
        gradients = tape.gradient(loss, autoencoder.trainable_variables)
        optimizer.apply_gradients(zip(gradients, autoencoder.trainable_variables, strict=True))
        return loss

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def held_out_loss(batch: Features) -> tf.Tensor:
        template = batch["template"] if conditioned else batch["window"]
        return loss_of(batch["window"], template, batch["mask"], training=False)[tf.newaxis]

    order = np.random.default_rng(settings.seed)
    writer = tf.summary.create_file_writer(str(logs))
    with writer.as_default():
        for epoch in range(settings.epochs):
            rows = order.permutation(n)[: steps * settings.batch_size].astype(np.int32)
            losses = [step(tf.constant(part)) for part in np.array_split(rows, steps)]
            loss = float(np.mean([value.numpy() for value in losses]))
            if not np.isfinite(loss):
                raise DataInvalidError(
                    "training", f"the loss of epoch {epoch} is {loss}", "Lower training.learning_rate."
                )
            tf.summary.scalar("loss/train", loss, step=epoch)
            if len(held_out["window"]):
                checked = held_out if conditioned else held_out | {"template": held_out["window"]}
                tf.summary.scalar("loss/held_out", float(in_batches(held_out_loss, checked).mean()), step=epoch)


def residual_variance(model: AnomalyModel, train: Features) -> npt.NDArray[np.float32]:
    """Mean squared residual of the training normals at each sample, over the windows where the lead was there.

    Returns:
        float32 (residuals, W, L).
    """

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def sum_of_squares(batch: Features) -> tf.Tensor:
        return tf.reduce_sum(tf.square(model.residuals(batch)), axis=0)[tf.newaxis]

    total = in_batches(sum_of_squares, train).sum(axis=0)
    present = train[p.MASK].sum(axis=0)
    with_template = (train[p.MASK] * train[p.HAS_REFERENCE]).sum(axis=0)
    morphology = total[0] / np.maximum(present, 1.0)
    others = np.where(with_template > 0, total[1:] / np.maximum(with_template, 1.0), morphology)
    # A lead that no training window had: its residuals have no unit yet; 1 keeps them harmless.
    variance = np.where(present == 0, 1.0, np.concatenate([morphology[np.newaxis], others]))
    return variance.astype(np.float32)


def in_batches(
    function: Callable[[Features], tf.Tensor], features: Features, size: int = 2048
) -> npt.NDArray[np.float32]:
    """Applies a compiled function to slices of features and joins what it gives along the first axis."""
    return np.concatenate([function(batch).numpy() for batch in _batches(features, size)])


def _batches(features: Features, size: int = 2048) -> list[dict[str, tf.Tensor]]:
    n = max(len(values) for values in features.values())
    return [{k: tf.constant(v[i : i + size]) for k, v in features.items()} for i in range(0, n, size)]


def _with_template(features: Features) -> Features:
    keep = features[p.HAS_REFERENCE][:, 0] > 0
    return {name: values[keep] for name, values in features.items()}
