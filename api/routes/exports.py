"""Exports: tables as CSV and Parquet, an episode as FHIR."""

from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response, StreamingResponse

from api import exports, fhir
from api.answers import in_utc, json_response
from api.audit import EXPORTS
from api.deps import Exporter, ServicesDep
from api.listings import served_by
from api.openapi import answers
from api.queries import AnomalyExportQuery, Moment, parse_anomaly_id
from api.routes.anomalies import anomaly_filter
from configs.contract import FeatureSpec
from configs.errors import NotFoundError
from warehouse.store.records import AnomalyFilter

_CSV, _PARQUET = "text/csv; charset=utf-8", "application/vnd.apache.parquet"
_MARGIN_S = 2.0
_LONGEST_S = 600.0

Format = Annotated[Literal["csv", "parquet"], Query(description="csv or parquet.")]
_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, sent while it is made.",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            _PARQUET: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_FHIR: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "An Observation with SampledData.",
        "content": {fhir.MEDIA_TYPE: {"schema": {"type": "object"}}},
    }
}

router = APIRouter(prefix="/exports", tags=["exports"])


@router.get(
    "/anomalies",
    response_class=StreamingResponse,
    responses={**_FILES, **answers(404, 422, 503)},
    dependencies=[EXPORTS],
)
def export_anomalies(
    services: ServicesDep, principal: Exporter, query: Annotated[AnomalyExportQuery, Query()]
) -> Response:
    """Anomalies with their reviews, by the filters of /anomalies, however many."""
    query.check_span()
    where = anomaly_filter(services, principal.site, query, served_by(services, query.model_version))
    by = "score" if query.sort.endswith("score") else "recorded_at"
    pages = exports.follow(
        lambda after: services.stores.results.anomalies(where, sort=query.sort, after=after, limit=exports.PAGE),
        lambda row: (row[by], row["window_id"]),
    )
    return _file(pages, exports.ANOMALY_COLUMNS, query.format, f"anomalies-{where.model_version}")


@router.get(
    "/reviews", response_class=StreamingResponse, responses={**_FILES, **answers(422, 503)}, dependencies=[EXPORTS]
)
def export_reviews(
    services: ServicesDep,
    principal: Exporter,
    format: Format = "csv",
    start: Annotated[Moment | None, Query(description="Made at or after.")] = None,
    end: Annotated[Moment | None, Query(description="Made before.")] = None,
) -> Response:
    """All reviews and undos, newest first: the trail of who said what, and when."""
    pages = exports.follow(
        lambda before: services.stores.results.reviews(
            principal.site, start=start, end=end, before_id=before, limit=exports.PAGE
        ),
        lambda row: row["review_id"],
    )
    return _file(pages, exports.REVIEW_COLUMNS, format, "reviews")


@router.get(
    "/episodes/{episode_id}/fhir",
    response_class=Response,
    responses={**_FHIR, **answers(404, 422, 503)},
    dependencies=[EXPORTS],
)
def export_episode_as_fhir(
    services: ServicesDep,
    principal: Exporter,
    episode_id: Annotated[str, Path(description="`<model_version>-<episode_id>`.", examples=["1-16777228"])],
    version: Annotated[Literal["R4", "R5"], Query(description="Of FHIR.")] = "R4",
) -> Response:
    """An episode as a FHIR Observation: its signal as SampledData, with two seconds around, ten minutes at most."""
    model_version, number = parse_anomaly_id(episode_id, "episode_id")
    episode = services.stores.results.episode(model_version, number, site=principal.site)
    if episode is None:
        raise NotFoundError(f"episode {episode_id}", "does not exist", "GET /episodes lists them.")
    model = services.models.version(model_version)
    warehouse = services.stores.warehouse
    recording = in_utc(warehouse.recording(episode["recording_id"], site=principal.site))
    window_set = warehouse.window_set_of(episode["recording_id"], model.feature_version, site=principal.site)
    start_s = max(0.0, episode["start_s"] - _MARGIN_S)
    end_s = min(episode["end_s"] + _MARGIN_S, start_s + _LONGEST_S)
    strip = warehouse.strip(window_set, FeatureSpec.model_validate(model.feature_spec), start_s, end_s)
    where = AnomalyFilter(
        model_version, site=principal.site, episode_id=number, start=episode["start_time"],
        recordings=[(episode["recording_id"], episode["recording"])],
    )  # fmt: skip
    beats = services.stores.results.anomalies(where, limit=exports.PAGE)
    statuses = Counter(row["review_status"] for row in beats)
    answer = json_response(fhir.observation(version, episode, recording, strip, model, statuses))
    answer.headers["Content-Type"] = f"{fhir.MEDIA_TYPE}; fhirVersion={fhir.VERSIONS[version]}"
    return answer


def _file(pages: exports.Pages, columns: Any, kind: str, name: str) -> Response:
    make, media = (exports.as_csv, _CSV) if kind == "csv" else (exports.as_parquet, _PARQUET)
    disposition = f'attachment; filename="{name}.{kind}"'
    parts = _started(make(pages, columns))
    return StreamingResponse(parts, media_type=media, headers={"Content-Disposition": disposition})


def _started(parts: Any) -> Any:
    """The same parts, the first made already: what fails at once is answered as a problem, not as half a file."""
    first = next(parts, b"")
    second = next(parts, b"")

    def rest() -> Any:
        yield first + second
        yield from parts

    return rest()
