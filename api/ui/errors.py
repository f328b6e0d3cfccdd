"""Errors under /ui are pages: the same problem as the API's, told in HTML and in the reader's language."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api import problems
from api.ui.i18n import told
from api.ui.page import SignInNeededError, asked_for, see_other, stranger, with_query
from configs.errors import EcgError


def install(app: FastAPI) -> None:
    """Puts pages in the place of the problems that `problems.install` made of errors."""
    app.add_exception_handler(SignInNeededError, _sign_in)
    for kind in (EcgError, problems.NotReadyError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _as_page(app.exception_handlers[kind]))


def unexpected(request: Request) -> Response:
    """The answer when something was raised that nobody expected; the caller has logged it under the request's id."""
    problem = problems.unexpected(request.url.path, request.state.request_id)
    return _page(request, problem) if _is_page(request) else problem


def overloaded(request: Request) -> Response:
    """The answer to a request that is one too many at the moment."""
    problem = problems.overloaded(request.url.path, request.state.request_id)
    return _page(request, problem) if _is_page(request) else problem


def _as_page(handle: Callable[[Request, Any], Any]) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    async def handle_page(request: Request, error: Exception) -> Response:
        problem: Response = await handle(request, error)
        return _page(request, problem) if _is_page(request) else problem

    return handle_page


async def _sign_in(request: Request, error: Exception) -> Response:
    return see_other(with_query("/ui/sign-in", back=asked_for(request)))


def _is_page(request: Request) -> bool:
    return request.url.path == "/ui" or request.url.path.startswith("/ui/")


def _page(request: Request, problem: Response) -> Response:
    said = json.loads(bytes(problem.body))
    page = stranger(request, request.app.state.services)
    response = page.html("error.html", status=problem.status_code, problem=said, detail=told(page.words.language, said))
    for name in ("retry-after", "allow", "www-authenticate", "connection"):
        if name in problem.headers:
            response.headers[name] = problem.headers[name]
    return response
