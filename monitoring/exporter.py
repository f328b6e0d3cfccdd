"""`python -m monitoring.exporter`: what the databases know, as metrics for Prometheus."""

import signal
import threading
from typing import Annotated

import typer

from configs import cli
from configs.logging import configure_logging
from configs.settings import Settings, load_settings
from monitoring.database_metrics import DatabaseMetrics
from monitoring.figures import GROUPS, FigureContext
from monitoring.figures.collector import FiguresCollector
from monitoring.http import serve_metrics
from monitoring.metrics import new_registry
from warehouse.store import open_stores

_QUERY_TIMEOUT_S = 30.0


def main(
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address instead of monitoring.host.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port instead of monitoring.exporter_port.")] = None,
) -> None:
    """Serve figures of flow, models, quality, burden and credentials at /metrics, until Ctrl-C or SIGTERM.

    They are read from the two databases when somebody asks, at most every monitoring.cache_s seconds. They hold no
    patient, recording or window, but counts by site: do not show them to everybody.

    Exit codes: 0 stopped, 2 bad configuration, 5 a database is not available.
    """
    serve(load_settings(profile, {"monitoring": {"host": host, "exporter_port": port}}))


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C, which end the process with exit code 0."""
    configure_logging(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_stores(
        settings.warehouse_url, settings.results_url, settings.data_dir, pool_size=2, query_timeout_s=_QUERY_TIMEOUT_S
    ) as stores:
        registry = new_registry(settings.data_dir)
        DatabaseMetrics(registry).watch(stores)
        registry.register(
            FiguresCollector(lambda: FigureContext.read(stores, settings), GROUPS, cache_s=settings.monitoring.cache_s)
        )
        chosen = settings.monitoring
        with serve_metrics(registry, chosen.host, chosen.exporter_port, "monitoring.exporter_port") as port:
            cli.note(f"http://{chosen.host}:{port}/metrics - Ctrl-C stops")
            stop.wait()


if __name__ == "__main__":
    cli.run(main)
