"""Recordings: a listing by id, and one with how it was cut and what was found in it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from api.deps import ServicesDep
from api.openapi import problem_responses
from api.queries import MAX_ID, RecordingQuery
from api.schemas import Recording, RecordingDetail, RecordingPage, RecordingSummary, UnusableSpan, WindowSet

_OPERATION = "recordings"

router = APIRouter(tags=["recordings"])


@router.get("/recordings", responses=problem_responses(422, 503))
def list_recordings(services: ServicesDep, query: Annotated[RecordingQuery, Query()]) -> RecordingPage:
    """Recordings in order of ingest; of a recording that was ingested again with other content, the newest version."""
    limit = query.limit(default=services.settings.page_size, largest=services.settings.max_page_size)
    tokens, filters = services.page_tokens, query.filters()
    after_id = tokens.read(query.page_token, _OPERATION, filters, 1)[0] if query.page_token is not None else 0
    rows = services.stores.warehouse.recordings(after_id=after_id, limit=limit + 1, name=query.name)
    last_id = rows[limit - 1]["recording_id"] if len(rows) > limit else None
    return RecordingPage(
        items=[Recording.model_validate(_in_utc(row)) for row in rows[:limit]],
        next_page_token=None if last_id is None else tokens.issue(_OPERATION, filters, [last_id]),
    )


@router.get("/recordings/{recording_id}", responses=problem_responses(404, 422, 503))
def get_recording(
    services: ServicesDep, recording_id: Annotated[int, Path(ge=1, le=MAX_ID, examples=[1])]
) -> RecordingDetail:
    """One recording: header, window sets, unusable stretches, and a summary a model version."""
    row = _in_utc(services.stores.warehouse.recording(recording_id))
    summaries = services.stores.results.summaries(recording_id)
    return RecordingDetail.model_validate(
        {
            **row,
            "window_sets": [_window_set(found) for found in row["window_sets"]],
            "unusable_spans": [UnusableSpan.model_validate(found) for found in row["unusable_spans"]],
            "summaries": [RecordingSummary.model_validate(_in_utc(found)) for found in summaries],
        }
    )


def _window_set(row: Mapping[str, Any]) -> WindowSet:
    return WindowSet.model_validate({**row, "lead_slots": [lead or None for lead in row["lead_slots"]]})


def _in_utc(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its times in UTC: the database gives them in its session's zone."""
    return {key: value.astimezone(UTC) if isinstance(value, datetime) else value for key, value in row.items()}
