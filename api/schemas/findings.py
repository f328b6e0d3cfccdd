"""Anomalies, episodes and windows, as they are answered. Units are in the names; times are UTC."""

from datetime import datetime

from pydantic import Field

from api.schemas.common import ModelVersionNumber, NextPageToken, Response, Slots


class Anomaly(Response):
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
    review_status: str = Field(
        description="unreviewed, confirmed, rejected, unsure, conflict or settled.", examples=["unreviewed"]
    )
    review_verdict: str | None = Field(description="confirm or reject; null: open.", examples=[None])
    review_label: str | None = Field(description="The reviewers' class, or artefact; null: none.", examples=[None])
    cause: str | None = Field(description="The reviewers' tag of the cause; null: none.", examples=[None])
    quality: float | None = Field(description="Signal quality, 0 worst to 1 best; null: unknown.", examples=[0.97])
    familiarity: float | None = Field(
        description="Likeness to the patient's own typical beat, 0 to 1; null: unknown.", examples=[0.41]
    )
    needs_human: bool = Field(description="Somebody should look before it is acted on.", examples=[True])
    reasons: list[str] = Field(
        description="Why: near_threshold, unfamiliar, no_typical_beat, poor_signal.", examples=[["unfamiliar"]]
    )


class AnomalyPage(Response):
    """Anomalies by time."""

    items: list[Anomaly]
    next_page_token: NextPageToken
    model_version: ModelVersionNumber


class RrContext(Response):
    """RR intervals around the beat, in seconds; null: unknown."""

    rr_prev_s: float | None = Field(description="From the beat before.", examples=[0.42])
    rr_next_s: float | None = Field(description="To the beat after.", examples=[1.12])
    rr_median_s: float | None = Field(description="Median of the intervals before rr_prev_s.", examples=[0.8])
    rr_p90_s: float | None = Field(description="90th percentile of the intervals before rr_prev_s.", examples=[0.84])
    rr_spread: float | None = Field(
        description="Irregularity: median of |log(interval / its rr_median_s)| of the intervals before.",
        examples=[0.02],
    )


class Parts(Response):
    """Which part of the model made the score: what each adds to the measure that the score ranks; below 0: less than
    in usual beats. Not comparable between model versions."""

    shape: float = Field(description="Unlike normal beats of everybody.", examples=[2.1])
    context: float = Field(description="Unlike this recording's own running template.", examples=[0.8])
    timing: float = Field(description="Early, or followed by a pause, for this rhythm.", examples=[0.0])


class Episode(Response):
    """Consecutive anomalous beats."""

    id: str = Field(description="`<model_version>-<episode_id>`.", examples=["1-16777228"])
    episode_id: int = Field(examples=[16777228])
    recording: str = Field(description="Record name.", examples=["100"])
    recording_id: int = Field(examples=[1])
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
    parts: Parts
    rr: RrContext
    episode: Episode | None = Field(description="The episode it is in; null: not summarised yet.")


class EpisodePage(Response):
    """Episodes."""

    items: list[Episode]
    next_page_token: NextPageToken
    model_version: ModelVersionNumber


class EpisodeDetail(Episode):
    """An episode with its beats."""

    anomalies: list[Anomaly] = Field(description="Its first 1000 beats, by time.")


class Window(Response):
    """One beat as the model sees it, flagged or not. Lists are one a lead slot."""

    window_id: int = Field(examples=[16777228])
    recording_id: int = Field(examples=[1])
    recording: str = Field(examples=["100"])
    time: datetime = Field(description="Of the R peak, UTC.")
    r_peak_s: float = Field(description="R peak, seconds from the recording's start.", examples=[12.36])
    feature_version: str = Field(description="Geometry of the window.", examples=["3f2a9c51d0be"])
    sampling_rate_hz: float = Field(examples=[180.0])
    r_peak_index: int | None = Field(examples=[70])
    leads: Slots
    lead_usable: list[bool] = Field(examples=[[True, True]])
    samples_mv: list[list[float]] = Field(description="The beat, millivolts.")
    template_mv: list[list[float]] | None = Field(
        description="The patient's own typical beat then (running template), millivolts; null: none yet."
    )
    template_beats: int = Field(description="Beats the template was made of.", examples=[20])
    rr: RrContext
    quality: float = Field(examples=[0.97])
    familiarity: float | None = Field(examples=[0.98])
    reference_label: str | None = Field(description="AAMI class of the reference annotation.", examples=["N"])
    model_version: int | None = Field(description="Of score and verdict; null: this version has not scored it.")
    score: float | None = Field(examples=[0.4])
    anomalous: bool | None = Field(examples=[False])
    threshold: float | None = Field(examples=[1.52])
    review_status: str = Field(examples=["unreviewed"])
    review_verdict: str | None
    review_label: str | None
    needs_human: bool = Field(examples=[False])
    reasons: list[str] = Field(examples=[[]])
    previous_window_id: int | None = Field(description="The usable beat before.")
    next_window_id: int | None = Field(description="The usable beat after.")
