"""What the service answers. Units are in the names; times are UTC."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


def no_nul(value: str) -> str:
    """PostgreSQL's text cannot hold NUL."""
    if "\0" in value:
        raise PydanticCustomError("nul", "holds a NUL character", {"send": "Send text without it."})
    return value


ModelVersionNumber = Annotated[int, Field(description="Version of the model.", examples=[1])]
Slots = Annotated[
    list[str | None], Field(description="Lead in each model input slot; null: empty.", examples=[["MLII", "V1"]])
]
Comment = Annotated[str, Field(max_length=2000), AfterValidator(no_nul)]
Cause = Literal[
    "noise", "lead_off", "movement", "baseline_wander", "mains", "saturation", "pacing", "misplaced_r_peak", "ectopy",
    "conduction", "rate", "other",
]  # fmt: skip
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
    rr_spread: float | None = Field(
        description="Irregularity: median of |log(interval / its rr_median_s)| of the intervals before.",
        examples=[0.02],
    )


class Episode(_Response):
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
    rr: RrContext
    episode: Episode | None = Field(description="The episode it is in; null: not summarised yet.")


class EpisodePage(_Response):
    """Episodes."""

    items: list[Episode]
    next_page_token: NextPageToken
    model_version: ModelVersionNumber


class EpisodeDetail(Episode):
    """An episode with its beats."""

    anomalies: list[Anomaly] = Field(description="Its first 1000 beats, by time.")


class Window(_Response):
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


class LeadSignal(_Response):
    """One lead of a strip or overview; null where there is no sample."""

    lead: str = Field(examples=["MLII"])
    samples_mv: list[float | None] | None = Field(default=None, description="Every sample (kind: samples).")
    min_mv: list[float | None] | None = Field(default=None, description="Least of each step (kind: envelope).")
    max_mv: list[float | None] | None = Field(default=None, description="Greatest of each step (kind: envelope).")


class Signal(_Response):
    """Part of a recording's signal, band-passed, at the model's rate, usable or not."""

    recording_id: int = Field(examples=[1])
    kind: Literal["samples", "envelope"] = Field(description="Every sample, or least and greatest of each step.")
    start_s: float = Field(description="Of the first value, seconds from the recording's start.", examples=[0.0])
    step_s: float = Field(description="From value to value.", examples=[0.005555])
    sampling_rate_hz: float = Field(examples=[180.0])
    leads: list[LeadSignal]


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


class SourceRecording(_Response):
    """A recording that a model version was made from."""

    recording_id: int = Field(description="See GET /recordings/{recording_id}.", examples=[1])
    recording: str = Field(description="Record name.", examples=["100"])
    patient: str = Field(description="The patient's pseudonym.", examples=["9b1c5a0e"])
    checksum: str = Field(description="sha256 of everything the recording was read from.")
    window_set_id: int = Field(description="The windows that were cut from it.", examples=[1])
    split: str = Field(description="train, calibration or test.", examples=["train"])
    windows: int = Field(description="How many of them the run read.", examples=[2200])


class Stage(_Response):
    """A stage of the training pipeline, as ML Metadata has it."""

    stage: str = Field(description="The stage's name.", examples=["Trainer"])
    execution_id: int = Field(description="Its execution in ML Metadata.", examples=[7])
    state: str = Field(description="COMPLETE, or CACHED: an earlier run's outputs were taken.", examples=["COMPLETE"])
    inputs: list[dict[str, Any]] = Field(description="Artifacts it read: key, artifact_id, type, uri.")
    outputs: list[dict[str, Any]] = Field(description="Artifacts it made, or took: likewise.")


class ModelLineage(_Response):
    """What made a model version."""

    model_version: ModelVersionNumber
    registered_at: datetime = Field(description="When it was pushed, UTC.")
    digest: str = Field(description="sha256 of the SavedModel's files.")
    data_span: int = Field(description="Number of the data it was trained on.", examples=[1])
    data_span_digest: str | None = Field(description="Of everything the span holds; null: not recorded.")
    labels: dict[str, Any] | None = Field(
        description="How reviewers' labels were read, and up to which; null: none were."
    )
    feature_version: str = Field(description="Geometry of its windows.", examples=["3f2a9c51d0be"])
    recordings: list[SourceRecording] = Field(description="This site's, in order of ingest.")
    recordings_elsewhere: int = Field(description="Recordings of other sites it was made from.", examples=[0])
    schema_version: int | None = Field(description="Version of the curated data schema; null: not recorded.")
    schema_sha256: str | None = Field(description="sha256 of that schema's file; null: not recorded.")
    code_digest: str | None = Field(description="Of the code that decides what a model is; null: not recorded.")
    git_revision: str | None = Field(description="The checkout's commit, or unknown.")
    configuration: dict[str, Any] = Field(description="Training and evaluation settings.")
    software: dict[str, str] = Field(description="Package to version.")
    training_run: int | None = Field(description="Number of the training run; null: not recorded.")
    trained_at: datetime | None = Field(description="When that run began, UTC.")
    baseline: int | None = Field(description="Version it had to be no worse than; null: there was none.")
    stages: list[Stage] = Field(description="From ML Metadata, in the order they ran; empty: not recorded.")
    releases: list[dict[str, Any]] = Field(description="What it was released as: at, action, operator, reason.")


class Datasheet(_Response):
    """The data sheet of what a model version was made from."""

    model_version: ModelVersionNumber
    datasheet: dict[str, Any] = Field(description="Sections after Gebru et al. 2021, each with its answers.")


class ScoreOrigin(_Response):
    """A score of a beat, and what made it."""

    model_version: ModelVersionNumber
    score: float = Field(description="-log10 of the share of normal beats that score as high.", examples=[2.75])
    anomalous: bool = Field(description="The model's verdict.")
    threshold: float = Field(description="The model's own.", examples=[1.52])
    shadow: bool = Field(description="Scored in shadow: compared, never shown as a verdict.")
    digest: str = Field(description="sha256 of the SavedModel's files.")
    data_span: int = Field(description="Number of the data it was trained on.", examples=[1])
    code_digest: str | None = Field(description="Of the code that made it; null: not recorded.")
    git_revision: str | None = Field(description="The checkout's commit, or unknown.")
    registered_at: datetime = Field(description="When the version was pushed, UTC.")
    patient_seen_in: str | None = Field(
        description="Split in which the version had this patient: train, calibration, test; null: it never saw them."
    )


class ScoreOrigins(_Response):
    """All scores of a beat, newest model version first."""

    window_id: int = Field(examples=[16777228])
    items: list[ScoreOrigin]


class PatientModel(_Response):
    """A model version that saw a patient."""

    model_version: ModelVersionNumber
    split: str = Field(description="train, calibration or test.", examples=["train"])
    recordings: int = Field(description="Recordings of the patient it was made from.", examples=[1])
    windows: int = Field(description="Windows of them.", examples=[2200])
    data_span: int = Field(description="Number of the data it was trained on.", examples=[1])
    registered_at: datetime = Field(description="When it was pushed, UTC.")


class PatientModels(_Response):
    """Model versions that saw a patient, newest first; empty: none did."""

    patient: str = Field(description="The patient's pseudonym.", examples=["9b1c5a0e"])
    items: list[PatientModel]


class ReviewRequest(BaseModel):
    """What somebody says of a beat, or of all beats of an episode. Exactly one of the three ids."""

    model_config = ConfigDict(extra="forbid")

    anomaly_id: str | None = Field(
        default=None, max_length=50, description="`<model_version>-<window_id>`.", examples=["1-16777228"]
    )
    episode: str | None = Field(default=None, max_length=50, description="`<model_version>-<episode_id>`.")
    window_id: int | None = Field(
        default=None, ge=1, lt=1 << 63, description="A beat that was not flagged; see /feedback/sample."
    )
    model_version: int | None = Field(
        default=None,
        ge=1,
        lt=1 << 63,
        description="With window_id: whose result was seen; else the stable one.",
    )
    verdict: Literal["confirm", "reject", "unsure"] = Field(
        description="confirm: anomalous; reject: normal, or no beat; unsure: asks a second reader.",
        examples=["confirm"],
    )
    label: Literal["N", "S", "V", "F", "Q", "artefact"] | None = Field(
        default=None, description="S, V, F, Q with confirm; N, artefact with reject.", examples=["V"]
    )
    cause: Cause | None = Field(default=None, description="Tag of the cause.", examples=["ectopy"])
    comment: Comment | None = Field(default=None, description="In words.", examples=["Wide, early, no P wave."])
    sampled: bool = Field(
        default=False, description="The beat came from /feedback/sample: it counts for the estimate of recall."
    )


class Review(_Response):
    """What somebody said of a beat, or took back. Reviews are only ever added."""

    review_id: int = Field(examples=[12])
    batch_id: int = Field(description="Shared by what was said at once.", examples=[11])
    action: Literal["review", "undo"] = Field(examples=["review"])
    anomaly_id: str = Field(description="`<model_version>-<window_id>`.", examples=["1-16777228"])
    window_id: int = Field(examples=[16777228])
    recording_id: int = Field(examples=[1])
    episode_id: int | None = Field(description="Said of this whole episode; null: of the beat.")
    model_version: ModelVersionNumber
    score: float | None = Field(description="What that model said; null: it has no score.", examples=[2.75])
    reviewer: str = Field(description="Who.", examples=["ana"])
    role: str = Field(examples=["reviewer"])
    verdict: str | None = Field(description="confirm, reject or unsure; null: an undo.", examples=["confirm"])
    label: str | None = Field(examples=["V"])
    cause: str | None = Field(examples=["ectopy"])
    comment: str | None
    sampled: bool = Field(examples=[False])
    supersedes: int | None = Field(description="review_id of the same reviewer's earlier word.")
    undoes: int | None = Field(description="review_id that this takes back.")
    undone_by: int | None = Field(default=None, description="review_id of the undo; null: it stands.")
    created_at: datetime = Field(description="UTC.")


class ReviewPage(_Response):
    """Reviews and undos, newest first."""

    items: list[Review]
    next_page_token: NextPageToken


class BeatState(_Response):
    """What the reviews of a beat come to."""

    window_id: int = Field(examples=[16777228])
    status: str = Field(examples=["confirmed"])
    verdict: str | None = Field(examples=["confirm"])
    label: str | None = Field(examples=["V"])
    cause: str | None
    reviewers: list[str] = Field(description="Whose word counts.", examples=[["ana"]])


class Reviewed(_Response):
    """What was added, and what the reviews of each beat now come to."""

    reviews: list[Review]
    states: list[BeatState]


class ReviewCounts(_Response):
    """Anomalies of a model version by review status."""

    model_version: ModelVersionNumber
    counts: dict[str, int] = Field(examples=[{"unreviewed": 40, "confirmed": 3}])


class Bucket(_Response):
    """Anomalies in one bucket of time."""

    start: datetime = Field(description="UTC.")
    anomalies: int = Field(examples=[12])
    recordings: int = Field(description="With any.", examples=[3])
    max_score: float = Field(examples=[3.2])
    confirmed: int = Field(examples=[2])
    rejected: int = Field(examples=[1])


class Stats(_Response):
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


class Estimate(_Response):
    """A share with its 95 % interval; null when nothing was reviewed."""

    value: float | None = Field(examples=[0.83])
    low: float | None = Field(examples=[0.79])
    high: float | None = Field(examples=[0.87])


class Performance(_Response):
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


class ErrorCount(_Response):
    """Reviewed flagged beats with one value in common."""

    value: str | None = Field(description="Null: none.", examples=["noise"])
    confirmed: int = Field(examples=[2])
    rejected: int = Field(examples=[31])


class ErrorAnalysis(_Response):
    """Where a model version is right and where it errs: reviewed flagged beats, most first."""

    model_version: ModelVersionNumber
    cause: list[ErrorCount]
    label: list[ErrorCount] = Field(description="The reviewers' label, else the reference's.")
    lead: list[ErrorCount]
    recording: list[ErrorCount]
    device: list[ErrorCount]


class ThresholdPreview(_Response):
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


class SampledBeat(_Response):
    """A beat to review."""

    window_id: int = Field(examples=[16777300])
    recording_id: int = Field(examples=[1])
    time: datetime = Field(description="Of the R peak, UTC.")
    score: float = Field(examples=[0.4])


class Sample(_Response):
    """Beats drawn at random of those nobody reviewed: review them with `sampled: true`."""

    model_version: ModelVersionNumber
    items: list[SampledBeat]


class SessionRequest(BaseModel):
    """Signs in a browser."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=8192, description="An API key, or an OIDC token.")


class Session(_Response):
    """Who is signed in."""

    name: str = Field(examples=["ana"])
    role: str = Field(examples=["reviewer"])
    site: str = Field(examples=["main"])
    scopes: list[str] = Field(examples=[["read", "review"]])
    csrf_token: str = Field(description="Send as X-CSRF-Token with POST and DELETE; empty: not needed.")


class Upload(_Response):
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
