"""Every way to get it wrong has its status and a problem that says what to do. No database answers here."""

import asyncio
import contextlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from api_help import Everybody, no_limits
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api.deps import Services
from api.main import create_app
from api.model_provider import ModelProvider
from api.paging import PageTokens
from configs.errors import ModelUnavailableError
from configs.logging import configure_logging
from configs.settings import ApiSettings
from serving.model_client import ModelClient
from warehouse.store import Stores
from warehouse.store.records import ModelVersion, Release
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LogLines = Callable[[], list[dict[str, Any]]]
CLOSED = "postgresql+psycopg2://someone:pa55word@127.0.0.1:1/nothing"  # nothing listens on port 1


class Registry:
    """Registered models, or what asking for them raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def release(self, release_id: int | None = None) -> Release:
        raise self._error or ModelUnavailableError("model", "no version was pushed yet", "Train one.")

    def models(self, model_version: int | None = None) -> list[ModelVersion]:
        raise AssertionError("there is none to ask for")


def no_loader(model: ModelVersion) -> ModelClient:
    raise AssertionError("there is nothing to load")


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """Everything is logged; calling it gives the lines so far."""
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        configure_logging("INFO")
    yield lambda: [json.loads(line) for line in stderr.getvalue().splitlines()]
    configure_logging("INFO")


def make_app(error: Exception | None = None) -> FastAPI:
    stores = Stores(Warehouse.open(CLOSED), Results.open(CLOSED))
    models = ModelProvider(Registry(error), no_loader, lambda: NOW)
    return create_app(
        Services(stores, models, ApiSettings(), lambda: NOW, CollectorRegistry(), Everybody(), no_limits())
    )


def ask(app: FastAPI, url: str, method: str = "GET") -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, url)

    return asyncio.run(send())


def check_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Asserts everything that holds of every problem; returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:ecg:problem:{slug}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"].endswith((".", ")"))
    assert body["instance"] == response.request.url.path
    assert body["request_id"] == response.headers["x-request-id"]
    assert ("retry-after" in response.headers) == (status == 503)
    return body


def test_who_hangs_up_in_a_body_is_no_crash(log_lines: LogLines) -> None:
    said = iter([{"type": "http.request", "body": b'{"windows', "more_body": True}, {"type": "http.disconnect"}])
    scope = {
        "type": "http", "method": "POST", "path": "/score", "raw_path": b"/score", "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "http_version": "1.1", "scheme": "http",
    }  # fmt: skip

    async def receive() -> Any:
        return next(said)

    async def send(message: Any) -> None:
        raise AssertionError("nobody listens")

    asyncio.run(make_app()(scope, receive, send))
    assert [(line["event"], line.get("status")) for line in log_lines()] == [("request", 499)]


@pytest.mark.parametrize(
    ("url", "parameter", "problem"),
    [
        ("/anomalies?min_score=nan", "min_score", "is not finite"),
        ("/anomalies?min_score=inf", "min_score", "is not finite"),
        ("/anomalies?min_score=high", "min_score", "is not a number"),
        ("/anomalies?start=2026-01-31T08:15:00", "start", "has no time zone"),
        ("/anomalies?end=tomorrow", "end", "is not an ISO 8601 time"),
        ("/anomalies?start=2026-01-31T08:15:00Z&end=2026-01-31T08:15:00Z", "end", "is not after start"),
        ("/anomalies?recording=", "recording", "is empty"),
        ("/anomalies?recording=%00", "recording", "holds a NUL character"),
        (f"/anomalies?lead={'x' * 201}", "lead", "is longer than 200 characters"),
        ("/anomalies?model_version=0", "model_version", "is below 1"),
        (f"/anomalies?model_version={2**63}", "model_version", f"is above {2**63 - 1}"),
        ("/anomalies?page_size=0", "page_size", "is below 1"),
        ("/anomalies?page_size=1001", "page_size", "is above 1000"),
        ("/anomalies?page_size=many", "page_size", "is not a whole number"),
        ("/anomalies?page_token=abc", "page_token", "is damaged, or not from this service"),
        (f"/anomalies?page_token={'A' * 513}", "page_token", "is longer than 512 characters"),
        ("/anomalies?min_scor=1", "min_scor", "is not a parameter of this operation"),
        ("/exports/reviews?reviewer=ana", "reviewer", "is not a parameter of this operation"),
        ("/recordings/1?field=name", "field", "is not a parameter of this operation"),
        ("/anomalies/12", "anomaly_id", "is not <model_version>-<window_id>"),
        ("/recordings/0", "recording_id", "is below 1"),
        (f"/recordings/{2**63}", "recording_id", f"is above {2**63 - 1}"),
        ("/recordings/first", "recording_id", "is not a whole number"),
        ("/recordings?page_token=", "page_token", "is damaged, or not from this service"),
        ("/models/latest", "model_version", "is not a whole number"),
    ],
)
def test_wrong_parameter(url: str, parameter: str, problem: str) -> None:
    body = check_problem(ask(make_app(), url), 422, "invalid-request")
    (found,) = body["errors"]
    assert (found["parameter"], found["problem"]) == (parameter, problem)
    assert found["send"]
    assert body["detail"] == f"{parameter}: {problem}. {found['send']}"


def test_every_wrong_parameter_is_named() -> None:
    body = check_problem(ask(make_app(), "/anomalies?min_score=x&start=y&page_size=z"), 422, "invalid-request")
    assert {found["parameter"] for found in body["errors"]} == {"min_score", "start", "page_size"}


def test_typo_is_answered_with_the_parameters_there_are() -> None:
    (found,) = check_problem(ask(make_app(), "/recordings?nam=100"), 422, "invalid-request")["errors"]
    assert found["send"] == "Parameters: page_size, page_token, name, patient, fields."


def test_token_that_points_outside_of_time() -> None:
    token = PageTokens(lambda: NOW).issue("anomalies", {}, [1, 2**63 - 1, 1])
    body = check_problem(ask(make_app(), f"/anomalies?page_token={token}"), 422, "invalid-request")
    assert body["errors"][0]["problem"] == "points outside of time"


def test_unknown_path() -> None:
    body = check_problem(ask(make_app(), "/anomaly"), 404, "no-such-path")
    assert body["detail"] == "/anomaly does not exist. /docs lists what does."


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_wrong_method(method: str) -> None:
    response = ask(make_app(), "/anomalies", method)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET"
    if method != "HEAD":
        assert check_problem(response, 405, "method-not-allowed")["detail"].endswith(
            f"does not take {method}. Send GET."
        )


@pytest.mark.parametrize("url", ["/recordings", "/recordings/1", "/models", "/models/1", "/anomalies/1-2"])
def test_database_that_does_not_answer(url: str, log_lines: LogLines) -> None:
    response = ask(make_app(), url)
    check_problem(response, 503, "database-unavailable")
    assert response.headers["retry-after"] == "5"
    for inside in ("someone", "pa55word", "127.0.0.1:1"):
        assert inside not in response.text
    logged = next(line for line in log_lines() if line["event"] == "request_failed")
    assert logged["request_id"] == response.headers["x-request-id"]
    assert "127.0.0.1" in logged["error"]
    assert "pa55word" not in logged["error"]


def test_no_model_yet() -> None:
    body = check_problem(ask(make_app(), "/anomalies"), 503, "model-unavailable")
    assert body["detail"] == "model: no version was pushed yet. Train one."


def test_not_ready_names_each_missing_part() -> None:
    response = ask(make_app(ModelUnavailableError("model version 3", "is still loading")), "/health/ready")
    body = check_problem(response, 503, "not-ready")
    assert body["parts"] == {
        "warehouse": {"state": "missing", "problem": "the database does not answer"},
        "results": {"state": "missing", "problem": "the database does not answer"},
        "model": {"state": "missing", "problem": "model version 3: is still loading"},
    }
    assert all(name in body["detail"] for name in ("warehouse", "results", "model version 3: is still loading"))


def test_live_without_anything() -> None:
    response = ask(make_app(), "/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "live"})


def test_unexpected_error_says_nothing_of_the_inside(log_lines: LogLines) -> None:
    app = make_app(RuntimeError("the inside"))
    response = ask(app, "/anomalies")
    body = check_problem(response, 500, "unexpected")
    assert "inside" not in response.text
    assert body["request_id"] in body["detail"]
    logged = next(line for line in log_lines() if line["event"] == "request_crashed")
    assert logged["request_id"] == body["request_id"]
    assert "RuntimeError: the inside" in logged["exception"]
    exceptions = 'ecg_api_exceptions_total{exception="RuntimeError",route="/anomalies"} 1.0'
    assert exceptions in ask(app, "/metrics").text


def test_access_log_is_one_line_a_request(log_lines: LogLines) -> None:
    ask(make_app(), "/models/x?a=%0Ab")
    (line,) = log_lines()
    assert {key: line[key] for key in ("event", "logger", "method", "path", "route", "status", "level")} == {
        "event": "request",
        "logger": "api.access",
        "method": "GET",
        "path": "/models/x",
        "route": "/models/{model_version}",
        "status": 422,
        "level": "info",
    }
    assert line["duration_ms"] > 0
