"""What the operations on retraining take and answer. Times are UTC."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.schemas.common import no_nul

Text = Annotated[str, StringConstraints(max_length=2000), AfterValidator(no_nul)]
Labels = Annotated[dict[Text, Text], Field(max_length=64)]


class Alert(BaseModel):
    """One alert of a group; what else Alertmanager sends is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Literal["firing", "resolved"] = Field(examples=["firing"])
    labels: Labels = Field(default_factory=dict, examples=[{"alertname": "EcgDriftGradual"}])
    annotations: Labels = Field(default_factory=dict, examples=[{"summary": "Input drift on device H12"}])


class AlertGroup(BaseModel):
    """Alertmanager's webhook message (version 4)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    group_key: Text = Field(alias="groupKey", min_length=1, description="Names the group.", examples=["{}:{site='a'}"])
    status: Literal["firing", "resolved"] = Field(description="Of the group.", examples=["firing"])
    common_labels: Labels = Field(default_factory=dict, alias="commonLabels", description="What all alerts share.")
    alerts: list[Alert] = Field(max_length=1000, description="Of the group.")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class RetrainingRequest(_Answer):
    """An alert's request for a new version."""

    request_id: int = Field(examples=[1])
    requested_at: datetime = Field(description="When it was first made, UTC.")
    requested_by: str = Field(description="Whose key sent it.", examples=["alertmanager"])
    source: str = Field(examples=["alertmanager"])
    reason: str = Field(examples=["alert EcgDriftGradual"])
    detail: dict[str, Any] = Field(description="Labels and annotations of the alerts.")
    retraining_id: int | None = Field(description="Attempt that took it up; null: open.")


class Requested(_Answer):
    """What came of a webhook message."""

    request: RetrainingRequest | None = Field(description="The open request; null: nothing fires.")
    created: bool = Field(description="False: it was there already, or nothing fires.")


class RetrainingStep(_Answer):
    """A step of an attempt."""

    step: str = Field(description="policy, data, train, evaluate or release.", examples=["evaluate"])
    at: Annotated[datetime, AfterValidator(lambda at: at.astimezone(UTC))] = Field(description="When it ended, UTC.")
    passed: bool = Field(description="Whether the attempt went on.")
    reason: str = Field(description="Why.")
    numbers: dict[str, Any] = Field(description="What that was based on.")


class Retraining(_Answer):
    """An attempt to train a successor of the stable version."""

    retraining_id: int = Field(examples=[1])
    started_at: datetime = Field(description="UTC.")
    finished_at: datetime | None = Field(description="UTC; null: running, or killed.")
    status: str = Field(
        description="running, held, data_refused, unchanged, not_blessed, not_better, in_shadow or failed.",
        examples=["in_shadow"],
    )
    triggers: list[dict[str, Any]] = Field(description="Why: trigger, reason and numbers of each.")
    champion: int = Field(description="Stable version then; what it was compared with.", examples=[1])
    model_version: int | None = Field(description="What was pushed; null: nothing.", examples=[2])
    reason: str | None = Field(description="Why it ended so; null: running, or killed.")
    steps: list[RetrainingStep] = Field(description="As far as it got.")


class RetrainingList(_Answer):
    """Attempts, newest first, and open requests."""

    items: list[Retraining]
    requests: list[RetrainingRequest]
