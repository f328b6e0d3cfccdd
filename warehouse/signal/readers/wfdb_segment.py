"""One single-segment WFDB record: its header and its signal files, checked against each other and read in parts."""

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from configs.errors import SourceError
from warehouse.signal.ecg import FloatArray
from warehouse.signal.readers.base import reading, shown
from warehouse.signal.readers.leads import Lead, choose_leads

# Bytes a sample on disk (WFDB "signal(5)"); FLAC-compressed formats have no fixed size.
_BYTES_PER_SAMPLE = {
    **{"8": 1.0, "16": 2.0, "24": 3.0, "32": 4.0, "61": 2.0, "80": 1.0, "160": 2.0},
    **{"212": 3 / 2, "310": 4 / 3, "311": 4 / 3},
}
_COMPRESSED = ("508", "516", "524")
_DIFFERENCES = "8"  # each sample is stored as its difference to the one before
_BIG_ENDIAN = "61"
_NULL = "0"  # a signal without samples
_SLACK_BYTES = 1024  # blocks of old tapes and writers end in padding
_CHECK_SAMPLES = 1 << 20  # read at a time when checking checksums
_MAX_CHECKED_SAMPLES = 100_000_000  # about a second; beyond, sizes and first values are checked only
_HINT = "Header and data do not belong together, or one is damaged: fetch both again."


def read_header(path: Path) -> Any:
    """Returns the wfdb.Record or wfdb.MultiRecord that a `.hea` file describes, without samples.

    Raises:
        SourceError: it cannot be read, or is no WFDB header.
    """
    problem, hint = "is not a WFDB header", "See the header(5) page of WFDB for what a .hea file holds."
    with reading(path, problem, hint):
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            # wfdb drops such bytes, which would turn microvolts written with a mu into volts
            if not line.lstrip().startswith(b"#") and not line.isascii():
                raise SourceError(str(path), f"line {number} has characters beyond ASCII", "Write microvolts as uV.")
        return wfdb.rdheader(str(path.absolute().with_suffix("")))


class WfdbSegment:
    """A single-segment record.

    Attributes:
        path: the header.
        n_frames: samples a signal at the base frequency.
        leads: its ECG leads; may be empty in a segment of a longer record.
    """

    def __init__(self, path: Path, header: Any) -> None:
        self.path = path
        self._header = header
        self._file_names: list[str] = header.file_name or []
        if not header.n_sig or len(self._file_names) != header.n_sig:
            raise self._error(f"header says {header.n_sig} signals but describes {len(self._file_names)}")
        self.samples_per_frame = [n or 1 for n in header.samps_per_frame]
        self._skew = [n or 0 for n in header.skew]
        self._offset = [n or 0 for n in header.byte_offset]
        self._channels = {name: self._channels_of(name) for name in dict.fromkeys(self._file_names)}
        self._channels = {name: channels for name, channels in self._channels.items() if channels}
        self.n_frames: int = self._inferred_frames() if header.sig_len is None else header.sig_len
        if not self.n_frames:
            raise self._error("header says there are no samples")
        # without a length in the header wfdb reads the whole only; and the level of a difference-coded sample is known
        # only when all before it have been read
        self._in_one = header.sig_len is None or self._has_format(_DIFFERENCES)
        self._whole: list[FloatArray] | None = None

    @property
    def sampling_rate_hz(self) -> float:
        return float(self._header.fs)

    @property
    def signal_names(self) -> list[str | None]:
        return list(self._header.sig_name)

    @property
    def units(self) -> list[str | None]:
        return list(self._header.units)

    @cached_property
    def leads(self) -> list[Lead]:
        with_samples = {channel for channels in self._channels.values() for channel in channels}
        leads = choose_leads(self.signal_names, self.units, subject=str(self.path))
        return [lead for lead in leads if lead.index in with_samples]

    @property
    def files(self) -> list[Path]:
        """The header and the signal files, in the header's order."""
        return [self.path, *(self.path.with_name(name) for name in self._channels)]

    def check(self) -> None:
        """Checks the signal files against the header: sizes, first values and, unless very long, checksums.

        Raises:
            SourceError: a file is missing, empty or cut off, or its samples are not those the header describes.
        """
        surplus = {name: self._surplus_bytes(name) for name in self._channels}
        verified = self._check_values()
        for name, n_bytes in surplus.items():
            if n_bytes > _SLACK_BYTES and not verified.issuperset(self._channels[name]):
                raise SourceError(
                    str(self.path.with_name(name)), f"has {n_bytes} bytes more than {self.path.name} describes", _HINT
                )

    def read(self, start: int, stop: int, per_frame: int) -> dict[str, FloatArray]:
        """Reads frames [start, stop) of the ECG leads, aligned by their skew.

        Args:
            start: first frame.
            stop: frame behind the last; beyond `start`.
            per_frame: samples a frame to return: a lead's own, or 1 to take the mean over each frame.

        Returns:
            Millivolts by lead name: float32 ((stop - start) * per_frame,), NaN where there is no sample.
        """
        values = {}
        for lead, signal in zip(self.leads, self._aligned(start, stop), strict=True):
            if self.samples_per_frame[lead.index] != per_frame:
                signal = signal.reshape(stop - start, -1).mean(axis=1)
            values[lead.name] = (signal * lead.mv_per_unit).astype(np.float32)
        return values

    def _aligned(self, start: int, stop: int) -> list[Any]:
        """Each lead's samples of frames [start, stop), in its own unit; NaN where its skew reaches beyond the end.

        wfdb is asked not to apply the skew: it fails on leads with different ones.
        """
        if not self.leads:
            return []
        reach = max(self._skew[lead.index] for lead in self.leads)
        raw = self._raw(start, min(stop + reach, self.n_frames))
        aligned = []
        for lead, signal in zip(self.leads, raw, strict=True):
            per_frame, skew = self.samples_per_frame[lead.index], self._skew[lead.index]
            whole = np.full((stop - start) * per_frame, np.nan)
            there = signal[skew * per_frame :][: len(whole)]
            whole[: len(there)] = there
            aligned.append(whole)
        return aligned

    def _raw(self, start: int, stop: int) -> list[Any]:
        channels = [lead.index for lead in self.leads]
        if not self._in_one:
            return self._rdrecord(start, stop, channels, physical=True)
        if self._whole is None:
            signals = self._rdrecord(0, None, channels, physical=True)
            self._whole = [signal.astype(np.float32) for signal in signals]
        per_frame = [self.samples_per_frame[channel] for channel in channels]
        return [signal[start * n : stop * n] for signal, n in zip(self._whole, per_frame, strict=True)]

    def _rdrecord(self, start: int, stop: int | None, channels: list[int], *, physical: bool) -> list[Any]:
        """One array a signal with all samples of frames [start, stop): float64 in its unit, or int64 counts."""
        with reading(self.path, f"samples {start} to {stop or self.n_frames} cannot be read", _HINT):
            record = wfdb.rdrecord(
                str(self.path.absolute().with_suffix("")),
                sampfrom=start,
                sampto=stop,
                channels=channels,
                physical=physical,
                smooth_frames=False,
                ignore_skew=True,
            )
            return list(record.e_p_signal if physical else record.e_d_signal)

    # --- checks -----------------------------------------------------------------------------------

    def _channels_of(self, file_name: str) -> list[int]:
        """Signals in a file: consecutive and of one format, as WFDB demands; none for null signals."""
        channels = [i for i, name in enumerate(self._file_names) if name == file_name and self._header.fmt[i] != _NULL]
        if not channels:
            return []
        formats = {self._header.fmt[i] for i in channels}
        if unknown := sorted(formats.difference(_BYTES_PER_SAMPLE, _COMPRESSED)):
            known = ", ".join([*_BYTES_PER_SAMPLE, *_COMPRESSED])
            raise self._error(f"unknown signal format {unknown[0]} of {file_name}", f"WFDB has the formats {known}.")
        if len(formats) > 1 or channels[-1] - channels[0] + 1 != len(channels):
            raise self._error(f"signals of {file_name} differ in format or do not follow each other")
        return channels

    def _frame_samples(self, file_name: str) -> int:
        return sum(self.samples_per_frame[channel] for channel in self._channels[file_name])

    def _size(self, file_name: str) -> int:
        path = self.path.with_name(file_name)
        if not path.is_file():
            raise SourceError(str(path), f"is missing; {self.path.name} names it", "Put it beside its header.")
        size = path.stat().st_size
        if size == 0:
            raise SourceError(str(path), "is empty", "Fetch it again.")
        return size

    def _inferred_frames(self) -> int:
        """Length from the first file's size, for headers that do not say it."""
        name = next(iter(self._channels), None)
        if name is None or self._header.fmt[self._channels[name][0]] in _COMPRESSED:
            raise self._error("header does not say how many samples there are", "Add the number to its first line.")
        first = self._channels[name][0]
        n_samples = (self._size(name) - self._offset[first]) / _BYTES_PER_SAMPLE[self._header.fmt[first]]
        n_frames = int(n_samples / self._frame_samples(name) + 1e-9)
        if n_frames < 1:
            raise SourceError(str(self.path.with_name(name)), "holds no sample", "Fetch it again.")
        return n_frames

    def _surplus_bytes(self, file_name: str) -> int:
        """Bytes in a signal file beyond what the header describes."""
        size, first = self._size(file_name), self._channels[file_name][0]
        fmt = self._header.fmt[first]
        if fmt in _COMPRESSED:  # only decoding tells how long it is
            self._rdrecord(self.n_frames - 1, self.n_frames, [first], physical=False)
            return 0
        n_samples = self.n_frames * self._frame_samples(file_name)
        needed = self._offset[first] + math.ceil(n_samples * _BYTES_PER_SAMPLE[fmt] - 1e-6)
        if fmt == "310" and n_samples % 3 == 2:
            needed += 1  # a block's second sample ends in its last byte
        if size < needed:
            raise SourceError(
                str(self.path.with_name(file_name)),
                f"is cut off: {size} of the {needed} bytes that {self.path.name} describes",
                "Fetch it again.",
            )
        return size - needed

    def _check_values(self) -> set[int]:
        """Compares first values and checksums; returns the signals whose checksum agreed.

        A zero is what converters write when they do not know. With skew the checksum's range is not defined, and
        wfdb gives no counts of big-endian samples.
        """
        channels = [channel for group in self._channels.values() for channel in group]
        if not channels or any(self._skew) or self._has_format(_BIG_ENDIAN):
            return set()
        n_samples = self.n_frames * sum(self.samples_per_frame[channel] for channel in channels)
        expected = {c: self._header.checksum[c] % 65536 for c in channels if self._header.checksum[c]}
        whole = bool(expected) and n_samples <= _MAX_CHECKED_SAMPLES
        step = max(1, _CHECK_SAMPLES * self.n_frames // n_samples) if whole else 1
        sums = dict.fromkeys(channels, 0)
        for start in range(0, self.n_frames if whole else 1, self.n_frames if self._in_one else step):
            stop = None if self._in_one else min(start + step, self.n_frames)
            for channel, signal in zip(channels, self._rdrecord(start, stop, channels, physical=False), strict=True):
                sums[channel] += int(signal.sum(dtype=np.int64))
                if start == 0:
                    self._check_first_value(channel, int(signal[0]))
        if not whole:
            return set()
        for channel, checksum in expected.items():
            if sums[channel] % 65536 != checksum:
                raise self._error(f"signal {self._name(channel)} does not have the checksum the header says", _HINT)
        return set(expected)

    def _check_first_value(self, channel: int, value: int) -> None:
        expected = self._header.init_value[channel]
        if expected and expected != value:
            raise self._error(f"signal {self._name(channel)} starts with {value}, the header says {expected}", _HINT)

    def _has_format(self, fmt: str) -> bool:
        return any(self._header.fmt[channel] == fmt for group in self._channels.values() for channel in group)

    def _name(self, channel: int) -> str:
        return shown(self._header.sig_name[channel] or f"number {channel + 1}")

    def _error(self, problem: str, hint: str = _HINT) -> SourceError:
        return SourceError(str(self.path), problem, hint)
