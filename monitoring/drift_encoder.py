"""The model's latent space without TensorFlow: the encoder of its morphology autoencoder, computed with NumPy.

Training writes the encoder's weights beside the model (`components.encoder`); a test compares what this gives with what
Keras gives. Preprocessing is that of `components.preprocessing` and `components.autoencoder.peak_to_peak`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from configs import contract
from configs.errors import ModelUnavailableError
from monitoring.drift_features import FloatArray

ENCODER_FILE: Final = "encoder.npz"  # in the version's assets.extra
DENSE, CONVOLUTION = "dense", "convolution"
_LEAST_PEAK_TO_PEAK = 0.05
_STRIDE = 2
_MOST_MV = 32767 * contract.MV_PER_COUNT


@dataclass(frozen=True)
class Encoder:
    """From windows to the latent space.

    Attributes:
        scale: (leads,), millivolts of one unit.
        own_size: windows are divided by their peak to peak.
        pad_samples: zeros after a window, before convolutions.
        layers: kind, kernel and bias of each, the last one linear.
    """

    scale: npt.NDArray[np.float32]
    own_size: bool
    pad_samples: int
    layers: tuple[tuple[str, npt.NDArray[np.float32], npt.NDArray[np.float32]], ...]

    def __call__(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> FloatArray:
        """Latent coordinates float64 (n, d) of raw model inputs, as `configs.contract` defines them."""
        mask = inputs[contract.LEAD_MASK][:, None, :] > 0
        has_template = inputs[contract.TEMPLATE_BEATS][:, :, None] > 0
        window = self._scaled(inputs[contract.SAMPLES], mask)
        if self.own_size:
            template = self._scaled(inputs[contract.TEMPLATE], mask & has_template)
            size = np.ptp(np.where(has_template, template, window), axis=1, keepdims=True)
            window = window / np.where(mask, np.maximum(size, _LEAST_PEAK_TO_PEAK), 1.0)
        x = np.pad(window, ((0, 0), (0, self.pad_samples), (0, 0)))
        for i, (kind, kernel, bias) in enumerate(self.layers):
            x = _convolve(x, kernel) + bias if kind == CONVOLUTION else x.reshape(len(x), -1) @ kernel + bias
            if i < len(self.layers) - 1:
                x = x / (1 + np.exp(-np.clip(x, -60, 60)))  # swish
        return np.asarray(x, dtype=np.float64)

    def _scaled(self, signal: npt.NDArray[np.float32], use: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        held = np.clip(np.where(use & np.isfinite(signal), signal, 0), -_MOST_MV, _MOST_MV)
        return np.asarray(held / self.scale, dtype=np.float32)


def _convolve(x: npt.NDArray[np.float32], kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A convolution of stride 2 with "same" padding: x (n, samples, channels), kernel (width, channels, filters)."""
    n_out, width = -(-x.shape[1] // _STRIDE), kernel.shape[0]
    missing = max(0, (n_out - 1) * _STRIDE + width - x.shape[1])
    padded = np.pad(x, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)[:, ::_STRIDE][:, :n_out]
    return np.asarray(np.einsum("nocw,wcf->nof", views, kernel, optimize=True), dtype=np.float32)


def save_encoder(file: Path, encoder: Encoder) -> None:
    """Writes an encoder for `load_encoder`."""
    arrays: dict[str, Any] = {
        "scale": encoder.scale,
        "own_size": np.array(encoder.own_size),
        "pad_samples": np.array(encoder.pad_samples),
        "kinds": np.array([kind for kind, _, _ in encoder.layers]),
    }
    for i, (_, kernel, bias) in enumerate(encoder.layers):
        arrays |= {f"kernel_{i}": kernel, f"bias_{i}": bias}
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)


def load_encoder(file: Path) -> Encoder | None:
    """The encoder in a file; None where there is none: an older release trained the model.

    Raises:
        ModelUnavailableError: the file is damaged.
    """
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            layers = tuple(
                (str(kind), arrays[f"kernel_{i}"], arrays[f"bias_{i}"]) for i, kind in enumerate(arrays["kinds"])
            )
            return Encoder(arrays["scale"], bool(arrays["own_size"]), int(arrays["pad_samples"]), layers)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ModelUnavailableError(
            str(file), f"is damaged ({error})", "Restore the model's folder from a backup, or train again."
        ) from error
