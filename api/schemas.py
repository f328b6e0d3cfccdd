"""What the service answers. Units are in the names; times are UTC."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ModelVersionNumber = Annotated[int, Field(description="Version of the model.", examples=[1])]
Slots = Annotated[
    list[str | None], Field(description="Lead in each model input slot; null: empty.", examples=[["MLII", "V1"]])
]
NextPageToken = Annotated[
    str | None,
    Field(description="Send as page_token, with the same filters, for the next page; null: this is the last."),
]


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class Anomaly(_Response):
    """A beat that the model flags for review."""

    id: str = Field(description="`<model_version>-<window_id>`.", examples=["1-16777228"])
    recording: str = Field(description="Record name.", examples=["100"])
    recording_id: int = Field(description="See GET /recordings/{recording_id}.", examples=[1])
    time: datetime = Field(description="Of the R peak, UTC.", examples=["2026-01-31T08:15:02.360000Z"])
    r_peak_s: float = Field(description="R peak, seconds from the recording's start.", examples=[12.36])
    lead: str | None = Field(description="Lead that contributes most; null: unknown.", examples=["MLII"])
    score: float = Field(description="-log10 of the share of normal beats that score as high.", examples=[2.75])
    threshold: float = Field(description="The model's own: a beat is flagged at and above it.", examples=[1.52])
    reference_label: str | None = Field(
        description="AAMI class of the reference annotation: N, S, V, F or Q; null: unlabelled.", examples=["V"]
    )
    episode_id: int | None = Field(
        description="Beats of one episode share it; null: the recording is not summarised yet.", examples=[16777228]
    )


class AnomalyPage(_Response):
    """Anomalies by time."""

    items: list[Anomaly]
    next_page_token: NextPageToken
    model_version: ModelVersionNumber


class RrContext(_Response):
    """RR intervals around the beat, in seconds; null: unknown."""

    rr_prev_s: float | None = Field(description="From the beat before.", examples=[0.42])
    rr_next_s: float | None = Field(description="To the beat after.", examples=[1.12])
    rr_median_s: float | None = Field(description="Median of the intervals before rr_prev_s.", examples=[0.8])
    rr_p90_s: float | None = Field(description="90th percentile of the intervals before rr_prev_s.", examples=[0.84])


class Episode(_Response):
    """Consecutive anomalous beats."""

    episode_id: int = Field(examples=[16777228])
    start: datetime = Field(description="First R peak, UTC.")
    end: datetime = Field(description="Last R peak, UTC.")
    start_s: float = Field(description="First R peak, seconds from the recording's start.", examples=[12.36])
    end_s: float = Field(description="Last R peak, seconds from the recording's start.", examples=[14.02])
    peak_score: float = Field(description="Highest score in it.", examples=[3.1])
    n_beats: int = Field(description="Anomalous beats in it.", examples=[3])
    label: str | None = Field(description="What a reviewer said; null: not reviewed.")


class AnomalyDetail(Anomaly):
    """An anomaly, with the signal it was found in and what the model expected there instead.

    `samples_mv`, `reconstruction_mv` and `sample_error` are one list a lead slot, each of the same length.
    """

    feature_version: str = Field(description="Geometry of the window.", examples=["3f2a9c51d0be"])
    sampling_rate_hz: float = Field(description="Of the lists below.", examples=[180.0])
    r_peak_index: int | None = Field(
        description="The R peak's index in the lists; null: windows cut elsewhere.", examples=[70]
    )
    leads: Slots
    lead_usable: list[bool] = Field(
        description="A slot: there, and usable throughout the window.", examples=[[True, True]]
    )
    samples_mv: list[list[float]] = Field(description="The beat, millivolts; 0 where a slot is not usable.")
    reconstruction_mv: list[list[float]] = Field(description="What the model expected, millivolts.")
    sample_error: list[list[float]] = Field(description="How far off, in units of normal beats' spread.")
    rr: RrContext
    quality: float = Field(description="Signal quality, 0 worst to 1 best.", examples=[0.97])
    episode: Episode | None = Field(description="The episode it is in; null: not summarised yet.")


class Recording(_Response):
    """A recording's header. Patients are pseudonyms."""

    recording_id: int = Field(examples=[1])
    name: str = Field(description="Record name.", examples=["100"])
    pseudonym: str = Field(description="Patient: keyed hash of the source's patient id.", examples=["9b1c…"])
    sex: str = Field(description="female, male or unknown.", examples=["male"])
    age_band: str = Field(description="0-17, 18-39, 40-64, 65-79, 80+ or unknown.", examples=["65-79"])
    split: str = Field(description="train, calibration or test: the patient's, fixed.", examples=["test"])
    source_format: str = Field(description="wfdb, edf, csv, ucr or simulated.", examples=["wfdb"])
    device: str = Field(description="As the source says, or empty.", examples=[""])
    version: int = Field(description="1, 2, ... of the same source.", examples=[1])
    start_time: datetime = Field(description="UTC; the time of ingest when the source does not say.")
    start_time_known: bool = Field(description="False: start_time is the time of ingest.")
    sampling_rate_hz: float = Field(description="Of the source.", examples=[360.0])
    leads: list[str] = Field(description="Leads of the source, in order.", examples=[["MLII", "V5"]])
    duration_s: float = Field(description="Length in seconds.", examples=[1805.56])
    annotated: bool = Field(description="Reference beat annotations were read.")
    simulated: bool = Field(description="Made by the simulator, no patient's.")
    ingested_at: datetime = Field(description="UTC.")


class RecordingPage(_Response):
    """Recordings in order of ingest; of each, the current version."""

    items: list[Recording]
    next_page_token: NextPageToken


class WindowSet(_Response):
    """The windows of a recording in one geometry."""

    window_set_id: int
    feature_version: str = Field(description="Geometry.", examples=["3f2a9c51d0be"])
    lead_slots: Slots
    r_peak_source: str = Field(description="annotations, precut, or the detector's name.", examples=["annotations"])
    n_windows: int = Field(description="Usable windows.", examples=[2271])
    n_rejected: int = Field(description="Beats that gave no window.", examples=[2])
    windowed_s: float = Field(description="Seconds that windows account for.", examples=[1804.9])
    unusable_s: float = Field(description="Seconds that none does.", examples=[0.66])
    suspect_inverted: list[str] = Field(description="Leads that look upside down.")


class UnusableSpan(_Response):
    """A stretch [start_s, end_s) that could not be used."""

    feature_version: str
    start_s: float = Field(description="From the recording's start.", examples=[0.0])
    end_s: float = Field(description="From the recording's start, exclusive.", examples=[0.21])
    lead: str | None = Field(description="Null: no window covers this time. Else only this lead is unusable.")
    reason: str = Field(description="Why.", examples=["edge"])


class RecordingSummary(_Response):
    """What one model version found in a recording."""

    model_version: ModelVersionNumber
    beats: int = Field(description="Windows and rejected beats.", examples=[2273])
    scored: int = Field(description="Windows with a score.", examples=[2271])
    failed: int = Field(description="Windows the model could not score.", examples=[0])
    unusable: int = Field(description="Rejected beats.", examples=[2])
    anomalous: int = Field(description="Beats at or above the threshold.", examples=[40])
    episodes: int = Field(examples=[31])
    burden_percent: float = Field(description="anomalous / scored * 100.", examples=[1.76])
    analysable_s: float = Field(description="Seconds that windows account for.", examples=[1804.9])
    duration_s: float = Field(description="Length of the recording.", examples=[1805.56])
    mean_heart_rate_bpm: float | None = Field(description="From the known RR intervals; null: none.", examples=[75.5])
    updated_at: datetime = Field(description="UTC.")


class RecordingDetail(Recording):
    """A recording, how it was cut, what could not be used, and what was found."""

    checksum: str = Field(description="sha256 of everything it was read from.")
    superseded_by: int | None = Field(description="recording_id of its next version; null: this is the current one.")
    window_sets: list[WindowSet]
    unusable_spans: list[UnusableSpan]
    summaries: list[RecordingSummary] = Field(description="Newest model version first.")


class Model(_Response):
    """A pushed model version."""

    model_version: ModelVersionNumber
    name: str = Field(description="Served name.", examples=["ecg_autoencoder"])
    feature_version: str = Field(description="Geometry it takes.", examples=["3f2a9c51d0be"])
    threshold: float = Field(description="Score at and above which a beat is anomalous.", examples=[1.52])
    data_span: int = Field(description="Number of the data it was trained on.", examples=[1])
    digest: str = Field(description="sha256 of the SavedModel's files.")
    registered_at: datetime = Field(description="When it was pushed, UTC.")
    card: dict[str, Any] = Field(description="Model card: lineage, configuration, metrics, limits.")


class ModelList(_Response):
    """Pushed model versions, newest first."""

    items: list[Model]


class PartState(_Response):
    """State of one thing the service needs."""

    state: Literal["ok", "missing"]
    problem: str | None = Field(default=None, description="What is wrong with it.")
    model_version: int | None = Field(default=None, description="Of the model: the version that answers.")


class Live(_Response):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(_Response):
    """Everything the service needs is there."""

    status: Literal["ready"] = "ready"
    parts: dict[str, PartState] = Field(description="warehouse, results and model.")


class ParameterProblem(_Response):
    """What is wrong with one parameter."""

    parameter: str = Field(examples=["min_score"])
    problem: str = Field(examples=["is not a number"])
    send: str = Field(description="What to send instead.", examples=["Send a number, for example 2.5."])


class Problem(_Response):
    """Problem details, RFC 9457 (application/problem+json)."""

    type: str = Field(description="Which problem; stable.", examples=["urn:ecg:problem:invalid-request"])
    title: str = Field(description="The same for every problem of this type.", examples=["Invalid request"])
    status: int = Field(description="HTTP status.", examples=[422])
    detail: str = Field(
        description="What is wrong this time, and what to do.",
        examples=["min_score: is not a number. Send a number, for example 2.5."],
    )
    instance: str = Field(description="Path that was asked for.", examples=["/anomalies"])
    request_id: str = Field(description="Also in the X-Request-ID header and in the log.")
    errors: list[ParameterProblem] | None = Field(default=None, description="Each parameter that is wrong (422).")
    parts: dict[str, PartState] | None = Field(default=None, description="State of each part (not ready).")
