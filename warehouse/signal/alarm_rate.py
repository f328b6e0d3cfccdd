"""Thresholds that follow a recording: so that a noisy one does not ring all day, and a quiet one not never.

A score is -log10 of the share of held-out patients' normal beats that score as high, so over many recordings a
threshold is a false alarm rate. In one recording it need not be: its normal beats may vary more, or less, than other
people's. Here the threshold before each beat is the quantile of what this recording's own unremarkable beats scored
lately, with a few beats of the population's distribution added, which is all there is at its start.

Only the past is used and only scores are, so scores that come in one by one and scores that come all at once give the
same thresholds. Beats that hardly any normal beat reaches are never learnt from: an hour of ectopy does not raise its
own threshold.

Scores alone cannot tell a noisy normal beat from a slight anomaly; a few reviews can. Once a recording has
`LEAST_REVIEWS` of them it has one threshold, from all its scores and reviews (see `reviewed_threshold`), whenever they
came. docs/benchmark.md has what either gains and what it costs.
"""

import math

import numpy as np
import numpy.typing as npt

from warehouse.signal.reviewed_threshold import LEAST_REVIEWS, Answers, reviewed_threshold

#: Beats that a threshold is taken from: about seven minutes.
WINDOW_BEATS = 500
#: The population counts as so many beats of this recording.
PRIOR_BEATS = 10
#: A score that fewer normal beats reach tells of an anomaly, and is not learnt from.
REMARKABLE_SHARE = 0.005
#: Beats between two updates.
STEP_BEATS = 16


def own_thresholds(
    score: npt.NDArray[np.float32],
    false_alarm_rate: float,
    reviewed: Answers | None = None,
) -> npt.NDArray[np.float32]:
    """The threshold that applies to each beat of a recording.

    Args:
        score: float32 (n,), -log10 tail probabilities, in the order of time.
        false_alarm_rate: share of normal beats that may be flagged, in (0, 1).
        reviewed: int8 (n,): 1 where reviewers called the beat normal, -1 where anomalous, 0 where nobody said. None:
            nothing was reviewed.

    Returns:
        float32 (n,): a beat is flagged when its score is at or above it.

    Raises:
        ValueError: the rate is not between 0 and 1.
    """
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate must lie between 0 and 1, not {false_alarm_rate}")
    if reviewed is not None and np.count_nonzero(reviewed) >= LEAST_REVIEWS:
        return np.full(len(score), reviewed_threshold(score, reviewed, false_alarm_rate), np.float32)
    own = np.flatnonzero(score < -math.log10(REMARKABLE_SHARE))
    thresholds = np.empty(len(score), np.float32)
    for first in range(0, len(score), STEP_BEATS):
        seen = int(np.searchsorted(own, first))
        recent = score[own[max(0, seen - WINDOW_BEATS) : seen]]
        thresholds[first : first + STEP_BEATS] = _threshold(recent, false_alarm_rate)
    return thresholds


def _threshold(recent: npt.NDArray[np.float32], rate: float) -> float:
    """Smallest x with (PRIOR_BEATS * 10^-x + recent beats at or above x) at most `rate` of all."""
    largest_first = np.sort(recent)[::-1].astype(np.float64)
    allowed = rate * (PRIOR_BEATS + len(recent))
    # With j of the recording's beats flagged, x is above the next one, and the population leaves this much room.
    flagged = np.arange(min(len(recent), math.ceil(allowed) - 1) + 1)
    by_population = -np.log10((allowed - flagged) / PRIOR_BEATS)
    next_one = np.append(np.nextafter(largest_first, np.inf), 0.0)[flagged]
    return float(max(np.maximum(by_population, next_one).min(), 0.0))
