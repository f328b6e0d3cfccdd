"""Page tokens: what goes in comes out, and nothing else is accepted."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.paging import LIFETIME, MAX_TOKEN_LENGTH, PageTokens
from configs.errors import RequestError

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
FILTERS = {"recording": "100", "min_score": 2.5, "start": NOW}


def tokens(now: datetime = NOW) -> PageTokens:
    return PageTokens(lambda: now)


@given(st.lists(INT64, min_size=1, max_size=3))
def test_position_comes_back_exactly(position: list[int]) -> None:
    token = tokens().issue("anomalies", FILTERS, position)
    assert tokens().read(token, "anomalies", FILTERS, len(position)) == tuple(position)
    assert len(token) <= MAX_TOKEN_LENGTH
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_order_of_filters_does_not_matter() -> None:
    token = tokens().issue("anomalies", FILTERS, [1])
    assert tokens().read(token, "anomalies", dict(reversed(FILTERS.items())), 1) == (1,)


@given(st.text(max_size=MAX_TOKEN_LENGTH + 1))
def test_any_text_is_refused_clearly(text: str) -> None:
    with pytest.raises(RequestError, match="page_token: is damaged"):
        tokens().read(text, "anomalies", {}, 1)


@given(st.data())
def test_any_changed_character_is_refused(data: st.DataObject) -> None:
    token = tokens().issue("anomalies", FILTERS, [7, 8, 9])
    # The last character may carry unused bits, which decode to the same bytes.
    at = data.draw(st.integers(0, len(token) - 2))
    other = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_").filter(lambda c: c != token[at]))
    with pytest.raises(RequestError):
        tokens().read(token[:at] + other + token[at + 1 :], "anomalies", FILTERS, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("position", [10**30]), ("position", "x"), ("position", [1.5]), ("position", [True]), ("issued", "x"), ("v", 2)],
)
def test_forged_content_is_refused(field: str, value: object) -> None:
    token = tokens().issue("anomalies", {}, [1])
    body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps({**body, field: value}).encode()).decode().rstrip("=")
    with pytest.raises(RequestError, match="is damaged"):
        tokens().read(forged, "anomalies", {}, 1)


@pytest.mark.parametrize(("operation", "filters"), [("recordings", FILTERS), ("anomalies", {"recording": "101"})])
def test_token_of_another_listing_is_refused(operation: str, filters: dict[str, object]) -> None:
    token = tokens().issue("anomalies", FILTERS, [1])
    with pytest.raises(RequestError, match="belongs to a listing with other filters"):
        tokens().read(token, operation, filters, 1)


def test_position_of_another_length_is_refused() -> None:
    token = tokens().issue("anomalies", {}, [1, 2])
    with pytest.raises(RequestError, match="is damaged"):
        tokens().read(token, "anomalies", {}, 3)


def test_token_expires() -> None:
    token = tokens().issue("anomalies", {}, [1])
    assert tokens(NOW + LIFETIME).read(token, "anomalies", {}, 1) == (1,)
    with pytest.raises(RequestError, match=r"expired, it is older than 24 h\. Start again without page_token"):
        tokens(NOW + LIFETIME + timedelta(seconds=1)).read(token, "anomalies", {}, 1)
