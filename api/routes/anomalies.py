"""Anomalies: a listing by time, and one with its signal."""

from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Path, Query

from api.deps import Services, ServicesDep
from api.openapi import problem_responses
from api.paging import PageTokens
from api.queries import AnomalyQuery, parse_anomaly_id
from api.schemas import Anomaly, AnomalyDetail, AnomalyPage, Episode, RrContext
from configs.contract import RR_COLUMNS, FeatureSpec
from configs.errors import NotFoundError, RequestError
from serving.model_client import Explanation
from warehouse.signal.ecg import AamiClass
from warehouse.store.binary_copy import to_microseconds
from warehouse.store.records import AnomalyFilter, ModelVersion, Release
from warehouse.store.window_block import WindowBlock, to_datetime

_OPERATION = "anomalies"

router = APIRouter(tags=["anomalies"])


@router.get("/anomalies", responses=problem_responses(404, 422, 503))
def list_anomalies(services: ServicesDep, query: Annotated[AnomalyQuery, Query()]) -> AnomalyPage:
    """Anomalies by time; filters are all optional, and all that are given must hold.

    Pages are stable: while beats are scored, each anomaly that was there at the start is listed exactly once. All
    pages of a listing are of one release of models, also when another is promoted meanwhile. During a canary, a
    recording's anomalies are those of the version that serves it: `id` begins with that version.
    """
    query.check_span()
    limit = query.limit(default=services.settings.page_size, largest=services.settings.max_page_size)
    served_by, after = _start_of_page(services, query)
    where = AnomalyFilter(
        model_version=served_by if isinstance(served_by, int) else served_by.stable,
        release=None if isinstance(served_by, int) else served_by,
        start=query.start,
        end=query.end,
        recording=query.recording,
        lead=query.lead,
        min_score=query.stored_min_score(),
    )
    position = (to_datetime(after[0]), after[1]) if after else None
    rows = services.stores.results.anomalies(where, after=position, limit=limit + 1)
    return AnomalyPage(
        items=[Anomaly(**_item(row, services.models.version(row["model_version"]))) for row in rows[:limit]],
        next_page_token=_next_token(services.page_tokens, query, served_by, rows[limit - 1])
        if len(rows) > limit
        else None,
        model_version=served_by if isinstance(served_by, int) else served_by.stable,
    )


@router.get("/anomalies/{anomaly_id}", responses=problem_responses(404, 422, 503))
def get_anomaly(
    services: ServicesDep,
    anomaly_id: Annotated[str, Path(description="`<model_version>-<window_id>`.", examples=["1-16777228"])],
) -> AnomalyDetail:
    """One anomaly with its signal, what the model expected instead, and how far off each sample is."""
    model_version, window_id = parse_anomaly_id(anomaly_id)
    row = services.stores.results.anomaly(model_version, window_id)
    model = services.models.version(model_version)
    spec = FeatureSpec.model_validate(model.feature_spec)
    block = services.stores.warehouse.read_block(spec, window_id, window_id + 1)
    if len(block) == 0:
        raise NotFoundError(
            f"window of anomaly {anomaly_id}",
            "is no longer in the warehouse",
            "GET /anomalies still lists the anomaly.",
        )
    return AnomalyDetail(
        **_item(row, model),
        **_signal(block, services.models.client(model_version).explain(block.model_inputs())),
        feature_version=model.feature_version,
        sampling_rate_hz=spec.sampling_rate_hz,
        r_peak_index=None if spec.precut_samples else spec.before_samples,
        leads=[lead or None for lead in services.stores.warehouse.lead_slots(window_id)],
        episode=_episode(services, model_version, row["episode_id"]),
    )


def _start_of_page(services: Services, query: AnomalyQuery) -> tuple[int | Release, tuple[int, int] | None]:
    """Whose anomalies are listed, and the last row of the page before: (microseconds since 2000, window_id)."""
    if query.page_token is None:
        if query.model_version is None:
            return services.models.release(), None
        return services.models.version(query.model_version).model_version, None
    served_by, recorded_at_us, window_id = services.page_tokens.read(query.page_token, _OPERATION, query.filters(), 3)
    try:
        to_datetime(recorded_at_us)
    except OverflowError as error:
        raise RequestError("page_token", "points outside of time", "Start again without page_token.") from error
    position = (recorded_at_us, window_id)
    if query.model_version is None:
        return services.stores.results.release(served_by), position
    return services.models.version(served_by).model_version, position


def _next_token(tokens: PageTokens, query: AnomalyQuery, served_by: int | Release, last: Mapping[str, Any]) -> str:
    number = served_by if isinstance(served_by, int) else served_by.release_id
    return tokens.issue(_OPERATION, query.filters(), (number, to_microseconds(last["recorded_at"]), last["window_id"]))


def _item(row: Mapping[str, Any], model: ModelVersion) -> dict[str, Any]:
    return {
        "id": f"{row['model_version']}-{row['window_id']}",
        "recording": row["recording"],
        "recording_id": row["recording_id"],
        "time": row["recorded_at"].astimezone(UTC),
        "r_peak_s": row["r_peak_s"],
        "lead": row["lead"] or None,
        "score": row["score"],
        "threshold": model.threshold,
        "reference_label": None if row["label"] == AamiClass.UNLABELLED else row["label"],
        "episode_id": row["episode_id"],
    }


def _signal(block: WindowBlock, explanation: Explanation) -> dict[str, Any]:
    """The lists of the only window in `block`, one a lead slot."""
    rr = (float(value) or None for value in np.round(block.rr[0].astype(float), 4))
    return {
        "lead_usable": block.lead_mask[0].tolist(),
        "samples_mv": _by_lead(block.samples[0] / 1000.0),  # stored as microvolts
        "reconstruction_mv": _by_lead(explanation.reconstruction[0]),
        "sample_error": _by_lead(explanation.sample_error[0]),
        "rr": RrContext(**dict(zip(RR_COLUMNS, rr, strict=True))),
        "quality": round(float(block.quality[0]), 4),
    }


def _by_lead(values: npt.NDArray[Any]) -> list[list[float]]:
    """(window_samples, leads) to a list a lead, to a tenth of a microvolt."""
    lists: list[list[float]] = np.round(values.T.astype(float), 4).tolist()
    return lists


def _episode(services: Services, model_version: int, episode_id: int | None) -> Episode | None:
    if episode_id is None:
        return None
    row = services.stores.results.episode(model_version, episode_id)
    if row is None:
        return None
    return Episode(
        episode_id=row["episode_id"],
        start=row["start_time"].astimezone(UTC),
        end=row["end_time"].astimezone(UTC),
        start_s=row["start_s"],
        end_s=row["end_s"],
        peak_score=row["peak_score"],
        n_beats=row["n_beats"],
        label=row["label"],
    )
