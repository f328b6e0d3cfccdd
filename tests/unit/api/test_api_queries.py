"""Query parameters and ids."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.queries import AnomalyQuery, RecordingQuery, parse_anomaly_id
from configs.errors import RequestError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-31T08:15:00Z", datetime(2026, 1, 31, 8, 15, tzinfo=UTC)),
        ("2026-01-31T08:15:00.125+01:30", datetime(2026, 1, 31, 6, 45, 0, 125000, tzinfo=UTC)),
        ("20260131T081500-2000", datetime(2026, 2, 1, 4, 15, tzinfo=UTC)),
    ],
)
def test_times_become_utc(text: str, utc: datetime) -> None:
    query = AnomalyQuery.model_validate({"start": text})
    assert query.start == utc
    assert query.start.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2026-01-31T08:15:00", "has no time zone"),
        ("2026-01-31", "has no time zone"),
        ("2026-01-31T08:15:00 01:00", "is not an ISO 8601 time"),  # a + that was not written %2B
        ("1769847300", "is not an ISO 8601 time"),
        ("yesterday", "is not an ISO 8601 time"),
        ("", "is not an ISO 8601 time"),
        ("0001-01-01T00:00:00+14:00", "is out of range"),
    ],
)
def test_other_times_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AnomalyQuery.model_validate({"start": text})
    (found,) = caught.value.errors()
    assert found["msg"] == problem
    assert found["ctx"]["send"]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_listed_score_is_at_or_above_itself(stored: float) -> None:
    # Scores are single precision; a caller sees the shortest decimal of one and may send it back as min_score.
    shown = float(str(np.float32(stored)))
    sent = AnomalyQuery.model_validate({"min_score": str(shown)}).stored_min_score()
    assert sent is not None
    assert stored >= sent
    assert float(np.float32(shown)) == sent


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "", "2,5", "high"])
def test_scores_are_finite_numbers(text: str) -> None:
    with pytest.raises(ValidationError):
        AnomalyQuery.model_validate({"min_score": text})


def test_score_beyond_single_precision_matches_nothing() -> None:
    assert AnomalyQuery.model_validate({"min_score": "1e300"}).stored_min_score() == float("inf")


@pytest.mark.parametrize("end", ["2026-01-31T08:15:00Z", "2026-01-31T09:15:00+02:00"])
def test_end_must_be_after_start(end: str) -> None:
    query = AnomalyQuery.model_validate({"start": "2026-01-31T08:15:00Z", "end": end})
    with pytest.raises(RequestError, match="end: is not after start"):
        query.check_span()


@pytest.mark.parametrize(
    "values", [{"min_scor": "1"}, {"name": ""}, {"name": "a\0b"}, {"name": "x" * 201}, {"page_size": "0"}]
)
def test_wrong_parameters_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        RecordingQuery.model_validate(values)


def test_page_size() -> None:
    assert RecordingQuery().limit(default=100, largest=1000) == 100
    assert RecordingQuery().limit(default=100, largest=50) == 50
    assert RecordingQuery(page_size=7).limit(default=100, largest=1000) == 7
    with pytest.raises(RequestError, match="page_size: is above 1000"):
        RecordingQuery(page_size=1001).limit(default=100, largest=1000)


def test_filters_leave_paging_out() -> None:
    query = AnomalyQuery.model_validate({"lead": "V1", "page_size": "3", "page_token": "x"})
    assert query.filters() == {"lead": "V1"}


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_anomaly_ids_come_back(model_version: int, window_id: int) -> None:
    assert parse_anomaly_id(f"{model_version}-{window_id}") == (model_version, window_id)


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1-2", "1-2-3", "1-x", "1- 2", "\uff11-2", f"1-{2**63}", "1-" + "9" * 400]
)
def test_other_ids_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="anomaly_id: is not <model_version>-<window_id>"):
        parse_anomaly_id(text)
