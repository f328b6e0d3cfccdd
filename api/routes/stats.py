"""Counts for charts."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from api.answers import in_utc
from api.deps import Reader, ServicesDep
from api.listings import served_by, stable_of
from api.openapi import answers
from api.queries import MAX_ID, Moment, Name
from api.schemas.statistics import Bucket, Stats
from configs.errors import RequestError

_SECONDS = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_419_200}
_MOST_BUCKETS = 5000

router = APIRouter(tags=["stats"])


@router.get("/stats", responses=answers(404, 422, 503))
def get_stats(
    services: ServicesDep,
    principal: Reader,
    start: Annotated[Moment, Query(description="R peak at or after.", examples=["2026-01-01T00:00:00Z"])],
    end: Annotated[Moment, Query(description="R peak before.", examples=["2026-02-01T00:00:00Z"])],
    bucket: Annotated[Literal["minute", "hour", "day", "week", "month"], Query(description="In UTC.")] = "day",
    patient: Annotated[Name | None, Query(description="Only this patient's: a pseudonym.")] = None,
    recording_id: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Only this recording's.")] = None,
    model_version: Annotated[
        int | None, Query(ge=1, le=MAX_ID, description="What it found; of those that serve when left out.")
    ] = None,
) -> Stats:
    """Anomalies over time, and totals of all that was scored.

    During a canary, a recording counts with what the version that serves it found, as in GET /anomalies.
    """
    if end <= start:
        raise RequestError("end", "is not after start", "Send an end that is after start, or swap them.")
    if (end - start).total_seconds() / _SECONDS[bucket] > _MOST_BUCKETS:
        raise RequestError("bucket", f"gives more than {_MOST_BUCKETS}", "Send a wider bucket, or a shorter span.")
    by, results = served_by(services, model_version), services.stores.results
    chosen = None
    if patient is not None or recording_id is not None:
        named = services.stores.warehouse.named_recordings(principal.site, recording_id=recording_id, pseudonym=patient)
        chosen = [number for number, _ in named]
    buckets = results.buckets(by, principal.site, start, end, bucket, chosen)
    totals = results.site_totals(by, principal.site)
    return Stats(
        model_version=stable_of(by),
        bucket=bucket,
        buckets=[Bucket.model_validate(in_utc(row)) for row in buckets],
        burden_percent=100.0 * totals["anomalous"] / totals["scored"] if totals["scored"] else 0.0,
        reviews=results.review_counts(by, principal.site),
        **totals,
    )
