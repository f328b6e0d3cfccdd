"""What `make bench` is held to."""

import pytest

from pipelines.speed_limits import LIMITS, Limit, median_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("limit", "value", "verdict", "told"),
    [
        (Limit(60, 20), 61, "missed", "≤ 60, aim 20"),
        (Limit(60, 20), 60, "ok", "≤ 60, aim 20"),
        (Limit(60, 20), 19, "reached", "≤ 60, aim 20"),
        (Limit(0.7, 0.9, least=True), 0.69, "missed", "≥ 0.7, aim 0.9"),
        (Limit(0.7, 0.9, least=True), 0.95, "reached", "≥ 0.7, aim 0.9"),
        (Limit(0.0), 0, "ok", "≤ 0"),
        (Limit(0.0), 1, "missed", "≤ 0"),
        (Limit(aim=1.5), 2.0, "", "aim 1.5"),
        (Limit(), 2.0, "", ""),
    ],
)
def test_limits(limit: Limit, value: float, verdict: str, told: str) -> None:
    assert (limit.verdict(value), str(limit)) == (verdict, told)


def test_figures_of_either_kind() -> None:
    assert median_of({"median": 2, "lowest": 1, "highest": 3}) == 2
    assert median_of(1.5) == 1.5
    assert median_of("2026-01-01") is None
    assert LIMITS["holter_seconds"].limit == 60
