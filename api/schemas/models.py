"""Model versions and what they were made of, as they are answered. Times are UTC."""

from datetime import datetime
from typing import Any

from pydantic import Field

from api.schemas.common import ModelVersionNumber, Response


class Model(Response):
    """A pushed model version."""

    model_version: ModelVersionNumber
    name: str = Field(description="Served name.", examples=["ecg_autoencoder"])
    feature_version: str = Field(description="Geometry it takes.", examples=["3f2a9c51d0be"])
    threshold: float = Field(description="Score at and above which a beat is anomalous.", examples=[1.52])
    data_span: int = Field(description="Number of the data it was trained on.", examples=[1])
    digest: str = Field(description="sha256 of the SavedModel's files.")
    registered_at: datetime = Field(description="When it was pushed, UTC.")
    card: dict[str, Any] = Field(description="Model card: lineage, configuration, metrics, limits.")


class ModelList(Response):
    """Pushed model versions, newest first."""

    items: list[Model]


class SourceRecording(Response):
    """A recording that a model version was made from."""

    recording_id: int = Field(description="See GET /recordings/{recording_id}.", examples=[1])
    recording: str = Field(description="Record name.", examples=["100"])
    patient: str = Field(description="The patient's pseudonym.", examples=["9b1c5a0e"])
    checksum: str = Field(description="sha256 of everything the recording was read from.")
    window_set_id: int = Field(description="The windows that were cut from it.", examples=[1])
    split: str = Field(description="train, calibration or test.", examples=["train"])
    windows: int = Field(description="How many of them the run read.", examples=[2200])


class Stage(Response):
    """A stage of the training pipeline, as ML Metadata has it."""

    stage: str = Field(description="The stage's name.", examples=["Trainer"])
    execution_id: int = Field(description="Its execution in ML Metadata.", examples=[7])
    state: str = Field(description="COMPLETE, or CACHED: an earlier run's outputs were taken.", examples=["COMPLETE"])
    inputs: list[dict[str, Any]] = Field(description="Artifacts it read: key, artifact_id, type, uri.")
    outputs: list[dict[str, Any]] = Field(description="Artifacts it made, or took: likewise.")


class ModelLineage(Response):
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


class Datasheet(Response):
    """The data sheet of what a model version was made from."""

    model_version: ModelVersionNumber
    datasheet: dict[str, Any] = Field(description="Sections after Gebru et al. 2021, each with its answers.")


class ScoreOrigin(Response):
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


class ScoreOrigins(Response):
    """All scores of a beat, newest model version first."""

    window_id: int = Field(examples=[16777228])
    items: list[ScoreOrigin]


class PatientModel(Response):
    """A model version that saw a patient."""

    model_version: ModelVersionNumber
    split: str = Field(description="train, calibration or test.", examples=["train"])
    recordings: int = Field(description="Recordings of the patient it was made from.", examples=[1])
    windows: int = Field(description="Windows of them.", examples=[2200])
    data_span: int = Field(description="Number of the data it was trained on.", examples=[1])
    registered_at: datetime = Field(description="When it was pushed, UTC.")


class PatientModels(Response):
    """Model versions that saw a patient, newest first; empty: none did."""

    patient: str = Field(description="The patient's pseudonym.", examples=["9b1c5a0e"])
    items: list[PatientModel]
