"""The lines above a CSV file's samples: what they declare, and where in the file a cell is."""

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import SourceError
from warehouse.signal.readers.base import reading, shown
from warehouse.signal.readers.leads import Lead, choose_leads, is_other_name, mv_per_unit, no_lead_error

MISSING_CELLS = ("", "NaN", "nan", "NAN", "NA", "N/A", "null", "NULL", "None")
RATE_HINT = "Write '# sampling_rate_hz: 360' above the header row, or make the first column time_s or time_ms."
_UNIT_HINT = "Write the unit into the column's name (II_mV, 'V1 (uV)'), or '# unit: mV' above the header row."
_KEYS = ("sampling_rate_hz", "unit", "patient", "sex", "age", "device", "start_time")
_KEY_LINE = re.compile(rf"\s*#?\s*({'|'.join(_KEYS)})\s*[:=]\s*(.*?)[\s,;]*", re.IGNORECASE)
_BRACKETED = re.compile(r"(.+?)\s*[\[(]\s*([^\])]*?)\s*[\])]")
_OTHER_SUFFIXES = ("adu", "counts", "raw", "lsb", "ohm", "mmhg", "bpm", "pct")
_TIME_NAMES = {
    **dict.fromkeys(("time_s", "time (s)", "time [s]"), "time_s"),
    **dict.fromkeys(("time_ms", "time (ms)", "time [ms]"), "time_ms"),
    **dict.fromkeys(("time_us", "time (us)", "time [us]"), "time_us"),
    **{"time": "time", "timestamp": "timestamp"},
}
_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class CsvHeader:
    """What stands above the samples.

    Attributes:
        keys: declared values by lower-case key.
        columns: names; a time column is called time, time_s, time_ms, time_us or timestamp.
        leads: which columns are leads.
        has_time: the first column is time.
        delimiter: between cells.
        n_lines: lines up to and with the header row.
        encoding: of the file.
        first_cell: of the first row of samples.
    """

    path: Path
    keys: dict[str, str]
    columns: list[str]
    leads: list[Lead]
    has_time: bool
    delimiter: str
    n_lines: int
    encoding: str
    first_cell: str

    def number(self, key: str) -> float | None:
        """Returns a declared number, None when it is not declared.

        Raises:
            SourceError: it is no number.
        """
        text = self.keys.get(key)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            problem = f"{key} is '{shown(text)}', which is not a number"
            raise SourceError(str(self.path), problem, f"Write '# {key}: 60'.")
        return value


def read_header(path: Path) -> CsvHeader:
    """Reads comments, declarations and the header row.

    Raises:
        SourceError: there is no header row, a lead's unit is missing or unknown, or there is no lead.
    """
    encoding = _encoding(path)
    keys: dict[str, str] = {}
    row, n_lines = "", 0
    with reading(path, "is not text"), path.open(encoding=encoding, newline=None) as file:
        while line := file.readline(_MAX_LINE):
            n_lines += 1
            if match := _KEY_LINE.fullmatch(line):
                keys[match[1].lower()] = match[2]
            elif line.strip() and not line.lstrip().startswith("#"):
                row = line.strip()
                break
        delimiter = max(",;\t", key=row.count)
        cells = _cells(row, delimiter)
        first_cell = next(iter(_cells(file.readline(_MAX_LINE), delimiter)), "")
    if all(_is_number(cell) for cell in cells):
        raise SourceError(str(path), "has no header row", f"Name the columns above the samples. {_UNIT_HINT}")
    time_name = _TIME_NAMES.get(cells[0].casefold())
    columns = [time_name or cells[0], *cells[1:]]
    leads = _leads(path, columns, has_time=time_name is not None, default_unit=keys.get("unit", ""))
    return CsvHeader(path, keys, columns, leads, time_name is not None, delimiter, n_lines, encoding, first_cell)


def find_fault(path: Path, layout: CsvHeader, numbers: Sequence[int]) -> str | None:
    """Describes the first row with too many cells, or with text in one of the columns `numbers`; None without one."""
    for line, cells in _rows(path, layout):
        if any(cell.strip() for cell in cells[len(layout.columns) :]):
            return f"line {line} has {len(cells)} cells, the header row {len(layout.columns)}"
        for column in numbers:
            cell = cells[column].strip() if column < len(cells) else ""
            if cell not in MISSING_CELLS and not _is_number(cell):
                return f"line {line}, column '{shown(layout.columns[column])}': '{shown(cell)}' is not a number"
    return None


def line_of_row(path: Path, layout: CsvHeader, row: int) -> int:
    """Returns the line of the file on which a row of samples is, counted from 1."""
    for number, (line, _) in enumerate(_rows(path, layout)):
        if number == row:
            return line
    return layout.n_lines + 1 + row


def _rows(path: Path, layout: CsvHeader) -> Iterator[tuple[int, list[str]]]:
    with reading(path, "is not text"), path.open(encoding=layout.encoding, newline="") as file:
        for _ in range(layout.n_lines):
            file.readline()
        reader = csv.reader(file, delimiter=layout.delimiter)
        for cells in reader:
            if cells:
                yield layout.n_lines + reader.line_num, cells


def _leads(path: Path, columns: list[str], *, has_time: bool, default_unit: str) -> list[Lead]:
    names: list[str | None] = []
    units: list[str | None] = []
    for column in columns[has_time:]:
        name, unit = _name_and_unit(column)
        unit = unit if unit is not None else default_unit
        if mv_per_unit(unit) is None and not is_other_name(name):
            problem = f"unknown unit '{shown(unit)}'" if unit else "no unit"
            raise SourceError(str(path), f"column '{shown(column)}' has {problem}", _UNIT_HINT)
        names.append(name)
        units.append(unit)
    leads = choose_leads(names, units, subject=str(path))
    if not leads:
        raise no_lead_error(str(path), names, units)
    return [replace(lead, index=lead.index + has_time) for lead in leads]


def _name_and_unit(column: str) -> tuple[str, str | None]:
    """Splits "II_mV", "V1 (uV)" or "MLII [mV]"; the unit is None when the name has none."""
    if match := _BRACKETED.fullmatch(column):
        return match[1], match[2]
    name, _, suffix = column.rpartition("_")
    if name and (mv_per_unit(suffix) is not None or suffix.casefold() in _OTHER_SUFFIXES):
        return name, suffix
    return column, None


def _encoding(path: Path) -> str:
    """UTF-8 with or without byte order mark; else Latin-1, as older Windows programs write the mu of microvolts."""
    with reading(path, "cannot be read"), path.open("rb") as file:
        start = file.read(1 << 16)
    if b"\0" in start:
        raise SourceError(str(path), "is not text", "Export it as CSV in UTF-8.")
    try:
        start[: start.rfind(b"\n") + 1].decode("utf-8-sig")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def _cells(row: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([row], delimiter=delimiter, skipinitialspace=True), [])]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
