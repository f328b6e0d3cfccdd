"""Reviews: what people say of beats."""

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Path, Query

from api import reviewing
from api.access import Principal
from api.answers import in_utc, with_fields
from api.audit import ADMIN_REVIEWS
from api.deps import Reader, Reviewer, Services, ServicesDep
from api.listings import model_of, served_by, stable_of
from api.openapi import answers
from api.problems import RefusedError
from api.queries import MAX_ID, ReviewQuery, parse_anomaly_id
from api.schemas.reviews import BeatState, Review, ReviewCounts, Reviewed, ReviewPage, ReviewRequest
from configs.errors import RequestError
from warehouse.store.records import Opinion

_OPERATION = "reviews"

router = APIRouter(tags=["reviews"])


@router.get("/reviews", response_model=ReviewPage, responses=answers(422, 503))
def list_reviews(services: ServicesDep, principal: Reader, query: Annotated[ReviewQuery, Query()]) -> Any:
    """Reviews and undos, newest first. None is ever changed or deleted."""
    limit = query.limit(default=services.settings.page_size, largest=services.settings.max_page_size)
    tokens, filters = services.page_tokens, query.filters()
    before_id = tokens.read(query.page_token, _OPERATION, filters, 1)[0] if query.page_token is not None else None
    rows = services.stores.results.reviews(
        principal.site, window_id=query.window_id, recording_id=query.recording_id, reviewer=query.reviewer,
        start=query.start, end=query.end, before_id=before_id, limit=limit + 1,
    )  # fmt: skip
    last_id = rows[limit - 1]["review_id"] if len(rows) > limit else None
    page = ReviewPage(
        items=[_review(row) for row in rows[:limit]],
        next_page_token=None if last_id is None else tokens.issue(_OPERATION, filters, [last_id]),
    )
    return with_fields(page, query.fields)


@router.get("/reviews/counts", responses=answers(404, 422, 503))
def count_reviews(
    services: ServicesDep,
    principal: Reader,
    model_version: Annotated[
        int | None,
        Query(ge=1, le=MAX_ID, description="Found by; the version that serves each recording when left out."),
    ] = None,
    recording_id: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Of this recording only.")] = None,
) -> ReviewCounts:
    """How many anomalies have each review status."""
    by = served_by(services, model_version)
    counts = services.stores.results.review_counts(by, principal.site, recording_id)
    return ReviewCounts(model_version=stable_of(by), counts=counts)


@router.post("/reviews", status_code=201, responses=answers(404, 413, 422, 503), dependencies=[ADMIN_REVIEWS])
def create_review(
    services: ServicesDep, principal: Reviewer, background: BackgroundTasks, body: ReviewRequest
) -> Reviewed:
    """Says what a beat is, or all beats of an episode. A later word of the same reviewer takes the earlier one's place.

    Two who disagree are in conflict until one gives in, or somebody settles it: a third reviewer, or an admin. What it
    comes to is told the warehouse, where training reads it.
    """
    rows = review(services, principal, body)
    background.add_task(reviewing.deliver, services.stores)
    return _reviewed(services, rows)


@router.post(
    "/reviews/{review_id}/undo", status_code=201, responses=answers(404, 409, 422, 503), dependencies=[ADMIN_REVIEWS]
)
def undo_review(
    services: ServicesDep,
    principal: Reviewer,
    background: BackgroundTasks,
    review_id: Annotated[int, Path(ge=1, le=MAX_ID, examples=[12])],
) -> Reviewed:
    """Takes back one's own review, with all that was said at once; an admin may take back anybody's."""
    rows = undo(services, principal, review_id)
    background.add_task(reviewing.deliver, services.stores)
    return _reviewed(services, rows)


def review(services: Services, principal: Principal, body: ReviewRequest) -> list[dict[str, Any]]:
    """Adds what a request says; returns the new rows.

    Raises:
        NotFoundError: there is no such beat, episode or model version at this site.
        RequestError: not exactly one id, or a label that does not go with the verdict.
    """
    given = [name for name in ("anomaly_id", "episode", "window_id") if getattr(body, name) is not None]
    if len(given) != 1:
        raise RequestError(
            given[1] if given else "anomaly_id",
            "cannot be combined" if given else "is missing",
            "Send exactly one of anomaly_id, episode and window_id.",
        )
    window_id, episode_id = body.window_id, None
    if body.anomaly_id is not None:
        model_version, window_id = parse_anomaly_id(body.anomaly_id)
        services.stores.results.anomaly(model_version, window_id, site=principal.site)
    elif body.episode is not None:
        model_version, episode_id = parse_anomaly_id(body.episode, "episode")
    else:
        model_version = model_of(services, body.model_version).model_version
    opinion = Opinion(
        principal.name, principal.role, model_version, body.verdict, body.label, body.cause, body.comment or None,
        episode_id, body.sampled and body.window_id is not None,
    )  # fmt: skip
    if window_id is None:
        return reviewing.review_episode(services.stores, principal.site, opinion)
    return reviewing.review_beat(services.stores, principal.site, window_id, opinion)


def undo(services: Services, principal: Principal, review_id: int) -> list[dict[str, Any]]:
    """Takes a review back; returns the new rows.

    Raises:
        NotFoundError: there is none at this site.
        RefusedError: 403, it is somebody else's.
        ConflictError: it was taken back already.
    """
    results = services.stores.results
    if results.review(principal.site, review_id)["reviewer"] != principal.name and principal.role != "admin":
        raise RefusedError("forbidden", "This review is somebody else's. Review the beat yourself instead.")
    return results.undo(principal.site, review_id, principal.name, principal.role)


def _reviewed(services: Services, rows: list[dict[str, Any]]) -> Reviewed:
    states = services.stores.results.review_states([row["window_id"] for row in rows])
    return Reviewed(
        reviews=[_review(row) for row in rows],
        states=[
            BeatState(
                window_id=window_id,
                status=state.status,
                verdict=state.verdict,
                label=state.label,
                cause=state.cause,
                reviewers=list(state.reviewers),
            )
            for window_id, state in states.items()
        ],
    )


def _review(row: dict[str, Any]) -> Review:
    return Review.model_validate({**in_utc(row), "anomaly_id": f"{row['model_version']}-{row['window_id']}"})
