"""Other people's detectors on the benchmark's windows, each as its documentation recommends for signals of this size.

    .venv-peers/bin/python pipelines/peers.py --data windows.npz --out scores.npz --peers outlier_vae,iforest --seed 1

`pipelines.benchmark --peers` calls it. It runs in the environment of `make peers`, which does not hold the project:
it imports nothing of it. `--data`, `--out` and `--seed` take several, one a job, so that the libraries, which take
longer to load than a small job to run, are loaded once.

In: `train` (n, samples, leads), windows of normal beats, and `test` (m, samples, leads), both float32 in millivolts.
Out, for each peer: `<peer>_score` float32 (m,), higher is more anomalous; `<peer>_train_seconds`;
`<peer>_windows_per_second`, scoring `test` from memory, with all that goes before (scaling, flattening), fastest of the
passes that begin in three seconds, at most five (one, after fewer than 1,000 to train on); `<peer>_parameters`, numbers
the fitted detector holds (of a forest: its nodes).

| peer | settings, where they are not the library's own |
|---|---|
| `outlier_vae`, `outlier_ae` | alibi-detect. Each lead scaled to mean 0 and standard deviation 1. The project's own \
layers: Conv1D 16-32-32-64, kernel 7, stride 2, swish, latent 8, mirrored decoder. Adam 1e-3, batches of 128, 15 \
epochs; trained by Keras and handed over as `vae` or `ae`, because alibi-detect's own loop is not compiled, several \
times slower, and shuffles no further than 1,024 windows. Loss: squared error, or for the VAE its elbo with sim=0.05. \
Score: mean squared error of a window, for the VAE over 10 samples. |
| `iforest` | PyOD. 100 trees of 256 windows, the flattened window as it is, all cores. |
| `pca` | PyOD. Standardised features, the components that hold 99% of the variance: band-passed signals have some \
with none, by which it would divide. |
| `autoencoder` | PyOD. Standardised features, hidden layers 64-32-64, batch normalisation, dropout 0.2, batches of \
128, 20 epochs. Scored in batches of 4,096. One thread, with which it is faster. |

The three networks get batches of 16 and 100 epochs where there are fewer than 1,000 windows (a thousand steps):
a few dozen steps would teach them nothing. alibi-detect's two then see the windows in one Keras epoch of a hundred
passes, each shuffled anew: what Keras does around an epoch takes longer than eleven steps.
"""

import argparse
import functools
import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

CONV_FILTERS = (16, 32, 32, 64)
KERNEL, STRIDE, LATENT = 7, 2, 8
ALIBI_EPOCHS, ALIBI_BATCH = 15, 128
ALIBI_SCORE_BATCH = 1024  # windows, or samples of windows, in one call of the network
ALIBI_BLOCK = 8192  # windows scored at a time: a VAE holds ten copies of each
ELBO_SIM = 0.05  # standard deviation of a sample around its reconstruction, leads being scaled to 1
PCA_VARIANCE = 0.99
PYOD_EPOCHS, PYOD_BATCH, PYOD_SCORE_BATCH = 20, 128, 4096
FEW_WINDOWS, FEW_EPOCHS, FEW_BATCH = 1000, 100, 16
TIMED_S, TIMED_PASSES = 3.0, 5


class PeersError(Exception):
    """What is wrong and what to do, in one line."""


class Fitted(NamedTuple):
    """A trained detector."""

    score: Callable[[FloatArray], npt.NDArray[Any]]  # windows (m, samples, leads) in mV to (m,)
    parameters: int


# --- alibi-detect ----------------------------------------------------------------------------------------------------


def fit_outlier_vae(train: FloatArray, seed: int) -> Fitted:
    from alibi_detect.models.tensorflow import VAE
    from alibi_detect.models.tensorflow.losses import elbo
    from alibi_detect.od import OutlierVAE

    encoder, decoder = _convolutions(train.shape[1:], seed, dense=False)
    model = VAE(encoder, decoder, LATENT)
    # Any threshold: alibi-detect warns without one, and none is used.
    loss = functools.partial(elbo, sim=ELBO_SIM)
    return _fit_alibi(OutlierVAE(0.0, vae=model, samples=10), model, loss, train, seed)


def fit_outlier_ae(train: FloatArray, seed: int) -> Fitted:
    from alibi_detect.models.tensorflow import AE
    from alibi_detect.od import OutlierAE

    encoder, decoder = _convolutions(train.shape[1:], seed, dense=True)
    model = AE(encoder, decoder)
    return _fit_alibi(OutlierAE(0.0, ae=model), model, "mse", train, seed)


def _convolutions(shape: tuple[int, ...], seed: int, *, dense: bool) -> tuple[Any, Any]:
    """Encoder and decoder for windows of `shape`; `dense` ends the encoder in the latent layer (a VAE adds its own)."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    layers, (samples, leads) = tf.keras.layers, shape
    conv: dict[str, Any] = {"kernel_size": KERNEL, "strides": STRIDE, "padding": "same"}
    encoder = [layers.Conv1D(filters, activation="swish", **conv) for filters in CONV_FILTERS]
    short = samples
    for _ in CONV_FILTERS:
        short = -(-short // STRIDE)
    decoder = [layers.Dense(short * CONV_FILTERS[-1], activation="swish"), layers.Reshape((short, CONV_FILTERS[-1]))]
    decoder += [layers.Conv1DTranspose(filters, activation="swish", **conv) for filters in CONV_FILTERS[-2::-1]]
    decoder += [layers.Conv1DTranspose(leads, **conv)]
    decoder += [layers.Cropping1D((0, short * STRIDE ** len(CONV_FILTERS) - samples))]
    latent = [layers.Flatten(), layers.Dense(LATENT)] if dense else []
    return (
        tf.keras.Sequential([tf.keras.Input(shape), *encoder, *latent]),
        tf.keras.Sequential([tf.keras.Input((LATENT,)), *decoder]),
    )


def _fit_alibi(detector: Any, model: Any, loss: Any, train: FloatArray, seed: int) -> Fitted:
    import tensorflow as tf

    mean, deviation = train.mean(axis=(0, 1)), train.std(axis=(0, 1)) + np.float32(1e-8)

    def scaled(windows: FloatArray) -> FloatArray:
        return np.asarray((windows - mean) / deviation, dtype=np.float32)

    inputs = scaled(train)
    epochs, batch = _passes(len(train), ALIBI_EPOCHS, ALIBI_BATCH)
    if len(train) < FEW_WINDOWS:
        model.compile(optimizer=tf.keras.optimizers.Adam(1e-3), loss=loss, steps_per_execution=10)
        pairs = tf.data.Dataset.from_tensor_slices((inputs, inputs)).shuffle(len(inputs), seed=seed)
        model.fit(pairs.batch(batch).repeat(epochs), epochs=1, shuffle=False, verbose=0)
    else:
        model.compile(optimizer=tf.keras.optimizers.Adam(1e-3), loss=loss)
        model.fit(inputs, inputs, epochs=epochs, batch_size=batch, verbose=0)

    def score(windows: FloatArray) -> npt.NDArray[Any]:
        blocks = (windows[start : start + ALIBI_BLOCK] for start in range(0, len(windows), ALIBI_BLOCK))
        return np.concatenate([detector.score(scaled(block), batch_size=ALIBI_SCORE_BATCH)[1] for block in blocks])

    return Fitted(score, int(model.count_params()))


# --- PyOD ------------------------------------------------------------------------------------------------------------


def fit_iforest(train: FloatArray, seed: int) -> Fitted:
    from pyod.models.iforest import IForest

    detector = IForest(n_jobs=-1, random_state=seed).fit(_flat(train))
    nodes = sum(tree.tree_.node_count for tree in detector.estimators_)
    return Fitted(lambda windows: detector.decision_function(_flat(windows)), nodes)


def fit_pca(train: FloatArray, seed: int) -> Fitted:
    from pyod.models.pca import PCA

    detector = PCA(n_components=PCA_VARIANCE, random_state=seed).fit(_flat(train))
    held = (detector.selected_components_, detector.selected_w_components_, detector.scaler_.mean_)
    parameters = sum(part.size for part in (*held, detector.scaler_.scale_))
    return Fitted(lambda windows: detector.decision_function(_flat(windows)), parameters)


def fit_autoencoder(train: FloatArray, seed: int) -> Fitted:
    import torch
    from pyod.models.auto_encoder import AutoEncoder

    torch.set_num_threads(1)  # its matrices are so small that a second thread is waited for longer than it helps
    epochs, batch = _passes(len(train), PYOD_EPOCHS, PYOD_BATCH)
    detector = AutoEncoder(epoch_num=epochs, batch_size=batch, random_state=seed, verbose=0).fit(_flat(train))
    parameters = sum(part.numel() for part in detector.model.parameters())
    return Fitted(lambda windows: detector.decision_function(_flat(windows), batch_size=PYOD_SCORE_BATCH), parameters)


def _passes(windows: int, epochs: int, batch: int) -> tuple[int, int]:
    """Epochs and batch to train with."""
    return (FEW_EPOCHS, FEW_BATCH) if windows < FEW_WINDOWS else (epochs, batch)


def _flat(windows: FloatArray) -> FloatArray:
    return windows.reshape(len(windows), -1)


PEERS: dict[str, Callable[[FloatArray, int], Fitted]] = {
    "outlier_vae": fit_outlier_vae,
    "outlier_ae": fit_outlier_ae,
    "iforest": fit_iforest,
    "pca": fit_pca,
    "autoencoder": fit_autoencoder,
}


# --- the command -----------------------------------------------------------------------------------------------------


def run_peer(name: str, train: FloatArray, test: FloatArray, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Trains and scores one peer; returns its four entries of the output.

    Raises:
        PeersError: it gave scores that are not finite.
    """
    started = time.perf_counter()
    fitted = PEERS[name](train, seed)
    train_s = time.perf_counter() - started
    fitted.score(test[:256])  # the first call of a network is slower
    seconds: list[float] = []
    passes = TIMED_PASSES if len(train) >= FEW_WINDOWS else 1
    while sum(seconds) < TIMED_S and len(seconds) < passes:
        started = time.perf_counter()
        score = fitted.score(test)
        seconds.append(time.perf_counter() - started)
    if score.shape != (len(test),) or not np.isfinite(score).all():
        raise PeersError(f"{name} gave scores that are not finite; are there enough training windows ({len(train)})?")
    rate = len(test) / min(seconds)
    print(f"{name}: {fitted.parameters:,} parameters, trained in {train_s:.1f} s, {rate:,.0f} windows/s", flush=True)
    return {
        f"{name}_score": np.asarray(score, dtype=np.float32),
        f"{name}_train_seconds": np.asarray(train_s),
        f"{name}_windows_per_second": np.asarray(rate),
        f"{name}_parameters": np.asarray(fitted.parameters),
    }


def read_windows(path: Path) -> tuple[FloatArray, FloatArray]:
    """Reads `train` and `test`.

    Raises:
        PeersError: the file cannot be read, or does not hold windows of one shape.
    """
    if not zipfile.is_zipfile(path):
        raise PeersError(f"{path} is no npz file" if path.exists() else f"there is no file {path}")
    try:
        with np.load(path) as data:
            train, test = data["train"], data["test"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise PeersError(f"{path} is no npz file with `train` and `test`: {error}") from error
    for name, windows in (("train", train), ("test", test)):
        if windows.dtype != np.float32 or windows.ndim != 3 or not windows.size:
            shape = "x".join(map(str, windows.shape))
            raise PeersError(f"`{name}` in {path} is {windows.dtype} {shape}, not float32 (windows, samples, leads)")
        if not np.isfinite(windows).all():
            raise PeersError(f"`{name}` in {path} holds values that are not finite; leave such windows out")
    if train.shape[1:] != test.shape[1:]:
        raise PeersError(f"`train` and `test` in {path} differ in samples or leads: {train.shape}, {test.shape}")
    return train, test


def _peer_names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(PEERS)}")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description="Trains other detectors on normal windows and scores test windows.")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="npz with train and test, float32 mV")
    parser.add_argument("--out", type=Path, nargs="+", required=True, help="npz to write, when all peers are done")
    parser.add_argument("--peers", type=_peer_names, default=list(PEERS), help="names with commas (default: all)")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of weights, trees and shuffling (default: 0)")
    options = parser.parse_args()
    seeds = options.seed if len(options.seed) > 1 else options.seed * len(options.data)
    if not len(options.data) == len(options.out) == len(seeds):
        parser.error("--out and --seed: as many as --data, or one --seed for all")
    try:
        for data, out, seed in zip(options.data, options.out, seeds, strict=True):
            train, test = read_windows(data)
            results: dict[str, npt.NDArray[Any]] = {}
            for name in options.peers:
                results |= run_peer(name, train, test, seed)
            _write(out, results)
    except PeersError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


def _write(out: Path, results: dict[str, npt.NDArray[Any]]) -> None:
    partial = out.with_name(out.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, **results)
    os.replace(partial, out)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is loaded: no lines about the processor
    sys.exit(main())
