"""Metrics over HTTP, for processes that serve nothing else."""

import contextlib
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server

from configs import cli
from configs.errors import ConfigurationError


@contextlib.contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int, setting: str) -> Iterator[int]:
    """Serves `/metrics` from a thread of its own until the end of the block; gives the port.

    Args:
        port: 0 takes any that is free.
        setting: the key that the port is from, for the error.

    Raises:
        ConfigurationError: the port or the address cannot be had.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigurationError(
            f"{setting} {port} on {host}", (error.strerror or "cannot be used").lower(), "Choose another port."
        ) from error
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serve_metrics_if_free(registry: CollectorRegistry, host: str, port: int, setting: str) -> Iterator[None]:
    """Serves `/metrics` while the block runs, unless the port is 0.

    Where it cannot be had, such as by a second process of the kind on one machine, a line says so, and the block runs.
    """
    with contextlib.ExitStack() as stack:
        if port:
            try:
                stack.enter_context(serve_metrics(registry, host, port, setting))
            except ConfigurationError as error:
                cli.note(f"No metrics are served: {error}")
        yield
