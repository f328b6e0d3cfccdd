"""Metrics of the service: names, labels, and that they stay few."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monitoring.metrics import ApiMetrics, new_registry

pytestmark = pytest.mark.unit


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_a_request_is_counted_once_everywhere() -> None:
    registry = CollectorRegistry()
    metrics = ApiMetrics(registry)
    metrics.request_started()
    assert value(registry, "ecg_api_requests_in_progress") == 1
    metrics.request_ended(route="/anomalies", method="GET", status=200, duration_s=0.02)
    labels = {"route": "/anomalies", "method": "GET", "status": "2xx"}
    assert value(registry, "ecg_api_requests_in_progress") == 0
    assert value(registry, "ecg_api_requests_total", **labels) == 1
    assert value(registry, "ecg_api_request_duration_seconds_count", **labels) == 1
    assert value(registry, "ecg_api_request_duration_seconds_sum", **labels) == pytest.approx(0.02)
    assert value(registry, "ecg_api_request_duration_seconds_bucket", le="0.01", **labels) == 0
    assert value(registry, "ecg_api_request_duration_seconds_bucket", le="0.025", **labels) == 1
    assert value(registry, "ecg_api_exceptions_total", route="/anomalies", exception="RuntimeError") is None


def test_failures_are_counted_by_exception() -> None:
    registry = CollectorRegistry()
    metrics = ApiMetrics(registry)
    for _ in range(2):
        metrics.request_started()
        metrics.request_ended(route="/models", method="GET", status=503, duration_s=1, exception="StorageError")
    assert value(registry, "ecg_api_requests_total", route="/models", method="GET", status="5xx") == 2
    assert value(registry, "ecg_api_exceptions_total", route="/models", exception="StorageError") == 2


def test_whatever_is_sent_labels_stay_few() -> None:
    registry = CollectorRegistry()
    metrics = ApiMetrics(registry)
    for n in range(50):
        metrics.request_started()
        metrics.request_ended(route=None, method=f"M{n}", status=404, duration_s=0)
    assert value(registry, "ecg_api_requests_total", route="unmatched", method="other", status="4xx") == 50


def test_registry_reports_the_process() -> None:
    registry = new_registry()
    names = [family.name for family in registry.collect()]
    assert all(name.startswith("ecg_") for name in names)
    text = generate_latest(registry).decode()
    assert "ecg_build_info{" in text
    assert "ecg_process_resident_memory_bytes " in text


def test_two_services_in_a_process_do_not_meet() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    ApiMetrics(first).request_started()
    ApiMetrics(second)
    assert value(second, "ecg_api_requests_in_progress") == 0
