"""A recording as the page looks at it: header, geometry, and what one model version found."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from api.deps import Services
from api.ui.signal import FloatArray, Signal, window_start
from api.ui.strip import Beat, Explained
from api.ui.timeline import Beats, Envelope, Span
from configs.contract import MV_PER_COUNT, PART_NAMES, FeatureSpec
from configs.errors import ModelUnavailableError, NotFoundError
from warehouse.store.binary_copy import to_microseconds
from warehouse.store.records import ModelVersion, WindowSet
from warehouse.store.tables import BEAT_BITS, MAX_BEATS
from warehouse.store.window_block import WindowBlock

KEPT_RECORDINGS: Final = 8
TYPICAL_BEATS: Final = 60
MODEL_WAIT_S: Final = 0.3  # a strip without what the model expected is better than none
LONGEST_PIECED_S: Final = 300.0


@dataclass(frozen=True)
class Opened:
    """A recording with its beats.

    Attributes:
        row: its header, and the patient's pseudonym, sex and age band.
        window_set: how it was cut for `model`; windows: the same, as its queries take it.
        summary: what `model` found; None while it is not scored.
    """

    row: Mapping[str, Any]
    window_set: Mapping[str, Any]
    windows: WindowSet
    spec: FeatureSpec
    model: ModelVersion
    summary: Mapping[str, Any] | None
    beats: Beats

    @property
    def recording_id(self) -> int:
        return int(self.row["recording_id"])

    @property
    def duration_s(self) -> float:
        return float(self.row["duration_s"])

    @property
    def leads(self) -> list[str | None]:
        return [lead or None for lead in self.window_set["lead_slots"]]

    @property
    def spans(self) -> list[Span]:
        """What could not be used, of this geometry."""
        return [
            Span(span["start_s"], span["end_s"], span["reason"], span["lead"])
            for span in self.row["unusable_spans"]
            if span["feature_version"] == self.model.feature_version
        ]

    def moment(self, time_s: float) -> datetime:
        """Clock time (UTC) of a moment of the recording."""
        start: datetime = self.row["start_time"]
        return start.astimezone(UTC) + timedelta(seconds=time_s)


class BeatCache:
    """The beats of the recordings looked at last: zooming asks for the same ones again and again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._beats: OrderedDict[tuple[int, int, object], Beats] = OrderedDict()
        self._typical: OrderedDict[tuple[int, int, object], FloatArray] = OrderedDict()

    def beats(self, services: Services, model_version: int, window_set: Mapping[str, Any], state: object) -> Beats:
        key = (model_version, int(window_set["window_set_id"]), state)
        with self._lock:
            found = self._beats.get(key)
        if found is None:
            found = _read_beats(services, model_version, window_set)
            self._keep(self._beats, key, found)
        return found

    def typical(self, services: Services, opened: Opened) -> FloatArray:
        """The patient's usual beat: median of up to 60 beats that were not flagged, spread over the recording.

        Returns:
            float32 (window_samples, slots), millivolts; NaN where there is none.
        """
        state = opened.summary["updated_at"] if opened.summary else None
        key = (opened.model.model_version, int(opened.window_set["window_set_id"]), state)
        with self._lock:
            found = self._typical.get(key)
        if found is None:
            found = _typical_beat(services, opened)
            self._keep(self._typical, key, found)
        return found

    def _keep(self, cache: OrderedDict[Any, Any], key: object, value: object) -> None:
        with self._lock:
            cache[key] = value
            while len(cache) > KEPT_RECORDINGS:
                cache.popitem(last=False)


def open_recording(
    services: Services, cache: BeatCache, recording_id: int, site: str, model_version: int | None = None
) -> Opened:
    """Opens a recording as a model version sees it; as the one that serves it when None.

    Raises:
        NotFoundError: there is no such recording at this site, or it was not cut for this model.
        ModelUnavailableError: no model was ever pushed.
    """
    row = services.stores.warehouse.recording(recording_id, site=site)
    model = services.models.serving(row["name"]) if model_version is None else services.models.version(model_version)
    window_set = next((s for s in row["window_sets"] if s["feature_version"] == model.feature_version), None)
    if window_set is None:
        raise NotFoundError(
            f"recording {row['name']}",
            f"was not cut for model version {model.model_version}",
            "Ingest it again with this version's features.",
        )
    summary = next(iter(services.stores.results.summaries([recording_id], model.model_version)), None)
    state = summary["updated_at"] if summary else None
    beats = cache.beats(services, model.model_version, window_set, state)
    beats = Beats(beats.window_id, beats.time_s - _start_s(row["start_time"]), beats.score, beats.flagged)
    windows = services.stores.warehouse.window_set_of(recording_id, model.feature_version, site=site)
    return Opened(row, window_set, windows, FeatureSpec.model_validate(model.feature_spec), model, summary, beats)


def _start_s(start_time: datetime) -> float:
    return to_microseconds(start_time) / 1e6


def _read_beats(services: Services, model_version: int, window_set: Mapping[str, Any]) -> Beats:
    """All windows of a set with their scores; times in seconds since 2000."""
    first = int(window_set["window_set_id"]) << BEAT_BITS
    scores = services.stores.results.beat_scores(model_version, first, first + MAX_BEATS)
    if len(scores["window_id"]) == window_set["n_windows"]:
        ids, moments, score, flagged = (scores[k] for k in ("window_id", "recorded_at", "score", "verdict"))
    else:  # some are not scored yet
        times = services.stores.warehouse.beat_times(first, first + MAX_BEATS)
        ids, moments = times["window_id"], times["recorded_at"]
        score, flagged = np.full(len(ids), np.nan, np.float32), np.zeros(len(ids), np.bool_)
        known, at, of = np.intersect1d(ids, scores["window_id"], assume_unique=True, return_indices=True)
        if len(known):
            score[at], flagged[at] = scores["score"][of], scores["verdict"][of]
    return Beats(ids, moments / 1e6, score, flagged)


def _typical_beat(services: Services, opened: Opened) -> FloatArray:
    beats = opened.beats
    usual = beats.window_id[~beats.flagged]
    if len(usual) == 0:
        usual = beats.window_id
    chosen = usual[np.unique(np.linspace(0, len(usual) - 1, TYPICAL_BEATS).astype(int))] if len(usual) else usual
    block = services.stores.warehouse.read_windows(opened.spec, chosen.tolist())
    mv = block.samples.astype(np.float32) * np.float32(MV_PER_COUNT)
    typical = np.full(mv.shape[1:], np.nan, dtype=np.float32)
    for slot in range(mv.shape[2]):
        if block.lead_mask[:, slot].any():
            typical[:, slot] = np.median(mv[block.lead_mask[:, slot], :, slot], axis=0)
    return typical


def read_stretch(services: Services, opened: Opened, start_s: float, end_s: float) -> tuple[Signal, WindowBlock]:
    """The signal of [start_s, end_s), and the windows that reach into it."""
    times = opened.beats.time_s
    reach = opened.spec.window_samples / opened.spec.sampling_rate_hz
    low, high = np.searchsorted(times, [start_s - reach, end_s + reach]).tolist()
    ids = opened.beats.window_id[low:high]
    first, stop = (int(ids[0]), int(ids[-1]) + 1) if len(ids) else (0, 0)
    block = services.stores.warehouse.read_block(opened.spec, first, stop, well_formed=True)
    strip = services.stores.warehouse.strip(opened.windows, opened.spec, start_s, end_s)
    mv = np.full((len(strip.samples_mv), opened.spec.n_leads), np.nan, dtype=np.float32)
    mv[:, [slot for slot, lead in enumerate(opened.leads) if lead]] = strip.samples_mv
    return Signal(strip.first_sample / strip.sampling_rate_hz, strip.sampling_rate_hz, mv), block


def read_envelope(services: Services, opened: Opened, start_s: float, end_s: float, max_points: int) -> Envelope | None:
    """The first lead of [start_s, end_s), at most `max_points` moments of it.

    None where it would have to be pieced together from more than a few minutes of windows: recordings that came in
    before the signal itself was kept.
    """
    warehouse, leads = services.stores.warehouse, [lead for lead in opened.leads if lead]
    stored = bool(warehouse.has_signal([opened.windows.window_set_id]))
    if not leads or (not stored and end_s - start_s > LONGEST_PIECED_S):
        return None
    found = warehouse.overview(opened.windows, opened.spec, start_s, end_s, max_points)
    time_s = found.start_s + np.arange(len(found.low_mv)) * found.step_s
    return Envelope(leads[0], time_s, found.low_mv[:, 0], found.high_mv[:, 0])


def beats_between(opened: Opened, start_s: float, end_s: float, target_id: int | None = None) -> list[Beat]:
    """The beats of [start_s, end_s), to be drawn; flagged ones link to their page."""
    beats = opened.beats
    low, high = np.searchsorted(beats.time_s, [start_s, end_s]).tolist()
    found = []
    for i in range(low, high):
        window_id, score = int(beats.window_id[i]), float(beats.score[i])
        found.append(
            Beat(
                float(beats.time_s[i]), None if np.isnan(score) else score, bool(beats.flagged[i]),
                target=window_id == target_id, href=f"/ui/anomalies/{opened.model.model_version}-{window_id}",
            )
        )  # fmt: skip
    return found


def explain(services: Services, opened: Opened, block: WindowBlock, window_id: int) -> Explained | None:
    """What the model expected in one window of `block`; None while the model cannot answer."""
    at = np.flatnonzero(block.window_id == window_id)
    if len(at) == 0:
        return None
    one = block.select(block.window_id == window_id)
    try:
        client = services.models.client(opened.model.model_version, wait_s=MODEL_WAIT_S)
        explanation = client.explain(one.model_inputs())
    except ModelUnavailableError:
        return None
    start = window_start(one, 0, opened.spec) / opened.spec.sampling_rate_hz
    usable = one.lead_mask[0]
    reconstruction = np.where(usable, explanation.reconstruction[0], np.nan).astype(np.float32)
    error = np.where(usable, explanation.sample_error[0], 0.0).astype(np.float32)
    parts = dict(zip(PART_NAMES, explanation.parts[0].tolist(), strict=True))
    return Explained(start, reconstruction, error, parts)
