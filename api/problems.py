"""Every error becomes an RFC 9457 problem here, and nowhere else is a status decided.

no, or a wrong, key         401  unauthenticated        with WWW-Authenticate
not for this role           403  forbidden
NotFoundError               404  not-found
no such path                404  no-such-path
wrong method                405  method-not-allowed
slow body                   408  body-timeout
ConflictError               409  conflict
large body                  413  too-large
other media type            415  unsupported-media-type
RequestError, validation    422  invalid-request
too many requests           429  rate-limited           with Retry-After
DatabaseUnavailableError    503  database-unavailable   with Retry-After
StorageError                503  storage-unavailable    with Retry-After
ModelUnavailableError       503  model-unavailable      with Retry-After
not ready                   503  not-ready              with Retry-After
too many at a time          503  overloaded             with Retry-After
something else needed       503  unavailable            with Retry-After
anything else               500  unexpected             says nothing of the inside; the log does
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from api.schemas.service import ParameterProblem, PartState, Problem
from configs.errors import (
    ConflictError,
    DatabaseUnavailableError,
    EcgError,
    ModelUnavailableError,
    NotFoundError,
    RequestError,
    StorageError,
    UnavailableError,
)
from configs.logging import get_logger

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:ecg:problem:"
RETRY_AFTER_S = 5


@dataclass(frozen=True)
class _Kind:
    """A kind of problem. Where `detail` is None, the error's own text is told."""

    status: int
    slug: str
    title: str
    detail: str | None = None


_UNEXPECTED = _Kind(500, "unexpected", "Unexpected error")
_NOT_READY = _Kind(503, "not-ready", "Not ready")
_OVERLOADED = _Kind(503, "overloaded", "Too many requests at a time")
_NO_PATH = _Kind(404, "no-such-path", "No such path")
_NO_METHOD = _Kind(405, "method-not-allowed", "Method not allowed")
_INVALID = _Kind(422, "invalid-request", "Invalid request")
# A database's error names its host and user, a disk's its path: those are for the log, not for a caller.
_OF_ERROR: Mapping[type[EcgError], _Kind] = {
    NotFoundError: _Kind(404, "not-found", "Not found"),
    ConflictError: _Kind(409, "conflict", "Conflict"),
    RequestError: _INVALID,
    DatabaseUnavailableError: _Kind(
        503, "database-unavailable", "Database unavailable", "A database does not answer. GET /health/ready says which."
    ),
    StorageError: _Kind(503, "storage-unavailable", "Storage unavailable", "A disk is full or cannot be written."),
    ModelUnavailableError: _Kind(503, "model-unavailable", "Model unavailable"),
    UnavailableError: _Kind(503, "unavailable", "Unavailable", "Something this service needs is not there."),
}


_REFUSALS = {
    "unauthenticated": _Kind(401, "unauthenticated", "Sign in"),
    "forbidden": _Kind(403, "forbidden", "Not allowed"),
    "body-timeout": _Kind(408, "body-timeout", "The body did not come"),
    "too-large": _Kind(413, "too-large", "Too large"),
    "unsupported-media-type": _Kind(415, "unsupported-media-type", "Unsupported media type"),
    "rate-limited": _Kind(429, "rate-limited", "Too many requests"),
}


class RefusedError(HTTPException):
    """A request that is not even looked into.

    Args:
        slug: one of `_REFUSALS`.
        detail: what is wrong, and what to do.
    """

    def __init__(self, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(_REFUSALS[slug].status, detail, dict(headers or {}))
        self.slug = slug


class NotReadyError(Exception):
    """A part that the service needs is missing; carries the state of every part."""

    def __init__(self, parts: Mapping[str, PartState]) -> None:
        super().__init__("not ready")
        self.parts = dict(parts)


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem."""
    app.add_exception_handler(EcgError, _on_ecg_error)
    app.add_exception_handler(NotReadyError, _on_not_ready)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)


def unexpected(path: str, request_id: str) -> Response:
    """The answer when something was raised that nobody expected; the caller has logged it under `request_id`."""
    detail = f"Something failed that should not have. Please report it with the request id {request_id}."
    return _respond(_UNEXPECTED, detail, path, request_id)


def overloaded(path: str, request_id: str) -> Response:
    """The answer to a request beyond those that can wait: what it asks for was not begun."""
    detail = "More requests wait than can be answered soon. Nothing was done; ask again after Retry-After seconds."
    return _respond(_OVERLOADED, detail, path, request_id)


async def _on_ecg_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EcgError)
    kind = next((_OF_ERROR[base] for base in type(error).__mro__ if base in _OF_ERROR), _UNEXPECTED)
    if kind.status >= 500:
        _note(request, error)
        get_logger("api").warning(
            "request_failed", problem=kind.slug, error=str(error), request_id=_request_id(request)
        )
    if kind is _UNEXPECTED:
        return unexpected(request.url.path, _request_id(request))
    errors = None
    if isinstance(error, RequestError):
        errors = [ParameterProblem(parameter=error.subject, problem=error.problem, send=error.hint)]
    return _problem(request, kind, kind.detail or str(error), errors=errors)


async def _on_not_ready(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotReadyError)
    _note(request, error)
    missing = [f"{name} ({part.problem})" for name, part in error.parts.items() if part.state != "ok"]
    return _problem(request, _NOT_READY, f"Missing: {'; '.join(missing)}.", parts=error.parts)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [_explain(found, request) for found in error.errors()]
    detail = " ".join(f"{e.parameter}: {e.problem}. {e.send}" for e in errors)
    return _problem(request, _INVALID, detail, errors=errors)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if isinstance(error, RefusedError):
        return _problem(request, _REFUSALS[error.slug], str(error.detail), headers=headers)
    if error.status_code == _NO_PATH.status:
        return _problem(
            request, _NO_PATH, f"{request.url.path} does not exist. /docs lists what does.", headers=headers
        )
    if error.status_code == _NO_METHOD.status:
        allowed = _methods(request) or next((v for name, v in headers.items() if name.lower() == "allow"), "GET")
        detail = f"{request.url.path} does not take {request.method}. Send {allowed}."
        return _problem(request, _NO_METHOD, detail, headers={"Allow": allowed})
    if error.status_code == HTTPStatus.BAD_REQUEST:  # a body that is no text at all
        unread = ParameterProblem(parameter="body", problem="cannot be read", send="Send JSON in UTF-8.")
        return _problem(request, _INVALID, f"body: {unread.problem}. {unread.send}", errors=[unread])
    phrase = HTTPStatus(error.status_code).phrase
    kind = _Kind(error.status_code, phrase.lower().replace(" ", "-"), phrase)
    return _problem(request, kind, str(error.detail), headers=headers)


def _explain(found: Mapping[str, Any], request: Request) -> ParameterProblem:
    """One validation error in words: which parameter, what is wrong with it, what to send."""
    parameter = ".".join(str(part) for part in found["loc"][1:]) or str(found["loc"][0])
    context = found.get("ctx") or {}
    if found["type"] == "json_invalid":
        return ParameterProblem(parameter="body", problem="is not JSON", send="Send JSON, as GET /docs shows.")
    if found["type"] == "extra_forbidden" and found["loc"][0] == "body":
        return ParameterProblem(parameter=parameter, problem="is not known here", send="Leave it out.")
    if found["type"] == "extra_forbidden":
        unknown = no_such_parameter(request, parameter)
        return ParameterProblem(parameter=parameter, problem=unknown.problem, send=unknown.hint)
    if found["type"] not in _WORDS:
        send = str(context.get("send") or "GET /docs says what it takes.")
        return ParameterProblem(parameter=parameter, problem=str(found["msg"]).rstrip("."), send=send)
    problem, send = _WORDS[found["type"]]
    return ParameterProblem(parameter=parameter, problem=problem.format(**context), send=send.format(**context))


#: Validation error to what is wrong and what to send; `{...}` comes from the error's context.
_WORDS: Mapping[str, tuple[str, str]] = {
    "int_parsing": ("is not a whole number", "Send a whole number."),
    "int_parsing_size": ("is too large", "Send a smaller whole number."),
    "float_parsing": ("is not a number", "Send a number, for example 2.5."),
    "finite_number": ("is not finite", "Send a finite number, for example 2.5."),
    "greater_than_equal": ("is below {ge}", "Send at least {ge}."),
    "less_than_equal": ("is above {le}", "Send at most {le}."),
    "string_too_short": ("is empty", "Send a value, or leave the parameter out."),
    "string_too_long": ("is longer than {max_length} characters", "Send a shorter value."),
    "string_pattern_mismatch": ("is not of the form it should have", "Send what matches {pattern}."),
    "literal_error": ("is not one of those there are", "Send {expected}."),
    "missing": ("is missing", "Send it."),
}


def _methods(request: Request) -> str:
    """What a path takes, from its OpenAPI description: a path may have several routes."""
    route = request.scope.get("route")
    operations = request.app.openapi()["paths"].get(getattr(route, "path", ""), {})
    return ", ".join(sorted(method.upper() for method in operations))


def no_such_parameter(request: Request, name: str) -> RequestError:
    """What is told about a query parameter that an operation does not have."""
    known = ", ".join(query_parameters(request)) or "none"
    return RequestError(name, "is not a parameter of this operation", f"Parameters: {known}.")


def query_parameters(request: Request) -> Sequence[str]:
    """Names of the query parameters of the operation that was asked for, from its OpenAPI description."""
    route = request.scope.get("route")
    operations = request.app.openapi()["paths"].get(getattr(route, "path", ""), {})
    method = "get" if request.method == "HEAD" else request.method.lower()
    parameters: Sequence[Mapping[str, Any]] = operations.get(method, {}).get("parameters", ())
    return [str(parameter["name"]) for parameter in parameters if parameter["in"] == "query"]


def _problem(
    request: Request,
    kind: _Kind,
    detail: str,
    *,
    errors: list[ParameterProblem] | None = None,
    parts: dict[str, PartState] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return _respond(kind, detail, request.url.path, _request_id(request), errors, parts, headers)


def _respond(
    kind: _Kind,
    detail: str,
    path: str,
    request_id: str,
    errors: list[ParameterProblem] | None = None,
    parts: dict[str, PartState] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = Problem(
        type=TYPE_PREFIX + kind.slug,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=path,
        request_id=request_id,
        errors=errors,
        parts=parts,
    )
    retry = {"Retry-After": str(RETRY_AFTER_S)} if kind.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return JSONResponse(
        body.model_dump(mode="json", exclude_none=True),
        status_code=kind.status,
        headers={**(headers or {}), **retry},
        media_type=PROBLEM_JSON,
    )


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


def _note(request: Request, error: Exception) -> None:
    """Leaves the error's class for the metrics."""
    request.state.exception = type(error).__name__
