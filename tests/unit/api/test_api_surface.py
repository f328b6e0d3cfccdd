"""What others build on: the OpenAPI document and its page, the listening socket, and what an import brings in."""

import asyncio
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_help import Everybody, no_limits
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api import problems
from api.deps import Services
from api.main import create_app
from api.model_provider import ModelProvider
from api.server import listen, require_sign_in_beyond_loopback
from configs.errors import ConfigurationError
from configs.settings import ApiSettings
from warehouse.store import Stores
from warehouse.store.records import ModelVersion
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
CLOSED = "postgresql+psycopg2://someone@127.0.0.1:1/nothing"
OPERATIONS = {
    ("get", "/anomalies"): "list_anomalies",
    ("get", "/anomalies/{anomaly_id}"): "get_anomaly",
    ("get", "/episodes"): "list_episodes",
    ("get", "/episodes/{episode_id}"): "get_episode",
    ("get", "/recordings"): "list_recordings",
    ("post", "/recordings"): "upload_recordings",
    ("get", "/recordings/{recording_id}"): "get_recording",
    ("get", "/recordings/{recording_id}/signal"): "get_signal",
    ("get", "/uploads/{upload_id}"): "get_upload",
    ("get", "/windows/{window_id}"): "get_window",
    ("get", "/stats"): "get_stats",
    ("get", "/drift"): "get_drift",
    ("get", "/drift/comparisons"): "list_drift_comparisons",
    ("get", "/reviews"): "list_reviews",
    ("post", "/reviews"): "create_review",
    ("get", "/reviews/counts"): "count_reviews",
    ("post", "/reviews/{review_id}/undo"): "undo_review",
    ("get", "/feedback/performance"): "get_performance",
    ("get", "/feedback/errors"): "get_error_analysis",
    ("get", "/feedback/threshold"): "preview_threshold",
    ("get", "/feedback/sample"): "sample_beats",
    ("get", "/feedback/calibration"): "beats_to_calibrate",
    ("post", "/score"): "score",
    ("get", "/exports/anomalies"): "export_anomalies",
    ("get", "/exports/reviews"): "export_reviews",
    ("get", "/exports/episodes/{episode_id}/fhir"): "export_episode_as_fhir",
    ("get", "/models"): "list_models",
    ("get", "/models/{model_version}"): "get_model",
    ("get", "/retraining"): "list_retrainings",
    ("post", "/retraining/alerts"): "receive_alerts",
    ("get", "/models/{model_version}/card.md"): "get_model_card_text",
    ("get", "/models/{model_version}/lineage"): "get_model_lineage",
    ("get", "/models/{model_version}/datasheet"): "get_datasheet",
    ("get", "/models/{model_version}/datasheet.md"): "get_datasheet_text",
    ("get", "/windows/{window_id}/scores"): "list_scores_of_window",
    ("get", "/patients/{patient}/models"): "list_models_of_patient",
    ("post", "/session"): "sign_in",
    ("get", "/session"): "get_session",
    ("delete", "/session"): "sign_out",
    ("get", "/health/live"): "get_live",
    ("get", "/health/ready"): "get_ready",
    ("get", "/metrics"): "get_metrics",
}


def no_loader(model: ModelVersion) -> Any:
    raise AssertionError("there is nothing to load")


@pytest.fixture
def app() -> FastAPI:
    results = Results.open(CLOSED)
    models = ModelProvider(results, no_loader, lambda: NOW)
    stores = Stores(Warehouse.open(CLOSED), results)
    return create_app(
        Services(stores, models, ApiSettings(), lambda: NOW, CollectorRegistry(), Everybody(), no_limits())
    )


def get(app: FastAPI, url: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(url)

    return asyncio.run(send())


def test_operation_ids_are_stable(app: FastAPI) -> None:
    assert {key: one["operationId"] for key, one in _operations(app).items()} == OPERATIONS


def test_document_says_what_this_is_not(app: FastAPI) -> None:
    document = get(app, "/openapi.json").json()
    assert "decision support, not a diagnosis" in document["info"]["title"]
    tags = {tag["name"] for tag in document["tags"]}
    for methods in document["paths"].values():
        for operation in methods.values():
            assert set(operation["tags"]) <= tags
            assert operation["description"]


def test_document_describes_every_problem_and_every_reference_holds(app: FastAPI) -> None:
    response = get(app, "/openapi.json")
    document = response.json()
    listing = document["paths"]["/anomalies"]["get"]["responses"]
    assert set(listing) == {"200", "401", "403", "404", "422", "429", "503"}
    for status in ("404", "422", "503"):
        schema = listing[status]["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Problem"}
    for name in re.findall(r'"#/components/schemas/(\w+)"', response.text):
        assert name in document["components"]["schemas"]


def test_document_gives_units_and_examples(app: FastAPI) -> None:
    schemas = get(app, "/openapi.json").json()["components"]["schemas"]
    anomaly = schemas["Anomaly"]["properties"]
    assert {"id", "recording", "time", "r_peak_s", "lead", "score", "threshold", "reference_label"} <= set(anomaly)
    assert all(one["description"] and one["examples"] for one in anomaly.values())
    assert {"samples_mv", "reconstruction_mv", "sample_error", "sampling_rate_hz"} <= set(
        schemas["AnomalyDetail"]["properties"]
    )


def test_every_operation_parameter_and_problem_is_in_the_docs(app: FastAPI) -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for (method, path), operation in _operations(app).items():
        assert f"### {method.upper()} {path}\n" in text
        for parameter in operation.get("parameters", ()):
            assert f"`{parameter['name']}`" in text or f"/{{{parameter['name']}}}" in text
    slugs = re.findall(r"^\| \d{3} \| `([a-z-]+)`", text, re.MULTILINE)
    assert sorted(slugs) == sorted(set(re.findall(r"\d{3}  ([a-z-]+)", str(problems.__doc__))))


def _operations(app: FastAPI) -> dict[tuple[str, str], dict[str, Any]]:
    paths = get(app, "/openapi.json").json()["paths"]
    return {(method, path): one for path, methods in paths.items() for method, one in methods.items()}


def test_page_needs_no_network(app: FastAPI) -> None:
    pytest.importorskip("fastapi_offline", reason="without this package the page loads Swagger UI from a CDN")
    page = get(app, "/docs").text
    assert "://" not in page
    for url in re.findall(r'(?:src|href)="([^"]+)"', page):
        asset = get(app, url)
        assert asset.status_code == 200
        assert len(asset.content) > 1000
    assert get(app, "/").headers["location"] == "/docs"


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_other_machines_are_kept_out_without_sign_in(host: str) -> None:
    with listen(host, 0) as listener:
        with pytest.raises(ConfigurationError, match="nobody has to sign in") as caught:
            require_sign_in_beyond_loopback(host, listener, has_sign_in=False)
        assert caught.value.exit_code == 2
        require_sign_in_beyond_loopback(host, listener, has_sign_in=True)
    with listen("127.0.0.1", 0) as listener:
        require_sign_in_beyond_loopback("127.0.0.1", listener, has_sign_in=False)


def test_unknown_host() -> None:
    with pytest.raises(ConfigurationError, match="is not an address or a known name"):
        listen("no such host", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_served(host: str) -> None:
    with listen(host, 0) as listener:
        assert listener.family == socket.AF_INET
        assert listener.getsockname()[0] == "127.0.0.1"
        assert listener.proto == socket.IPPROTO_TCP  # or each answer waits 40 ms for Nagle's algorithm


def test_port_in_use() -> None:
    with listen("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(ConfigurationError, match=r"api\.port \d+: is already in use\. Choose another with --port"):
            listen("127.0.0.1", first.getsockname()[1])


def test_import_brings_no_tensorflow() -> None:
    code = "import sys, api.__main__; sys.exit(any(m in sys.modules for m in ('tensorflow', 'tfx', 'apache_beam')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0
