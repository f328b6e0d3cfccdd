"""Scoring what a caller sends; nothing of it is stored."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api import scoring
from api.answers import json_response
from api.deps import Services, signed_in
from api.listings import model_of
from api.openapi import answers
from api.problems import RefusedError
from api.scoring import ScoreAnswer, ScoreRequest
from configs.contract import FeatureSpec
from configs.errors import RequestError
from serving.combining import SMALL, CombiningClient
from warehouse.signal.familiarity import familiarity
from warehouse.store.records import ModelVersion

_BLOCK_S = 900.0
_SMALL_BYTES = 50_000  # read within a millisecond, for which no thread is needed
_QUICK_WINDOWS = 4  # scored within a millisecond or two
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ScoreRequest"}}},
    }
}


class DirectRoute(APIRoute):
    """An operation that is documented as any other, and called with the request and nothing else.

    Dependencies take FastAPI a quarter of a millisecond a request, which is much beside a model's single one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


router = APIRouter(tags=["score"], route_class=DirectRoute)


@router.post("/score", response_model=ScoreAnswer, responses=answers(404, 408, 413, 415, 422, 503), openapi_extra=_BODY)
async def score(request: Request) -> Response:
    """Scores windows, or a whole strip, which is cut into beats as at ingest. Nothing is stored.

    The error and expectation of each sample come with each beat, unless `detail` is `scores`.
    """
    services: Services = request.app.state.services
    (await signed_in(request)).require("score")
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError("unsupported-media-type", "Send JSON with Content-Type: application/json.")
    raw = await request.body()
    if len(raw) > _SMALL_BYTES:
        return await run_in_threadpool(lambda: _score(services, _read(services, raw)))
    body = _read(services, raw)
    found = services.models.at_hand(body.model_version)
    if found is not None and body.windows is not None and len(body.windows) <= SMALL and body.detail == "full":
        model, client = found
        if isinstance(client, CombiningClient):
            return await _explain(services, body.windows, model, client)
    return await run_in_threadpool(_score, services, body)


async def _explain(
    services: Services, windows: list[scoring.RawWindow], model: ModelVersion, client: CombiningClient
) -> Response:
    """As `_score`, of a few windows: waits for the model without holding a thread.

    While nobody else is here, the model is called at once: to wake another thread, and to be woken by it, takes longer
    than it keeps the next one from being read.
    """
    spec = FeatureSpec.model_validate(model.feature_spec)
    block = scoring.block_of_windows(windows, spec)
    inputs = block.model_inputs()
    await asyncio.sleep(0)  # whoever else has come by now is read first, and shares the call
    if services.under_way.requests == 1 and len(windows) <= _QUICK_WINDOWS:
        explanation, likeness = client.explain(inputs), familiarity(block)
    else:
        asked = client.explained(inputs)
        likeness = familiarity(block)  # while the model is at work
        explanation = await asyncio.wrap_future(asked)
    beats = scoring.beats_of(
        block, likeness, _slots(spec), model.threshold, services.settings, explanation.scores, explanation
    )
    return _answer(model, spec, beats)


def _score(services: Services, body: ScoreRequest) -> Response:
    model = model_of(services, body.model_version)
    spec = FeatureSpec.model_validate(model.feature_spec)
    rejected: list[scoring.RejectedBeat] = []
    unusable: list[scoring.UnusablePart] = []
    if body.windows is not None:
        block, slots = scoring.block_of_windows(body.windows, spec), _slots(spec)
    else:
        assert body.strip is not None
        source = scoring.StripSource(body.strip, services.settings.max_strip_s)
        block, slots, rejected, unusable = scoring.block_of_strip(
            source, spec, block_s=_BLOCK_S, detector=services.detector
        )
    client = services.models.client(model.model_version)
    beats = scoring.score_block(client, block, slots, model.threshold, services.settings, full=body.detail == "full")
    return _answer(model, spec, beats, rejected, unusable)


def _read(services: Services, raw: bytes) -> ScoreRequest:
    try:
        body = ScoreRequest.model_validate_json(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:20]
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from error
    if (body.windows is None) == (body.strip is None):
        problem = "cannot be combined with windows" if body.strip is not None else "is missing"
        raise RequestError("strip", problem, "Send either windows or a strip.")
    most = services.settings.max_score_windows
    if body.windows is not None and len(body.windows) > most:
        raise RequestError("windows", f"has more than {most} items", f"Send at most {most} at a time.")
    return body


def _slots(spec: FeatureSpec) -> list[str]:
    return [str(slot) for slot in range(spec.n_leads)]


def _answer(
    model: ModelVersion,
    spec: FeatureSpec,
    beats: list[dict[str, Any]],
    rejected: Sequence[scoring.RejectedBeat] = (),
    unusable: Sequence[scoring.UnusablePart] = (),
) -> Response:
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
