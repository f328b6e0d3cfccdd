"""A client for a model version, wherever it runs: in this process, or on a server by gRPC or REST."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from configs.errors import ConfigurationError, ModelUnavailableError
from configs.settings import ServingSettings
from serving.model_client import ModelClient
from serving.remote import CallPolicy, RemoteModelClient

REST_BATCH = 64  # windows a REST request: JSON grows to some 20 kB a window


@dataclass(frozen=True)
class ModelSource:
    """Which version, and where it is asked. Travels to workers.

    Attributes:
        server: `grpc://HOST:PORT` or `http://HOST:PORT`; None loads the SavedModel in this process.
        directory: of the version, for this process.
        batch_size: windows a call.
    """

    model_name: str
    model_version: int
    directory: Path
    server: str | None
    batch_size: int
    policy: CallPolicy


def call_policy(settings: ServingSettings) -> CallPolicy:
    """How a server is called, from the settings."""
    return CallPolicy(deadline_s=settings.deadline_s, attempts=settings.attempts, max_in_flight=settings.max_in_flight)


def open_client(
    source: ModelSource,
    *,
    on_retry: Callable[[], None] = lambda: None,
    warm_up: bool = True,
    threads: int = 1,
) -> ModelClient:
    """Opens a client; what it needs is imported here, so that a process without TensorFlow can use REST.

    Args:
        on_retry: is called before a request is sent to a server again.
        warm_up: a model in this process answers what the version carries for that first, so that no caller waits.
        threads: of this process that share the batches of one call; a server has its own.

    Raises:
        ConfigurationError: the server's address is none.
        ModelUnavailableError: the model cannot be loaded, or the server does not have it.
    """
    if source.server is None:
        try:
            from serving.in_process import InProcessModelClient

            return InProcessModelClient(
                source.directory, batch_size=source.batch_size, warm_up=warm_up, threads=threads
            )
        except ImportError as error:
            raise _not_installed(source, error) from error
    scheme, host = parse_server(source.server)
    if scheme == "grpc":
        try:
            from serving.tensorflow_serving import GrpcTransport
        except ImportError as error:
            raise _not_installed(source, error) from error

        transport = GrpcTransport(host, source.model_name, source.model_version)
        return RemoteModelClient(
            transport, source.model_version, batch_size=source.batch_size, policy=source.policy, on_retry=on_retry
        )
    from serving.rest import RestTransport

    rest = RestTransport(
        source.server, source.model_name, source.model_version, connections=4 * source.policy.max_in_flight
    )
    batch_size = min(source.batch_size, REST_BATCH)
    return RemoteModelClient(rest, source.model_version, batch_size=batch_size, policy=source.policy, on_retry=on_retry)


def parse_server(server: str) -> tuple[str, str]:
    """Scheme (grpc, http or https) and HOST:PORT of a server's address.

    Raises:
        ConfigurationError: it is no such address.
    """
    parts = urlsplit(server)
    try:
        complete = parts.hostname is not None and parts.port is not None
    except ValueError:  # a port that is no number
        complete = False
    if parts.scheme not in ("grpc", "http", "https") or not complete or parts.path.strip("/"):
        raise ConfigurationError(
            f"model server {server!r}", "is not an address", "Write grpc://HOST:8500 or http://HOST:8501."
        )
    return parts.scheme, parts.netloc


def _not_installed(source: ModelSource, error: ImportError) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"model version {source.model_version}",
        f"needs {error.name}, which is not installed here",
        "Run `make setup`, or set serving.server to a model server's REST address.",
    )
