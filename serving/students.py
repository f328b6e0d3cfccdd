"""Smaller networks that imitate a version: students distilled from its autoencoders, and pruned weights."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from configs import contract
from configs.errors import ModelUnavailableError
from serving.model_client import FloatArray
from serving.subgraphs import Autoencoder, ends_of, find_autoencoders, with_others

PRUNED_SHARE = 0.3  # of the weights of each kernel, the smallest
_BATCH = 256
_PERTURBED = 2  # copies of each window, beside the window itself
_OUTPUTS = sorted((contract.SCORE, contract.VERDICT, contract.LEAD))


def distil(
    function: Any, parameters: int, most: int, inputs: Mapping[str, FloatArray], *, epochs: int, seed: int
) -> tuple[Callable[..., Any], int]:
    """Trains a student of each of a version's autoencoders; all else of the version stays as it is.

    After Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015). What is learnt is what the
    autoencoder makes of a window, for real windows and for perturbed ones, and not the score: a score is known for the
    few patients there are, a reconstruction is hundreds of numbers for any window that one can think of.

    Args:
        function: the version's `score` signature, frozen for any number of windows.
        parameters: weights of the version.
        most: weights that student and rest may have together.
        inputs: raw inputs of n windows.

    Returns:
        A function with the `score` signature, and how many weights it has.

    Raises:
        ModelUnavailableError: the version has no autoencoders, or they are no larger than students may be.
    """
    import keras

    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    parts = find_autoencoders(function)
    others = parameters - sum(part.parameters for part in parts)
    ends = ends_of(function, parts)
    seen = [_read(ends, inputs)] + [_read(ends, perturbed(inputs, random)) for _ in range(_PERTURBED)]
    taught = {name: np.concatenate([one[name] for one in seen]) for name in seen[0]}
    width = _width(parts, taught, most - others)
    if width < 1:
        raise ModelUnavailableError("distilled export", f"a student may have {most} weights, which are too few")
    students = {part: _student(part, taught, width) for part in parts}
    for part, student in students.items():
        _teach(student, part, taught, epochs)
    exchanged: dict[Autoencoder, Callable[[list[Any]], Any]] = {
        part: lambda read, student=student: student(read if len(read) > 1 else read[0], training=False)  # type: ignore[misc]
        for part, student in students.items()
    }
    count = others + sum(student.count_params() for student in students.values())
    return with_others(function, exchanged, _OUTPUTS), int(count)


def perturbed(inputs: Mapping[str, FloatArray], random: np.random.Generator) -> dict[str, FloatArray]:
    """Windows that no patient here had: mixed, with waves that do not belong there, noisy, shifted, inverted, masked.

    Args:
        inputs: raw inputs of n windows.

    Returns:
        As many, each changed in some of these ways; context stays with its window.
    """
    changed = {name: values.copy() for name, values in inputs.items()}
    samples = changed[contract.SAMPLES]
    n, width, leads = samples.shape

    def some(share: float) -> FloatArray:
        return (random.random((n, 1, 1)) < share).astype(np.float32)

    mix = random.beta(0.5, 2, (n, 1, 1)) * some(0.5)
    samples = (1 - mix) * samples + mix * samples[random.permutation(n)]
    at, spread = random.uniform(0, width, (n, 1)), np.exp(random.uniform(np.log(3), np.log(30), (n, 1)))
    wave = np.exp(-0.5 * ((np.arange(width) - at) / spread) ** 2)[:, :, None]
    samples = samples + wave * random.normal(0, 0.4, (n, 1, leads)) * some(0.5)  # millivolts
    noise = np.exp(random.uniform(np.log(0.003), np.log(0.1), (n, 1, 1))) * some(0.5)
    samples = samples + random.normal(size=samples.shape) * noise
    shifted = (np.arange(width)[None] + random.integers(-6, 7, n)[:, None]) % width
    changed[contract.SAMPLES] = np.take_along_axis(samples, shifted[:, :, None], axis=1).astype(np.float32)
    sign = random.choice(np.array([1, 1, 1, -1], np.float32), (n, 1, leads))
    for name in (contract.SAMPLES, contract.TEMPLATE):
        changed[name] = changed[name] * sign
    kept = random.random((n, leads)) < 0.95
    kept[~kept.any(axis=1)] = True
    changed[contract.LEAD_MASK] = changed[contract.LEAD_MASK] * kept.astype(np.float32)
    return changed


def _read(ends: Callable[[Mapping[str, Any]], dict[str, Any]], inputs: Mapping[str, FloatArray]) -> dict[str, Any]:
    import tensorflow as tf

    blocks = []
    for i in range(0, len(inputs[contract.SAMPLES]), 1024):
        block = ends({name: tf.constant(values[i : i + 1024]) for name, values in inputs.items()})
        blocks.append({name: value.numpy() for name, value in block.items()})
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _width(parts: list[Autoencoder], taught: Mapping[str, Any], most: int) -> int:
    """The same hidden width for all students, so that they have at most so many weights together."""
    fixed = a_unit = 0
    for part in parts:
        read, given = (sum(taught[name][0].size for name in names) for names in (part.entries, (part.exit,)))
        a_unit += read + given + 2 * part.narrowest + 2
        fixed += part.narrowest + given
    return (most - fixed) // a_unit


def _student(part: Autoencoder, taught: Mapping[str, Any], width: int) -> Any:
    """One hidden layer on each side of a bottleneck as narrow as the teacher's."""
    import keras

    layers = keras.layers
    inputs = [keras.Input(taught[name].shape[1:]) for name in part.entries]
    x = layers.Flatten()(layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0])
    x = layers.Dense(part.narrowest)(layers.Dense(width, activation="swish")(x))
    x = layers.Dense(width, activation="swish")(x)
    shape = taught[part.exit].shape[1:]
    x = layers.Reshape(shape)(layers.Dense(int(np.prod(shape)))(x))
    if len(inputs) > 1:  # as the teacher: what differs from the template
        x = layers.Add()([inputs[1], x])
    return keras.Model(inputs, x)


def _teach(student: Any, part: Autoencoder, taught: Mapping[str, Any], epochs: int) -> None:
    """Fits the teacher's reconstructions, each as closely as the teacher itself fits the window."""
    import keras

    read, given = [taught[name] for name in part.entries], taught[part.exit]
    residual = np.mean(np.square(read[0] - given), axis=(1, 2))
    weight = 1.0 / (residual + 0.1 * np.median(residual) + 1e-9)
    steps = epochs * -(-len(given) // _BATCH)
    student.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, steps)), loss="mse")
    student.fit(
        read if len(read) > 1 else read[0], given, sample_weight=(weight / weight.mean()).astype(np.float32)[:, None],
        batch_size=_BATCH, epochs=epochs, verbose=0,
    )  # fmt: skip


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
