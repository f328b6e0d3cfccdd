"""Scoring what a caller sends; nothing of it is stored."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api import scoring
from api.answers import json_response
from api.deps import Scorer, Services, ServicesDep
from api.listings import model_of
from api.openapi import answers
from api.problems import RefusedError
from api.scoring import ScoreAnswer, ScoreRequest
from configs.contract import FeatureSpec
from configs.errors import RequestError

_BLOCK_S = 900.0
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ScoreRequest"}}},
    }
}

router = APIRouter(tags=["score"])


@router.post("/score", response_model=ScoreAnswer, responses=answers(404, 408, 413, 415, 422, 503), openapi_extra=_BODY)
async def score(services: ServicesDep, principal: Scorer, request: Request) -> Response:
    """Scores windows, or a whole strip, which is cut into beats as at ingest. Nothing is stored.

    The error and expectation of each sample come with each beat, unless `detail` is `scores`.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError("unsupported-media-type", "Send JSON with Content-Type: application/json.")
    return await run_in_threadpool(_score, services, await request.body())


def _score(services: Services, raw: bytes) -> Response:
    try:
        body = ScoreRequest.model_validate_json(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:20]
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from error
    if (body.windows is None) == (body.strip is None):
        problem = "cannot be combined with windows" if body.strip is not None else "is missing"
        raise RequestError("strip", problem, "Send either windows or a strip.")
    model = model_of(services, body.model_version)
    spec = FeatureSpec.model_validate(model.feature_spec)
    rejected: list[scoring.RejectedBeat] = []
    unusable: list[scoring.UnusablePart] = []
    if body.windows is not None:
        if len(body.windows) > services.settings.max_score_windows:
            most = services.settings.max_score_windows
            raise RequestError("windows", f"has more than {most} items", f"Send at most {most} at a time.")
        block = scoring.block_of_windows(body.windows, spec)
        slots = [str(slot) for slot in range(spec.n_leads)]
    else:
        assert body.strip is not None
        source = scoring.StripSource(body.strip, services.settings.max_strip_s)
        block, slots, rejected, unusable = scoring.block_of_strip(
            source, spec, block_s=_BLOCK_S, detector=services.detector
        )
    client = services.models.client(model.model_version)
    beats = scoring.score_block(client, block, slots, model.threshold, services.settings, full=body.detail == "full")
    return json_response(
        {
            "model_version": model.model_version,
            "threshold": model.threshold,
            "feature_version": model.feature_version,
            "sampling_rate_hz": spec.sampling_rate_hz,
            "beats": beats,
            "rejected": [one.model_dump() for one in rejected],
            "unusable": [one.model_dump() for one in unusable],
        }
    )
