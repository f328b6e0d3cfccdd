"""Anomalies: a listing by time or score, and one with its signal."""

from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Path, Query

from api.answers import with_fields
from api.audit import READS_STRIP
from api.deferral import reasons_to_defer
from api.deps import Reader, Services, ServicesDep
from api.listings import ServedBy, next_token, recordings_of, stable_of, start_of_page
from api.openapi import answers
from api.queries import AnomalyFilters, AnomalyQuery, FieldsOfOne, parse_anomaly_id
from api.schemas.findings import Anomaly, AnomalyDetail, AnomalyPage, Episode, Parts, RrContext
from configs.contract import PART_NAMES, RR_COLUMNS, FeatureSpec
from configs.errors import NotFoundError
from serving.model_client import Explanation
from warehouse.signal.ecg import AamiClass
from warehouse.store.records import AnomalyFilter, ModelVersion
from warehouse.store.window_block import WindowBlock

_OPERATION = "anomalies"

router = APIRouter(tags=["anomalies"])


@router.get("/anomalies", response_model=AnomalyPage, responses=answers(404, 422, 503))
def list_anomalies(services: ServicesDep, principal: Reader, query: Annotated[AnomalyQuery, Query()]) -> Any:
    """Anomalies by time or score; filters are all optional, and all that are given must hold.

    Pages are stable: while beats are scored, each anomaly that was there at the start is listed exactly once. All
    pages of a listing are of one release of models, also when another is promoted meanwhile. During a canary, a
    recording's anomalies are those of the version that serves it: `id` begins with that version.
    """
    query.check_span()
    limit = query.limit(default=services.settings.page_size, largest=services.settings.max_page_size)
    by, after = start_of_page(services, _OPERATION, query)
    where = anomaly_filter(services, principal.site, query, by)
    rows = services.stores.results.anomalies(where, sort=query.sort, after=after, limit=limit + 1)
    token = None
    if len(rows) > limit:
        last = rows[limit - 1]
        position = {"time": last["recorded_at"], "score": last["score"], "row_id": last["window_id"]}
        token = next_token(services, _OPERATION, query, by, position)
    page = AnomalyPage(
        items=[anomaly_of(services, row, services.models.version(row["model_version"])) for row in rows[:limit]],
        next_page_token=token,
        model_version=where.model_version,
    )
    return with_fields(page, query.fields)


@router.get(
    "/anomalies/{anomaly_id}",
    response_model=AnomalyDetail,
    responses=answers(404, 422, 503),
    dependencies=[READS_STRIP],
)
def get_anomaly(
    services: ServicesDep,
    principal: Reader,
    anomaly_id: Annotated[
        str, Path(description="`<model_version>-<window_id>`.", max_length=50, examples=["1-16777228"])
    ],
    fields: FieldsOfOne = None,
) -> Any:
    """One anomaly with its signal, what the model expected instead, and how far off each sample is."""
    model_version, window_id = parse_anomaly_id(anomaly_id)
    row = services.stores.results.anomaly(model_version, window_id, site=principal.site)
    model = services.models.version(model_version)
    spec = FeatureSpec.model_validate(model.feature_spec)
    block = services.stores.warehouse.read_block(spec, window_id, window_id + 1)
    if len(block) == 0:
        raise NotFoundError(
            f"window of anomaly {anomaly_id}",
            "is no longer in the warehouse",
            "GET /anomalies still lists the anomaly.",
        )
    item = anomaly_of(services, row, model).model_dump()
    found = AnomalyDetail(
        **{**item, "quality": round(float(block.quality[0]), 4)},
        **_signal(block, services.models.client(model_version).explain(block.model_inputs())),
        feature_version=model.feature_version,
        sampling_rate_hz=spec.sampling_rate_hz,
        r_peak_index=None if spec.precut_samples else spec.before_samples,
        leads=[lead or None for lead in services.stores.warehouse.lead_slots(window_id)],
        episode=_episode(services, model_version, row["episode_id"]),
    )
    return with_fields(found, fields)


def anomaly_filter(services: Services, site: str, query: AnomalyFilters, by: ServedBy) -> AnomalyFilter:
    """The rows a query is about."""
    return AnomalyFilter(
        model_version=stable_of(by),
        release=None if isinstance(by, int) else by,
        site=site,
        start=query.start,
        end=query.end,
        recording=query.recording,
        recordings=recordings_of(services, site, query),
        lead=query.lead,
        min_score=query.stored_min_score(),
        review_status=query.statuses(),
        label=query.label,
    )


def anomaly_of(services: Services, row: Mapping[str, Any], model: ModelVersion) -> Anomaly:
    """A row of `ResultQueries.anomalies` as it is answered."""
    known = row["quality"] is not None
    threshold = model.threshold if row["threshold"] is None else row["threshold"]
    reasons = reasons_to_defer(
        services.settings, score=row["score"], threshold=threshold, familiarity=row["familiarity"],
        quality=row["quality"], known=known,
    )  # fmt: skip
    return Anomaly.model_construct(
        id=f"{row['model_version']}-{row['window_id']}",
        recording=row["recording"],
        recording_id=row["recording_id"],
        time=row["recorded_at"].astimezone(UTC),
        r_peak_s=row["r_peak_s"],
        lead=row["lead"] or None,
        score=row["score"],
        threshold=threshold,
        reference_label=None if row["label"] == AamiClass.UNLABELLED else row["label"],
        episode_id=row["episode_id"],
        review_status=row["review_status"],
        review_verdict=row["verdict"],
        review_label=row["review_label"],
        cause=row["cause"],
        quality=row["quality"],
        familiarity=row["familiarity"],
        needs_human=bool(reasons),
        reasons=reasons,
    )


def episode_of(row: Mapping[str, Any]) -> Episode:
    """A row of `ResultQueries.episodes` as it is answered."""
    return Episode(
        id=f"{row['model_version']}-{row['episode_id']}",
        episode_id=row["episode_id"],
        recording=row["recording"],
        recording_id=row["recording_id"],
        start=row["start_time"].astimezone(UTC),
        end=row["end_time"].astimezone(UTC),
        start_s=row["start_s"],
        end_s=row["end_s"],
        peak_score=row["peak_score"],
        n_beats=row["n_beats"],
        label=row["label"],
    )


def rr_of(block: WindowBlock) -> RrContext:
    """RR intervals of the only window in `block`."""
    rr = (float(value) or None for value in np.round(block.rr[0].astype(float), 4))
    return RrContext(**dict(zip(RR_COLUMNS, rr, strict=True)))


def parts_of(explanation: Explanation, row: int) -> Parts:
    """What each part of the model adds, of one window."""
    return Parts(**dict(zip(PART_NAMES, np.round(explanation.parts[row].astype(float), 4).tolist(), strict=True)))


def by_lead(values: npt.NDArray[Any]) -> list[list[float]]:
    """(window_samples, leads) to a list a lead, to a tenth of a microvolt."""
    lists: list[list[float]] = np.round(values.T.astype(float), 4).tolist()
    return lists


def _signal(block: WindowBlock, explanation: Explanation) -> dict[str, Any]:
    """The lists of the only window in `block`, one a lead slot."""
    return {
        "lead_usable": block.lead_mask[0].tolist(),
        "samples_mv": by_lead(block.samples[0] / 1000.0),  # stored as microvolts
        "reconstruction_mv": by_lead(explanation.reconstruction[0]),
        "sample_error": by_lead(explanation.sample_error[0]),
        "parts": parts_of(explanation, 0),
        "rr": rr_of(block),
    }


def _episode(services: Services, model_version: int, episode_id: int | None) -> Episode | None:
    if episode_id is None:
        return None
    row = services.stores.results.episode(model_version, episode_id)
    return None if row is None else episode_of(row)
