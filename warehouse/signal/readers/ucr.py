"""UCR text: one window a line, class first, separated by blanks or commas, no header row."""

import re

import numpy as np

from configs.errors import SourceError
from warehouse.signal.ecg import AamiClass, RecordingHeader
from warehouse.signal.readers.base import PrecutSource, SourceRef, reading, sha256_of, shown, source_uri

_MIN_SAMPLES = 8
_HINT = "UCR text has one window a line: the class, then its samples. A recording with a header row is named .csv."


def read_windows(ref: SourceRef) -> PrecutSource:
    """Reads all windows of a UCR file.

    UCR says neither unit nor sampling rate (most sets are normalised window by window). The header's rate is nominal:
    it makes one window last one second. Class 1 is taken as normal, as the field does with ECG5000 (TensorFlow's
    autoencoder tutorial); any other class is a beat that is labelled, not normal, and of no known AAMI class: Q.

    The training and test halves of a set (`_TRAIN`, `_TEST`) share one patient key: UCR does not say who is who.

    Raises:
        SourceError: a cell is no number, lines differ in length, or there is no window.
    """
    table = _numbers(ref)
    n_windows, n_samples = len(table), table.shape[1] - 1
    classes = table[:, 0]
    if not np.isfinite(classes).all():
        row = int(np.flatnonzero(~np.isfinite(classes))[0])
        raise SourceError(str(ref.path), f"window {row + 1} has no class", _HINT)
    label = np.array([str(int(value)) if value == int(value) else str(value) for value in classes], dtype=np.str_)
    header = RecordingHeader(
        name=ref.name,
        source_format="ucr",
        source_uri=source_uri(ref.path),
        patient_key=re.sub(r"_(TRAIN|TEST)$", "", ref.name, flags=re.IGNORECASE),
        sampling_rate_hz=float(n_samples),
        leads=("ECG",),
        n_samples=n_windows * n_samples,
        checksum=sha256_of([ref.path]),
    )
    return PrecutSource(
        header=header,
        samples=table[:, 1:, np.newaxis].astype(np.float32),
        label=label,
        aami_class=np.where(label == "1", AamiClass.NORMAL.value, AamiClass.UNKNOWN_BEAT.value),
    )


def _numbers(ref: SourceRef) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    with reading(ref.path, "is not text", _HINT), ref.path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            cells = line.replace(",", " ").split()
            if not cells:
                continue
            if rows and len(cells) != len(rows[0]):
                raise SourceError(
                    str(ref.path), f"line {number} has {len(cells)} values, the lines before {len(rows[0])}", _HINT
                )
            rows.append(_row(cells, number, ref))
    if not rows:
        raise SourceError(str(ref.path), "holds no window", _HINT)
    if len(rows[0]) <= _MIN_SAMPLES:
        raise SourceError(str(ref.path), f"a window has {len(rows[0]) - 1} samples, fewer than {_MIN_SAMPLES}", _HINT)
    return np.stack(rows)


def _row(cells: list[str], number: int, ref: SourceRef) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.empty(len(cells), dtype=np.float64)
    for column, cell in enumerate(cells):
        try:
            values[column] = float(cell)
        except ValueError as error:
            raise SourceError(
                str(ref.path), f"line {number}, value {column + 1}: '{shown(cell)}' is not a number", _HINT
            ) from error
    return values
