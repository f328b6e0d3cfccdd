"""What travels between the two databases and the code that uses them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from warehouse.store import tables as t


@dataclass(frozen=True)
class Patient:
    """A patient as the warehouse knows one."""

    patient_id: int
    pseudonym: str
    split: str


@dataclass(frozen=True)
class WindowSet:
    """A recording's windows in one geometry, and what is asked for with them again and again."""

    window_set_id: int
    recording_id: int
    recording: str
    split: str
    sex: str
    age_band: str
    lead_slots: tuple[str, ...]
    n_windows: int
    n_rejected: int
    windowed_s: float
    unusable_s: float
    duration_s: float
    start_time: datetime
    simulated: bool

    @property
    def n_beats(self) -> int:
        """Beat indices are 0 ... n_beats - 1."""
        return self.n_windows + self.n_rejected

    def id_range(self, first_beat: int, stop_beat: int) -> tuple[int, int]:
        """Window ids of the beats [first_beat, stop_beat), as [first, stop)."""
        base = self.window_set_id << t.BEAT_BITS
        return base + first_beat, base + stop_beat


@dataclass(frozen=True)
class DataSpan:
    """What a training run sees: TFX's span number and its exact content."""

    span: int
    digest: str
    n_windows: int
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Ingested:
    """What a recording added."""

    recording_id: int
    n_windows: int
    n_rejected: int
    unusable_s: float
    unchanged: bool = False  # it was in already: nothing was added


@dataclass(frozen=True)
class ModelVersion:
    """A pushed model."""

    model_version: int
    model_name: str
    feature_version: str
    feature_spec: Mapping[str, Any]
    threshold: float
    digest: str
    data_span: int
    run_key: str
    card: Mapping[str, Any]
    registered_at: datetime


@dataclass(frozen=True)
class BlockScores:
    """What the model said of a block: float32, bool and int16 (n,)."""

    score: npt.NDArray[np.float32]
    verdict: npt.NDArray[np.bool_]
    lead_slot: npt.NDArray[np.int16]


@dataclass(frozen=True)
class AnomalyFilter:
    """Filters of a listing of anomalies; None does not filter. Times are timezone-aware, end is exclusive."""

    model_version: int
    start: datetime | None = None
    end: datetime | None = None
    recording: str | None = None
    lead: str | None = None
    min_score: float | None = None


def iter_id_ranges(window_set: WindowSet, block_windows: int) -> Iterator[tuple[int, int]]:
    """Cuts a window set into id ranges of at most `block_windows` beats, in order."""
    for first in range(0, window_set.n_beats, block_windows):
        yield window_set.id_range(first, min(first + block_windows, window_set.n_beats))
