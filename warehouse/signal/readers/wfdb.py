"""WFDB records, single- and multi-segment, with their reference beats."""

import re
from datetime import datetime, time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import wfdb

from configs.errors import SourceError
from warehouse.signal.download import MITDB_DAT_BYTES, mitdb_patient_of
from warehouse.signal.ecg import BeatAnnotations, FloatArray, RecordingHeader
from warehouse.signal.readers.base import (
    SourceRef,
    check_range,
    check_rate,
    plausible_age,
    sex_of,
    sha256_of,
    source_uri,
    utc,
)
from warehouse.signal.readers.leads import lead_names, no_lead_error
from warehouse.signal.readers.wfdb_annotations import read_beats
from warehouse.signal.readers.wfdb_segment import WfdbSegment, read_header

ANNOTATOR = ".atr"
_GAP = "~"


class _Part(NamedTuple):
    """Where a segment lies in its record, in frames."""

    start: int
    stop: int
    segment: WfdbSegment


class WfdbSource:
    """A WFDB record as a `SignalSource`.

    Leads are the signals in volts that are not known to be something else. When all of them have the same number of
    samples a frame, they are read at that rate; when they differ, each is averaged to one sample a frame, the base
    frequency. Between segments, and where a segment lacks a lead, samples are NaN.
    """

    def __init__(self, ref: SourceRef) -> None:
        self._path = ref.path
        top = read_header(ref.path)
        self._is_multi = isinstance(top, wfdb.MultiRecord)
        self._parts = _parts_of(ref.path, top) if self._is_multi else [_single(ref.path, top)]
        for part in self._parts:
            part.segment.check()
        self._layout = _layout_header(ref.path, top) if self._is_multi else None
        self._leads = _all_leads(ref.path, self._parts, self._layout)
        self._per_frame = self._samples_per_frame()
        self._annotations = ref.path.with_suffix(ANNOTATOR)
        self._header = self._describe(ref, top)

    @property
    def header(self) -> RecordingHeader:
        return self._header

    def read(self, start: int, stop: int) -> FloatArray:
        """See `SignalSource.read`: float32 (stop - start, leads), millivolts."""
        check_range(start, stop, self._header.n_samples)
        per_frame = self._per_frame
        first, last = start // per_frame, -(-stop // per_frame)
        block = np.full(((last - first) * per_frame, len(self._leads)), np.nan, dtype=np.float32)
        for part in self._parts:
            begin, end = max(first, part.start), min(last, part.stop)
            if begin >= end:
                continue
            signals = part.segment.read(begin - part.start, end - part.start, per_frame)
            for name, signal in signals.items():
                block[(begin - first) * per_frame : (end - first) * per_frame, self._leads.index(name)] = signal
        return block[start - first * per_frame : stop - first * per_frame]

    def annotations(self) -> BeatAnnotations | None:
        """Beats of the record's `.atr` file; None without one, or when it marks rhythms only (as AFDB's do)."""
        if not self._annotations.is_file():
            return None
        frame_rate_hz = self._header.sampling_rate_hz / self._per_frame
        beats = read_beats(self._annotations, sampling_rate_hz=frame_rate_hz, duration_s=self._header.duration_s)
        return beats if len(beats.time_s) else None

    def _samples_per_frame(self) -> int:
        rates = {part.segment.samples_per_frame[lead.index] for part in self._parts for lead in part.segment.leads}
        return rates.pop() if len(rates) == 1 else 1

    def _describe(self, ref: SourceRef, top: Any) -> RecordingHeader:
        sex, age_years = _sex_and_age([*top.comments])
        files = self._files()
        return RecordingHeader(
            name=ref.name,
            source_format="wfdb",
            source_uri=source_uri(ref.path),
            patient_key=_mitdb_patient(files) or ref.name,
            sampling_rate_hz=check_rate(float(top.fs) * self._per_frame, ref.path),
            leads=self._leads,
            n_samples=(sum(top.seg_len) if self._is_multi else self._parts[0].stop) * self._per_frame,
            checksum=sha256_of(files),
            sex=sex,
            age_years=age_years,
            start_time=_start_time(top),
        )

    def _files(self) -> list[Path]:
        """Everything the recording is read from: headers, each followed by its signal files; annotations last."""
        files = [self._path, *([self._layout] if self._layout else [])]
        files += [file for part in self._parts for file in part.segment.files]
        files += [self._annotations] if self._annotations.is_file() else []
        return list(dict.fromkeys(files))


def _single(path: Path, header: Any) -> _Part:
    segment = WfdbSegment(path, header)
    return _Part(0, segment.n_frames, segment)


def _parts_of(path: Path, top: Any) -> list[_Part]:
    """The segments that hold samples; gaps are what lies between them."""
    lengths = top.seg_len
    if len(lengths) != top.n_seg or (top.sig_len is not None and sum(lengths) != top.sig_len):
        raise SourceError(
            str(path),
            f"says {top.n_seg} segments of {top.sig_len} samples but lists {len(lengths)} of {sum(lengths)}",
            "The header is damaged: fetch it again.",
        )
    parts, start = [], 0
    for name, length in zip(top.seg_name, lengths, strict=True):
        if name != _GAP and length:
            parts.append(_Part(start, start + length, _segment(path, name, length, top)))
        start += length
    return parts


def _segment(path: Path, name: str, length: int, top: Any) -> WfdbSegment:
    segment_path = path.with_name(name + ".hea")
    if not segment_path.is_file():
        raise SourceError(str(segment_path), f"is missing; {path.name} names it", "Put it beside the record's header.")
    header = read_header(segment_path)
    if isinstance(header, wfdb.MultiRecord):
        raise SourceError(str(segment_path), "is multi-segment and a segment itself", "Segments hold samples only.")
    segment = WfdbSegment(segment_path, header)
    if segment.n_frames != length or segment.sampling_rate_hz != float(top.fs):
        raise SourceError(
            str(segment_path),
            f"has {segment.n_frames} samples at {segment.sampling_rate_hz:g} Hz, "
            f"{path.name} says {length} at {float(top.fs):g} Hz",
            "Record and segment do not belong together: fetch them again.",
        )
    return segment


def _layout_header(path: Path, top: Any) -> Path | None:
    """The header that gives the lead order of a variable-layout record; None for a fixed layout."""
    return path.with_name(top.seg_name[0] + ".hea") if top.layout == "variable" and top.seg_name[0] != _GAP else None


def _all_leads(path: Path, parts: list[_Part], layout: Path | None) -> tuple[str, ...]:
    present = list(dict.fromkeys(lead.name for part in parts for lead in part.segment.leads))
    if not present:
        first = parts[0].segment if parts else None
        raise no_lead_error(str(path), first.signal_names if first else [], first.units if first else [])
    order = lead_names(read_header(layout).sig_name or []) if layout else []
    ordered = [name for name in order if name in present]
    return (*ordered, *(name for name in present if name not in ordered))


def _mitdb_patient(files: list[Path]) -> str | None:
    """The patient when the data are a record of the MIT-BIH Arrhythmia Database, under whatever name."""
    for path in files:
        if path.suffix == ".dat" and path.stat().st_size == MITDB_DAT_BYTES:
            return mitdb_patient_of(sha256_of([path]))
    return None


def _sex_and_age(comments: list[str]) -> tuple[str, int | None]:
    """Sex and age from header comments: "69 M 1085 1629 x1" (MIT-BIH), or "Age: 69  Sex: M" and its variants."""
    text = "\n".join(comments)
    if match := re.match(r"(-?\d{1,3})\s+([MF])\b", text):
        return sex_of(match[2]), plausible_age(int(match[1]))
    sex = re.search(r"\b(?:sex|gender)\b[>\s:=]*\s*(female|male|f|m)\b", text, re.IGNORECASE)
    age = re.search(r"\bage\b[>\s:=]*\s*(-?\d{1,3})\b", text, re.IGNORECASE)
    return sex_of(sex[1]) if sex else "unknown", plausible_age(int(age[1])) if age else None


def _start_time(top: Any) -> datetime | None:
    """The header names no time zone: taken as UTC. A time of day without a date is no start time."""
    return utc(datetime.combine(top.base_date, top.base_time or time())) if top.base_date else None
