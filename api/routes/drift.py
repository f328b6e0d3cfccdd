"""What drift was found in."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from api.answers import in_utc
from api.deps import Reader, ServicesDep
from api.openapi import answers
from api.queries import MAX_ID, Name
from api.schemas.drift import Drift, DriftComparison, DriftComparisonList, DriftFinding
from configs.errors import NotFoundError
from warehouse.store.drift_queries import BY_REFERENCE, BY_SKEW

router = APIRouter(tags=["drift"])


@router.get("/drift", responses=answers(404, 422, 503))
def get_drift(
    services: ServicesDep,
    principal: Reader,
    kind: Annotated[Literal["gradual", "sudden"] | None, Query(description="Only of this kind.")] = None,
    drift: Annotated[
        Literal["input", "prediction", "concept", "skew"] | None, Query(description="Only this drift.")
    ] = None,
    scope: Annotated[Literal["site", "device", "recording"] | None, Query(description="Only of this scope.")] = None,
    lead: Annotated[Name | None, Query(description="Only of this lead.", examples=["MLII"])] = None,
    device: Annotated[Name | None, Query(description="Only what recordings of this device make.")] = None,
    drift_run_id: Annotated[
        int | None, Query(ge=1, le=MAX_ID, description="Of this comparison; the newest when left out.")
    ] = None,
) -> Drift:
    """What has moved since the model was trained, as the newest comparison found it."""
    results = services.stores.results
    runs = results.drift_runs(
        site=principal.site, method=BY_REFERENCE if drift_run_id is None else None, drift_run_id=drift_run_id
    )
    if drift_run_id is not None and not runs:
        raise NotFoundError(f"comparison {drift_run_id}", "does not exist", "GET /drift/comparisons lists them.")
    looked_at = runs if drift_run_id is not None else [*runs, *results.drift_runs(site=principal.site, method=BY_SKEW)]
    wanted = {"kind": kind, "drift": drift, "scope": scope, "lead": lead}
    found = [
        DriftFinding.model_validate(in_utc(row))
        for run in looked_at
        for row in results.drift_findings(run["drift_run_id"])
        if all(value is None or row[name] == value for name, value in wanted.items())
        and (device is None or device in row["devices"])
    ]
    return Drift(comparison=DriftComparison.model_validate(in_utc(runs[0])) if runs else None, items=found)


@router.get("/drift/comparisons", responses=answers(422, 503))
def list_drift_comparisons(
    services: ServicesDep,
    principal: Reader,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
) -> DriftComparisonList:
    """Comparisons of live windows with the reference, newest first: also those that found nothing, or had no data."""
    runs = services.stores.results.drift_runs(site=principal.site, limit=limit)
    return DriftComparisonList(items=[DriftComparison.model_validate(in_utc(run)) for run in runs])
