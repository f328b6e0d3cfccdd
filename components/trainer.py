"""TFX Trainer's entry point: fits the autoencoders on normal beats, calibrates on held-out ones, exports the model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from components import preprocessing as p
from components.anomaly_model import AnomalyModel, ResidualVariance
from components.autoencoder import Architecture, build_autoencoder, masked_pseudo_huber, normalise
from components.calibration import fit_tail, threshold_at
from configs import contract
from configs.contract import FeatureSpec
from configs.errors import DataInvalidError
from configs.settings import TrainingSettings

#: Keys of Trainer's custom configuration.
SETTINGS = "training"
SPEC = "feature_spec"
CALIBRATION_FILE = "calibration.json"  # beside the SavedModel, in assets.extra

Features = dict[str, npt.NDArray[np.float32]]


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports to `fn_args.serving_model_dir`.

    Raises:
        DataInvalidError: too few normal windows to train or calibrate on, or a loss that is not finite.
    """
    settings = TrainingSettings.model_validate(fn_args.custom_config[SETTINGS])
    spec = FeatureSpec.model_validate(fn_args.custom_config[SPEC])
    keras.utils.set_random_seed(settings.seed)
    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    train = load_normals(fn_args.train_files, transform_output, settings, "train")
    held_out = load_normals(fn_args.eval_files, transform_output, settings, "calibration")
    architecture = Architecture(spec.window_samples, spec.n_leads, settings.filters, settings.latent_units)
    morphology = build_autoencoder(architecture, conditioned=False, name="morphology")
    context = build_autoencoder(architecture, conditioned=True, name="context") if settings.use_template else None
    model = AnomalyModel(
        transform_output.transform_features_layer(), morphology, context, spec, use_rhythm=settings.use_rhythm
    )
    logs = Path(fn_args.model_run_dir)
    for autoencoder in filter(None, (morphology, context)):
        fit(autoencoder, train, held_out, spec, settings, logs / autoencoder.name)
    model.set_variance(measure_variance(model, train))
    raw = in_batches(tf.function(model.raw_measure, reduce_retracing=True), held_out)
    threshold = threshold_at(settings.false_alarm_rate)
    calibration = fit_tail(raw)
    model.set_calibration(calibration, threshold)
    model.save(fn_args.serving_model_dir)
    write_calibration_record(
        Path(fn_args.serving_model_dir),
        {
            "threshold": threshold,
            "false_alarm_rate": settings.false_alarm_rate,
            "normal_windows": {"train": len(train[p.MASK]), "calibration": len(held_out[p.MASK])},
            "parameters": sum(ae.count_params() for ae in (morphology, context) if ae is not None),
            "calibration_raw": calibration.raw.tolist(),
            "calibration_score": calibration.score.tolist(),
            "calibration_tail_slope": calibration.tail_slope,
        },
    )


def load_normals(
    files: list[str], transform_output: tft.TFTransformOutput, settings: TrainingSettings, split: str
) -> Features:
    """Transformed features of the windows labelled, or taken as, normal: float32 (n, ...) each.

    Raises:
        DataInvalidError: fewer than `settings.min_normal_windows`.
    """
    feature_spec = transform_output.transformed_feature_spec()
    paths = sorted(path for pattern in files for path in tf.io.gfile.glob(pattern))
    records = tf.data.TFRecordDataset(paths, compression_type="GZIP").batch(4096)
    parts: dict[str, list[npt.NDArray[np.float32]]] = {}
    for batch in records.map(lambda x: tf.io.parse_example(x, feature_spec), num_parallel_calls=2, deterministic=True):
        labelled = batch[contract.LABEL_WEIGHT].numpy().reshape(-1) > 0
        normal = batch[contract.IS_ANOMALY].numpy().reshape(-1) == 0
        keep = normal & (labelled | settings.treat_unlabelled_as_normal)
        for name in (p.SIGNAL, p.REFERENCE, p.MASK, p.HAS_REFERENCE, p.RHYTHM):
            parts.setdefault(name, []).append(batch[name].numpy()[keep])
    features = {name: np.concatenate(values) for name, values in parts.items()}
    n = len(features[p.MASK]) if features else 0
    if n < settings.min_normal_windows:
        raise DataInvalidError(
            f"{split} split",
            f"has {n} normal windows, at least {settings.min_normal_windows} are needed",
            "Ingest more recordings, or lower training.min_normal_windows.",
        )
    # The files' order depends on how Beam wrote them; the seed must decide alone.
    order = np.lexsort(features[p.SIGNAL][:, :8].T)
    return {name: values[order] for name, values in features.items()}


def fit(
    autoencoder: keras.Model,
    train: Features,
    held_out: Features,
    spec: FeatureSpec,
    settings: TrainingSettings,
    logs: Path,
) -> None:
    """Fits one autoencoder by Adam with cosine decay; a shifted window must still give the shifted window.

    The conditioned one learns from windows that have a template only.

    Raises:
        DataInvalidError: the loss is not finite.
    """
    conditioned = len(autoencoder.inputs) == 2
    rows = _with_template(train) if conditioned else train
    n = len(rows[p.MASK])
    steps = max(1, n // settings.batch_size)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps * settings.epochs)
    )
    shape = (-1, spec.window_samples, spec.n_leads)
    generator = tf.random.Generator.from_seed(settings.seed)

    def windows(batch: Features, shift: Any) -> tuple[list[tf.Tensor], tf.Tensor]:
        signal = tf.reshape(batch[p.SIGNAL], shape)
        reference = tf.reshape(batch[p.REFERENCE], shape)
        size = normalise(signal, reference, batch[p.HAS_REFERENCE], batch[p.MASK])
        window = tf.roll(signal / size, shift, axis=1)
        return [window, reference / size] if conditioned else [window], batch[p.MASK]

    @tf.function  # type: ignore[untyped-decorator,unused-ignore]
    def step(batch: Features) -> tf.Tensor:
        shift = generator.uniform((), -settings.shift_samples, settings.shift_samples + 1, tf.int32)
        inputs, mask = windows(batch, shift)
        with tf.GradientTape() as tape:
            expected = autoencoder(inputs if conditioned else inputs[0], training=True)
            loss = masked_pseudo_huber(expected - inputs[0], mask)
        gradients = tape.gradient(loss, autoencoder.trainable_variables)
        optimizer.apply_gradients(zip(gradients, autoencoder.trainable_variables, strict=True))
        return loss

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def held_out_loss(batch: Features) -> tf.Tensor:
        inputs, mask = windows(batch, 0)
        expected = autoencoder(inputs if conditioned else inputs[0], training=False)
        return masked_pseudo_huber(expected - inputs[0], mask)[tf.newaxis]

    dataset = tf.data.Dataset.from_tensor_slices(rows).shuffle(n, seed=settings.seed)
    dataset = dataset.batch(settings.batch_size, drop_remainder=n >= settings.batch_size).prefetch(2)
    checked = _with_template(held_out) if conditioned else held_out
    writer = tf.summary.create_file_writer(str(logs))
    with writer.as_default():
        for epoch in range(settings.epochs):
            loss = float(np.mean([step(batch).numpy() for batch in dataset]))
            if not np.isfinite(loss):
                raise DataInvalidError(
                    "training", f"the loss of epoch {epoch} is {loss}", "Lower training.learning_rate."
                )
            tf.summary.scalar("loss/train", loss, step=epoch)
            if len(checked[p.MASK]):
                tf.summary.scalar("loss/held_out", float(in_batches(held_out_loss, checked).mean()), step=epoch)


def measure_variance(model: AnomalyModel, train: Features) -> ResidualVariance:
    """Mean squared residual of the training normals at each sample, over the windows where the lead was there."""

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def sum_of_squares(batch: Features) -> tf.Tensor:
        first, second = model.residuals(batch)
        return tf.stack([tf.reduce_sum(tf.square(first), axis=0), tf.reduce_sum(tf.square(second), axis=0)])[tf.newaxis]

    total = in_batches(sum_of_squares, train).sum(axis=0)
    present = train[p.MASK].sum(axis=0)
    with_template = (train[p.MASK] * train[p.HAS_REFERENCE]).sum(axis=0)
    fallback = np.maximum(total[0] / np.maximum(present, 1.0), 1e-6)
    context = np.where(with_template > 0, total[1] / np.maximum(with_template, 1.0), fallback)
    # A lead that no training window had: its residuals have no unit yet; 1 keeps them harmless.
    unseen = present == 0
    return ResidualVariance(np.where(unseen, 1.0, fallback), np.where(unseen, 1.0, np.maximum(context, 1e-6)))


def in_batches(
    function: Callable[[Features], tf.Tensor], features: Features, size: int = 2048
) -> npt.NDArray[np.float32]:
    """Applies a compiled function to slices of features and joins what it gives along the first axis."""
    n = len(features[p.MASK])
    parts = [
        function({k: tf.constant(v[i : i + size]) for k, v in features.items()}).numpy() for i in range(0, n, size)
    ]
    return np.concatenate(parts)


def write_calibration_record(model_dir: Path, record: dict[str, Any]) -> None:
    """Keeps what the model card needs beside the model, where TensorFlow Serving ignores it."""
    extra = model_dir / "assets.extra"
    extra.mkdir(parents=True, exist_ok=True)
    (extra / CALIBRATION_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")


def _with_template(features: Features) -> Features:
    keep = features[p.HAS_REFERENCE][:, 0] > 0
    return {name: values[keep] for name, values in features.items()}
