"""Around every request: an id, a log line, metrics, headers, and an answer when something unexpected is raised."""

import time
import uuid
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.logging import get_logger
from monitoring.metrics import ApiMetrics

REQUEST_ID_HEADER = "X-Request-ID"


class ObserveRequests:
    """ASGI middleware. `scope["state"]["request_id"]` is the request's id from here on inwards.

    Args:
        metrics: counts requests.
        unexpected: makes the answer to a request that raised what nobody expected.
    """

    def __init__(self, app: ASGIApp, *, metrics: ApiMetrics, unexpected: Callable[[Request], Response]) -> None:
        self._app = app
        self._metrics = metrics
        self._unexpected = unexpected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = uuid.uuid4().hex
        started = time.perf_counter()
        status = 0  # nothing sent yet

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = state["request_id"]
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")  # what it answers is about patients
            await send(message)

        self._metrics.request_started()
        try:
            await self._app(scope, receive, send_observed)
        except ClientDisconnect:  # in the middle of its body: nobody is left to answer, and nothing failed here
            pass
        except Exception as error:
            state["exception"] = type(error).__name__
            get_logger("api").error(
                "request_crashed", request_id=state["request_id"], path=scope["path"], exc_info=True
            )
            if status:  # half an answer is out: closing the connection is all that is left
                status = 500
                raise
            await self._unexpected(Request(scope))(scope, receive, send_observed)
        finally:
            self._end(scope, status, time.perf_counter() - started)

    def _end(self, scope: Scope, status: int, duration_s: float) -> None:
        route = getattr(scope.get("route"), "path", None)
        status = status or 499  # the caller went away before there was an answer
        self._metrics.request_ended(
            route=route,
            method=scope["method"],
            status=status,
            duration_s=duration_s,
            exception=scope["state"].get("exception"),
        )
        get_logger("api.access").info(
            "request",
            request_id=scope["state"]["request_id"],
            method=scope["method"],
            path=scope["path"],
            route=route,
            status=status,
            duration_ms=round(duration_s * 1000, 3),
            client=scope["client"][0] if scope.get("client") else None,
        )
