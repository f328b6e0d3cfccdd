"""The words of the signal code: recordings, beats, windows, and what could not be used."""

import enum
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Int16Array = npt.NDArray[np.int16]
TimeArray = npt.NDArray[np.float64]


class AamiClass(enum.StrEnum):
    """Beat classes of ANSI/AAMI EC57, and U for a beat nobody labelled."""

    NORMAL = "N"
    SUPRAVENTRICULAR = "S"
    VENTRICULAR = "V"
    FUSION = "F"
    UNKNOWN_BEAT = "Q"
    UNLABELLED = "U"


#: MIT-BIH beat annotation symbols to AAMI class (EC57:2012, table 3; PhysioBank annotation codes).
AAMI_OF_SYMBOL: dict[str, AamiClass] = {
    **dict.fromkeys("NLRBej", AamiClass.NORMAL),
    **dict.fromkeys("AaJSn", AamiClass.SUPRAVENTRICULAR),
    **dict.fromkeys("VEr", AamiClass.VENTRICULAR),
    "F": AamiClass.FUSION,
    **dict.fromkeys("/fQ?", AamiClass.UNKNOWN_BEAT),
}


class Reason(enum.StrEnum):
    """Why a stretch of signal, or a beat, could not be used."""

    GAP = "gap"  # no samples: NaN, or a gap between segments
    FLAT_LINE = "flat_line"  # no change: electrode or amplifier off
    SATURATION = "saturation"  # stuck at the end of the converter's range
    LEAD_OFF = "lead_off"  # a lead lost while others go on
    NOISE = "noise"  # mains or muscle noise that hides the beat
    AMPLITUDE = "amplitude"  # beyond what the store can hold, or no ECG's size
    NO_BEAT = "no_beat"  # no R peak for longer than the geometry's max_rr_s
    EDGE = "edge"  # the window would reach beyond the recording
    TOO_SHORT = "too_short"  # the recording is shorter than one window
    NO_LEAD = "no_lead"  # no lead of the recording fits a slot


@dataclass(frozen=True)
class RecordingHeader:
    """What a file says about a recording before any sample is read.

    Attributes:
        name: record name as the field uses it ("100"); the file's stem where there is none.
        source_format: wfdb, edf, csv or simulated; ucr for windows that are already cut.
        patient_key: what identifies the patient in the source; never stored, only its keyed pseudonym is.
            The recording's name where the source does not say.
        sampling_rate_hz: of `SignalSource.read`.
        leads: lead names, in the order of the columns.
        n_samples: per lead.
        checksum: sha256 (hex) of everything the recording was read from.
        sex: female, male or unknown.
        age_years: None when unknown.
        start_time: timezone-aware; None when the source does not say.
        simulated: made by the simulator; never mixed with real data unmarked.
    """

    name: str
    source_format: str
    source_uri: str
    patient_key: str
    sampling_rate_hz: float
    leads: tuple[str, ...]
    n_samples: int
    checksum: str
    sex: str = "unknown"
    age_years: int | None = None
    start_time: datetime | None = None
    device: str = ""
    simulated: bool = False

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sampling_rate_hz


@dataclass(frozen=True)
class BeatAnnotations:
    """Reference beats: times in seconds from the recording's start, ascending, and MIT-BIH symbols."""

    time_s: TimeArray
    symbol: npt.NDArray[np.str_]


class SignalSource(Protocol):
    """An open recording. Readers of all formats, and the simulator, give one."""

    @property
    def header(self) -> RecordingHeader: ...

    def read(self, start: int, stop: int) -> FloatArray:
        """Samples [start, stop) of all leads: float32 (stop - start, leads) in millivolts, NaN where there are none.

        Raises:
            SourceError: the file ends early or is damaged.
        """
        ...

    def annotations(self) -> BeatAnnotations | None:
        """Reference beats, or None when the source has none."""
        ...


@dataclass(frozen=True)
class UnusableSpan:
    """A stretch [start_s, end_s) that no window covers (lead is None), or that one lead cannot be used in."""

    start_s: float
    end_s: float
    reason: Reason
    lead: str | None = None


@dataclass(frozen=True)
class RejectedBeat:
    """A beat that gave no window: for the dead-letter table."""

    beat_index: int
    r_peak_s: float
    reason: Reason
    symbol: str
    detail: str = ""


@dataclass(frozen=True)
class Windows:
    """n windows of one recording, in time order; n may be 0.

    Attributes:
        beat_index: int64 (n,), counts all beats of the recording, rejected ones too.
        r_peak_s: float64 (n,), from the recording's start.
        samples: int16 (n, window_samples, leads), microvolts; 0 where `lead_mask` is 0.
        lead_mask: bool (n, leads), the lead of that slot is there and usable throughout the window.
        rr: float32 (n, 5), seconds, columns as `configs.contract.RR_COLUMNS`; 0 = unknown.
        template: int16 (n, window_samples, leads), microvolts, median of the previous beats' windows.
        template_beats: int16 (n,), how many beats that median was taken of; 0 = none.
        quality: float32 (n,), 0 worst to 1 best.
        symbol: str (n,), the annotation's symbol; "" when unlabelled.
        aami_class: str (n,), `AamiClass` values.
    """

    beat_index: npt.NDArray[np.int64]
    r_peak_s: TimeArray
    samples: Int16Array
    lead_mask: npt.NDArray[np.bool_]
    rr: FloatArray
    template: Int16Array
    template_beats: Int16Array
    quality: FloatArray
    symbol: npt.NDArray[np.str_]
    aami_class: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.r_peak_s)


@dataclass(frozen=True)
class WindowChunk:
    """What one block of a recording gave.

    Attributes:
        signal: int16 (n, leads in use), microvolts at the windows' rate, band-passed, usable or not; the smallest
            int16 where there is no sample. Chunks follow each other without a gap. None: there is no signal.
        removed: int16 (seconds, leads in use, 2), microvolts: of what the band-pass took out of each second, the level
            (baseline) and the root mean square of what is above the band (mains, muscle). None: not known.
    """

    windows: Windows
    unusable: list[UnusableSpan] = field(default_factory=list)
    rejected: list[RejectedBeat] = field(default_factory=list)
    signal: Int16Array | None = None
    removed: Int16Array | None = None
