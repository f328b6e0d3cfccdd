"""Thresholds that follow a recording: rates that hold, nothing learnt from ectopy, one by one as all at once."""

import math

import numpy as np
import pytest

from warehouse.signal.alarm_rate import own_thresholds

pytestmark = pytest.mark.unit


def normals(n: int, spread: float, seed: int = 0) -> np.ndarray:
    """Scores of normal beats; spread 1 is the population that scores are calibrated on."""
    return (spread * np.random.default_rng(seed).exponential(1 / math.log(10), n)).astype(np.float32)


@pytest.mark.parametrize("rate", [0.03, 0.05, 0.1])
@pytest.mark.parametrize("spread", [0.3, 1.0, 1.5])
def test_the_rate_holds_in_quiet_and_noisy_recordings(rate: float, spread: float) -> None:
    score = normals(20_000, spread)
    assert rate / 2 < (score >= own_thresholds(score, rate)).mean() < 2 * rate
    if spread != 1.0:  # and by the population's threshold it would not
        assert not rate / 2 < (score >= -math.log10(rate)).mean() < 2 * rate


def test_it_starts_as_the_population_s_threshold() -> None:
    assert own_thresholds(normals(10, 1.0), 0.03)[0] == pytest.approx(-math.log10(0.03), abs=1e-3)


def test_an_hour_of_bigeminy_is_not_learnt() -> None:
    quiet, ectopic = normals(2400, 0.5), normals(2400, 0.5, seed=1) + np.float32(3.0)
    score = np.stack([quiet, ectopic], axis=1).reshape(-1)
    thresholds = own_thresholds(score, 0.03)
    assert (score[1::2] >= thresholds[1::2]).all()
    assert np.allclose(thresholds[-16:], own_thresholds(quiet, 0.03)[-1], atol=0.1)


def test_scores_that_come_one_by_one_give_the_same_thresholds() -> None:
    score = normals(700, 0.8)
    whole = own_thresholds(score, 0.05)
    for n in (1, 15, 16, 17, 300, 699):
        np.testing.assert_array_equal(own_thresholds(score[:n], 0.05), whole[:n])


def test_no_beats_and_an_impossible_rate() -> None:
    assert own_thresholds(np.zeros(0, np.float32), 0.03).shape == (0,)
    assert own_thresholds(np.zeros(0, np.float32), 0.03, np.zeros(0, np.int8)).shape == (0,)
    with pytest.raises(ValueError, match="between 0 and 1"):
        own_thresholds(np.zeros(3, np.float32), 0.0)
