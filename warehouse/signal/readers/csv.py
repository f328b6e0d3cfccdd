"""CSV files with a header row: one column a lead, units and sampling rate declared."""

from datetime import datetime
from pathlib import Path

import numpy as np

from configs.errors import SourceError
from warehouse.signal.ecg import BeatAnnotations, FloatArray, RecordingHeader
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
from warehouse.signal.readers.csv_header import RATE_HINT, CsvHeader, line_of_row, read_header
from warehouse.signal.readers.csv_table import CsvTable, read_table


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
        table = read_table(ref.path, layout)
        self._values = table.millivolts
        self._grid = _grid(ref.path, layout, table)
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
            start_time=_declared_start(ref.path, layout) or table.started,
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


def _grid(path: Path, layout: CsvHeader, table: CsvTable) -> Grid:
    """The regular grid that the rows lie on."""
    declared_hz = layout.number("sampling_rate_hz")
    if table.time_s is not None:
        return grid_of(table.time_s, declared_hz, path, lambda row: line_of_row(path, layout, row))
    if declared_hz is None:
        raise SourceError(str(path), "does not say its sampling rate", RATE_HINT)
    return even_grid(len(table.millivolts), sampling_rate_hz=check_rate(declared_hz, path, RATE_HINT))


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
