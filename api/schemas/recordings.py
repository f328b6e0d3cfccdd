"""Recordings, their signal, and uploads of them, as they are answered."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.schemas.common import ModelVersionNumber, NextPageToken, Response, Slots


class LeadSignal(Response):
    """One lead of a strip or overview; null where there is no sample."""

    lead: str = Field(examples=["MLII"])
    samples_mv: list[float | None] | None = Field(default=None, description="Every sample (kind: samples).")
    min_mv: list[float | None] | None = Field(default=None, description="Least of each step (kind: envelope).")
    max_mv: list[float | None] | None = Field(default=None, description="Greatest of each step (kind: envelope).")


class Signal(Response):
    """Part of a recording's signal, band-passed, at the model's rate, usable or not."""

    recording_id: int = Field(examples=[1])
    kind: Literal["samples", "envelope"] = Field(description="Every sample, or least and greatest of each step.")
    start_s: float = Field(description="Of the first value, seconds from the recording's start.", examples=[0.0])
    step_s: float = Field(description="From value to value.", examples=[0.005555])
    sampling_rate_hz: float = Field(examples=[180.0])
    leads: list[LeadSignal]


class Recording(Response):
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


class RecordingPage(Response):
    """Recordings in order of ingest; of each, the current version."""

    items: list[Recording]
    next_page_token: NextPageToken


class WindowSet(Response):
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


class UnusableSpan(Response):
    """A stretch [start_s, end_s) that could not be used."""

    feature_version: str
    start_s: float = Field(description="From the recording's start.", examples=[0.0])
    end_s: float = Field(description="From the recording's start, exclusive.", examples=[0.21])
    lead: str | None = Field(description="Null: no window covers this time. Else only this lead is unusable.")
    reason: str = Field(description="Why.", examples=["edge"])


class RecordingSummary(Response):
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


class Upload(Response):
    """Recordings that were posted, and what became of them."""

    upload_id: str = Field(examples=["0f8e3a52c1d94e6b8a7f00112233aabb"])
    status: Literal["waiting", "ingesting", "done", "failed"] = Field(examples=["done"])
    problem: str | None = Field(description="Why it failed, and what to do; null otherwise.")
    files: list[str] = Field(examples=[["100.hea", "100.dat"]])
    bytes: int = Field(examples=[1_950_000])
    recordings: list[dict[str, Any]] | None = Field(
        description="What is in now: recording_id and name of each.", examples=[[{"recording_id": 1, "name": "100"}]]
    )
    created_at: datetime = Field(description="UTC.")
    finished_at: datetime | None = Field(description="UTC.")
