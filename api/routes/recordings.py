"""Recordings: a listing by id, one with how it was cut and what was found in it, and its signal."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from api.answers import in_utc, json_response, with_fields
from api.audit import READS_STRIP
from api.deps import Reader, Services, ServicesDep
from api.openapi import answers
from api.queries import MAX_ID, FieldsOfOne, RecordingQuery, SignalQuery
from api.schemas.recordings import (
    Recording,
    RecordingDetail,
    RecordingPage,
    RecordingSummary,
    Signal,
    UnusableSpan,
    WindowSet,
)
from configs.contract import FeatureSpec
from configs.errors import NotFoundError
from warehouse.store.records import WindowSet as StoredWindowSet

_OPERATION = "recordings"
RecordingId = Annotated[int, Path(ge=1, le=MAX_ID, examples=[1])]

router = APIRouter(tags=["recordings"])


@router.get("/recordings", response_model=RecordingPage, responses=answers(422, 503))
def list_recordings(services: ServicesDep, principal: Reader, query: Annotated[RecordingQuery, Query()]) -> Any:
    """Recordings in order of ingest; of a recording that was ingested again with other content, the newest version."""
    limit = query.limit(default=services.settings.page_size, largest=services.settings.max_page_size)
    tokens, filters = services.page_tokens, query.filters()
    after_id = tokens.read(query.page_token, _OPERATION, filters, 1)[0] if query.page_token is not None else 0
    rows = services.stores.warehouse.recordings(
        after_id=after_id, limit=limit + 1, name=query.name, site=principal.site, pseudonym=query.patient
    )
    last_id = rows[limit - 1]["recording_id"] if len(rows) > limit else None
    page = RecordingPage(
        items=[Recording.model_validate(in_utc(row)) for row in rows[:limit]],
        next_page_token=None if last_id is None else tokens.issue(_OPERATION, filters, [last_id]),
    )
    return with_fields(page, query.fields)


@router.get("/recordings/{recording_id}", response_model=RecordingDetail, responses=answers(404, 422, 503))
def get_recording(
    services: ServicesDep, principal: Reader, recording_id: RecordingId, fields: FieldsOfOne = None
) -> Any:
    """One recording: header, window sets, unusable stretches, and a summary a model version."""
    row = in_utc(services.stores.warehouse.recording(recording_id, site=principal.site))
    summaries = services.stores.results.summaries([recording_id])
    found = RecordingDetail.model_validate(
        {
            **row,
            "window_sets": [_window_set(found) for found in row["window_sets"]],
            "unusable_spans": [UnusableSpan.model_validate(found) for found in row["unusable_spans"]],
            "summaries": [RecordingSummary.model_validate(in_utc(found)) for found in summaries],
        }
    )
    return with_fields(found, fields)


@router.get(
    "/recordings/{recording_id}/signal",
    response_model=Signal,
    responses=answers(404, 422, 503),
    dependencies=[READS_STRIP],
)
def get_signal(
    services: ServicesDep, principal: Reader, recording_id: RecordingId, query: Annotated[SignalQuery, Query()]
) -> Response:
    """Part of a recording's signal: every sample where they fit in `max_points`, else least and greatest a step.

    It is band-passed and at the model's rate, without gaps where beats could not be used; null where the recording has
    no sample.
    """
    warehouse = services.stores.warehouse
    began: datetime = warehouse.recording(recording_id, site=principal.site)["start_time"]
    from_s, to_s = query.span(began)
    window_set, spec = newest_window_set(services, recording_id, principal.site)
    end_s = window_set.duration_s if to_s is None else min(window_set.duration_s, to_s)
    if (end_s - from_s) * spec.sampling_rate_hz <= query.max_points:
        strip = warehouse.strip(window_set, spec, from_s, end_s)
        step_s, start_s = 1 / spec.sampling_rate_hz, strip.first_sample / spec.sampling_rate_hz
        leads = [{"lead": lead, "samples_mv": _rounded(strip.samples_mv[:, i])} for i, lead in enumerate(strip.leads)]
        kind = "samples"
    else:
        found = warehouse.overview(window_set, spec, from_s, end_s, query.max_points)
        step_s, start_s, kind = found.step_s, found.start_s, "envelope"
        leads = [
            {"lead": lead, "min_mv": _rounded(found.low_mv[:, i]), "max_mv": _rounded(found.high_mv[:, i])}
            for i, lead in enumerate(found.leads)
        ]
    return json_response(
        {
            "recording_id": recording_id,
            "kind": kind,
            "start_s": start_s,
            "step_s": step_s,
            "sampling_rate_hz": spec.sampling_rate_hz,
            "leads": leads,
        }
    )


def newest_window_set(services: Services, recording_id: int, site: str) -> tuple[StoredWindowSet, FeatureSpec]:
    """The window set of a recording that was cut last, and its geometry.

    Raises:
        NotFoundError: there is no such recording at this site.
    """
    sets = services.stores.warehouse.recording(recording_id, site=site)["window_sets"]
    if not sets:
        raise NotFoundError(f"recording {recording_id}", "has no windows", "Ingest it again.")
    version = max(sets, key=lambda one: one["window_set_id"])["feature_version"]
    window_set = services.stores.warehouse.window_set_of(recording_id, version, site=site)
    return window_set, services.stores.warehouse.feature_spec(version)


def _rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """To the microvolt, as stored."""
    return np.ascontiguousarray(np.round(values, 3))


def _window_set(row: Mapping[str, Any]) -> WindowSet:
    return WindowSet.model_validate({**row, "lead_slots": [lead or None for lead in row["lead_slots"]]})
