"""What people say of beats, as it is sent and answered."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.schemas.common import ModelVersionNumber, NextPageToken, Response, no_nul

Comment = Annotated[str, Field(max_length=2000), AfterValidator(no_nul)]


Cause = Literal[
    "noise", "lead_off", "movement", "baseline_wander", "mains", "saturation", "pacing", "misplaced_r_peak", "ectopy",
    "conduction", "rate", "other",
]  # fmt: skip


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


class Review(Response):
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


class ReviewPage(Response):
    """Reviews and undos, newest first."""

    items: list[Review]
    next_page_token: NextPageToken


class BeatState(Response):
    """What the reviews of a beat come to."""

    window_id: int = Field(examples=[16777228])
    status: str = Field(examples=["confirmed"])
    verdict: str | None = Field(examples=["confirm"])
    label: str | None = Field(examples=["V"])
    cause: str | None
    reviewers: list[str] = Field(description="Whose word counts.", examples=[["ana"]])


class Reviewed(Response):
    """What was added, and what the reviews of each beat now come to."""

    reviews: list[Review]
    states: list[BeatState]


class ReviewCounts(Response):
    """Anomalies of a model version by review status."""

    model_version: ModelVersionNumber
    counts: dict[str, int] = Field(examples=[{"unreviewed": 40, "confirmed": 3}])
