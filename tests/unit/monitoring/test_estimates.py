"""Shares from counts of reviewed beats hold their own point estimate, also where nothing was found."""

import pytest

from monitoring.estimates import precision_of, recall_of
from warehouse.store.feedback_queries import Judged

pytestmark = pytest.mark.unit


def judged(confirmed: int, rejected: int, missed: int, passed: int) -> Judged:
    return Judged(
        flagged=1200, unflagged=3600, confirmed=confirmed, rejected=rejected, missed=missed, passed=passed
    )  # fmt: skip


@pytest.mark.parametrize("counts", [(1, 1, 0, 4), (30, 0, 0, 100), (0, 5, 2, 8), (40, 10, 3, 97), (1, 0, 1, 0)])
def test_recall_lies_in_its_interval(counts: tuple[int, int, int, int]) -> None:
    found = recall_of(judged(*counts))
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.01, "so few reviews are no certainty"


def test_without_reviews_nothing_is_said() -> None:
    assert recall_of(judged(1, 1, 0, 0)).value is None
    assert precision_of(0, 0).value is None
    assert precision_of(1, 1).low == pytest.approx(0.0945, abs=1e-4)  # Wilson 1927
