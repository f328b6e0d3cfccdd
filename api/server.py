"""Serving an application over HTTP, until a signal; beyond this machine only with sign-in."""

import errno
import ipaddress
import logging
import signal
import socket
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from configs.errors import ConfigurationError
from configs.logging import get_logger

STOP_WITHIN_S = 10


def listen(host: str, port: int) -> socket.socket:
    """Opens the socket; nobody is answered before `serve`.

    Raises:
        ConfigurationError: the host is no address or known name, or the port cannot be had.
    """
    family, address = _address(host, port)
    # Named TCP, asyncio turns Nagle's algorithm off on its connections; else answers wait 40 ms for a delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        problem = "is already in use" if error.errno == errno.EADDRINUSE else "cannot be used here"
        raise ConfigurationError(f"api.port {port}", problem, "Choose another with --port.") from error
    return listener


def require_sign_in_beyond_loopback(host: str, listener: socket.socket, *, has_sign_in: bool) -> None:
    """Refuses to serve patients' ECG to anyone who asks.

    Args:
        has_sign_in: there is an API key that is accepted, or an OIDC issuer.

    Raises:
        ConfigurationError: other machines can reach the socket, and nobody would have to sign in.
    """
    if not has_sign_in and not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        raise ConfigurationError(
            f"api.host {host or '(empty)'}",
            "can be reached from other machines, and nobody has to sign in: anyone could read patients' ECG",
            "Make an API key with `python -m api.keys add`, set oidc.issuer, or use 127.0.0.1.",
        )


def _address(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"api.host {host}", "is not an address or a known name", "Use 127.0.0.1.") from error
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)  # localhost is 127.0.0.1, as docs say
    return family, str(address[0])


def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serves `app` until SIGTERM or SIGINT; requests under way are answered, within `STOP_WITHIN_S`."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )  # fmt: skip
    logger = logging.getLogger("uvicorn")
    logger.addHandler(_Structured())
    logger.propagate = False
    uvicorn.Server(config).run(sockets=[listener])


def exit_on_signals() -> None:
    """From here on SIGTERM and SIGINT end this process with exit code 0, through every `finally` on the way.

    uvicorn handles both while it serves, and raises them again when it has stopped.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


class _Structured(logging.Handler):
    """uvicorn's own lines, as this platform's."""

    def emit(self, record: logging.LogRecord) -> None:
        log = get_logger(record.name)
        log.log(record.levelno, "server", message=record.getMessage(), exc_info=record.exc_info or None)
