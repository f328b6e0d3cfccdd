"""Puts rows with a time each on a regular grid."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from configs.errors import SourceError
from warehouse.signal.ecg import TimeArray
from warehouse.signal.readers.base import check_rate

_GAP_SAMPLES = 1.5  # a longer step between rows is a gap
_MAX_DEVIATION_SAMPLES = 2.0  # how far a row's time may be off the grid
_MAX_DISAGREEMENT = 0.02  # between declared rate and time column, relative
_MAX_ROUNDING = 1e-3  # how far a measured rate may be off the whole number it is taken for, relative
_MAX_DAYS = 31.0
_UNEVEN_HINT = (
    "Resample it evenly; or, when the samples are even and only their times are not, declare "
    "'# sampling_rate_hz: <rate>' and leave out the time column."
)


class Stretch(NamedTuple):
    """Samples [start, stop) of the grid, which are the rows from `first_row` on."""

    start: int
    stop: int
    first_row: int


@dataclass(frozen=True)
class Grid:
    """A regular grid with gaps.

    Attributes:
        sampling_rate_hz: of the grid.
        n_samples: gaps included.
        start: int64 (stretches,), each stretch's first sample, ascending.
        first_row: int64 (stretches + 1,), its first row; closed by the number of rows.
    """

    sampling_rate_hz: float
    n_samples: int
    start: npt.NDArray[np.int64]
    first_row: npt.NDArray[np.int64]

    def within(self, start: int, stop: int) -> Iterator[Stretch]:
        """Yields the stretches that have samples in [start, stop)."""
        index = max(0, int(np.searchsorted(self.start, start, side="right")) - 1)
        while index < len(self.start) and self.start[index] < stop:
            begin, row = int(self.start[index]), int(self.first_row[index])
            end = begin + int(self.first_row[index + 1]) - row
            if end > start:
                yield Stretch(begin, end, row)
            index += 1


def even_grid(n_rows: int, *, sampling_rate_hz: float) -> Grid:
    """Returns the grid of rows that follow each other without a gap."""
    return Grid(sampling_rate_hz, n_rows, np.zeros(1, dtype=np.int64), np.array([0, n_rows], dtype=np.int64))


def grid_of(time_s: TimeArray, declared_hz: float | None, path: Path, line_of: Callable[[int], int]) -> Grid:
    """Finds the regular grid that rows with these times lie on.

    The rate is the mean over all steps that are no gaps, so that times rounded to milliseconds give 360 Hz and not
    333 Hz.

    Args:
        time_s: float64 (rows,), seconds, finite.
        declared_hz: rate the file declares beside its time column; None when it does not.
        path: the file, for errors.
        line_of: a row's line in the file, for errors.

    Raises:
        SourceError: time stands still or runs backwards, is uneven, disagrees with the declared rate, or spans more
            than 31 days.
    """
    step = np.diff(time_s)
    if not len(step):
        raise SourceError(str(path), "has a single row, which gives no sampling rate", "Check that it is complete.")
    if (step <= 0).any():
        row = int(np.argmax(step <= 0)) + 1
        raise SourceError(
            str(path),
            f"time does not go forward at line {line_of(row)}: {time_s[row]:g} s after {time_s[row - 1]:g} s",
            "Sort the rows by time, and give enough digits to tell them apart.",
        )
    is_gap = step > _GAP_SAMPLES * np.median(step)
    duration_s = float(time_s[-1] - time_s[0])
    measured_hz = float(1.0 / step[~is_gap].mean())
    rate_hz = _rate(measured_hz, declared_hz, float(step[~is_gap].sum()), path)
    if (days := duration_s / 86_400) > _MAX_DAYS:
        hint = f"Cut it where nothing was recorded, to at most {_MAX_DAYS:g} days."
        raise SourceError(str(path), f"spans {days:.0f} days", hint)
    first_row = np.concatenate([[0], np.flatnonzero(is_gap) + 1]).astype(np.int64)
    wanted = np.round((time_s[first_row] - time_s[0]) * rate_hz).astype(np.int64)
    start = np.maximum.accumulate(wanted - first_row) + first_row  # stretches must not overlap
    rows = np.append(first_row, len(time_s))
    _check_even(time_s, start, rows, rate_hz, path, line_of)
    return Grid(rate_hz, int(start[-1] + rows[-1] - rows[-2]), start, rows)


def _rate(measured_hz: float, declared_hz: float | None, recorded_s: float, path: Path) -> float:
    """The declared rate, else the measured one, rounded if that moves no sample by half a sample."""
    if declared_hz is not None:
        if abs(declared_hz / measured_hz - 1) > _MAX_DISAGREEMENT:
            raise SourceError(
                str(path),
                f"declares {declared_hz:g} Hz, but its time column runs at {measured_hz:g} Hz",
                "Correct the rate, or the time column's unit (time_s, time_ms).",
            )
        return check_rate(declared_hz, path)
    check_rate(measured_hz, path, "Check the time column's unit: time_s is seconds, time_ms milliseconds.")
    error_hz = abs(round(measured_hz) - measured_hz)
    is_whole = error_hz < _MAX_ROUNDING * measured_hz and error_hz * recorded_s < 0.5
    return float(round(measured_hz)) if is_whole else measured_hz


def _check_even(
    time_s: TimeArray,
    start: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    rate_hz: float,
    path: Path,
    line_of: Callable[[int], int],
) -> None:
    sample = np.arange(len(time_s)) + np.repeat(start - rows[:-1], np.diff(rows))
    deviation = np.abs((time_s - time_s[0]) * rate_hz - sample)
    if deviation.max() > _MAX_DEVIATION_SAMPLES:
        row = int(deviation.argmax())
        raise SourceError(
            str(path),
            f"time is uneven: line {line_of(row)} is {deviation[row] / rate_hz * 1000:.1f} ms off {rate_hz:g} Hz",
            _UNEVEN_HINT,
        )
