"""`python -m api`: the REST service."""

import os
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from api import server
from api.access import Access, RateLimits
from api.deps import Services
from api.main import create_app
from api.model_provider import ModelProvider, load_from
from api.oidc import OidcVerifier
from api.uploads import Uploads
from configs import cli
from configs.logging import configure_logging
from configs.settings import Settings, load_settings
from monitoring.database_metrics import DatabaseMetrics
from monitoring.metrics import new_registry
from monitoring.model_metrics import ModelMetrics
from warehouse.store import open_stores


def main(
    host: Annotated[str | None, typer.Option(help="Address; beyond this machine only with sign-in.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 8000 when nothing else is set.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile of configs/, or a YAML file.")] = None,
) -> None:
    """Serves what was found over HTTP, until Ctrl-C or SIGTERM.

    Anomalies, recordings and model versions are read from the two databases; the beat, and what the model expected
    instead, from the warehouse and the model that is released, which is loaded in the background.

    Try, once it runs:

    - `curl 'http://127.0.0.1:8000/anomalies?min_score=2.5'`

    - `curl http://127.0.0.1:8000/health/ready`

    - the review page in a browser: http://127.0.0.1:8000/ui

    - all operations in a browser: http://127.0.0.1:8000/docs

    Without sign-in only loopback addresses are accepted. `python -m api.keys add` makes an API key; from then on every
    request needs one, or a token of the OIDC issuer in `oidc`.

    With `ECG_LOG_LEVEL=INFO` each request is logged as a line of JSON.
    """
    serve(load_settings(profile, {"api": {"host": host, "port": port}}))


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C, which end the process with exit code 0.

    Raises:
        ConfigurationError: the port cannot be had, or others could ask without signing in.
        UnavailableError: a database does not answer, or a disk is full.
    """
    configure_logging(settings.log_level)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's own chatter would break the JSON lines
    # Of a window or a few, waking more threads for a part of the sum takes longer than the sum.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    server.exit_on_signals()
    with (
        server.listen(settings.api.host, settings.api.port) as listener,
        open_stores(
            settings.warehouse_url, settings.results_url, settings.data_dir, pool_size=settings.api.pool_size,
            query_timeout_s=settings.api.query_timeout_s,
        ) as stores,
    ):  # fmt: skip
        oidc = OidcVerifier(settings.oidc, settings.site) if settings.oidc.issuer else None
        has_sign_in = oidc is not None or stores.results.has_keys(valid_at=_now())
        server.require_sign_in_beyond_loopback(settings.api.host, listener, has_sign_in=has_sign_in)
        registry = new_registry(settings.data_dir)
        DatabaseMetrics(registry).watch(stores)
        measured = ModelMetrics(registry)
        load = load_from(settings.models_dir, settings.serving, measured)
        models = ModelProvider(stores.results, load, clock=_now, forget=measured.forget)
        uploads = Uploads(stores, settings, _now)
        access = Access(stores.results, settings.api, settings.site, _now, oidc)
        limits = RateLimits(settings.api.requests_per_minute, time.monotonic)
        app = create_app(
            Services(stores, models, settings.api, _now, registry, access, limits, uploads, settings.ingest.detector)
        )
        address = f"http://{settings.api.host}:{settings.api.port}"
        cli.note(f"{address} - review page at /ui, operations at /docs, state at /health/ready, Ctrl-C stops")
        try:
            server.serve(app, listener)
        finally:
            cli.note("stopping, after a model that is being loaded and a recording that is being ingested, if any")
            uploads.close()
            models.close()


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    cli.run(main)
