"""Counts, estimates and errors of a model version, as they are answered."""

from datetime import datetime

from pydantic import Field

from api.schemas.common import ModelVersionNumber, Response


class Bucket(Response):
    """Anomalies in one bucket of time."""

    start: datetime = Field(description="UTC.")
    anomalies: int = Field(examples=[12])
    recordings: int = Field(description="With any.", examples=[3])
    max_score: float = Field(examples=[3.2])
    confirmed: int = Field(examples=[2])
    rejected: int = Field(examples=[1])


class Stats(Response):
    """Counts over time, for charts; buckets without anomalies are left out."""

    model_version: ModelVersionNumber
    bucket: str = Field(examples=["day"])
    buckets: list[Bucket]
    recordings: int = Field(description="Summarised, whenever recorded.", examples=[48])
    beats: int = Field(examples=[109_000])
    scored: int = Field(examples=[108_900])
    anomalous: int = Field(examples=[3100])
    episodes: int = Field(examples=[2500])
    burden_percent: float = Field(description="anomalous / scored * 100.", examples=[2.85])
    analysable_s: float = Field(examples=[86_000.0])
    duration_s: float = Field(examples=[86_667.0])
    reviews: dict[str, int] = Field(description="Anomalies by review status.", examples=[{"unreviewed": 40}])


class Estimate(Response):
    """A share with its 95 % interval; null when nothing was reviewed."""

    value: float | None = Field(examples=[0.83])
    low: float | None = Field(examples=[0.79])
    high: float | None = Field(examples=[0.87])


class Performance(Response):
    """How right a model version is, to its reviewers."""

    model_version: ModelVersionNumber
    flagged: int = Field(description="Beats it flagged.", examples=[3100])
    unflagged: int = Field(description="Beats it scored and did not flag.", examples=[105_800])
    confirmed: int = Field(description="Flagged beats reviewed as anomalous.", examples=[250])
    rejected: int = Field(description="Flagged beats reviewed as normal or artefact.", examples=[50])
    missed: int = Field(description="Sampled unflagged beats reviewed as anomalous.", examples=[1])
    passed: int = Field(description="Sampled unflagged beats reviewed as normal.", examples=[199])
    precision: Estimate = Field(description="confirmed / (confirmed + rejected); Wilson interval.")
    recall: Estimate = Field(description="Anomalous beats that were flagged; null without sampled reviews.")


class ErrorCount(Response):
    """Reviewed flagged beats with one value in common."""

    value: str | None = Field(description="Null: none.", examples=["noise"])
    confirmed: int = Field(examples=[2])
    rejected: int = Field(examples=[31])


class ErrorAnalysis(Response):
    """Where a model version is right and where it errs: reviewed flagged beats, most first."""

    model_version: ModelVersionNumber
    cause: list[ErrorCount]
    label: list[ErrorCount] = Field(description="The reviewers' label, else the reference's.")
    lead: list[ErrorCount]
    recording: list[ErrorCount]
    device: list[ErrorCount]


class ThresholdPreview(Response):
    """What another threshold would flag. Nothing is changed by asking."""

    model_version: ModelVersionNumber
    threshold: float = Field(description="Asked for, to 0.01.", examples=[2.0])
    current_threshold: float = Field(examples=[1.52])
    flagged: int = Field(description="Beats at or above it.", examples=[1200])
    scored: int = Field(examples=[108_900])
    flagged_now: int = Field(description="Beats the model flags.", examples=[3100])
    confirmed: int = Field(description="Reviewed as anomalous, of those at or above it.", examples=[200])
    rejected: int = Field(description="Reviewed as normal, of those at or above it.", examples=[20])
    precision: Estimate


class SampledBeat(Response):
    """A beat to review."""

    window_id: int = Field(examples=[16777300])
    recording_id: int = Field(examples=[1])
    time: datetime = Field(description="Of the R peak, UTC.")
    score: float = Field(examples=[0.4])


class Sample(Response):
    """Beats drawn at random of those nobody reviewed: review them with `sampled: true`."""

    model_version: ModelVersionNumber
    items: list[SampledBeat]


class CalibrationBeats(Response):
    """The beats of a recording whose reviews tell most about its own threshold, those that tell most first."""

    model_version: ModelVersionNumber
    recording_id: int = Field(examples=[1])
    reviewed: int = Field(description="Its beats that were called normal or anomalous so far.", examples=[4])
    needed: int = Field(description="From so many on its threshold is taken from them.", examples=[10])
    items: list[SampledBeat] = Field(description="None left: all that could tell were asked about.")
