"""The application: collaborators in, FastAPI out."""

import contextlib
from collections.abc import AsyncIterator

import anyio
from fastapi import FastAPI

from api import openapi, problems, ui
from api.access_log import ObserveRequests
from api.deps import Services
from api.routes import anomalies, health, models, recordings
from monitoring.metrics import ApiMetrics, platform_version

TITLE = "ECG anomalies: decision support, not a diagnosis"
DESCRIPTION = (
    "Beats of ECG recordings that a model trained on normal beats finds unusual, for review by someone who can judge "
    "them. Times are UTC, units are in the names. Errors are RFC 9457 problems."
)


def create_app(services: Services) -> FastAPI:
    """Builds the service over its collaborators, which the caller opens and closes."""
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version=platform_version(),
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        generate_unique_id_function=lambda route: route.name,  # the function's name: clients are generated from it
    )
    app.state.services = services
    app.add_middleware(ObserveRequests, metrics=ApiMetrics(services.registry))
    problems.install(app)
    openapi.install(app)
    for routes in (anomalies, recordings, models, health):
        app.include_router(routes.router)
    ui.install(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    # A worker thread holds at most one connection a database: as many threads as connections, and none ever waits.
    anyio.to_thread.current_default_thread_limiter().total_tokens = 2 * services.settings.pool_size
    await anyio.to_thread.run_sync(services.models.preload)
    yield
