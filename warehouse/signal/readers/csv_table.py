"""The rows of a CSV file, read with pandas a part at a time: a day of ECG as text must not be in memory at once."""

import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from configs.errors import SourceError
from warehouse.signal.ecg import FloatArray, TimeArray
from warehouse.signal.readers.base import shown, utc
from warehouse.signal.readers.csv_header import MISSING_CELLS, CsvHeader, find_fault, line_of_row

_CHUNK_ROWS = 1 << 18
_TIME_UNIT_S = {"time": 1.0, "time_s": 1.0, "time_ms": 1e-3, "time_us": 1e-6}
_HINT = "Cells are numbers with a decimal point; an empty cell is a missing sample."


@dataclass(frozen=True)
class CsvTable:
    """All rows.

    Attributes:
        millivolts: float32 (rows, leads), NaN where a cell is empty.
        time_s: float64 (rows,), seconds; since the first row for timestamps; None without a time column.
        started: the first timestamp; None without timestamps.
    """

    millivolts: FloatArray
    time_s: TimeArray | None
    started: datetime | None


def read_table(path: Path, layout: CsvHeader) -> CsvTable:
    """Reads the rows below the header row.

    Raises:
        SourceError: there is none, a cell is not what its column holds, or a row has too many; names the line.
    """
    number_columns: dict[int, type] = {lead.index: np.float32 for lead in layout.leads}
    if layout.has_time and _time_is_number(layout):
        number_columns[0] = np.float64
    types = {column: number_columns.get(column, str) for column in range(len(layout.columns))}
    clock = _Clock(path, layout)
    values, times = [], []
    try:
        with path.open(encoding=layout.encoding, newline="") as file, warnings.catch_warnings():
            # All columns are read, and more cells than columns are an error: with usecols pandas drops them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            for _ in range(layout.n_lines):  # skiprows would take a quotation mark in a comment for an open cell
                file.readline()
            chunks = pd.read_csv(
                file,
                sep=layout.delimiter,
                header=None,
                names=range(len(layout.columns)),
                index_col=False,
                dtype=types,
                na_values=list(MISSING_CELLS),
                keep_default_na=False,
                skipinitialspace=True,
                engine="c",
                low_memory=False,
                chunksize=_CHUNK_ROWS,
            )
            for chunk in chunks:
                values.append(_millivolts(chunk, layout))
                if layout.has_time:
                    times.append(clock.seconds(chunk[0]))
    except pd.errors.EmptyDataError:
        values = []
    except OSError as error:
        raise SourceError(str(path), f"cannot be read: {error.strerror}", "Check that you may read it.") from error
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:  # ParserError is a ValueError too
        problem = find_fault(path, layout, list(number_columns)) or f"cannot be read as CSV ({shown(str(error), 200)})"
        raise SourceError(str(path), problem, _HINT) from error
    if not sum(map(len, values)):
        raise SourceError(str(path), "has a header row but no samples", "Check that the export was complete.")
    return CsvTable(np.concatenate(values), np.concatenate(times) if times else None, clock.started)


def _millivolts(chunk: pd.DataFrame, layout: CsvHeader) -> FloatArray:
    values = np.empty((len(chunk), len(layout.leads)), dtype=np.float32)
    for column, lead in enumerate(layout.leads):
        values[:, column] = chunk[lead.index].to_numpy() * np.float32(lead.mv_per_unit)
    values[~np.isfinite(values)] = np.nan
    return values


def _time_is_number(layout: CsvHeader) -> bool:
    if layout.columns[0] == "timestamp":
        return False
    try:
        float(layout.first_cell)
    except ValueError:
        return layout.columns[0] != "time"  # text below time_s is an error that names the line
    return True


class _Clock:
    """Turns time columns into seconds, a part of the rows after the other."""

    def __init__(self, path: Path, layout: CsvHeader) -> None:
        self.started: datetime | None = None
        self._path = path
        self._layout = layout
        self._n_rows = 0

    def seconds(self, column: pd.Series) -> TimeArray:
        """The next rows' time. Timestamps without a time zone are taken as UTC.

        Raises:
            SourceError: a row has no time, or one that is no timestamp.
        """
        is_number = column.dtype.kind == "f"
        missing = ~np.isfinite(column.to_numpy()) if is_number else column.isna().to_numpy()
        if missing.any():
            raise self._error(int(missing.argmax()), "has no time", "Give each row its time, or leave out the column.")
        if is_number:
            seconds: TimeArray = column.to_numpy() * _TIME_UNIT_S[self._layout.columns[0]]
        else:
            moments = (self._since_start(row, text) for row, text in enumerate(column))
            seconds = np.fromiter(moments, dtype=np.float64, count=len(column))
        self._n_rows += len(column)
        return seconds

    def _since_start(self, row: int, text: str) -> float:
        try:
            moment = utc(datetime.fromisoformat(text.strip()))
        except (ValueError, OverflowError) as error:
            hint = "Write 2024-05-31T12:00:00.004 (ISO 8601)."
            raise self._error(row, f"has '{shown(text)}' for a timestamp", hint) from error
        self.started = self.started or moment
        return (moment - self.started).total_seconds()

    def _error(self, row: int, problem: str, hint: str) -> SourceError:
        line = line_of_row(self._path, self._layout, self._n_rows + row)
        return SourceError(str(self._path), f"line {line} {problem}", hint)
