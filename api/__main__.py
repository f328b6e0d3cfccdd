"""`python -m api`: the REST service."""

import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from api import server
from api.deps import Services
from api.main import create_app
from api.model_provider import ModelProvider, load_from
from configs import cli
from configs.logging import configure_logging
from configs.settings import Settings, load_settings
from monitoring.metrics import new_registry
from warehouse.store import open_stores


def main(
    host: Annotated[str | None, typer.Option(help="Address to listen on; only this machine's own.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 8000 when nothing else is set.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile of configs/, or a YAML file.")] = None,
) -> None:
    """Serves what was found over HTTP, until Ctrl-C or SIGTERM.

    Anomalies, recordings and model versions are read from the two databases; the beat, and what the model expected
    instead, from the warehouse and the model that is released, which is loaded in the background.

    Try, once it runs:

    - `curl 'http://127.0.0.1:8000/anomalies?min_score=2.5'`

    - `curl http://127.0.0.1:8000/health/ready`

    - all operations in a browser: http://127.0.0.1:8000/docs

    With `ECG_LOG_LEVEL=INFO` each request is logged as a line of JSON. There is no sign-in yet, so only loopback
    addresses are accepted.
    """
    serve(load_settings(profile, {"api": {"host": host, "port": port}}))


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C, which end the process with exit code 0.

    Raises:
        ConfigurationError: the address is not this machine alone, or the port cannot be had.
        UnavailableError: a database does not answer, or a disk is full.
    """
    configure_logging(settings.log_level)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's own chatter would break the JSON lines
    server.exit_on_signals()
    with (
        server.listen(settings.api.host, settings.api.port) as listener,
        open_stores(
            settings.warehouse_url, settings.results_url, settings.data_dir, pool_size=settings.api.pool_size
        ) as stores,
    ):
        models = ModelProvider(stores.results, load_from(settings.models_dir, settings.serving), clock=_now)
        app = create_app(Services(stores, models, settings.api, _now, new_registry()))
        address = f"http://{settings.api.host}:{settings.api.port}"
        cli.note(f"{address} - operations at /docs, state at /health/ready, Ctrl-C stops")
        try:
            server.serve(app, listener)
        finally:
            cli.note("stopping, after a model that is being loaded, if any")
            models.close()


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    cli.run(main)
