"""Answers about drift."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from api.schemas.common import ModelVersionNumber, Response


class DriftComparison(Response):
    """A comparison of the windows that came in lately with the reference of a model version."""

    drift_run_id: int = Field(examples=[1])
    method: Literal["reference", "skew"] = Field(description="skew: TFDV's statistics of the training run.")
    model_version: ModelVersionNumber
    at: datetime = Field(description="UTC.")
    arrived_after: datetime = Field(description="Recordings that came since are live. UTC.")
    status: Literal["compared", "no_data", "no_reference"] = Field(
        description="no_data: no recording came; no_reference: an older release trained the version."
    )
    recordings: int = Field(description="Live ones.", examples=[12])
    windows: int = Field(description="Of them, that were looked at.", examples=[26_000])
    tests: int = Field(description="Questions asked; `adjusted` accounts for all of them.", examples=[1200])
    gaps: dict[str, int] = Field(
        description="What could not be compared, or has a clock that is wrong: reason to how often.",
        examples=[{"too_few_windows": 2, "late": 1}],
    )


class DriftFinding(Response):
    """Something that moved."""

    drift_finding_id: int = Field(examples=[1])
    kind: Literal["gradual", "sudden"] = Field(description="Against the reference, or at a moment.")
    drift: Literal["input", "prediction", "concept", "skew"] = Field(examples=["input"])
    feature: str = Field(examples=["mains"])
    lead: str = Field(description="Empty for features of the whole window.", examples=["MLII"])
    scope: Literal["site", "device", "recording"] = Field(description="What moved together.", examples=["device"])
    subject: str = Field(description="Its name; empty for a device without one.", examples=["holter-7"])
    before: float = Field(description="Mean of the reference, or before the change.", examples=[0.003])
    after: float = Field(description="Mean of live windows, or after the change.", examples=[0.101])
    unit: str = Field(description="Of both; empty for none.", examples=["mV"])
    effect: float = Field(description="The difference in spreads of single windows.", examples=[9.4])
    p_value: float | None = Field(
        description="Of this test alone; null: skew is measured, not tested.", examples=[1e-9]
    )
    adjusted: float | None = Field(
        description="Over all tests of the comparison (Benjamini-Hochberg); null likewise.", examples=[1e-6]
    )
    windows: int = Field(description="Live windows the test saw.", examples=[9000])
    recordings: list[int] = Field(description="recording_id of those that make it, most telling first.", examples=[[1]])
    devices: list[str] = Field(description="Their devices.", examples=[["holter-7"]])
    examples: list[int] = Field(description="window_id, most telling first.", examples=[[16777300]])
    since: datetime | None = Field(description="When it began, UTC; null where that is not known.")
    detail: str = Field(
        description="In words.",
        examples=["mains of MLII: 0.003 to 0.101 mV; 8 recordings against 22 patients of the reference"],
    )


class Drift(Response):
    """The newest comparison with the reference, and what moved: surest first; then training/serving skew."""

    comparison: DriftComparison | None = Field(description="Null: none was made yet.")
    items: list[DriftFinding]


class DriftComparisonList(Response):
    """Comparisons, newest first."""

    items: list[DriftComparison]
