"""What callers may ask with: query parameters and ids, checked before anything is looked up."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.paging import MAX_TOKEN_LENGTH
from api.schemas.common import no_nul
from configs.errors import RequestError
from warehouse.store.review_state import STATUSES

MAX_ID = (1 << 63) - 1
_ANOMALY_ID = re.compile(r"(\d{1,19})-(\d{1,19})", re.ASCII)
_EXAMPLE_TIME = "2026-01-31T08:15:00Z"


def _parse_moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        send = f"Send ISO 8601, for example {_EXAMPLE_TIME}; in a URL, + is written %2B."
        raise PydanticCustomError("moment", "is not an ISO 8601 time", {"send": send}) from None
    if moment.utcoffset() is None:
        send = f"Say which zone: {_EXAMPLE_TIME} for UTC, or an offset such as %2B01:00 (+ in a URL is %2B)."
        raise PydanticCustomError("moment", "has no time zone", {"send": send})
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("moment", "is out of range", {"send": "Send a time of this era."}) from None


Fields = Annotated[
    str | None,
    Field(
        max_length=1000,
        pattern=r"^[a-z_]+(,[a-z_]+)*$",
        description="Only these fields of each item, with commas between them; all when left out.",
        examples=["id,time,score"],
    ),
]
FieldsOfOne = Annotated[
    str | None,
    Query(
        max_length=1000,
        pattern=r"^[a-z_]+(,[a-z_]+)*$",
        description="Only these fields, with commas between them; all when left out.",
    ),
]
Moment = Annotated[datetime, BeforeValidator(_parse_moment)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(no_nul)]

ModelVersionPath = Annotated[int, Path(ge=1, le=MAX_ID, examples=[1])]


class _Listing(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    page_size: int | None = Field(
        default=None, ge=1, description="Items a page; the service's default when left out.", examples=[100]
    )
    page_token: str | None = Field(
        default=None, max_length=MAX_TOKEN_LENGTH, description="next_page_token of the page before."
    )

    def filters(self) -> Mapping[str, Any]:
        """The filters as given: what a page token belongs to."""
        return self.model_dump(exclude={"page_size", "page_token", "fields"}, exclude_defaults=True)

    def limit(self, *, default: int, largest: int) -> int:
        """Items a page.

        Raises:
            RequestError: more are asked for than the service gives at a time.
        """
        if self.page_size is not None and self.page_size > largest:
            raise RequestError(
                "page_size", f"is above {largest}", f"Send at most {largest}, and follow next_page_token."
            )
        return self.page_size or min(default, largest)


class FindingsQuery(BaseModel):
    """Of what one model version found, in a span of time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Moment | None = Field(
        default=None, description="R peak at or after; ISO 8601 with a zone.", examples=[_EXAMPLE_TIME]
    )
    end: Moment | None = Field(
        default=None, description="R peak before; ISO 8601 with a zone.", examples=["2026-02-01T00:00:00Z"]
    )
    recording: Name | None = Field(default=None, description="Record name.", examples=["100"])
    recording_id: int | None = Field(default=None, ge=1, le=MAX_ID, description="Recording by number.", examples=[1])
    patient: Name | None = Field(default=None, description="Patient's pseudonym.", examples=["9b1c5a0e"])
    min_score: float | None = Field(default=None, allow_inf_nan=False, description="Score at or above.", examples=[2.5])
    model_version: int | None = Field(
        default=None,
        ge=1,
        le=MAX_ID,
        description="Found by; the version that serves each recording when left out.",
        examples=[1],
    )
    sort: Literal["time", "-time", "score", "-score"] = Field(
        default="time", description="By time or score; with - the last, or the highest, first.", examples=["-score"]
    )

    def check_span(self) -> None:
        """Refuses a span that cannot hold anything.

        Raises:
            RequestError: end is not after start.
        """
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise RequestError("end", "is not after start", "Send an end that is after start, or swap them.")

    def stored_min_score(self) -> float | None:
        """min_score as scores are stored, in single precision: a score that was listed is at or above itself."""
        if self.min_score is None:
            return None
        with np.errstate(over="ignore"):
            return float(np.float32(self.min_score))


class AnomalyFilters(FindingsQuery):
    """Filters of anomalies."""

    lead: Name | None = Field(default=None, description="Lead that contributes most.", examples=["MLII"])
    review_status: str | None = Field(
        default=None,
        pattern=f"^({'|'.join(STATUSES)})(,({'|'.join(STATUSES)}))*$",
        max_length=100,
        description=f"One or more of {', '.join(STATUSES)}, with commas between them.",
        examples=["unreviewed,unsure"],
    )
    label: Literal["N", "S", "V", "F", "Q", "U", "artefact"] | None = Field(
        default=None, description="The reviewers' label, else the reference's; U: neither.", examples=["V"]
    )

    def statuses(self) -> list[str] | None:
        return None if self.review_status is None else self.review_status.split(",")


class AnomalyQuery(_Listing, AnomalyFilters):
    """Filters of GET /anomalies; all that are given must hold."""

    fields: Fields = None


class AnomalyExportQuery(AnomalyFilters):
    """Filters of GET /exports/anomalies; all that are given must hold."""

    format: Literal["csv", "parquet"] = Field(default="csv", description="csv or parquet.")


class EpisodeQuery(_Listing, FindingsQuery):
    """Filters of GET /episodes; all that are given must hold."""

    fields: Fields = None


class RecordingQuery(_Listing):
    """Filters of GET /recordings."""

    name: Name | None = Field(default=None, description="Record name.", examples=["100"])
    patient: Name | None = Field(default=None, description="Patient's pseudonym.", examples=["9b1c5a0e"])
    fields: Fields = None


class SignalQuery(BaseModel):
    """Which part of a signal, and how finely."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Moment | None = Field(
        default=None, description="From this time; ISO 8601 with a zone. Or start_s.", examples=[_EXAMPLE_TIME]
    )
    end: Moment | None = Field(
        default=None, description="Before this time; ISO 8601 with a zone. Or end_s.", examples=["2026-01-31T08:15:10Z"]
    )
    start_s: float | None = Field(
        default=None, ge=0, le=1e9, allow_inf_nan=False, description="Seconds from the start.", examples=[0]
    )
    end_s: float | None = Field(
        default=None, gt=0, le=1e9, allow_inf_nan=False, description="Exclusive; the end when left out.", examples=[10]
    )
    max_points: int = Field(
        default=2000, ge=2, le=20000, description="Most values a lead; beyond, least and greatest.", examples=[800]
    )

    def span(self, began: datetime) -> tuple[float, float | None]:
        """Seconds from a recording's start that were asked for; None: to its end.

        Raises:
            RequestError: one end is given twice, or there is nothing between them.
        """
        for name, moment, seconds in (("start", self.start, self.start_s), ("end", self.end, self.end_s)):
            if moment is not None and seconds is not None:
                raise RequestError(name, f"cannot be combined with {name}_s", "Send one of them.")
        start_s = self.start_s or 0.0
        if self.start is not None:
            start_s = max(0.0, (self.start - began).total_seconds())
        end_s = self.end_s
        if self.end is not None:
            end_s = (self.end - began).total_seconds()
        if end_s is not None and end_s <= start_s:
            name, first = ("end_s", "start_s") if self.end is None else ("end", "start")
            raise RequestError(name, f"is not after {first}", f"Send an {name} that is after {first}.")
        return start_s, end_s


class ReviewQuery(_Listing):
    """Filters of GET /reviews."""

    window_id: int | None = Field(default=None, ge=1, le=MAX_ID, description="Of this beat.", examples=[16777228])
    recording_id: int | None = Field(default=None, ge=1, le=MAX_ID, description="Of this recording.", examples=[1])
    reviewer: Name | None = Field(default=None, description="By this person.", examples=["ana"])
    start: Moment | None = Field(default=None, description="Made at or after.", examples=[_EXAMPLE_TIME])
    end: Moment | None = Field(default=None, description="Made before.", examples=["2026-02-01T00:00:00Z"])
    fields: Fields = None


def parse_anomaly_id(text: str, parameter: str = "anomaly_id") -> tuple[int, int]:
    """`<model_version>-<window_id>`, or an episode's id, as two numbers.

    Raises:
        RequestError: it is no such id.
    """
    match = _ANOMALY_ID.fullmatch(text)
    numbers = [int(part) for part in match.groups()] if match else []
    if not numbers or max(numbers) > MAX_ID:
        of = "episode" if parameter.startswith("episode") else "window"
        listing = "/episodes" if of == "episode" else "/anomalies"
        raise RequestError(parameter, f"is not <model_version>-<{of}_id>", f"Send an id as GET {listing} gives it.")
    return numbers[0], numbers[1]
