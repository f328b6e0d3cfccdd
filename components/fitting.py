"""Fits the model on normal beats: the autoencoders, what their residuals are like, and the calibration."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
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
from components.training_data import Batch, Features, InMemory, Normals, Prepare, steps_of
from configs.contract import FeatureSpec
from configs.errors import DataInvalidError
from configs.settings import TrainingSettings


def fit_model(
    train: Features | Normals,
    held_out: Features | Normals,
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
    train, held_out = (InMemory(data) if isinstance(data, dict) else data for data in (train, held_out))
    keras.utils.set_random_seed(settings.seed)
    model = AnomalyModel(transform, _build(spec, settings), spec)
    strategy = _strategy(settings)
    for name, autoencoder in model.autoencoders().items():
        rows, checked = ((f.with_template() if name == "context" else f) for f in (train, held_out))
        with _as_trained(autoencoder, name, spec, settings, strategy) as trained:
            fit(trained, _prepare(model, name), rows, checked, settings, logs / name, strategy)
    model.set_variance(residual_variance(model, train))
    measures = in_batches(tf.function(model.shape_measures, reduce_retracing=True), train)
    with_template = in_batches(lambda batch: batch[p.HAS_REFERENCE][:, 0] > 0, train)
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
        "normal_windows": {"train": len(train), "calibration": len(held_out)},
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


def _strategy(settings: TrainingSettings) -> tf.distribute.Strategy:
    """None, or a copy of the model on each GPU; on each CPU that TensorFlow was told of, where there is no GPU."""
    if settings.distribute == "none":
        return tf.distribute.get_strategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@contextlib.contextmanager
def _as_trained(
    autoencoder: keras.Model, name: str, spec: FeatureSpec, settings: TrainingSettings, strategy: tf.distribute.Strategy
) -> Iterator[keras.Model]:
    """What is trained in the place of an autoencoder, with its weights: itself, or one mirrored or in mixed precision.

    What is exported is plain float32 in any case: a score must not depend on who else is in its batch.
    """
    if settings.precision == "float32" and strategy.num_replicas_in_sync == 1:
        yield autoencoder
        return
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.precision)
    try:
        with strategy.scope():
            parts = _build(spec, settings)
            trained = parts.context if name == "context" else parts.morphology
            assert trained is not None
            trained.set_weights(autoencoder.get_weights())
            yield trained
    finally:
        keras.config.set_dtype_policy(before)
    autoencoder.set_weights(trained.get_weights())


def _prepare(model: AnomalyModel, name: str) -> Prepare:
    """What an autoencoder sees of a batch: "window" (and "template") (n, W, L) divided by their size, "mask" (n, L)."""

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def prepare(batch: Batch) -> Batch:
        leads = batch[p.MASK].shape[1]
        size = model.window_size(batch)[name == "context"]
        rows = tf.shape(batch[p.MASK])[0]
        seen = {"window": tf.reshape(batch[p.SIGNAL], (rows, -1, leads)) / size, "mask": batch[p.MASK]}
        if name == "context":
            seen["template"] = tf.reshape(batch[p.REFERENCE], (rows, -1, leads)) / size
        return seen

    return prepare  # type: ignore[no-any-return,unused-ignore]


def fit(
    autoencoder: keras.Model,
    prepare: Prepare,
    train: Normals,
    held_out: Normals,
    settings: TrainingSettings,
    logs: Path,
    strategy: tf.distribute.Strategy,
) -> None:
    """Fits one autoencoder by Adam with cosine decay; a shifted window must still give the shifted window.

    Args:
        autoencoder: made in the strategy's scope.
        prepare: see `_prepare`.

    Raises:
        DataInvalidError: the loss is not finite.
    """
    replicas = strategy.num_replicas_in_sync
    decay = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, steps_of(len(train), settings.batch_size) * settings.epochs
    )
    with strategy.scope():
        optimizer = keras.optimizers.Adam(decay)
        if settings.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(autoencoder.trainable_variables)  # here: not in the middle of a replica's step
    generator = tf.random.Generator.from_seed(settings.seed)

    def loss_of(seen: Batch, *, training: bool) -> tf.Tensor:
        window = seen["window"]
        expected = autoencoder([window, seen["template"]] if "template" in seen else window, training=training)
        return masked_pseudo_huber(tf.cast(expected, tf.float32) - window, seen["mask"])

    def replica_step(seen: Batch, shift: tf.Tensor) -> tf.Tensor:
        seen = {**seen, "window": tf.roll(seen["window"], shift, axis=1)}
        with tf.GradientTape() as tape:
            loss = loss_of(seen, training=True)
            scaled = optimizer.scale_loss(loss / replicas)  # the optimizer sums the gradients of all replicas
        gradients = tape.gradient(scaled, autoencoder.trainable_variables)
        optimizer.apply_gradients(zip(gradients, autoencoder.trainable_variables, strict=True))
        return loss

    @tf.function  # type: ignore[untyped-decorator,unused-ignore]
    def step(seen: Batch) -> tf.Tensor:
        shift = generator.uniform((), -settings.shift_samples, settings.shift_samples + 1, tf.int32)
        if replicas == 1:
            return replica_step(seen, shift)
        return strategy.reduce("MEAN", strategy.run(replica_step, args=(seen, shift)), axis=None)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def held_out_loss(batch: Batch) -> tf.Tensor:
        return loss_of(prepare(batch), training=False)[tf.newaxis]

    writer = tf.summary.create_file_writer(str(logs))
    with writer.as_default():
        for epoch, batches in enumerate(train.epochs(prepare, settings.batch_size, settings.epochs, settings.seed)):
            losses = [step(_shares(strategy, seen)) for seen in batches]
            loss = float(np.mean([value.numpy() for value in losses]))
            if not np.isfinite(loss):
                raise DataInvalidError(
                    "training", f"the loss of epoch {epoch} is {loss}", "Lower training.learning_rate."
                )
            tf.summary.scalar("loss/train", loss, step=epoch)
            if len(held_out):
                tf.summary.scalar("loss/held_out", float(in_batches(held_out_loss, held_out).mean()), step=epoch)


def _shares(strategy: tf.distribute.Strategy, seen: Batch) -> Any:
    """A batch as a strategy wants it: each replica gets an equal share, as far as it can be divided."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return seen
    share = len(seen["mask"]) // replicas

    def of(context: Any) -> Batch:
        start = context.replica_id_in_sync_group * share
        return {name: values[start : start + share] for name, values in seen.items()}

    return strategy.experimental_distribute_values_from_function(of)


def residual_variance(model: AnomalyModel, train: Normals) -> npt.NDArray[np.float32]:
    """Mean squared residual of the training normals at each sample, over the windows where the lead was there.

    Returns:
        float32 (residuals, W, L).
    """

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def sums(batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        squares = tf.reduce_sum(tf.square(model.residuals(batch)), axis=0)
        with_template = batch[p.MASK] * batch[p.HAS_REFERENCE]
        return squares, tf.reduce_sum(batch[p.MASK], axis=0), tf.reduce_sum(with_template, axis=0)

    total, present, with_template = (np.zeros(1),) * 3
    for batch in train.batches():
        squares, there, compared = (found.numpy() for found in sums(batch))
        total, present, with_template = total + squares, present + there, with_template + compared
    morphology = total[0] / np.maximum(present, 1.0)
    others = np.where(with_template > 0, total[1:] / np.maximum(with_template, 1.0), morphology)
    # A lead that no training window had: its residuals have no unit yet; 1 keeps them harmless.
    variance = np.where(present == 0, 1.0, np.concatenate([morphology[np.newaxis], others]))
    return np.asarray(variance, np.float32)


def in_batches(function: Callable[[Batch], tf.Tensor], normals: Normals) -> npt.NDArray[np.float32]:
    """Applies a compiled function to batches of windows and joins what it gives along the first axis."""
    return np.concatenate([function(batch).numpy() for batch in normals.batches()])
