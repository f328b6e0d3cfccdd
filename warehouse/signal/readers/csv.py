"""CSV files with a header row: one column a lead, units and sampling rate declared."""

import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from configs.errors import SourceError
from warehouse.signal.ecg import BeatAnnotations, FloatArray, RecordingHeader, TimeArray
from warehouse.signal.readers.base import (
    SourceRef,
    check_range,
    check_rate,
    plausible_age,
    sex_of,
    sha256_of,
    shown,
    source_uri,
    utc,
)
from warehouse.signal.readers.csv_grid import Grid, even_grid, grid_of
from warehouse.signal.readers.csv_header import (
    MISSING_CELLS,
    RATE_HINT,
    CsvHeader,
    find_fault,
    line_of_row,
    read_header,
)

_TIME_UNIT_S = {"time": 1.0, "time_s": 1.0, "time_ms": 1e-3, "time_us": 1e-6}


class CsvSource:
    """A CSV file as a `SignalSource`. Samples are kept in memory as float32.

    Time may be given by a first column (`time_s`, `time_ms`, `time` in seconds, or ISO 8601 in `time` or `timestamp`);
    then jumps of more than one and a half samples become NaN samples on a regular grid. Without one, the file declares
    `# sampling_rate_hz: 360` above its header row and is taken as gapless.
    """

    def __init__(self, ref: SourceRef) -> None:
        self._path = ref.path
        checksum = sha256_of([ref.path])
        layout = read_header(ref.path)
        table = _read_table(ref.path, layout)
        self._values = np.empty((len(table), len(layout.leads)), dtype=np.float32)
        for column, lead in enumerate(layout.leads):
            self._values[:, column] = table[lead.index].to_numpy() * np.float32(lead.mv_per_unit)
        self._values[~np.isfinite(self._values)] = np.nan
        self._grid, started = _time_axis(ref.path, layout, table)
        self._header = RecordingHeader(
            name=ref.name,
            source_format="csv",
            source_uri=source_uri(ref.path),
            patient_key=layout.keys.get("patient") or ref.name,
            sampling_rate_hz=check_rate(self._grid.sampling_rate_hz, ref.path, RATE_HINT),
            leads=tuple(lead.name for lead in layout.leads),
            n_samples=self._grid.n_samples,
            checksum=checksum,
            sex=sex_of(layout.keys.get("sex", "")),
            age_years=_age(ref.path, layout),
            start_time=_declared_start(ref.path, layout) or started,
            device=layout.keys.get("device", ""),
        )

    @property
    def header(self) -> RecordingHeader:
        return self._header

    def read(self, start: int, stop: int) -> FloatArray:
        """See `SignalSource.read`: float32 (stop - start, leads), millivolts."""
        check_range(start, stop, self._header.n_samples)
        block = np.full((stop - start, self._values.shape[1]), np.nan, dtype=np.float32)
        for stretch in self._grid.within(start, stop):
            begin, end = max(start, stretch.start), min(stop, stretch.stop)
            row = stretch.first_row + begin - stretch.start
            block[begin - start : end - start] = self._values[row : row + end - begin]
        return block

    def annotations(self) -> BeatAnnotations | None:
        return None


def _read_table(path: Path, layout: CsvHeader) -> pd.DataFrame:
    """The samples by column number: leads float32 in the file's unit, time float64 or text, others text."""
    types: dict[int, object] = dict.fromkeys(range(len(layout.columns)), str)
    types.update({lead.index: np.float32 for lead in layout.leads})
    if layout.has_time and _time_is_number(path, layout):
        types[0] = np.float64
    hint = "Cells are numbers with a decimal point; an empty cell is a missing sample."
    try:
        with path.open(encoding=layout.encoding, newline="") as file, warnings.catch_warnings():
            # All columns are read, and more cells than columns are an error: with usecols pandas drops them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            for _ in range(layout.n_lines):  # skiprows would take a quotation mark in a comment for an open cell
                file.readline()
            table = pd.read_csv(
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
            )
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:  # ParserError is a ValueError too
        numbers = [column for column, kind in types.items() if kind is not str]
        problem = find_fault(path, layout, numbers) or f"cannot be read as CSV ({shown(str(error), 200)})"
        raise SourceError(str(path), problem, hint) from error
    if not len(table):
        raise SourceError(str(path), "has a header row but no samples", "Check that the export was complete.")
    return table


def _time_is_number(path: Path, layout: CsvHeader) -> bool:
    if layout.columns[0].casefold() == "timestamp":
        return False
    try:
        float(layout.first_cell)
    except ValueError:
        return layout.columns[0].casefold() != "time"  # time_s with text in it is an error that names the line
    return True


def _time_axis(path: Path, layout: CsvHeader, table: pd.DataFrame) -> tuple[Grid, datetime | None]:
    """The regular grid the rows lie on, and when it starts if the time column has dates."""
    declared_hz = layout.number("sampling_rate_hz")
    if not layout.has_time:
        if declared_hz is None:
            raise SourceError(str(path), "does not say its sampling rate", RATE_HINT)
        return even_grid(len(table), sampling_rate_hz=check_rate(declared_hz, path, RATE_HINT)), None
    column = table[0].replace([np.inf, -np.inf], np.nan) if table[0].dtype.kind == "f" else table[0]
    if column.isna().any():
        line = line_of_row(path, layout, int(column.isna().to_numpy().argmax()))
        raise SourceError(str(path), f"line {line} has no time", "Give each row its time, or leave out the column.")
    started = None
    if column.dtype.kind == "f":
        time_s = column.to_numpy() * _TIME_UNIT_S[layout.columns[0].casefold()]
    else:
        time_s, started = _timestamps(path, layout, column)
    return grid_of(time_s, declared_hz, path, lambda row: line_of_row(path, layout, row)), started


def _timestamps(path: Path, layout: CsvHeader, column: pd.Series) -> tuple[TimeArray, datetime]:
    """Seconds since the first timestamp, and that one. Without a time zone they are taken as UTC."""

    def moment(row: int, text: str) -> datetime:
        try:
            return utc(datetime.fromisoformat(text.strip()))
        except (ValueError, OverflowError) as error:
            problem = f"line {line_of_row(path, layout, row)}: '{shown(text)}' is not a timestamp"
            raise SourceError(str(path), problem, "Write 2024-05-31T12:00:00.004 (ISO 8601).") from error

    start = moment(0, column.iloc[0])
    seconds = ((moment(row, text) - start).total_seconds() for row, text in enumerate(column))
    return np.fromiter(seconds, dtype=np.float64, count=len(column)), start


def _age(path: Path, layout: CsvHeader) -> int | None:
    years = layout.number("age")
    return None if years is None else plausible_age(int(years))


def _declared_start(path: Path, layout: CsvHeader) -> datetime | None:
    text = layout.keys.get("start_time")
    if not text:
        return None
    try:
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise SourceError(
            str(path), f"start_time '{shown(text)}' is not a timestamp", "Write 2024-05-31T12:00:00 (ISO 8601)."
        ) from error
