"""Scoring what a caller sends: windows as they are, or a strip cut by the warehouse's own code."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, create_model

from api.deferral import reasons_to_defer
from api.schemas.findings import Parts
from configs import contract
from configs.contract import FeatureSpec
from configs.errors import RequestError, SourceError
from configs.settings import ApiSettings
from serving.model_client import Explanation, ModelClient, Scores
from warehouse.signal.ecg import BeatAnnotations, FloatArray, RecordingHeader, UnusableSpan, Windows
from warehouse.signal.familiarity import familiarity
from warehouse.signal.windows import choose_leads, concatenate, cut_windows
from warehouse.store.window_block import WindowBlock

_UNITS_IN_MV = {"mV": 1.0, "uV": 1e-3, "V": 1e3}
_LARGEST_MV = np.iinfo(np.int16).max * contract.MV_PER_COUNT

Millivolts = Annotated[float, Field(allow_inf_nan=False, ge=-_LARGEST_MV, le=_LARGEST_MV)]
Interval = Annotated[float, Field(allow_inf_nan=False, ge=0, le=60)]


_RR_FIELDS: Any = {name: (Interval, Field(default=0.0, examples=[0.8])) for name in contract.RR_COLUMNS}
#: One field a column of the model's RR context, whatever columns it has.
RawRr: Any = create_model(
    "RawRr",
    __config__=ConfigDict(extra="forbid"),
    __doc__="RR intervals in seconds, and how irregular they are, as GET /windows gives them; 0 or left out: unknown.",
    **_RR_FIELDS,
)


class RawWindow(BaseModel):
    """One beat, cut as the model's geometry says (GET /models: card, or GET /windows for one that is stored)."""

    model_config = ConfigDict(extra="forbid")

    samples_mv: list[list[Millivolts]] = Field(
        min_length=1, max_length=12, description="One list a lead slot, each of the window's length, millivolts."
    )
    lead_usable: list[bool] | None = Field(default=None, max_length=12, description="A slot; all when left out.")
    rr: RawRr = Field(default_factory=RawRr, description="Context of the beat.")
    template_mv: list[list[Millivolts]] | None = Field(
        default=None, max_length=12, description="The patient's own typical beat, as samples_mv; none when left out."
    )
    template_beats: int = Field(default=1, ge=1, le=1000, description="Beats the template was made of.")


class RawStrip(BaseModel):
    """A stretch of raw ECG."""

    model_config = ConfigDict(extra="forbid")

    samples: list[list[Annotated[float, Field(allow_inf_nan=False)] | None]] = Field(
        min_length=1, max_length=32, description="One list a lead, all of the same length; null: no sample."
    )
    sampling_rate_hz: float = Field(ge=25, le=10_000, allow_inf_nan=False, examples=[360.0])
    leads: list[Annotated[str, Field(min_length=1, max_length=50)]] = Field(
        min_length=1, max_length=32, description="Name of each lead.", examples=[["MLII", "V5"]]
    )
    units: Literal["mV", "uV", "V"] = Field(description="Of the samples.", examples=["mV"])
    r_peaks_s: list[Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]] | None = Field(
        default=None,
        max_length=100_000,
        description="R peaks if known, seconds from the start; detected when left out.",
    )


class ScoreRequest(BaseModel):
    """What to score: windows, or a strip."""

    model_config = ConfigDict(extra="forbid")

    windows: list[RawWindow] | None = Field(default=None, min_length=1, description="Beats that are cut already.")
    strip: RawStrip | None = Field(default=None, description="Raw ECG, cut here as at ingest.")
    model_version: int | None = Field(default=None, ge=1, lt=1 << 63, description="The stable one when left out.")
    detail: Literal["full", "scores"] = Field(
        default="full", description="scores: without the error and the expectation of each sample."
    )


class ScoredBeat(BaseModel):
    """What the model says of one beat."""

    r_peak_s: float | None = Field(description="Of a strip: seconds from its start.", examples=[1.42])
    score: float = Field(description="-log10 of the share of normal beats that score as high.", examples=[0.6])
    anomalous: bool = Field(description="The verdict: score at or above the threshold.", examples=[False])
    lead: str | None = Field(
        description="Lead that contributes most; of windows: its slot's number.", examples=["MLII"]
    )
    familiarity: float | None = Field(description="Likeness to the typical beat, 0 to 1; null: none.", examples=[0.98])
    quality: float | None = Field(description="Of a strip: signal quality, 0 to 1.", examples=[0.97])
    needs_human: bool = Field(examples=[False])
    reasons: list[str] = Field(examples=[[]])
    sample_error: list[list[float]] | None = Field(default=None, description="A list a slot, in normal beats' spread.")
    reconstruction_mv: list[list[float]] | None = Field(default=None, description="A list a slot: what was expected.")
    parts: Parts | None = Field(default=None, description="Which part of the model made the score.")


class RejectedBeat(BaseModel):
    """A beat of a strip that could not be scored."""

    r_peak_s: float = Field(examples=[0.1])
    reason: str = Field(examples=["edge"])


class UnusablePart(BaseModel):
    """A part of a strip that could not be used."""

    start_s: float = Field(examples=[0.0])
    end_s: float = Field(examples=[0.2])
    lead: str | None = Field(description="Null: no lead could.")
    reason: str = Field(examples=["edge"])


class ScoreAnswer(BaseModel):
    """What the model says, beat by beat."""

    model_version: int = Field(examples=[1])
    threshold: float = Field(examples=[1.52])
    feature_version: str = Field(examples=["3f2a9c51d0be"])
    sampling_rate_hz: float = Field(description="Of the lists of each beat.", examples=[180.0])
    beats: list[ScoredBeat]
    rejected: list[RejectedBeat] = Field(description="Beats of a strip that could not be scored.")
    unusable: list[UnusablePart] = Field(description="Parts of a strip that could not be used.")


def block_of_windows(windows: Sequence[RawWindow], spec: FeatureSpec) -> WindowBlock:
    """Windows as the warehouse would hold them, in microvolts, so that scores are those a stored beat would have.

    Raises:
        RequestError: a window does not have the geometry's shape.
    """
    blank = [[0.0] * spec.window_samples] * spec.n_leads
    masks = []
    for number, window in enumerate(windows):
        _check_shape(window.samples_mv, spec, f"windows.{number}.samples_mv")
        if window.template_mv is not None:
            _check_shape(window.template_mv, spec, f"windows.{number}.template_mv")
        mask = [True] * spec.n_leads if window.lead_usable is None else window.lead_usable
        if len(mask) != spec.n_leads or not any(mask):
            problem = "names no usable lead" if len(mask) == spec.n_leads else f"has {len(mask)} items"
            raise RequestError(f"windows.{number}.lead_usable", problem, f"Send {spec.n_leads}, one of them true.")
        masks.append(mask)
    n = len(windows)
    usable = np.array(masks, dtype=bool)
    samples = _counts([window.samples_mv for window in windows])
    if not usable.all():
        samples *= usable[:, None, :]
    return WindowBlock(
        window_id=np.arange(n),
        recorded_at_us=np.zeros(n, np.int64),
        r_peak_s=np.full(n, np.nan),
        samples=samples,
        lead_mask=usable,
        rr=np.array([[getattr(w.rr, name) for name in contract.RR_COLUMNS] for w in windows], np.float32),
        template=_counts([window.template_mv or blank for window in windows]),
        template_beats=np.array([0 if w.template_mv is None else w.template_beats for w in windows], np.int16),
        quality=np.full(n, np.nan, np.float32),
        aami_class=np.full(n, b"U"),
    )


def _check_shape(lists: list[list[float]], spec: FeatureSpec, where: str) -> None:
    if len(lists) != spec.n_leads:
        raise RequestError(where, f"has {len(lists)} lists", f"Send {spec.n_leads}, one a lead slot; zeros for none.")
    for values in lists:
        if len(values) != spec.window_samples:
            raise RequestError(
                where,
                f"has a list of {len(values)} values",
                f"Send {spec.window_samples} at {spec.sampling_rate_hz:g} Hz.",
            )


def _counts(windows: list[list[list[float]]]) -> npt.NDArray[np.int16]:
    """A list a lead of each window, millivolts, to int16 (n, window_samples, leads)."""
    counts: npt.NDArray[np.int16] = np.rint(np.array(windows) / contract.MV_PER_COUNT).astype(np.int16)
    return np.ascontiguousarray(counts.transpose(0, 2, 1))


class StripSource:
    """A strip as an open recording; a `warehouse.signal.ecg.SignalSource`.

    Raises:
        RequestError: lists of different lengths, too long, or too few or many names.
    """

    def __init__(self, strip: RawStrip, max_s: float) -> None:
        lengths = {len(values) for values in strip.samples}
        if len(lengths) != 1 or not min(lengths):
            raise RequestError("strip.samples", "has lists of different lengths or none", "Send lists of one length.")
        if len(strip.leads) != len(strip.samples) or len(set(strip.leads)) != len(strip.leads):
            raise RequestError("strip.leads", "does not name each list once", "Send one name a list.")
        (n,) = lengths
        if n / strip.sampling_rate_hz > max_s:
            raise RequestError(
                "strip.samples", f"is longer than {max_s:g} s", "Send a shorter strip, or POST /recordings."
            )
        self._samples = np.array(strip.samples, dtype=np.float64).T * _UNITS_IN_MV[strip.units]
        self._header = RecordingHeader(
            "strip", "request", "strip", "nobody", strip.sampling_rate_hz, tuple(strip.leads), n, "strip"
        )
        self._beats = None
        if strip.r_peaks_s is not None:
            times = np.unique(np.array(strip.r_peaks_s, dtype=np.float64))
            self._beats = BeatAnnotations(times, np.full(len(times), "Q"))

    @property
    def header(self) -> RecordingHeader:
        return self._header

    def read(self, start: int, stop: int) -> FloatArray:
        """See `SignalSource.read`."""
        return self._samples[start:stop].astype(np.float32)

    def annotations(self) -> BeatAnnotations | None:
        return self._beats


def block_of_strip(
    source: StripSource, spec: FeatureSpec, *, block_s: float, detector: str
) -> tuple[WindowBlock, list[str], list[RejectedBeat], list[UnusablePart]]:
    """Cuts a strip as ingest cuts a recording.

    Returns:
        Its windows; the lead in each slot, "" for none; beats that gave no window; and what could not be used.

    Raises:
        RequestError: the model takes windows that are cut elsewhere, or nothing can be cut from this.
    """
    if spec.precut_samples:
        raise RequestError("strip", "cannot be cut for this model", "Send windows.")
    try:
        chunks = list(cut_windows(source, spec, block_s=block_s, detector=detector))
    except SourceError as error:
        raise RequestError("strip", error.problem, error.hint) from error
    windows = concatenate([chunk.windows for chunk in chunks])
    slots = ["" if i is None else source.header.leads[i] for i in choose_leads(source.header.leads, spec)]
    rejected = [
        RejectedBeat(r_peak_s=beat.r_peak_s, reason=str(beat.reason)) for chunk in chunks for beat in chunk.rejected
    ]
    spans: list[UnusableSpan] = [span for chunk in chunks for span in chunk.unusable]
    unusable = [UnusablePart(start_s=s.start_s, end_s=s.end_s, lead=s.lead, reason=str(s.reason)) for s in spans]
    return _block(windows), slots, rejected, unusable


def _block(windows: Windows) -> WindowBlock:
    n = len(windows)
    return WindowBlock(
        window_id=np.arange(n),
        recorded_at_us=np.zeros(n, np.int64),
        r_peak_s=windows.r_peak_s,
        samples=windows.samples,
        lead_mask=windows.lead_mask,
        rr=windows.rr,
        template=windows.template,
        template_beats=windows.template_beats,
        quality=windows.quality,
        aami_class=np.full(n, b"U"),
    )


def score_block(
    client: ModelClient,
    block: WindowBlock,
    slots: Sequence[str],
    threshold: float,
    settings: ApiSettings,
    *,
    full: bool,
) -> list[dict[str, Any]]:
    """Scores a block; see `beats_of`."""
    if not len(block):
        return []
    explanation = client.explain(block.model_inputs()) if full else None
    scores = client.score(block.model_inputs()) if explanation is None else explanation.scores
    return beats_of(block, familiarity(block), slots, threshold, settings, scores, explanation)


def beats_of(
    block: WindowBlock,
    likeness: FloatArray,
    slots: Sequence[str],
    threshold: float,
    settings: ApiSettings,
    scores: Scores,
    explanation: Explanation | None,
) -> list[dict[str, Any]]:
    """What the model says of a block; one plain value (fields of `ScoredBeat`, lists as numpy arrays) a window.

    Args:
        likeness: of each beat to its typical beat: `familiarity` of the block.
    """
    beats = []
    for row in range(len(block)):
        r_peak_s, quality, known = float(block.r_peak_s[row]), float(block.quality[row]), float(likeness[row])
        score = float(scores.score[row])
        alike = None if math.isnan(known) else round(known, 4)
        grade = None if math.isnan(quality) else round(quality, 4)
        reasons = reasons_to_defer(settings, score=score, threshold=threshold, familiarity=alike, quality=grade)
        beat: dict[str, Any] = {
            "r_peak_s": None if math.isnan(r_peak_s) else r_peak_s,
            "score": score,
            "anomalous": bool(scores.verdict[row]),
            "lead": slots[int(scores.lead_slot[row])] or None,
            "familiarity": alike,
            "quality": grade,
            "needs_human": bool(reasons),
            "reasons": reasons,
        }
        if explanation is not None:
            beat["sample_error"] = _lists(explanation.sample_error[row])
            beat["reconstruction_mv"] = _lists(explanation.reconstruction[row])
            beat["parts"] = dict(zip(contract.PART_NAMES, np.round(explanation.parts[row], 4), strict=True))
        beats.append(beat)
    return beats


def _lists(values: FloatArray) -> npt.NDArray[np.float32]:
    """(samples, leads) to a contiguous (leads, samples), to four decimals."""
    return np.ascontiguousarray(np.round(values.T, 4))
