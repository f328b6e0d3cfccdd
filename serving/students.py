"""Smaller models made from a version: a student that learns its scores, and the version with small weights cut."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from configs import contract
from serving.model_client import FloatArray, Scores

PRUNED_SHARE = 0.3  # of the weights of each kernel, the smallest
_FILTERS = (8, 12, 16)
_KERNEL = 7
_LEAST_PEAK_TO_PEAK = 0.05  # mV
_MEDIAN = contract.RR_COLUMNS.index("rr_median_s")


def distil(
    inputs: Mapping[str, FloatArray], taught: Scores, threshold: float, *, epochs: int, seed: int
) -> tuple[Any, int]:
    """Trains a student on what a version said of windows.

    After Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015); the score is what is learnt.

    Args:
        inputs: raw inputs of n windows.
        taught: what the version said of them.
        threshold: the version's own.

    Returns:
        A function with the `score` signature, and how many weights the student has.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    _, samples, leads = inputs[contract.SAMPLES].shape
    window, context = keras.Input((samples, 2 * leads)), keras.Input((2 * len(contract.RR_COLUMNS) + 2 + leads,))
    x = window
    for filters in _FILTERS:
        x = layers.Conv1D(filters, _KERNEL, strides=2, padding="same", activation="relu")(x)
    pooled = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x), context])
    hidden = layers.Dense(24, activation="relu")(pooled)
    student = keras.Model([window, context], [layers.Dense(1)(hidden), layers.Dense(leads)(hidden)])

    in_seconds = tf.constant([[float(name.endswith("_s")) for name in contract.RR_COLUMNS]])

    def features(raw: Mapping[str, Any]) -> list[Any]:
        mask = raw[contract.LEAD_MASK][:, tf.newaxis, :]
        has = tf.cast(raw[contract.TEMPLATE_BEATS] > 0, tf.float32)
        template = tf.where(has[:, :, tf.newaxis] > 0, raw[contract.TEMPLATE], tf.zeros_like(raw[contract.TEMPLATE]))
        signal, template = raw[contract.SAMPLES] * mask, template * mask
        reference = tf.where(has[:, :, tf.newaxis] > 0, template, signal)
        size = tf.reduce_max(reference, axis=1, keepdims=True) - tf.reduce_min(reference, axis=1, keepdims=True)
        size = tf.maximum(size, _LEAST_PEAK_TO_PEAK)
        rr = raw[contract.RR]
        known = tf.cast(rr > 0, tf.float32)
        median = tf.where(in_seconds > 0, tf.maximum(rr[:, _MEDIAN : _MEDIAN + 1], 0.2), tf.ones_like(rr))
        ratios = tf.clip_by_value(rr / median, 0.0, 4.0) * known
        power = tf.reduce_mean(tf.square((signal - template) / size), axis=1)
        spread = tf.math.log(tf.reduce_mean(power, axis=1, keepdims=True) + 1e-4)
        return [
            tf.concat([signal / size, (signal - template) / size * has[:, :, tf.newaxis]], axis=2),
            tf.concat([ratios, known, has, spread, raw[contract.LEAD_MASK]], axis=1),
        ]

    target = np.log1p(taught.score)[:, None]
    dataset = tf.data.Dataset.from_tensor_slices((dict(inputs), target, taught.lead_slot.astype(np.int32)))
    dataset = dataset.shuffle(len(target), seed=seed).batch(256).prefetch(2)
    n_steps = epochs * -(-len(target) // 256)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, n_steps))

    @tf.function  # type: ignore[untyped-decorator,unused-ignore]
    def step(raw: Any, wanted: Any, lead: Any) -> None:
        with tf.GradientTape() as tape:
            score, leads_ = student(features(raw), training=True)
            error = tf.reduce_mean(tf.abs(score - wanted))
            error += 0.1 * tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(lead, leads_))
        gradients = tape.gradient(error, student.trainable_variables)
        optimizer.apply_gradients(zip(gradients, student.trainable_variables, strict=True))

    for _ in range(epochs):
        for raw, wanted, lead in dataset:
            step(raw, wanted, lead)

    def signature(**raw: Any) -> dict[str, Any]:
        logarithm, lead_scores = student(features(raw), training=False)
        score = tf.nn.relu(tf.exp(logarithm[:, 0]) - 1.0)
        return {
            contract.SCORE: score,
            contract.VERDICT: tf.cast(score >= threshold, tf.int32),
            contract.LEAD: tf.argmax(lead_scores, axis=1, output_type=tf.int32),
        }

    return signature, int(student.count_params())


def prune(variables: list[Any]) -> float:
    """Sets the smallest weights of each layer's kernel to zero, in place; returns the share of all weights cut."""
    cut = total = 0
    for variable in variables:
        values = variable.numpy()
        total += values.size
        if "kernel" not in variable.name or values.size < 256:
            continue  # biases, and what the score is scaled by
        small = np.abs(values) <= np.quantile(np.abs(values), PRUNED_SHARE)
        variable.assign(np.where(small, 0.0, values))
        cut += int(small.sum())
    return cut / max(total, 1)
