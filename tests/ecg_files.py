"""Small ECG files of every format, as somebody's device or program would write them."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyedflib
import wfdb


def write_wfdb(folder: Path, name: str, samples: np.ndarray, leads: Sequence[str], **options: Any) -> Path:
    """Writes a record of format 16 at 250 Hz and returns its header.

    Args:
        samples: (n, leads), millivolts.
        options: `beats`, the beats' sample numbers, with `symbols`, theirs; the rest goes to wfdb.wrsamp.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beats, symbols = options.pop("beats", None), options.pop("symbols", None)
    n = len(leads)
    wfdb.wrsamp(
        name, fs=250, units=["mV"] * n, sig_name=list(leads), p_signal=np.asarray(samples, dtype=np.float64),
        fmt=["16"] * n, adc_gain=[200] * n, baseline=[0] * n, write_dir=str(folder), **options,
    )  # fmt: skip
    if beats is not None:
        wfdb.wrann(name, "atr", np.asarray(beats), np.asarray(symbols), write_dir=str(folder))
    return folder / f"{name}.hea"


def _beats(seed: int) -> np.ndarray:
    """(7500,): one lead of 30 s at 250 Hz, millivolts, with a narrow QRS and a T wave every 0.8 s."""
    time_s = np.arange(30 * 250) / 250
    phase = (time_s - 0.5) % 0.8
    signal = np.exp(-((np.minimum(phase, 0.8 - phase) / 0.012) ** 2)) + 0.2 * np.exp(-(((phase - 0.25) / 0.05) ** 2))
    return signal + np.random.default_rng(seed).normal(0, 0.01, len(time_s))


def write_csv(path: Path, *, seed: int = 0, patient: str = "") -> Path:
    """Writes 30 s of lead II, with the patient's name above it if there is one."""
    head = ["# sampling_rate_hz: 250", *([f"# patient: {patient}"] if patient else []), "II_mV"]
    path.write_text("\n".join([*head, *(f"{value:.4f}" for value in _beats(seed))]) + "\n")
    return path


def write_edf(path: Path, *, started: datetime, seed: int = 0, **patient: Any) -> Path:
    """Writes 30 s of lead II as EDF+; `patient` is what pyedflib's writer sets by these names."""
    with pyedflib.EdfWriter(str(path), 1, file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
        limits = {"physical_max": 4.0, "physical_min": -4.0, "digital_max": 32767, "digital_min": -32768}
        header = {"label": "ECG II", "dimension": "mV", "sample_frequency": 250, "prefilter": "", "transducer": ""}
        writer.setSignalHeader(0, header | limits)
        writer.setStartdatetime(started)
        for key, value in patient.items():
            getattr(writer, f"set{key}")(value)
        writer.writeSamples([_beats(seed)])
    return path
