"""The map from raw measure to score means what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.calibration import fit_tail, threshold_at
from configs.errors import DataInvalidError

pytestmark = pytest.mark.unit


def test_score_is_minus_log10_of_the_share_of_normals_that_score_as_high():
    raw = np.random.default_rng(0).gamma(2.0, 1.0, 20_000)
    score = fit_tail(raw)(raw)
    for share in (0.1, 0.05, 0.03, 0.01, 0.005):
        assert np.mean(score >= threshold_at(share)) == pytest.approx(share, rel=0.06)


def test_threshold_holds_on_new_normals_of_the_same_kind():
    generator = np.random.default_rng(1)
    calibration = fit_tail(generator.normal(size=5_000))
    fresh = calibration(generator.normal(size=50_000))
    assert np.mean(fresh >= threshold_at(0.03)) == pytest.approx(0.03, rel=0.2)


def test_beyond_the_last_normal_the_order_is_kept_and_nothing_is_capped():
    raw = np.random.default_rng(2).exponential(1.0, 5_000)
    far = fit_tail(raw)(np.array([raw.max(), raw.max() + 1, raw.max() + 100]))
    assert far[0] < far[1] < far[2]
    # An exponential tail loses a factor of ten every ln(10) units.
    assert far[2] - far[1] == pytest.approx(99 / np.log(10), rel=0.35)


@given(st.integers(50, 400), st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_map_is_strictly_increasing_even_with_ties(n, seed, rounding):
    raw = np.random.default_rng(seed).normal(size=n)
    calibration = fit_tail(np.round(raw) if rounding > 0.5 else raw)
    assert np.all(np.diff(calibration.raw) > 0)
    assert np.all(np.diff(calibration.score) > 0)
    assert calibration.tail_slope > 0


def test_too_few_normals_and_nan_are_refused_with_what_to_do():
    with pytest.raises(DataInvalidError, match="49 normal windows, at least 50"):
        fit_tail(np.zeros(49))
    with pytest.raises(DataInvalidError, match="not finite"):
        fit_tail(np.append(np.arange(99.0), np.nan))
