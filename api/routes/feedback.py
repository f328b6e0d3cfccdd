"""What reviews say of a model, and which beats to review next."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.answers import utc
from api.deps import Reader, Reviewer, ServicesDep
from api.estimates import precision_of, recall_of
from api.listings import model_of
from api.openapi import answers
from api.queries import MAX_ID
from api.schemas.statistics import (
    CalibrationBeats,
    ErrorAnalysis,
    Performance,
    Sample,
    SampledBeat,
    ThresholdPreview,
)
from warehouse.signal.reviewed_threshold import LEAST_REVIEWS
from warehouse.summaries import beats_for_threshold

ModelVersion = Annotated[int | None, Query(ge=1, le=MAX_ID, description="The stable one when left out.", examples=[1])]

router = APIRouter(prefix="/feedback", tags=["feedback"])


@router.get("/performance", responses=answers(404, 422, 503))
def get_performance(services: ServicesDep, principal: Reader, model_version: ModelVersion = None) -> Performance:
    """Live precision from reviews of flagged beats, and recall with its interval from a random sample of the others.

    Precision is of the beats that were reviewed, in whatever order they were; recall needs reviews of
    /feedback/sample.
    """
    version = model_of(services, model_version).model_version
    judged = services.stores.results.judged(version, principal.site)
    return Performance(
        model_version=version,
        **vars(judged),
        precision=precision_of(judged.confirmed, judged.rejected),
        recall=recall_of(judged),
    )


@router.get("/errors", responses=answers(404, 422, 503))
def get_error_analysis(services: ServicesDep, principal: Reader, model_version: ModelVersion = None) -> ErrorAnalysis:
    """Reviewed flagged beats by cause, class, lead, recording and device: where the model errs."""
    version = model_of(services, model_version).model_version
    counts = services.stores.results.error_counts(version, principal.site)
    return ErrorAnalysis.model_validate({"model_version": version, **counts})


@router.get("/threshold", responses=answers(404, 422, 503))
def preview_threshold(
    services: ServicesDep,
    principal: Reader,
    threshold: Annotated[
        float, Query(ge=0, le=10, allow_inf_nan=False, description="Score to flag from.", examples=[2.0])
    ],
    model_version: ModelVersion = None,
) -> ThresholdPreview:
    """How many beats another threshold would flag, and with what precision on the reviewed ones. Changes nothing."""
    model = model_of(services, model_version)
    wanted = round(threshold, 2)
    would = services.stores.results.would_flag(model.model_version, principal.site, wanted)
    now = services.stores.results.site_totals(model.model_version, principal.site)
    return ThresholdPreview(
        model_version=model.model_version,
        threshold=wanted,
        current_threshold=model.threshold,
        flagged_now=now["anomalous"],
        precision=precision_of(would["confirmed"], would["rejected"]),
        **would,
    )


@router.get("/sample", responses=answers(404, 422, 503))
def sample_beats(
    services: ServicesDep,
    principal: Reviewer,
    n: Annotated[int, Query(ge=1, le=200, description="Beats at most.", examples=[20])] = 20,
    flagged: Annotated[bool, Query(description="Of flagged beats instead of unflagged ones.")] = False,
    seed: Annotated[
        int | None, Query(ge=0, le=MAX_ID, description="The same seed draws the same beats, while nothing changes.")
    ] = None,
    model_version: ModelVersion = None,
) -> Sample:
    """Beats drawn at random of those nobody reviewed, each as likely: review them with `sampled: true`."""
    version = model_of(services, model_version).model_version
    chosen = seed if seed is not None else int(services.clock().timestamp() * 1e6)
    rows = services.stores.results.random_beats(version, principal.site, n, flagged=flagged, seed=chosen)
    return Sample(
        model_version=version,
        items=[_beat(row) for row in rows],
    )


@router.get("/calibration", responses=answers(404, 422, 503))
def beats_to_calibrate(
    services: ServicesDep,
    principal: Reviewer,
    recording_id: Annotated[int, Query(ge=1, le=MAX_ID, description="Whose threshold.", examples=[1])],
    n: Annotated[int, Query(ge=1, le=20, description="Beats at most; the next depend on these.", examples=[1])] = 1,
    model_version: ModelVersion = None,
) -> CalibrationBeats:
    """Beats of a recording to review so that its own threshold is right. They are no random sample.

    `scoring.thresholds: recording` takes thresholds from these reviews: `python -m pipelines.score --recalibrate`.
    """
    model, stores = model_of(services, model_version), services.stores
    window_set = stores.warehouse.window_set_of(recording_id, model.feature_version, site=principal.site)
    window_ids, reviewed = beats_for_threshold(stores.results, model, window_set, n)
    rows = [stores.results.score_of(model.model_version, window_id) for window_id in window_ids]
    return CalibrationBeats(
        model_version=model.model_version,
        recording_id=recording_id,
        reviewed=reviewed,
        needed=LEAST_REVIEWS,
        items=[_beat(row) for row in rows if row is not None],
    )


def _beat(row: Mapping[str, Any]) -> SampledBeat:
    return SampledBeat(
        window_id=row["window_id"],
        recording_id=row["recording_id"],
        time=utc(row["recorded_at"]),
        score=row["score"],
    )
