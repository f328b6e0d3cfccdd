"""EDF and EDF+ files."""

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyedflib
from scipy.signal import resample_poly

from configs.errors import SourceError
from warehouse.signal.ecg import BeatAnnotations, FloatArray, RecordingHeader
from warehouse.signal.readers.base import (
    SourceRef,
    check_range,
    check_rate,
    plausible_age,
    reading,
    sex_of,
    sha256_of,
    source_uri,
    utc,
)
from warehouse.signal.readers.leads import Lead, choose_leads, no_lead_error

_FILTER_REACH = 10  # source samples that resample_poly's default filter takes in on either side
_UNKNOWN_START = datetime(1985, 1, 1)  # what EDF writes for a start that was taken out
_UNKNOWN_PATIENT = ("", "x")  # EDF+ writes X for what is unknown or taken out


class EdfSource:
    """An EDF or EDF+ file as a `SignalSource`.

    Signals named as ECG leads and measured in volts are the leads; without any, all signals in volts that are not
    known to be something else. Leads with a lower rate are resampled (polyphase) to the highest one. EDF+ annotations
    are free text and not read as beats. The file is open only while it is read: edflib opens a file once a process.
    """

    def __init__(self, ref: SourceRef) -> None:
        self._path = ref.path
        _check_size(ref.path)
        checksum = sha256_of([ref.path])
        with self._reader() as reader:
            names = [_text(reader.getLabel, channel) for channel in range(reader.signals_in_file)]
            units = [_text(reader.getPhysicalDimension, channel) for channel in range(reader.signals_in_file)]
            self._leads = choose_leads(names, units, subject=str(ref.path), only_named_ecg=True)
            if not self._leads:
                raise no_lead_error(str(ref.path), names, units)
            with reading(ref.path, "EDF header is damaged", "Export the file again."):
                self._header = self._describe(ref, reader, checksum)

    @property
    def header(self) -> RecordingHeader:
        return self._header

    def read(self, start: int, stop: int) -> FloatArray:
        """See `SignalSource.read`: float32 (stop - start, leads), millivolts."""
        check_range(start, stop, self._header.n_samples)
        block = np.empty((stop - start, len(self._leads)), dtype=np.float32)
        if start == stop:
            return block
        with self._reader() as reader:
            for column, lead in enumerate(self._leads):
                block[:, column] = self._read_lead(reader, lead, start, stop) * lead.mv_per_unit
        return block

    def annotations(self) -> BeatAnnotations | None:
        return None

    def _read_lead(self, reader: Any, lead: Lead, start: int, stop: int) -> Any:
        """Samples [start, stop) at the recording's rate, in the lead's own unit; the same in whatever blocks."""
        n_own, n_all = int(reader.getNSamples()[lead.index]), self._header.n_samples
        if n_own == n_all:
            return self._read_raw(reader, lead, start, stop)
        common = math.gcd(n_own, n_all)
        up, down = n_all // common, n_own // common
        reach = _FILTER_REACH + 1
        first = max(0, (start * down // up - reach) // down * down)  # a sample both rates share
        last = min(n_own, stop * down // up + 1 + reach)
        resampled = resample_poly(self._read_raw(reader, lead, first, last), up, down, padtype="edge")
        begin = start - first * up // down
        return resampled[begin : begin + stop - start]

    def _read_raw(self, reader: Any, lead: Lead, start: int, stop: int) -> Any:
        problem = f"samples {start} to {stop} of {lead.name} cannot be read"
        with reading(self._path, problem, "The file is damaged: export or fetch it again."):
            return reader.readSignal(lead.index, start, stop - start)

    def _reader(self) -> Any:
        with reading(self._path, "is not a valid EDF file", "Check it with an EDF viewer, or export it again."):
            return pyedflib.EdfReader(
                str(self._path.absolute()), annotations_mode=pyedflib.edfreader.DO_NOT_READ_ANNOTATIONS
            )

    def _describe(self, ref: SourceRef, reader: Any, checksum: str) -> RecordingHeader:
        n_samples = int(max(reader.getNSamples()[lead.index] for lead in self._leads))
        started = reader.getStartdatetime()
        return RecordingHeader(
            name=ref.name,
            source_format="edf",
            source_uri=source_uri(ref.path),
            patient_key=_patient(reader) or ref.name,
            sampling_rate_hz=check_rate(n_samples / reader.getFileDuration(), ref.path),
            leads=tuple(lead.name for lead in self._leads),
            n_samples=n_samples,
            checksum=checksum,
            sex=sex_of(_text(reader.getSex)),
            age_years=_age(_text(reader.getBirthdate), started),
            start_time=None if started == _UNKNOWN_START else utc(started),
            device=_text(reader.getEquipment) or _text(reader.getRecordingAdditional),
        )


def _text(getter: Any, *arguments: int) -> str:
    return str(getter(*arguments)).strip()


def _patient(reader: Any) -> str:
    """What tells patients apart: the hospital's code, else the name, else plain EDF's whole patient field."""
    fields = (_text(reader.getPatientCode), _text(reader.getPatientName), reader.patient.decode("latin-1").strip())
    return next((field for field in fields if field.lower() not in _UNKNOWN_PATIENT), "")


def _age(birthdate: str, at: datetime) -> int | None:
    """Age in whole years on the day of the recording; the birth date itself goes no further."""
    try:
        born = datetime.strptime(birthdate, "%d %b %Y")
    except ValueError:
        return None  # absent or anonymised
    if at == _UNKNOWN_START:
        return None
    return plausible_age(at.year - born.year - ((at.month, at.day) < (born.month, born.day)))


def _check_size(path: Path) -> None:
    """Checks what edflib reports vaguely (and prints to standard output): kind, length and discontinuity.

    The layout is that of the EDF specification (Kemp et al. 1992, Kemp and Olivan 2003): 256 bytes, then 256 a signal,
    then data records of two-byte samples.
    """
    hint = "Export or fetch the file again."
    with reading(path, "is not an EDF file", hint):
        size = path.stat().st_size
        if size == 0:
            raise SourceError(str(path), "is empty", hint)
        with path.open("rb") as file:
            main = file.read(256)
            if len(main) < 256 or main[:8].strip() != b"0":
                raise SourceError(str(path), "is not an EDF file: it does not start with an EDF header", hint)
            if main[192:197] == b"EDF+D":
                raise SourceError(
                    str(path),
                    "is discontinuous (EDF+D), which cannot be read",
                    "Export it as EDF+C, or each stretch to a file of its own.",
                )
            n_signals, n_records = int(main[252:256]), int(main[236:244])
            if n_signals < 1 or n_records < 1:
                raise SourceError(str(path), f"has {n_signals} signals and {n_records} data records", hint)
            fields = file.read(256 * n_signals)
        at = 216 * n_signals  # samples a data record, eight characters a signal
        per_record = sum(int(fields[at + 8 * i : at + 8 * i + 8]) for i in range(n_signals))
        needed = 256 * (n_signals + 1) + 2 * per_record * n_records
        if size != needed:
            what = "is cut off" if size < needed else "is too long"
            raise SourceError(str(path), f"{what}: {size} bytes, but its header describes {needed}", hint)
