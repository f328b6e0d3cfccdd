"""Thresholds from a few reviewed beats: rates that hold where scores alone mislead, and which beats are asked about."""

import math

import numpy as np
import pytest

from warehouse.signal.alarm_rate import own_thresholds
from warehouse.signal.reviewed_threshold import LEAST_REVIEWS, beats_to_review, reviewed_threshold

pytestmark = pytest.mark.unit

RATES = (0.01, 0.03, 0.05, 0.1)


def recording(noisy: bool, ectopic: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truth (1 normal, -1 anomalous) of 2,000 normal beats and some others, in a random order."""
    random = np.random.default_rng(seed)
    normal = random.exponential((2.0 if noisy else 0.3) / math.log(10), 2000)
    anomalous = (2.0 if noisy else 1.0) + random.gamma(2.0, 1.0, ectopic)
    score = np.concatenate([normal, anomalous]).astype(np.float32)
    truth = np.concatenate([np.ones(2000, np.int8), np.full(ectopic, -1, np.int8)])
    order = random.permutation(len(score))
    return score[order], truth[order]


def review(score: np.ndarray, truth: np.ndarray, rate: float, beats: int, at_once: int = 1) -> np.ndarray:
    """What is known once so many beats were asked about, and answered rightly."""
    reviewed = np.zeros(len(score), np.int8)
    for _ in range(beats // at_once):
        chosen = beats_to_review(score, reviewed, reviewed != 0, rate, at_once)
        assert (reviewed[chosen] == 0).all()
        reviewed[chosen] = truth[chosen]
    return reviewed


@pytest.mark.parametrize(
    ("noisy", "ectopic", "rates"),
    [(True, 0, RATES), (False, 0, RATES), (False, 400, RATES), (True, 400, RATES[2:]), (False, 1500, RATES[2:])],
)
def test_thirty_reviews_make_the_rate_hold(noisy: bool, ectopic: int, rates: tuple[float, ...]) -> None:
    score, truth = recording(noisy, ectopic)
    for rate in rates:
        threshold = reviewed_threshold(score, review(score, truth, rate, 30), rate)
        assert rate / 2 <= (score >= threshold)[truth > 0].mean() <= 2 * rate


def test_scores_alone_do_not() -> None:
    score, truth = recording(noisy=True, ectopic=0)
    assert (score >= own_thresholds(score, 0.03))[truth > 0].mean() > 0.06
    few = review(score, truth, 0.03, LEAST_REVIEWS - 1)
    np.testing.assert_array_equal(own_thresholds(score, 0.03, few), own_thresholds(score, 0.03))
    enough = own_thresholds(score, 0.03, review(score, truth, 0.03, 30))
    assert np.ptp(enough) == 0
    assert 0.015 < (score >= enough)[truth > 0].mean() < 0.05


def test_with_every_beat_reviewed_the_rate_is_exact() -> None:
    score, truth = recording(noisy=False, ectopic=700)
    for rate in RATES:
        flagged = score >= reviewed_threshold(score, truth, rate)
        assert flagged[truth > 0].sum() == math.floor(rate * 2000)


def test_the_order_of_beats_does_not_matter() -> None:
    score, truth = recording(noisy=True, ectopic=200)
    reviewed = review(score, truth, 0.03, 20)
    order = np.random.default_rng(5).permutation(len(score))
    assert reviewed_threshold(score[order], reviewed[order], 0.03) == reviewed_threshold(score, reviewed, 0.03)


def test_what_is_asked_about() -> None:
    score, _ = recording(noisy=False, ectopic=100)
    reviewed, asked = np.zeros(len(score), np.int8), np.zeros(len(score), np.bool_)
    first = beats_to_review(score, reviewed, asked, 0.03, 5)
    assert len(set(first.tolist())) == 5
    assert score[first].min() > np.quantile(score, 0.8)  # the many that are normal beyond doubt are left alone
    asked[first[0]] = True  # somebody was unsure: not asked again, though nothing is known
    assert first[0] not in beats_to_review(score, reviewed, asked, 0.03, 50)
    few = np.array([0.1, 3.0, 0.2], np.float32)
    everything = beats_to_review(few, np.zeros(3, np.int8), np.zeros(3, np.bool_), 0.03, 9)
    assert sorted(everything.tolist()) == [0, 1, 2]
    assert len(beats_to_review(few, np.ones(3, np.int8), np.ones(3, np.bool_), 0.03, 9)) == 0


def test_only_anomalies_no_beats_and_an_impossible_rate() -> None:
    score = np.array([2.0, 3.0, 2.5], np.float32)
    assert reviewed_threshold(score, np.full(3, -1, np.int8), 0.03) == 2.0  # nothing can be a false alarm
    assert reviewed_threshold(score, np.ones(3, np.int8), 0.03) > 3.0
    with pytest.raises(ValueError, match="without beats"):
        reviewed_threshold(score[:0], np.zeros(0, np.int8), 0.03)
    with pytest.raises(ValueError, match="between 0 and 1"):
        beats_to_review(score, np.zeros(3, np.int8), np.zeros(3, np.bool_), 1.0, 1)
