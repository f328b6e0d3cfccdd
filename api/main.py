"""The application: collaborators in, FastAPI out."""

import contextlib
from collections.abc import AsyncIterator

import anyio
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware

from api import openapi, problems, reviewing, runbooks, ui
from api.access_log import ObserveRequests
from api.audit import AuditTrail
from api.deps import KNOWN_PARAMETERS, Services
from api.limits import EntityTags, LimitBodies, ShedLoad, VersionPrefix
from api.routes import (
    anomalies,
    drift,
    episodes,
    exports,
    feedback,
    health,
    lineage,
    models,
    recordings,
    retraining,
    reviews,
    score,
    session,
    stats,
    uploads,
    windows,
)
from monitoring.metrics import ApiMetrics, platform_version
from warehouse.store.connection import ALL_SITES, at_site

API_VERSION = 1
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
    app.state.audit = AuditTrail(services.stores.results)
    _add_middleware(app, services)
    problems.install(app)
    openapi.install(app)
    app.include_router(score.router)  # tried in turn: what is asked most, and fastest, comes first
    for routes in (
        anomalies, episodes, recordings, uploads, windows, stats, drift, reviews, feedback, exports, models, lineage,
        retraining,
    ):  # fmt: skip
        app.include_router(routes.router, dependencies=[KNOWN_PARAMETERS])
    for routes in (session, health, runbooks):
        app.include_router(routes.router)
    ui.install(app)
    return app


def _add_middleware(app: FastAPI, services: Services) -> None:
    """From the inside out: what is added last sees a request first."""
    settings = services.settings
    app.add_middleware(
        LimitBodies, max_mb=settings.max_body_mb, upload_mb=settings.max_upload_mb, timeout_s=settings.body_timeout_s
    )
    app.add_middleware(EntityTags)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=1)
    app.add_middleware(
        ShedLoad, most=settings.max_requests_at_once, under_way=services.under_way, refuse=ui.errors.overloaded
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-API-Key"],
            expose_headers=["API-Version", "ETag", "Location", "Retry-After", "X-Request-ID"],
            max_age=3600,
        )
    app.add_middleware(VersionPrefix, version=API_VERSION)
    app.add_middleware(ObserveRequests, metrics=ApiMetrics(services.registry), unexpected=ui.errors.unexpected)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    # A worker thread holds at most one connection a database: as many threads as connections, and none ever waits.
    anyio.to_thread.current_default_thread_limiter().total_tokens = 2 * services.settings.pool_size
    await anyio.to_thread.run_sync(services.models.preload)
    await anyio.to_thread.run_sync(_catch_up, services)
    yield


def _catch_up(services: Services) -> None:
    """Goes on with what an earlier process left: labels the warehouse was not told, uploads that were not ingested."""
    with at_site(ALL_SITES):
        reviewing.deliver(services.stores)
        if services.uploads is not None:
            services.uploads.start()
