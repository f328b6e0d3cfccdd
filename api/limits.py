"""ASGI middleware: what is too large, slow or much is refused, `/v1` is taken off paths, what is unchanged not sent."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import RefusedError

MB = 1_000_000
_ALWAYS_ANSWERED = ("/health/live", "/metrics")  # whoever watches must see a service that is busy


class LimitBodies:
    """Counts a body while it comes, whatever its Content-Length says.

    What is raised here passes through the application, which answers it: the body is read by an operation.

    Args:
        max_mb: of any body; `upload_mb` of POST /recordings.
        timeout_s: longest wait for the next part.
    """

    def __init__(self, app: ASGIApp, *, max_mb: float, upload_mb: float, timeout_s: float) -> None:
        self._app = app
        self._max_mb = max_mb
        self._upload_mb = upload_mb
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit_mb = self._upload_mb if scope["path"].rstrip("/") == "/recordings" else self._max_mb
        declared = Headers(scope=scope).get("content-length", "")
        seen = int(declared) if declared.isdecimal() else 0
        over = seen > limit_mb * MB
        seen = 0
        ended = False

        async def receive_limited() -> Message:
            nonlocal seen, ended
            if over:
                raise _too_large(limit_mb)
            if ended:  # only a disconnect may come now, at any time
                return await receive()
            try:
                async with asyncio.timeout(self._timeout_s):
                    message = await receive()
            except TimeoutError as error:
                detail = f"Nothing came for {self._timeout_s:g} s. Send the body at once."
                raise RefusedError("body-timeout", detail, {"Connection": "close"}) from error
            seen += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if seen > limit_mb * MB:
                raise _too_large(limit_mb)
            return message

        await self._app(scope, receive_limited, send)


def _too_large(limit_mb: float) -> RefusedError:
    detail = f"The body is larger than {limit_mb:g} MB. Send less at a time, or see api.max_body_mb and max_upload_mb."
    return RefusedError("too-large", detail, {"Connection": "close"})


@dataclass
class UnderWay:
    """Requests that are being answered, counted by the event loop's thread."""

    requests: int = 0


class ShedLoad:
    """Refuses what would only wait: requests beyond those that are being answered and wait their turn.

    A queue without an end answers everybody late, and nobody any more once callers give up waiting and ask again.

    Args:
        most: requests at a time.
        under_way: counts them.
        refuse: makes the answer, 503 with Retry-After.
    """

    def __init__(self, app: ASGIApp, *, most: int, under_way: UnderWay, refuse: Callable[[Request], Response]) -> None:
        self._app = app
        self._most = most
        self._under_way = under_way
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALWAYS_ANSWERED:
            await self._app(scope, receive, send)
            return
        if self._under_way.requests >= self._most:
            await self._refuse(Request(scope))(scope, receive, send)
            return
        self._under_way.requests += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way.requests -= 1


class VersionPrefix:
    """`/v1/anomalies` is `/anomalies`: clients that name the version of the API keep working when there is another."""

    def __init__(self, app: ASGIApp, *, version: int) -> None:
        self._app = app
        self._prefix = f"/v{version}"
        self._version = str(version)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(self._prefix + "/"):
            scope = {**scope, "path": scope["path"][len(self._prefix) :]}
            if scope.get("raw_path"):
                scope["raw_path"] = scope["raw_path"][len(self._prefix) :]

        async def send_versioned(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["API-Version"] = self._version
            await send(message)

        await self._app(scope, receive, send_versioned)


class EntityTags:
    """Gives whole JSON answers to GET an ETag, and answers 304 where the caller has the same already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("if-none-match", "")
        held: Message | None = None

        async def send_tagged(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                kind = Headers(scope=message).get("content-type", "")
                if message["status"] == 200 and kind.startswith("application/json"):
                    held = message
                    return
            elif held is not None:
                start, held = held, None
                if not message.get("more_body", False):
                    body = message.get("body", b"")
                    tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'  # weak: the same content, however encoded
                    headers = MutableHeaders(scope=start)
                    headers["ETag"] = tag
                    headers.add_vary_header("Authorization")
                    if _matches(asked, tag):
                        start = {**start, "status": 304}
                        del headers["content-length"]
                        del headers["content-type"]
                        start["headers"] = headers.raw
                        message = {"type": "http.response.body", "body": b""}
                await send(start)
            await send(message)

        await self._app(scope, receive, send_tagged)


def _matches(asked: str, tag: str) -> bool:
    wanted = [one.strip().removeprefix("W/") for one in asked.split(",")]
    return "*" in wanted or tag.removeprefix("W/") in wanted
