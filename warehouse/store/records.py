"""What travels between the two databases and the code that uses them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
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
    site: str = t.DEFAULT_SITE


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
    site: str = t.DEFAULT_SITE
    device: str = ""

    @property
    def n_beats(self) -> int:
        """Beat indices are 0 ... n_beats - 1."""
        return self.n_windows + self.n_rejected

    def id_range(self, first_beat: int, stop_beat: int) -> tuple[int, int]:
        """Window ids of the beats [first_beat, stop_beat), as [first, stop)."""
        base = self.window_set_id << t.BEAT_BITS
        return base + first_beat, base + stop_beat


@dataclass(frozen=True)
class SpanChoice:
    """Which windows a training run is to see, where that is not all.

    Attributes:
        ranges: window_set_id to ranges [first, stop) of its beats; window sets that are not named are left out.
        words: how it was chosen, for people.
    """

    ranges: Mapping[int, Sequence[tuple[int, int]]]
    words: str


@dataclass(frozen=True)
class DataSpan:
    """What a training run sees: TFX's span number and its exact content."""

    span: int
    digest: str
    n_windows: int
    content: Mapping[str, Any]

    def share(self, split: str) -> int:
        """Beats of each recording of a split that are read, where `max_windows` limits them; 0: all."""
        n_sets = sum(entry["split"] == split for entry in self.content["window_sets"])
        limit = int(self.content["max_windows"])
        return -(-limit // n_sets) if limit and n_sets else 0


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
    datasheet: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Release:
    """A row of the log of releases: what was done, and which version serves what since then.

    This is the one place that answers which version serves a recording (`version_for`).

    Attributes:
        follows: the release before it.
        operator: who.
        action: promote, rollback, shadow, canary, stop, prune or hold (an automatic decision not to promote).
        model_version: what it was about.
        reason: why.
        numbers: what an automatic decision was based on.
        stable: serves all recordings but those of the canary.
        previous: what a rollback returns to.
        canary, canary_percent: serves this share of the recordings.
        shadow: scores all recordings, apart.
    """

    release_id: int
    follows: int
    at: datetime
    operator: str
    action: str
    model_version: int | None
    reason: str
    numbers: Mapping[str, Any] | None
    stable: int
    previous: int | None
    canary: int | None
    canary_percent: float | None
    shadow: int | None

    @property
    def versions(self) -> tuple[int, ...]:
        """Versions that are asked for: stable first, the one to roll back to last."""
        named = (self.stable, self.canary, self.shadow, self.previous)
        return tuple(dict.fromkeys(version for version in named if version is not None))

    @property
    def canary_buckets(self) -> int:
        """How many of the 10,000 buckets that recordings fall into are the canary's."""
        return round((self.canary_percent or 0.0) * 100)

    def in_canary(self, recording: str) -> bool:
        """Whether the canary serves a recording: by a hash of its name and the canary, so that it never flips."""
        if self.canary is None:
            return False
        digest = hashlib.md5(f"{self.canary} {recording}".encode(), usedforsecurity=False).digest()
        return int.from_bytes(digest[:3], "big") % 10_000 < self.canary_buckets

    def version_for(self, recording: str) -> int:
        """The version that serves a recording."""
        return self.canary if self.canary is not None and self.in_canary(recording) else self.stable


@dataclass(frozen=True)
class BlockScores:
    """What the model said of a block: float32, bool and int16 (n,)."""

    score: npt.NDArray[np.float32]
    verdict: npt.NDArray[np.bool_]
    lead_slot: npt.NDArray[np.int16]


@dataclass(frozen=True)
class AnomalyFilter:
    """Filters of a listing of anomalies; None does not filter. Times are timezone-aware, end is exclusive.

    Attributes:
        recordings: (recording_id, name) of each that may be in it; none at all finds nothing.
        label: what is known of the beat: the reviewers' label, else the reference class.
        release: when it is given, anomalies are those of the version that serves their recording, instead of
            `model_version`'s.
    """

    model_version: int
    start: datetime | None = None
    end: datetime | None = None
    recording: str | None = None
    lead: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    site: str | None = None
    recordings: Sequence[tuple[int, str]] | None = None
    review_status: Sequence[str] | None = None
    label: str | None = None
    episode_id: int | None = None
    release: Release | None = None


@dataclass(frozen=True)
class Beat:
    """A beat that is reviewed, and what a model version said of it; score and verdict are None when it has none."""

    window_id: int
    recording_id: int
    score: float | None = None
    flagged: bool | None = None


@dataclass(frozen=True)
class Opinion:
    """What somebody says of one or more beats at once.

    Attributes:
        reviewer: who, as signed in; role: their role.
        verdict, label, cause: of `warehouse.store.review_state`; label and cause may be None.
        episode_id: when it is said of a whole episode.
        sampled: the beats came from the random sample of unflagged beats.
    """

    reviewer: str
    role: str
    model_version: int
    verdict: str
    label: str | None = None
    cause: str | None = None
    comment: str | None = None
    episode_id: int | None = None
    sampled: bool = False


@dataclass(frozen=True)
class LabelUse:
    """How reviewers' labels are used in training.

    Attributes:
        policy: add (where there is no reference label), replace (reference labels too), exclude (reviewed windows are
            left out). Artefacts are left out in any case.
        until: labels with a larger label_id came later, and do not count.
    """

    policy: str
    until: int


def iter_id_ranges(window_set: WindowSet, block_windows: int) -> Iterator[tuple[int, int]]:
    """Cuts a window set into id ranges of at most `block_windows` beats, in order."""
    return blocks_of(window_set, 0, window_set.n_beats, block_windows)


def blocks_of(window_set: WindowSet, first_beat: int, stop_beat: int, block_windows: int) -> Iterator[tuple[int, int]]:
    """The same of its beats [first_beat, stop_beat) alone."""
    for first in range(first_beat, stop_beat, block_windows):
        yield window_set.id_range(first, min(first + block_windows, stop_beat))
