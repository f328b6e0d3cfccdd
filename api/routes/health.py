"""For whoever runs the service: is it alive, is it ready, what does it measure."""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from api.deps import ServicesDep
from api.openapi import problem_responses
from api.problems import NotReadyError
from api.schemas.service import Live, PartState, Ready
from configs.errors import DatabaseUnavailableError, ModelUnavailableError, UnavailableError
from configs.logging import get_logger

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def get_live() -> Live:
    """The process answers; says nothing of what it needs."""
    return Live()


@router.get("/health/ready", responses=problem_responses(503))
def get_ready(services: ServicesDep) -> Ready:
    """Asks both databases and the model; 503 names what is missing."""
    parts = {
        "warehouse": _state("warehouse", services.stores.warehouse.check),
        "results": _state("results", services.stores.results.check),
        "model": _state("model", services.models.check),
    }
    if any(part.state != "ok" for part in parts.values()):
        raise NotReadyError(parts)
    return Ready(parts=parts)


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}, "description": "Metrics."}}
)
def get_metrics(services: ServicesDep, request: Request) -> Response:
    """Metrics for Prometheus."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(services.registry), media_type=content_type)


def _state(part: str, check: Callable[[], int | None]) -> PartState:
    try:
        return PartState(state="ok", model_version=check())
    except UnavailableError as error:
        get_logger("api").warning("part_missing", part=part, error=str(error))
        return PartState(state="missing", problem=_reason(error))


def _reason(error: UnavailableError) -> str:
    """What is told of it: a database's error names its host and user, which are not for callers."""
    if isinstance(error, DatabaseUnavailableError):
        return "the database does not answer"
    if isinstance(error, ModelUnavailableError):
        return str(error).rstrip(".")
    return type(error).__name__
