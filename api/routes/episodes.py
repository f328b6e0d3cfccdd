"""Episodes: consecutive anomalous beats."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from api.answers import with_fields
from api.deps import Reader, ServicesDep
from api.listings import next_token, recordings_of, stable_of, start_of_page
from api.openapi import answers
from api.queries import EpisodeQuery, parse_anomaly_id
from api.routes.anomalies import anomaly_of, episode_of
from api.schemas.findings import EpisodeDetail, EpisodePage
from configs.errors import NotFoundError
from warehouse.store.records import AnomalyFilter

_OPERATION = "episodes"
_MOST_BEATS = 1000

router = APIRouter(tags=["anomalies"])


@router.get("/episodes", response_model=EpisodePage, responses=answers(404, 422, 503))
def list_episodes(services: ServicesDep, principal: Reader, query: Annotated[EpisodeQuery, Query()]) -> Any:
    """Episodes by time or peak score, with filters and pages as those of /anomalies."""
    query.check_span()
    limit = query.limit(default=services.settings.page_size, largest=services.settings.max_page_size)
    by, after = start_of_page(services, _OPERATION, query)
    recordings = recordings_of(services, principal.site, query)
    rows = services.stores.results.episodes(
        by, site=principal.site, recording=query.recording, recordings=recordings, start=query.start,
        end=query.end, min_score=query.stored_min_score(), sort=query.sort, after=after, limit=limit + 1,
    )  # fmt: skip
    token = None
    if len(rows) > limit:
        last = rows[limit - 1]
        position = {"time": last["start_time"], "score": last["peak_score"], "row_id": last["episode_id"]}
        token = next_token(services, _OPERATION, query, by, position)
    page = EpisodePage(
        items=[episode_of(row) for row in rows[:limit]],
        next_page_token=token,
        model_version=stable_of(by),
    )
    return with_fields(page, query.fields)


@router.get("/episodes/{episode_id}", responses=answers(404, 422, 503))
def get_episode(
    services: ServicesDep,
    principal: Reader,
    episode_id: Annotated[str, Path(description="`<model_version>-<episode_id>`.", examples=["1-16777228"])],
) -> EpisodeDetail:
    """One episode with its beats."""
    model_version, number = parse_anomaly_id(episode_id, "episode_id")
    row = services.stores.results.episode(model_version, number, site=principal.site)
    if row is None:
        raise NotFoundError(f"episode {episode_id}", "does not exist", "GET /episodes lists them.")
    model = services.models.version(model_version)
    where = AnomalyFilter(
        model_version, site=principal.site, episode_id=number, start=row["start_time"],
        recordings=[(row["recording_id"], row["recording"])],
    )  # fmt: skip
    beats = services.stores.results.anomalies(where, limit=_MOST_BEATS)
    return EpisodeDetail(
        **episode_of(row).model_dump(), anomalies=[anomaly_of(services, beat, model) for beat in beats]
    )
